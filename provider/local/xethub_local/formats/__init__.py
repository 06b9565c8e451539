"""The byte formats of Xet: hashes, xorbs, shards, reconstructions. Pure functions and values, no I/O.

Source: the Xet protocol documents (hashing, xorb, shard and reconstruction pages), confirmed against hf-xet 1.8.
"""

from __future__ import annotations


class FormatError(ValueError):
    """Bytes or a hash are malformed; the message says where and how, and names the hash if it is known."""
