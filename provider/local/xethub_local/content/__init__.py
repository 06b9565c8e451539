"""Content of the local Hub: xorbs, shards, deduplication."""
