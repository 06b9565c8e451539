"""The console script, as real processes."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from airflow_provider_xethub.local.cli import main

COMMAND = [sys.executable, "-m", "airflow_provider_xethub.local.cli"]


@contextlib.contextmanager
def serving(folder: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    command = [*COMMAND, "serve", "--port", "0", "--folder", str(folder), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            printed = ""
            for line in process.stdout:
                printed += line
                if "Ctrl-C" in line:
                    break
            else:
                raise AssertionError(process.communicate())
            yield process, printed
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_prints_how_to_connect_serves_and_stops_on_a_signal(tmp_path: Path, number: signal.Signals) -> None:
    create = ("--create-repo", "dataset:acme/corpus", "--create-repo", "bucket:acme/raw", "--token-life", "77")
    with serving(tmp_path, *create) as (process, printed):
        found = re.search(r"export AIRFLOW_CONN_XETHUB_DEFAULT=(.*)", printed)
        assert found is not None
        connection = json.loads(shlex.split(found[1])[0])
        url, token = connection["host"], connection["password"]
        assert connection["conn_type"] == "xethub"
        assert (
            f"airflow connections add xethub_default --conn-type xethub --conn-host {url} --conn-password {token}"
            in printed
        )
        assert str(tmp_path) in printed
        assert "development server" in printed
        session = requests.Session()
        session.headers["Authorization"] = f"Bearer {token}"
        assert session.get(f"{url}/api/whoami-v2", timeout=20).json()["auth"]["accessToken"]["role"] == "write"
        answer = session.get(f"{url}/api/datasets/acme/corpus/xet-write-token/main", timeout=20)
        assert 70 < answer.json()["exp"] - time.time() <= 78
        assert session.get(f"{url}/api/buckets/acme/raw", timeout=20).json()["totalFiles"] == 0
        began = time.perf_counter()
        process.send_signal(number)
        out, errors = process.communicate(timeout=20)
        assert time.perf_counter() - began < 2
        assert (process.returncode, out, errors) == (0, "Stopped.\n", "")


def test_a_folder_is_served_again_with_the_same_tokens(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(tmp_path, "--create-repo", "model:acme/m") as (_, printed):
        assert main(["create-repo", "dataset:acme/later", "--private", "--folder", str(tmp_path)]) == 0
    with serving(tmp_path, "--create-repo", "model:acme/m") as (_, again):
        assert re.findall("hf_[A-Za-z0-9]+", printed) == re.findall("hf_[A-Za-z0-9]+", again)
    capsys.readouterr()
    assert main(["ls", "--folder", str(tmp_path)]) == 0
    listed = capsys.readouterr().out
    assert "datasets/acme/later (private)\n" in listed
    assert "models/acme/m\n" in listed
    assert ".gitattributes" in listed
    assert main(["tokens", "--folder", str(tmp_path)]) == 0
    assert set(re.findall("hf_[A-Za-z0-9]+", capsys.readouterr().out)) == set(re.findall("hf_[A-Za-z0-9]+", printed))


def test_a_user_is_added_with_grants(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [
        "add-user",
        "bob",
        "--role",
        "fineGrained",
        "--grant",
        "datasets/acme/x=read",
        "--folder",
        str(tmp_path),
    ]
    assert main(arguments) == 0
    token = capsys.readouterr().out.strip()
    assert main(["tokens", "--folder", str(tmp_path)]) == 0
    assert f"bob  default  fineGrained  {token}  datasets/acme/x=read\n" in capsys.readouterr().out


def test_a_port_in_use_is_one_readable_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            [*COMMAND, "serve", "--port", str(port), "--folder", str(tmp_path)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"xethub-local: port {port} of 127.0.0.1 is in use. Stop what listens there, or choose another with --port.\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["serve", "--host", "192.0.2.1"], "--allow-remote"),
        (["serve", "--token-life", "0"], "at least 1 second"),
        (["serve", "--port", "99999"], "from 0 to 65535"),
        (["serve", "--create-repo", "acme/corpus"], "TYPE:NAMESPACE/NAME"),
        (["serve", "--create-repo", "dataset:acme"], "namespace/name"),
        (["serve", "--create-repo", "dataset:api/x"], "reserved"),
        (["create-repo", "file:acme/corpus"], "TYPE:NAMESPACE/NAME"),
        (["add-user", "bob", "--grant", "acme"], "WHERE=read"),
        (["add-user", "bob", "--grant", "acme/x=read"], "datasets/acme/corpus"),
        (["ls"], "no local Hub in the folder"),
        (["tokens"], "no local Hub in the folder"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--folder", str(tmp_path / "data")]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("xethub-local: ")
    assert printed.err.count("\n") == 1
    assert message in printed.err


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main(["create-repo", "model:acme/m", "--folder", str(tmp_path / "file" / "data")]) == 2
    assert "cannot be used" in capsys.readouterr().err


def test_a_repository_is_created_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["create-repo", "dataset:acme/corpus", "--folder", str(tmp_path)]
    assert main(arguments) == 0
    assert capsys.readouterr().out == "Created hf://datasets/acme/corpus@main\n"
    assert main(arguments) == 2
    assert "exists" in capsys.readouterr().err


def test_help_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--help"], ["serve", "--help"], ["create-repo", "--help"]):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 0
    assert "development server" in capsys.readouterr().out
