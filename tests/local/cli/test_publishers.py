"""``xethub-local publishers`` and ``identity``: trying keyless access by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import jwt
import pytest
import requests

from xethub_local.cli.main import main
from xethub_local.server import LocalHub
from xethub_local.store.announced_url import announced

Run = Callable[..., str]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalHub]:
    with LocalHub(tmp_path_factory.mktemp("hub")) as running, announced(running.folder, running.url):
        yield running


@pytest.fixture
def hub(server: LocalHub) -> LocalHub:
    """A Hub with two repositories and no publishers."""
    server.reset(data=True)
    server.create_repo("acme/corpus", "dataset", private=True)
    server.create_repo("acme/m")
    return server


@pytest.fixture
def run(hub: LocalHub, run_on: Callable[[Path], Run]) -> Run:
    return run_on(hub.folder)


def exchange(hub: LocalHub, token: str, resource: str = "datasets/acme/corpus") -> requests.Response:
    body = {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "subject_token_type": "urn:ietf:params:oauth:token-type:id_token",
        "subject_token": token,
        "resource": resource,
    }
    return requests.post(f"{hub.url}/oauth/token", json=body, timeout=20)


def test_a_publisher_is_added_to_the_running_server_listed_and_removed(hub: LocalHub, run: Run) -> None:
    number = run("publishers", "add", "dataset:acme/corpus", "--claim", "sub=pod", "--claim", "team=a=b").strip()
    token = run("identity", "--sub", "pod", "--claim", "team=a=b").strip()
    assert exchange(hub, token).status_code == 200
    run("publishers", "add", "model:acme/m", "--issuer", "https://gitlab.com", "--claim", "sub=x", "--read-only")
    hub.add_user("ana", role="read")
    run("publishers", "add", "user:ana", "--claim", "sub=pod")
    rows = [line.split("\t") for line in run("publishers").splitlines()]
    assert [row[1:5] for row in rows] == [
        ["dataset:acme/corpus", "(this Hub)", 'sub="pod" team="a=b"', "write"],
        ["model:acme/m", "https://gitlab.com", 'sub="x"', "read"],
        ["user:ana", "(this Hub)", 'sub="pod"', "read"],
    ]
    assert rows[0][0] == number
    assert (rows[0][5][:2], rows[1][5]) == ("20", "never")
    assert exchange(hub, run("identity", "--sub", "pod").strip(), "ana").json()["access_token"].startswith("hf_oauth_")
    run("publishers", "remove", number)
    assert exchange(hub, token).status_code == 400
    assert number in run("publishers", "remove", number, status=1)
    assert len(run("publishers", "list").splitlines()) == 2


def test_an_identity_goes_into_a_file_that_only_its_owner_can_read(hub: LocalHub, run: Run, tmp_path: Path) -> None:
    hub.publisher("datasets/acme/corpus", sub="airflow")
    path = tmp_path / "identity"
    path.write_text("an older one")
    path.chmod(0o644)
    with path.open() as reader:
        assert run("identity", "--output", str(path), "--algorithm", "ES256") == ""
        assert reader.read() == "an older one"  # replaced, never half of one and half of the other
    assert path.stat().st_mode & 0o777 == 0o600
    assert exchange(hub, path.read_text()).status_code == 200
    assert jwt.get_unverified_header(path.read_text())["alg"] == "ES256"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["identity"]


def test_an_identity_can_be_wrong_on_purpose(hub: LocalHub, run: Run) -> None:
    hub.publisher("datasets/acme/corpus", sub="airflow")
    for options in (["--audience", "https://huggingface.co"], ["--lifetime", "-1"], ["--sub", "other"]):
        assert exchange(hub, run("identity", *options).strip()).status_code == 400


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["publishers", "add", "bucket:acme/raw", "--claim", "sub=x"], 2, "buckets are no resource"),
        (["publishers", "add", "dataset:acme/corpus"], 2, "at least one claim"),
        (["publishers", "add", "dataset:acme/corpus", "--claim", "sub"], 2, "not of the form NAME=VALUE"),
        (["publishers", "add", "dataset:acme/corpus", "--claim", "aud=x"], 2, "'aud' cannot be chosen"),
        (["publishers", "add", "dataset:acme/none", "--claim", "sub=x"], 2, "does not exist"),
        (["publishers", "add", "user:nobody", "--claim", "sub=x"], 2, "does not exist"),
        (["publishers", "add", "acme/m", "--claim", "sub=x"], 2, "not of the form TYPE:NAMESPACE/NAME"),
        (["publishers", "add", "model:acme/m", "--claim", "sub=x", "--issuer", "gitlab.com"], 2, "must be an URL"),
        (["publishers", "remove", "x"], 1, "no publisher 'x'"),
        (["identity", "--claim", "=x"], 2, "not of the form NAME=VALUE"),
        (["identity", "--output", "/dev/null/identity"], 1, "cannot write /dev/null/identity"),
    ],
)
def test_what_cannot_work_is_one_line(run: Run, arguments: list[str], status: int, message: str) -> None:
    assert message in run(*arguments, status=status)


def test_an_identity_needs_a_running_server(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["create-repo", "model:acme/m", "--folder", str(tmp_path)]) == 0
    assert main(["identity", "--folder", str(tmp_path)]) == 1
    assert "no local Hub is running" in capsys.readouterr().err
