"""The data folder of a local Hub: database, users and tokens, CAS content, repositories and buckets."""

from __future__ import annotations

import secrets
from pathlib import Path

from xethub_local.content.store import ContentStore
from xethub_local.metadata.buckets import BucketFiles
from xethub_local.metadata.commits import CommitWriter
from xethub_local.metadata.repositories import Repositories
from xethub_local.metadata.scans import Scans
from xethub_local.store.access import EVERYTHING, Access, check_chosen_token, load_signing_key
from xethub_local.store.database import Database
from xethub_local.store.folder import make_private, write_once
from xethub_local.store.issuer import Issuer
from xethub_local.store.publishers import Publishers

BUILT_IN_USER = "local"
WRITE_TOKEN, READ_TOKEN = "write", "read"
_INSTANCE_FILE = "instance.id"


class LocalStore:
    """The open data folder of a local Hub.

    :param folder: created if missing. Several processes may use one folder.
    :ivar instance_id: random id of the folder, part of its CAS URL.
    :ivar tokens: Hub tokens of the built-in user, by role.
    :param token_life: seconds that a new Xet token is valid.
    :param discards: check the content that clients upload to CAS, and discard its bytes.
    :param write_token: a Hub token to accept for the built-in user, besides the one of the folder.
    :raises ValueError: ``write_token`` has another form than a Hub token.
    :raises OSError: the folder cannot be created, read or written.
    """

    def __init__(
        self, folder: Path, *, token_life: int = 900, discards: bool = False, write_token: str | None = None
    ) -> None:
        if write_token is not None:
            check_chosen_token(write_token)  # before anything is opened
        make_private(folder)
        self.folder = folder
        self.instance_id = _instance_id(folder)
        self.db = Database(folder)
        self.access = Access(self.db, load_signing_key(folder), token_life=token_life)
        self.publishers = Publishers(self.db, self.access.now)
        self.issuer = Issuer(folder)
        self.content = ContentStore(folder, self.db, discards=discards)
        self.repositories = Repositories(self.db, clock=self.access.now)
        self.commits = CommitWriter(self.repositories)
        self.scans = Scans(self.access.now)
        self.bucket_files = BucketFiles(self.db, clock=self.access.now)
        own_token = self.access.add_user(
            BUILT_IN_USER, role="write", grants={EVERYTHING: "write"}, token_name=WRITE_TOKEN
        )
        read_token = self.access.add_user(
            BUILT_IN_USER, role="read", grants={EVERYTHING: "read"}, token_name=READ_TOKEN
        )
        if write_token is not None:
            self.access.choose_token(write_token, BUILT_IN_USER, WRITE_TOKEN)
        self.tokens = {WRITE_TOKEN: write_token or own_token, READ_TOKEN: read_token}

    def close(self) -> None:
        """Close the database."""
        self.db.close()


def _instance_id(folder: Path) -> str:
    return write_once(folder / _INSTANCE_FILE, lambda: secrets.token_hex(8).encode()).decode("ascii")
