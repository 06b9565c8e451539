"""The Hubs, the proxy and the repositories of a run, and every credential in it."""

from __future__ import annotations

import base64
import json
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import quote

from huggingface_hub import CommitOperationAdd, HfApi

from airflow_provider_xethub.xet.repo import Repo
from leaks.cases import Case
from leaks.echo import Echo
from leaks.places import REQUEST_IDS
from leaks.search import SHORTEST, Search
from support.builders import TEXT, binary, write
from support.identities import SUBJECT
from support.private_network import Proxy
from support.repository_trees import set_tree
from xethub_local.metadata.commits import PutRegular
from xethub_local.server import LocalHub
from xethub_local.store.access import Access

USER = "anna"
PROXY_PASSWORD = "door/9b2e:47d1+Kq w"
"""With characters that a URL has to encode."""
HEADER = 'key/5e1f0c"Zq=9%w&vU'
"""With a character that JSON has to escape."""
WEBHOOK_SECRET = "webhook-7d1f0a93c5e2"

XET_MARK = "XetMark7Qw9ZkVt"
_MAC_MARKS = {"xet": XET_MARK, "data": "DataMark5Ty2LpRs"}
"""What the MACs of Xet tokens and of data URLs begin with here, so that each is recognised."""
_XET_HEADS = ("xet_WyJ3cml0ZSIs", "xet_WyJyZWFkIiwi")
"""What Xet tokens of the local Hub begin with: the scope is the first field of their payload."""

_NEVER_PLANTED = {"asset state", "webhooks", REQUEST_IDS}
"""Nothing of a DAG gets there."""

EXAMPLES = {
    "datasets/local/penguins": {
        "species.csv": TEXT,
        "old.bin": binary(seed="penguins"),
        "raw/biscoe.csv": b"species,mass\nAdelie,3700\n",
    },
    "models/local/model": {
        "config.json": b'{"model_type": "tiny"}',
        "weights.bin": binary(seed="model"),
        "outdated/a.bin": binary(seed="outdated"),
    },
    "datasets/local/corpus": {"start.csv": TEXT, "start.bin": binary(seed="corpus"), "published/a.csv": TEXT},
    "datasets/local/versions": {"a.csv": TEXT},
}
"""The repositories that the example DAGs expect."""


def fernet_key() -> str:
    """Return a new key of Fernet."""
    return base64.urlsafe_b64encode(os.urandom(32)).decode()


