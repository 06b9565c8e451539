"""The tables of the Hub: access control, repositories and their content.

No table stores a token: all kinds of tokens are computed from the signing key and their records.
"""

from __future__ import annotations

SCHEMA = """
CREATE TABLE IF NOT EXISTS hub_token (
    id TEXT PRIMARY KEY,
    user_name TEXT NOT NULL,
    token_name TEXT NOT NULL,
    role TEXT NOT NULL,
    grants TEXT NOT NULL,
    created REAL NOT NULL,
    UNIQUE (user_name, token_name)
);
CREATE TABLE IF NOT EXISTS hub_xet_token (
    id TEXT PRIMARY KEY,
    scope TEXT NOT NULL,
    repository TEXT NOT NULL,
    revision TEXT NOT NULL,
    user_name TEXT NOT NULL,
    expires_at INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS hub_publisher (
    id TEXT PRIMARY KEY,
    repository TEXT REFERENCES hub_repository (name) ON DELETE CASCADE ON UPDATE CASCADE,
    user_name TEXT,
    issuer TEXT NOT NULL,
    claims TEXT NOT NULL,
    read_only INTEGER NOT NULL,
    created REAL NOT NULL,
    last_used REAL
);
CREATE TABLE IF NOT EXISTS hub_exchanged_token (
    id TEXT PRIMARY KEY,
    repository TEXT REFERENCES hub_repository (name) ON DELETE SET NULL ON UPDATE CASCADE,
    user_name TEXT,
    scope TEXT NOT NULL,
    issuer TEXT NOT NULL,
    subject TEXT NOT NULL,
    created REAL NOT NULL,
    expires_at INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS hub_repository (
    name TEXT PRIMARY KEY,
    id TEXT NOT NULL,
    private INTEGER NOT NULL,
    created REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS hub_repository_spelling ON hub_repository (lower(name));
CREATE TABLE IF NOT EXISTS hub_moved (
    old_name TEXT PRIMARY KEY,
    repository TEXT NOT NULL REFERENCES hub_repository (name) ON DELETE CASCADE ON UPDATE CASCADE
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS hub_ref (
    repository TEXT NOT NULL REFERENCES hub_repository (name) ON DELETE CASCADE ON UPDATE CASCADE,
    ref TEXT NOT NULL,
    commit_id TEXT NOT NULL,
    message TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (repository, ref)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS hub_commit (
    repository TEXT NOT NULL REFERENCES hub_repository (name) ON DELETE CASCADE ON UPDATE CASCADE,
    id TEXT NOT NULL,
    parent TEXT,
    tree TEXT NOT NULL,
    title TEXT NOT NULL,
    message TEXT NOT NULL,
    author TEXT NOT NULL,
    created REAL NOT NULL,
    PRIMARY KEY (repository, id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS hub_discussion (
    repository TEXT NOT NULL REFERENCES hub_repository (name) ON DELETE CASCADE ON UPDATE CASCADE,
    number INTEGER NOT NULL,
    title TEXT NOT NULL,
    description TEXT NOT NULL,
    author TEXT NOT NULL,
    base TEXT NOT NULL,
    status TEXT NOT NULL,
    created REAL NOT NULL,
    PRIMARY KEY (repository, number)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS hub_tree (
    id TEXT PRIMARY KEY,
    entries TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS hub_blob (
    id TEXT PRIMARY KEY,
    content BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS hub_bucket_file (
    repository TEXT NOT NULL REFERENCES hub_repository (name) ON DELETE CASCADE ON UPDATE CASCADE,
    path TEXT NOT NULL,
    size INTEGER NOT NULL,
    xet_hash TEXT NOT NULL,
    mtime INTEGER NOT NULL,
    uploaded REAL NOT NULL,
    PRIMARY KEY (repository, path)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS hub_bucket_event (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    repository TEXT NOT NULL REFERENCES hub_repository (name) ON DELETE CASCADE ON UPDATE CASCADE,
    created REAL NOT NULL,
    changes TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS hub_bucket_event_repository ON hub_bucket_event (repository, id);
CREATE TABLE IF NOT EXISTS hub_bucket_forgotten (
    repository TEXT PRIMARY KEY REFERENCES hub_repository (name) ON DELETE CASCADE ON UPDATE CASCADE,
    last_id INTEGER NOT NULL,
    created REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS hub_discussion_event (
    repository TEXT NOT NULL,
    number INTEGER NOT NULL,
    position INTEGER NOT NULL,
    id TEXT NOT NULL,
    type TEXT NOT NULL,
    author TEXT NOT NULL,
    created REAL NOT NULL,
    data TEXT NOT NULL,
    PRIMARY KEY (repository, number, position),
    FOREIGN KEY (repository, number) REFERENCES hub_discussion (repository, number)
        ON DELETE CASCADE ON UPDATE CASCADE
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS hub_gate (
    repository TEXT PRIMARY KEY REFERENCES hub_repository (name) ON DELETE CASCADE ON UPDATE CASCADE,
    mode TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS hub_gate_request (
    repository TEXT NOT NULL REFERENCES hub_repository (name) ON DELETE CASCADE ON UPDATE CASCADE,
    user_name TEXT NOT NULL,
    status TEXT NOT NULL,
    created REAL NOT NULL,
    PRIMARY KEY (repository, user_name)
) WITHOUT ROWID;
"""
