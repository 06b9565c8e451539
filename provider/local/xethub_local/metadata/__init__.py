"""Repositories of the local Hub: trees, commits, discussions, buckets."""