class World:
    """Everything outside of Airflow.

    :ivar hubs: by the name of their case; ``examples`` is that of the example DAGs, ``webhooks`` that of the webhooks.
    :ivar planted: a credential that is written into every place on purpose.
    :ivar sources: a folder with files to upload.
    :ivar pushed_repo: a repository that is an asset, of which webhooks tell, and ``pushed``, two of its commits.
    """

    def __init__(self, folder: Path, cases: list[Case], stack: ExitStack) -> None:
        self.folder = folder
        self.cases = cases
        self.hubs: dict[str, LocalHub] = {}
        self.airflow_key, self.provider_key = fernet_key(), fernet_key()
        self.planted = "planted-" + secrets.token_hex(16)
        self.wrong_token = "hf_" + secrets.token_hex(17)
        self.wrong_password = "wrong/" + secrets.token_hex(8)
        self.recipient_keys = folder / "recipient-keys"
        self.identity_files = folder / "identities"
        self._id_tokens: list[str] = []
        self.sources = write(
            folder / "sources",
            {
                **{f"{number}.bin": binary(seed=f"source {number}") for number in range(3)},
                "config.json": b'{"model_type": "tiny"}',
                "penguins.csv": b"species,mass\nAdelie,3700\n",
            },
        )
        stack.enter_context(recognisable())
        self.proxy: Proxy = stack.enter_context(Proxy(USER, PROXY_PASSWORD))
        for name in (*(case.name for case in cases), "examples", "webhooks"):
            hub = LocalHub(folder / "hubs" / name)
            # A proxy might repeat its own user and password.
            basic = base64.b64encode(f"{USER}:{PROXY_PASSWORD}".encode()).decode()
            setattr(hub, "_app", Echo(hub._app, [PROXY_PASSWORD, quote(PROXY_PASSWORD, safe=""), basic]))  # noqa: B010
            self.hubs[name] = stack.enter_context(hub)
        self.records = {case.name: self._fill(self.hubs[case.name], case) for case in cases}
        for name, tree in EXAMPLES.items():
            repo = _repo(name)
            self.hubs["examples"].create_repo(repo.repo_id, repo.repo_type, private=True)
            set_tree(self.hubs["examples"], repo, tree)
        self.pushed_repo = self.repo(next(case for case in cases if case.tasks == "waiting"))
        self.hubs["webhooks"].create_repo(self.pushed_repo.repo_id, self.pushed_repo.repo_type)
        contents = ({"a.csv": TEXT}, {"b.csv": TEXT})
        self.pushed = tuple(set_tree(self.hubs["webhooks"], self.pushed_repo, content) for content in contents)
        self.hubs["examples"].publisher("datasets/local/penguins", sub=SUBJECT)
        self.rotate_identities()

    # -- repositories

    def _fill(self, hub: LocalHub, case: Case) -> list[dict[str, Any]]:
        """Make the repository of a case, with files and pull requests; return the records of its files."""
        repo = self.repo(case)
        name = f"datasets/{repo.repo_id}"
        hub.create_repo(repo.repo_id, repo.repo_type, private=True)
        set_tree(hub, repo, {"a.bin": binary(seed=case.name), "b.csv": TEXT})
        hub.publisher(name, sub=SUBJECT)
        api = HfApi(endpoint=hub.url, token=hub.token())
        if case.tasks != "keyless":
            for number in range(3):
                change = CommitOperationAdd(f"proposed/{number}.csv", TEXT)
                api.create_commit(
                    repo.repo_id, [change], repo_type="dataset", create_pr=True, commit_message=f"Pull {number}"
                )
        if case.tasks == "waiting":
            hub.scans.set("queued")
        elif not case.connection:
            for fault in case.faults:
                hub.faults.add(fault)
        entries = hub.repositories.entries(name, hub.repositories.resolve(name, "main"))
        return [
            {
                "path": entry.path,
                "size": entry.size,
                "sha256": entry.sha256,
                "xet_hash": entry.xet_hash,
                "repo": repo.uri,
                **({} if entry.xet_hash else {"blob_id": entry.oid}),
            }
            for entry in entries
            if entry.path in ("a.bin", "b.csv")
        ]

    def repo(self, case: Case) -> Repo:
        """Return the repository of a case."""
        return Repo(f"local/{case.name.replace('_', '-')}", "dataset")

    def go_wrong(self, case: Case) -> None:
        """Begin the faults of a case whose tasks are waiting."""
        for fault in case.faults:
            self.hubs[case.name].faults.add(fault)

    def faults_acted(self, case: Case) -> int:
        """Count the requests of a case that went wrong."""
        return sum(armed.acted for armed in self.hubs[case.name].faults.armed())

    def let_it_happen(self, case: Case) -> None:
        """End the faults, and make what the tasks of a case wait for."""
        hub, repo = self.hubs[case.name], self.repo(case)
        hub.faults.clear()
        hub.scans.clear()
        hub.commits.commit(f"datasets/{repo.repo_id}", "main", [PutRegular("late.csv", TEXT)], title="late")
        api = HfApi(endpoint=hub.url, token=hub.token())
        api.merge_pull_request(repo.repo_id, 3, repo_type="dataset")

    # -- connections

    def connections(self) -> Iterator[dict[str, Any]]:
        """Return all connections, as a person enters them in the UI."""
        for case in self.cases:
            hub = self.hubs[case.name]
            if case.tasks == "keyless":
                extra = {"identity": "file", "identity_file": str(self._identity_file(case.name))}
                yield _connection(case.conn_id, hub.url, None, extra)
                continue
            token = self.wrong_token if case.connection == "token" else hub.token()
            password, port = PROXY_PASSWORD, self.proxy.address
            if case.connection == "proxy password":
                password = self.wrong_password
            if case.connection == "proxy":
                port = "127.0.0.1:1"
            extra = {
                "secret_headers": json.dumps({"X-Proxy-Key": HEADER}),
                "proxy": f"http://{USER}:{quote(password, safe='')}@{port}",
            }
            yield _connection(case.conn_id, hub.url, token, extra)
        extra = {"secret_headers": json.dumps({"X-Proxy-Key": HEADER})}
        for conn_id, name in (("xethub_default", "examples"), ("leaks_webhooks", "webhooks")):
            yield _connection(conn_id, self.hubs[name].url, self.hubs[name].token(), extra)
        yield _connection("leaks_planted", "", None, {}) | {"conn_type": "generic", "description": self.planted}
        keyless = {"identity": "file", "identity_file": str(self._identity_file("examples"))}
        yield _connection("xethub_keyless", self.hubs["examples"].url, None, keyless)

    def _identity_file(self, name: str) -> Path:
        return self.identity_files / name

    def all_identity_files(self) -> str:
        """Return what the administrator lists."""
        names = [*(case.name for case in self.cases if case.tasks == "keyless"), "examples"]
        return ",".join(str(self._identity_file(name)) for name in names)

    def rotate_identities(self) -> None:
        """Write new ID tokens, as a platform does."""
        self.identity_files.mkdir(exist_ok=True)
        for name in (*(case.name for case in self.cases if case.tasks == "keyless"), "examples"):
            token = self.hubs[name].identity(SUBJECT, lifetime=3600)
            self._id_tokens.append(token)
            self._identity_file(name).write_text(token)

    def planted_in(self, places: Iterable[str]) -> dict[str, Search]:
        """Return what finds the planted credential, for all of these places that it can get into."""
        search = Search({"planted": [self.planted]})
        return {place: search for place in places if place not in _NEVER_PLANTED}

    def credentials(self) -> dict[str, list[str]]:
        """Return every credential that there is, by kind."""
        hubs = self.hubs.values()
        keys = [json.loads(path.read_text()) for path in sorted(self.recipient_keys.glob("*.json"))]
        return {
            "Hub token": [*(hub.token(role) for hub in hubs for role in ("read", "write")), self.wrong_token],
            "Xet token": [token for hub in hubs for token in hub.access.issued_xet_tokens()],
            "ID token": self._id_tokens,
            "exchanged token": [token for hub in hubs for token in hub.access.exchanged_tokens.issued()],
            "secret header": [HEADER],
            "proxy password": [PROXY_PASSWORD, self.wrong_password],
            "Airflow's Fernet key": [self.airflow_key],
            "provider's Fernet key": [self.provider_key],
            "webhook secret": [WEBHOOK_SECRET],
            "signature of a data URL": [hub.access.sign_data_url("/").rpartition("=")[2] for hub in hubs],
            "private key of a recipient": [key["d"] for key in keys],
        }


