"""Every ready-made fault, met by a real client: what the author of a DAG sees, and that other clients see nothing."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hf_xet
import pytest
from huggingface_hub import HfApi
from huggingface_hub._oidc import exchange_oidc_token
from huggingface_hub.errors import BadRequestError, HfHubHTTPError

from airflow_provider_xethub import exceptions
from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.xet.publish.commit import CommitRequest
from airflow_provider_xethub.xet.repo import Repo
from support.builders import binary, publish
from xethub_local.control.fault import Fault
from xethub_local.control.presets import PRESETS
from xethub_local.server import LocalHub

COMMITS = ["Upload with airflow-provider-xethub", "initial commit"]
Case = Callable[["Scene"], None]


class Scene:
    """A repository with a file in CAS, and the clients that are to meet a fault."""

    def __init__(self, hub: LocalHub, hook: XetHubConnection, repo: Repo, folder: Path) -> None:
        self.hub, self.hook, self.repo, self.folder = hub, hook, repo, folder
        self.name = f"datasets/{repo.repo_id}"
        self.fault: Fault | None = None

    def arm(self, name: str, **changes: Any) -> None:
        self.fault = self.hub.faults.add(name, **changes)

    @property
    def acted(self) -> int:
        assert self.fault
        return self.hub.faults.acted(self.fault)

    def api(self) -> HfApi:
        return HfApi(endpoint=self.hub.url, token=self.hub.token())

    def put(self) -> None:
        """Publish a new file with the provider."""
        source = self.folder / "new.bin"
        source.write_bytes(binary(20_000, "new"))
        self.hook.publish(source, CommitRequest(self.repo, ()))

    def titles(self) -> list[str]:
        return [commit.title for commit in self.hub.repositories.commits(self.name, "main")]

    def stored(self) -> dict[str, Any]:
        (file,) = [file for file in self.hook.list_files(self.repo) if file["path"] == "a.bin"]
        return dict(file)

    def fetch(self) -> bytes:
        """Download the file with hf-xet itself."""
        token = self.hook.get_token(self.repo)
        file = self.stored()
        to = self.folder / f"copy{time.monotonic_ns()}"
        access = {"endpoint": token.cas_url, "token": token.access_token, "token_expiry_unix_secs": 2**33}
        with hf_xet.XetSession().new_file_download_group(**access) as group:
            group.start_download_file(hf_xet.XetFileInfo(file["xet_hash"], file["size"]), str(to))
        return to.read_bytes()


@pytest.fixture
def scene(hub: LocalHub, hook: XetHubConnection, repo: Repo, tmp_path: Path) -> Iterator[Scene]:
    publish(repo, tmp_path, {"a.bin": binary(100_000, "a")})
    hub.log.clear()
    yield Scene(hub, hook, repo, tmp_path)
    hub.reset()


def busy(scene: Scene) -> None:
    scene.arm("hub-busy", times=1)
    assert scene.hook.get_token(scene.repo).is_fresh()
    assert [asked.status for asked in scene.hub.log.requests("GET .*-token/main")][-2:] == [429, 200]


def down(scene: Scene) -> None:
    scene.arm("hub-down", client="hf_hub/")
    with pytest.raises(HfHubHTTPError, match="503"):
        scene.api().repo_info(scene.repo.repo_id, repo_type="dataset")
    assert scene.hook.get_token(scene.repo).is_fresh()  # another client


def slow(scene: Scene) -> None:
    scene.arm("slow-hub", delay=0.3)
    began = time.monotonic()
    scene.hook.get_token(scene.repo)
    assert time.monotonic() - began >= 0.3


def unauthorized(scene: Scene) -> None:
    scene.arm("token-unauthorized")
    with pytest.raises(exceptions.XetUnauthorizedError):
        scene.hook.get_token(scene.repo)


def refused(scene: Scene) -> None:
    scene.arm("token-refused")
    with pytest.raises(exceptions.XetForbiddenError):
        scene.put()
    assert not scene.hub.log.requests("(POST|PUT) /cas/.*")
    assert scene.fetch() == binary(100_000, "a")  # reading goes on


def exchange_refused(scene: Scene) -> None:
    scene.hub.publisher(scene.name, sub="pod")
    exchange = {"subject_token": scene.hub.identity("pod"), "resource": scene.name, "endpoint": scene.hub.url}
    scene.arm("exchange-refused", times=1)
    with pytest.raises(BadRequestError, match="invalid_grant"):
        exchange_oidc_token(**exchange)
    assert exchange_oidc_token(**exchange)["expires_in"] == 3600


def without_expiry(scene: Scene) -> None:
    scene.arm("token-without-expiry")
    with pytest.raises(exceptions.XetTokenFormatError, match="exp"):
        scene.hook.get_token(scene.repo)
    with pytest.raises(ValueError, match="Xet headers have not been correctly set"):
        scene.api().hf_hub_download(scene.repo.repo_id, "a.bin", repo_type="dataset", local_dir=scene.folder / "api")


def short(scene: Scene) -> None:
    scene.arm("short-tokens")
    assert 30 <= scene.hook.get_token(scene.repo).seconds_left() <= 36
    scene.put()
    assert scene.titles()[0] == COMMITS[0]


def skewed(scene: Scene) -> None:
    scene.arm("clock-skew")
    token = scene.hook.get_token(scene.repo)
    assert 890 <= token.seconds_left() <= 901  # by the server's clock, which its Date header tells
    assert 890 <= token.local_expiry - time.time() <= 901
    assert scene.fetch() == binary(100_000, "a")


def html(scene: Scene) -> None:
    scene.arm("html-instead-of-json")
    with pytest.raises(exceptions.XetHubError, match="HTML"):
        scene.hook.get_latest_commit(scene.repo)


def dropped(scene: Scene) -> None:
    scene.arm("dropped-connection", times=1)
    assert scene.hook.get_token(scene.repo).is_fresh()


def cut(scene: Scene) -> None:
    scene.arm("cut-data", times=1)
    assert scene.fetch() == binary(100_000, "a")
    assert len(scene.hub.log.requests("GET /cas/.*/data/.*")) == 2


def corrupt(scene: Scene) -> None:
    scene.arm("corrupt-data")
    with pytest.raises(exceptions.XetIntegrityError):
        scene.hook.download(scene.folder / "kept", [scene.stored()])  # type: ignore[arg-type]
    assert list((scene.folder / "kept").iterdir()) == []


def expired(scene: Scene) -> None:
    scene.arm("expired-data-urls", times=1)
    assert scene.fetch() == binary(100_000, "a")
    assert [asked.status for asked in scene.hub.log.requests("GET /cas/.*/data/.*")] == [403, 206]
    assert len(scene.hub.log.requests("GET /cas/.*/reconstructions/.*")) == 2  # it asked for new URLs


def endless(scene: Scene) -> None:
    scene.arm("endless-answer")
    code = (
        "import hf_xet, sys\n"
        "url, token, expiry, xet_hash, size, to = sys.argv[1:]\n"
        "session = hf_xet.XetSession()\n"
        "access = {'endpoint': url, 'token': token, 'token_expiry_unix_secs': int(expiry)}\n"
        "with session.new_file_download_group(**access) as group:\n"
        "    group.start_download_file(hf_xet.XetFileInfo(xet_hash, int(size)), to)\n"
    )
    token, file, to = scene.hook.get_token(scene.repo), scene.stored(), scene.folder / "never"
    arguments = [token.cas_url, token.access_token, str(2**33), file["xet_hash"], str(file["size"]), str(to)]
    client = subprocess.Popen([sys.executable, "-c", code, *arguments], env=os.environ)
    try:
        while not scene.acted:
            assert client.poll() is None
            time.sleep(0.02)
        with pytest.raises(subprocess.TimeoutExpired):
            client.wait(1)
        assert not scene.hub.log.requests("GET /cas/.*/data/.*")
    finally:
        client.kill()
        client.wait()
    deadline = time.monotonic() + 20
    while not scene.hub.log.requests("GET /cas/.*/data/.*"):  # the server has noticed that the client left
        assert time.monotonic() < deadline
        time.sleep(0.02)


def slow_link(scene: Scene) -> None:
    scene.arm("slow-link", bandwidth=200_000)
    started = time.monotonic()
    assert scene.fetch() == binary(100_000, "a")
    assert time.monotonic() - started > 0.4


def crowded(scene: Scene) -> None:
    scene.arm("crowded-link", max_open=1, collapsed_bandwidth=200_000)
    scene.fetch()
    assert scene.fault
    shared = scene.hub.faults.link(scene.fault)
    assert shared
    assert (shared.collapses, shared.most_open) == (0, 1)  # one file is one request


def uploads(scene: Scene) -> None:
    scene.arm("upload-failing")
    token = scene.hook.get_token(scene.repo, "write")
    access = {"endpoint": token.cas_url, "token": token.access_token, "token_expiry_unix_secs": 2**33}
    with pytest.raises(ConnectionError, match="500"), hf_xet.XetSession().new_upload_commit(**access) as commit:
        commit.start_upload_bytes(binary(1000, "b"))
    assert scene.acted > 1  # it tried again


def conflict(scene: Scene) -> None:
    scene.arm("commit-conflict", client="hf_hub/")
    with pytest.raises(HfHubHTTPError, match="409"):
        scene.api().upload_file(
            path_or_fileobj=b"text", path_in_repo="t.txt", repo_id=scene.repo.repo_id, repo_type="dataset"
        )
    scene.put()  # another client


def moved(scene: Scene) -> None:
    scene.arm("branch-moved", client="hf_hub/")
    with pytest.raises(HfHubHTTPError, match="412"):
        scene.api().delete_file("a.bin", scene.repo.repo_id, repo_type="dataset")
    assert len(scene.titles()) == 2


def lost(scene: Scene) -> None:
    scene.arm("lost-commit-answer", times=1)
    scene.put()
    assert scene.titles() == [COMMITS[0], "before the test", COMMITS[1]]  # it found its commit


CASES: dict[str, Case] = {
    "hub-busy": busy,
    "hub-down": down,
    "slow-hub": slow,
    "token-unauthorized": unauthorized,
    "token-refused": refused,
    "exchange-refused": exchange_refused,
    "token-without-expiry": without_expiry,
    "short-tokens": short,
    "clock-skew": skewed,
    "html-instead-of-json": html,
    "dropped-connection": dropped,
    "cut-data": cut,
    "corrupt-data": corrupt,
    "expired-data-urls": expired,
    "endless-answer": endless,
    "slow-link": slow_link,
    "crowded-link": crowded,
    "upload-failing": uploads,
    "commit-conflict": conflict,
    "branch-moved": moved,
    "lost-commit-answer": lost,
}


def test_every_ready_made_fault_is_met_by_a_client() -> None:
    assert list(CASES) == list(PRESETS)


@pytest.mark.parametrize("name", CASES)
def test_a_client_meets(name: str, scene: Scene) -> None:
    CASES[name](scene)
    assert scene.acted


def test_urls_issued_expired_are_asked_for_again(scene: Scene) -> None:
    fault = scene.hub.faults.add(Fault("GET /cas/.*/reconstructions/.*", data_url_life=-1, times=1))
    assert scene.fetch() == binary(100_000, "a")
    assert scene.hub.faults.acted(fault) == 1
    assert [asked.status for asked in scene.hub.log.requests("GET /cas/.*/data/.*")] == [403, 206]


def test_truncated_data_are_noticed_by_hf_xet(scene: Scene) -> None:
    fault = scene.hub.faults.add(Fault("GET /cas/.*/data/.*", truncate=500, times=1))
    assert scene.fetch() == binary(100_000, "a")
    assert scene.hub.faults.acted(fault) == 1


def test_a_lost_connection_after_a_commit_is_survived_too(scene: Scene) -> None:
    fault = scene.hub.faults.add("lost-commit-answer", times=1, drop="before")
    scene.put()
    assert scene.hub.faults.acted(fault) == 1
    assert scene.titles().count(COMMITS[0]) == 1


def test_what_is_meant_for_hf_xet_leaves_the_provider_alone(scene: Scene) -> None:
    fault = scene.hub.faults.add(Fault("GET .*", status=500, client="hf_xet/"))
    assert scene.hook.get_token(scene.repo).is_fresh()
    assert scene.hub.faults.acted(fault) == 0
    with contextlib.suppress(Exception):
        scene.fetch()
    assert scene.hub.faults.acted(fault) > 0
