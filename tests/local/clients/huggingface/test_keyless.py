"""Keyless sign-in as ``huggingface_hub`` itself does it: on GitHub Actions, or with an ID token that a job has already.

A server on loopback stands in for the one of GitHub Actions that gives a job its ID token, after its documentation.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi, constants, get_token
from huggingface_hub.errors import BadRequestError, HfHubHTTPError
from huggingface_hub.utils import _auth

from support.hub_calls import binary
from support.small_server import Answer, Asked, SmallServer
from xethub_local.server import LocalHub

_HF = Path(sys.executable).parent / "hf"
_BEARER = "job-token"
_CLAIMS: dict[str, Any] = {"repository": "acme/training", "ref": "refs/heads/main", "workflow": "publish.yml"}
_SUBJECT = "repo:acme/training:ref:refs/heads/main"


@pytest.fixture
def actions(hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallServer]:
    """Make this process a job of GitHub Actions, whose issuer is that of the Hub."""

    def answer(asked: Asked) -> Answer:
        if asked.headers.get("authorization") != f"Bearer {_BEARER}":
            return Answer({}, 401)
        (audience,) = asked.query["audience"]
        return Answer({"value": hub.identity(_SUBJECT, aud=audience, **_CLAIMS)})

    with SmallServer(answer) as github:
        monkeypatch.setenv("GITHUB_ACTIONS", "true")
        monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_URL", f"{github.url}/token?api-version=2.0")
        monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN", _BEARER)
        monkeypatch.delenv("HF_OIDC_ID_TOKEN", raising=False)
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(_auth, "_OIDC_TOKEN_CACHE", None)
        yield github


@pytest.mark.skipif(not _HF.exists(), reason="the hf command is not installed")
def test_a_job_publishes_to_its_repository_without_any_stored_token(
    hub: LocalHub, api: HfApi, repo: str, actions: SmallServer, tmp_path: Path
) -> None:
    api.update_repo_settings(repo, repo_type="dataset", private=True)
    hub.publisher(f"datasets/{repo}", **_CLAIMS)
    (tmp_path / "a.bin").write_bytes(binary("model"))
    job = {name: value for name, value in os.environ.items() if not name.startswith("HF_")} | {
        "HF_ENDPOINT": hub.url,
        "HF_OIDC_RESOURCE": f"datasets/{repo}",
        "HF_HOME": str(tmp_path / "home"),
        "HF_XET_LOG_DEST": os.devnull,
        "HF_HUB_DISABLE_UPDATE_CHECK": "1",
    }
    for command in (["upload", repo, str(tmp_path / "a.bin")], ["download", repo, "--local-dir", str(tmp_path / "b")]):
        run = [str(_HF), *command, "--repo-type", "dataset"]
        done = subprocess.run(run, env=job, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "b/a.bin").read_bytes() == binary("model")
    newest = api.list_repo_commits(repo, repo_type="dataset")[0]
    assert newest.authors == [f"[OIDC] {hub.issuer} {_SUBJECT}"]
    # One for each process: the client keeps what it got. The Xet tokens came with the exchanged one.
    assert len(actions.asked) == len(hub.log.requests("POST /oauth/token", status=200)) == 2
    assert hub.log.requests("POST /cas/.*shards.*", status=200)


def test_the_client_exchanges_again_before_the_token_expires(
    hub: LocalHub, repo: str, actions: SmallServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_OIDC_RESOURCE", f"datasets/{repo}")
    hub.publisher(f"datasets/{repo}", **_CLAIMS)
    hub.exchanged_token_lifetime = 60  # less than the client's margin
    try:
        assert get_token() != get_token()
    finally:
        hub.exchanged_token_lifetime = 3600
    assert len(actions.asked) == 2


def test_a_job_on_another_branch_publishes_nothing(
    hub: LocalHub, repo: str, actions: SmallServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_OIDC_RESOURCE", f"datasets/{repo}")
    hub.publisher(f"datasets/{repo}", **{**_CLAIMS, "ref": "refs/heads/release"})
    with pytest.raises(BadRequestError, match="invalid_grant") as caught:
        HfApi(endpoint=hub.url).upload_file(path_or_fileobj=b"x", path_in_repo="a", repo_id=repo, repo_type="dataset")
    assert caught.value.request_id
    assert hub.log.requests("POST /api/.*") == []


def test_a_job_with_an_id_token_of_another_provider_reads_what_is_gated(
    hub: LocalHub, repo: str, actions: SmallServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add_user("reader", role="read")
    name = f"datasets/{repo}"
    hub.repositories.gates.set_mode(name, "manual")
    hub.repositories.gates.set_status(name, "reader", "accepted")
    hub.publisher("reader", sub="project_path:acme/training")
    monkeypatch.setenv("HF_OIDC_RESOURCE", "reader")
    monkeypatch.setenv("HF_OIDC_ID_TOKEN", hub.identity("project_path:acme/training"))
    api = HfApi(endpoint=hub.url)
    assert api.whoami()["name"] == "reader"
    api.auth_check(repo, repo_type="dataset")
    with pytest.raises(HfHubHTTPError, match="403"):
        api.upload_file(path_or_fileobj=b"x", path_in_repo="a", repo_id=repo, repo_type="dataset")
    assert actions.asked == []