def marks(credentials: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Return what to search for, by kind: of long tokens both halves, so that a part is found, too.

    :raises ValueError: there is none of a kind, or one is not recognisable.
    """
    found: dict[str, list[str]] = {}
    for kind, each in credentials.items():
        if not each:
            raise ValueError(f"The run used no {kind}.")
        if kind == "Xet token":
            if not all(token.startswith(_XET_HEADS) and XET_MARK in token for token in each):
                raise ValueError("A Xet token cannot be recognised.")
            found[kind] = [*_XET_HEADS, XET_MARK]
        elif kind == "signature of a data URL":
            found[kind] = [_MAC_MARKS["data"]]
        elif kind == "ID token":
            found[kind] = _halves(*(part for token in each for part in token.split(".")[1:]))
        else:
            found[kind] = _halves(*each) if min(map(len, each)) >= 2 * SHORTEST else list(each)
    return found


def _halves(*tokens: str) -> list[str]:
    return list(dict.fromkeys(half for each in tokens for half in (each[: len(each) // 2], each[len(each) // 2 :])))


def _connection(conn_id: str, host: str, password: str | None, extra: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "connection_id": conn_id,
        "conn_type": "xethub",
        "host": host,
        "password": password,
        "extra": json.dumps(extra),
    }


def _repo(name: str) -> Repo:
    plural, _, repo_id = name.partition("/")
    repo_type: Any = plural.removesuffix("s")
    return Repo(repo_id, repo_type)


@contextmanager
def recognisable() -> Iterator[None]:
    """Let all MACs of the local Hub begin with a mark for as long as the block lasts."""
    mac = Access._mac

    def marked(access: Access, purpose: str, text: str) -> str:
        return _MAC_MARKS.get(purpose, "") + mac(access, purpose, text)

    with patch.object(Access, "_mac", marked):
        yield
