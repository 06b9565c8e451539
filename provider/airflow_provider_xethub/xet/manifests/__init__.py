"""Manifests: many file records by reference, written, read back and iterated in batches."""
