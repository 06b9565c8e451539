"""What identifiers look like: commit ids, hashes, and the characters that no database can store. Pure: no I/O."""

from __future__ import annotations

import re

COMMIT_ID = re.compile(r"[0-9a-f]{40}")
"""The id of a commit, and of a git blob: a sha1 in hex."""

SHA256 = re.compile(r"[0-9a-f]{64}")
"""A sha256 in hex; a Xet hash looks the same."""

UNSTORABLE = re.compile(r"[\x00\ud800-\udfff]")
"""Characters that PostgreSQL and the triggerer's protocol refuse: NUL, and half of a surrogate pair."""
