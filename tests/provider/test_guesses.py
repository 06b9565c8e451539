"""Where no source says what the real Hub does, the provider works, or fails clearly and without damage, either way.

Which answers are possible, and what of the provider meets them, is in the table of facts about the real Hub. Where the
local Hub does something else than the real one on purpose, the answer of the real one is tried here, too.

The table names the work that is done here; before it, ``keyless`` means with an identity instead of a Hub token, and
``unasked`` that the provider sends no such request for it, so that the answer does not matter.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_xethub.exceptions import XetHubError
from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.xet.cas import session as cas_session
from airflow_provider_xethub.xet.hub import client as hub_module
from airflow_provider_xethub.xet.publish.request import CommitRequest
from airflow_provider_xethub.xet.repo import Repo
from support.builders import TEXT, binary, names, write
from support.hub_facts import FACTS, Answer, Fact
from support.identities import SUBJECT
from xethub_local.control.fault import Fault
from xethub_local.metadata.commits import PutRegular, PutXet
from xethub_local.server import LocalHub

OLDER = b"older"
FILES = {"d/a.bin": binary(9000, "a"), "t.csv": TEXT}
CASES = [
    pytest.param(fact, answer, touched, id=f"{fact.id}-{number}-{touched.replace(' ', '-')}")
    for fact in FACTS
    for number, answer in enumerate(fact.answers)
    for touched in fact.touches
]


class Where:
    """A repository with two files, and what is done with it."""

    def __init__(self, hub: LocalHub, repo: Repo, folder: Path, hook: XetHubConnection) -> None:
        self.hub, self.repo, self.folder, self.hook = hub, repo, folder, hook
        self.name = f"datasets/{repo.repo_id}"
        self.large = hub.content.add_plain(io.BytesIO(FILES["d/a.bin"]), repository=self.name)
        assert self.large.sha256 is not None
        put = PutXet("d/a.bin", self.large.xet_hash, self.large.sha256, self.large.size)
        hub.commits.commit(self.name, "main", [put, PutRegular("t.csv", TEXT)], title="before the test")
        self.armed: dict[str, Any] = {}
        self.checks: list[Callable[[bool], None]] = []

    def head(self) -> str:
        """Return the commit of the branch."""
        return self.hub.repositories.resolve(self.name, "main").id

    def read(self, path: str) -> bytes:
        """Return a file of the branch, as the local Hub stores it."""
        repositories = self.hub.repositories
        entry = repositories.entry(self.name, repositories.resolve(self.name, "main"), path)
        return b"".join(self.hub.content.read_file(entry.xet_hash)) if entry.xet_hash else repositories.blob(entry.oid)

    def arm(self, fault: dict[str, Any]) -> None:
        """Let the local Hub give an answer, in which names in braces stand for facts about the first file."""
        known = {"hash": self.large.xet_hash, "size": self.large.size, "sha256": self.large.sha256}
        known |= {"commit": self.head(), "web": self.repo.web_path}
        for name, value in known.items():
            fault = json.loads(json.dumps(fault).replace(f"{{{name}}}", str(value)))
        self.hub.faults.add(Fault.from_json(fault))

    def finally_(self, check: Callable[[bool], None]) -> None:
        """Check when the faults are gone; called with whether the work succeeded."""
        self.checks.append(check)


@pytest.fixture
def where(hub: LocalHub, repo: Repo, connection: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Where:
    monkeypatch.setattr(cas_session, "RETRIES", 0)
    monkeypatch.setattr(hub_module, "MAX_TRIES", 1)
    return Where(hub, repo, tmp_path, XetHubConnection())


def new_content(where: Where) -> str:
    """Content that CAS has not yet; afterwards it is committed whole, or not at all."""
    files = {"new/b.bin": binary(7000, str(where.folder)), "new/c.txt": b"c\n"}
    source = write(where.folder / "in", files)
    before = where.head()

    def check(succeeded: bool) -> None:
        commits = [commit.id for commit in where.hub.repositories.commits(where.name, "main")]
        added = commits.index(before)
        assert added == succeeded or (added == 1 and not succeeded)  # an answer may be lost, but nothing is doubled
        if added:
            for path, expected in files.items():
                assert where.read(path) == expected
        assert where.read("d/a.bin") == FILES["d/a.bin"]

    where.finally_(check)
    return str(source)


def upload(where: Where) -> None:
    where.hook.publish(new_content(where), CommitRequest(where.repo, (), message="Nightly"))


def commit(where: Where) -> None:
    uploaded = where.hook.upload(new_content(where), where.repo)
    where.hook.commit(CommitRequest(where.repo, tuple(uploaded["files"]), message="Nightly"))


def download(where: Where) -> None:
    out = write(where.folder / "out", dict.fromkeys(FILES, OLDER))

    def check(succeeded: bool) -> None:
        assert names(out) == sorted(FILES)
        for path, expected in FILES.items():
            assert (out / path).read_bytes() in ((expected,) if succeeded else (expected, OLDER))

    where.finally_(check)
    where.hook.download(str(out), where.hook.list_files(where.repo, patterns=[*FILES]))


def stream(where: Where) -> None:
    from airflow_provider_xethub.fs.xethub import XetHubFileSystem

    XetHubFileSystem.clear_instance_cache()
    fs = XetHubFileSystem(conn_id="xethub_default")
    for path, expected in FILES.items():
        assert fs.cat_file(f"datasets/{where.repo.repo_id}/{path}") == expected


def sensor(where: Where) -> None:
    from airflow_provider_xethub.sensors.xethub import XetFileSensor

    waiting = XetFileSensor(task_id="t", repo_id=where.repo.repo_id, repo_type="dataset", path="d/a.bin")
    assert waiting.poke({})  # type: ignore[typeddict-item]


def merge(where: Where) -> None:
    source = write(where.folder / "in", {"proposed.txt": b"p\n"})
    before = where.head()
    where.hub.faults.clear()
    request = CommitRequest(where.repo, (), message="Proposal", create_pr=True)
    where.hook.publish(str(source), request)
    where.arm(where.armed)

    def check(succeeded: bool) -> None:
        assert (where.head() == before) is not succeeded

    where.finally_(check)
    where.hook.merge_pull_request(where.repo, 1)


def settings(where: Where) -> None:
    def check(succeeded: bool) -> None:
        assert where.hub.repositories.get(where.name).private is succeeded

    where.finally_(check)
    where.hook.update_repo(where.repo, visibility="private")


def bucket(where: Where) -> None:
    made = where.hub.create_repo(f"local/{where.repo.repo_id.split('/')[1]}", "bucket")
    source = write(where.folder / "in", {"a.bin": b""})

    def check(succeeded: bool) -> None:
        found = [file.path for file in where.hub.bucket_files.beneath(f"buckets/{made.repo_id}")]
        assert found == (["a.bin"] if succeeded else [])

    where.finally_(check)
    where.hook.publish(str(source), CommitRequest(Repo(made.repo_id, "bucket"), (), message="Nightly"))


def connection_test(where: Where) -> None:
    is_good, message = where.hook.test_connection()
    assert len(message) > 10
    assert isinstance(is_good, bool)


def exchange(where: Where) -> None:
    where.hook.get_token(where.repo, "read")


WORK: dict[str, Callable[[Where], None]] = {
    "upload": upload,
    "commit": commit,
    "download": download,
    "stream": stream,
    "sensor": sensor,
    "merge": merge,
    "settings": settings,
    "bucket": bucket,
    "connection": connection_test,
    "exchange": exchange,
}


@pytest.fixture
def keyless(
    hub: LocalHub, repo: Repo, connection: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Any:
    """Replaces the Hub token of the connection by an identity, for which the repository has a publisher."""
    added = []

    def connect() -> XetHubConnection:
        identity = tmp_path / "identity"
        identity.write_text(hub.identity(SUBJECT))
        monkeypatch.setenv("AIRFLOW__XETHUB__IDENTITY_FILES", str(identity))
        added.append(hub.publisher(f"datasets/{repo.repo_id}", sub=SUBJECT))
        extra = {"identity": "file", "identity_file": str(identity), "repo_id": repo.repo_id, "repo_type": "dataset"}
        return XetHubConnection(connection(password=None, extra=extra))

    yield connect
    for one in added:
        hub.publishers.remove(one.id)


@pytest.mark.parametrize(("fact", "answer", "touched"), CASES)
def test_either_answer_leaves_no_damage(fact: Fact, answer: Answer, touched: str, where: Where, keyless: Any) -> None:
    *how, name = touched.split()
    if "keyless" in how:
        where.hook = keyless()
    where.armed = answer.fault
    if answer.fault:
        where.arm(answer.fault)
    error: BaseException | None = None
    try:
        WORK[name](where)
    except (XetHubError, OSError) as caught:
        error = caught
    acted = sum(armed.acted for armed in where.hub.faults.armed())
    where.hub.faults.clear()
    for check in where.checks:
        check(error is None)
    if answer.fault:
        assert bool(acted) is ("unasked" not in how), f"the answer was given {acted} times"
    if error is not None:
        assert isinstance(error, XetHubError) or name == "stream", repr(error)
        assert len(str(error)) > 20
        assert answer.fault, f"the local Hub did {answer.says!r} by itself, and it failed: {error}"
    assert not list(where.folder.rglob("*.xetpart"))


def test_every_work_is_used() -> None:
    """A guess about something that is not done here is not tried."""
    assert {touched.split()[-1] for fact in FACTS for touched in fact.touches} == WORK.keys()
