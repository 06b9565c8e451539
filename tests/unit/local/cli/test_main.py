"""The console script in this process: its help, its errors and exit statuses."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from xethub_local.cli.main import main
from xethub_local.store.database import VERSION


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
    assert f"bob\tdefault\tfineGrained\t{token}\tdatasets/acme/x=read\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["serve", "--host", "192.0.2.1"], "--allow-remote"),
        (["serve", "--token-life", "0"], "at least 1 second"),
        (["serve", "--port", "99999"], "from 0 to 65535"),
        (["serve", "--create-repo", "acme/corpus"], "TYPE:NAMESPACE/NAME"),
        (["serve", "--create-repo", "dataset:acme"], "namespace/name"),
        (["create-repo", "file:acme/corpus"], "TYPE:NAMESPACE/NAME"),
        (["add-user", "bob", "--grant", "acme"], "WHERE=read"),
        (["add-user", "bob", "--grant", "acme/x=read"], "datasets/acme/corpus"),
        (["ls", "dataset:acme/corpus@"], "the revision after '@' is missing"),
        (["ls", "dataset:acme/corpus@a..b"], "not a valid git reference"),
        (["ls", "dataset:acme/corpus:../x"], "'..' segment"),
        (["ls", "bucket:acme/raw@v1"], "buckets have no revisions"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_status_2(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, line = failed(arguments, tmp_path / "data", capsys)
    assert status == 2
    assert message in line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["serve", "--create-repo", "dataset:api/x"], "reserved"),
        (["ls"], "no local Hub in the folder"),
        (["tokens"], "no local Hub in the folder"),
        (["put", "x", "dataset:acme/corpus"], "no local Hub in the folder"),
        (["get", "dataset:acme/corpus"], "no local Hub in the folder"),
        (["faults"], "no local Hub in the folder"),
        (["reset"], "no local Hub in the folder"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_status_1(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, line = failed(arguments, tmp_path / "data", capsys)
    assert status == 1
    assert message in line


def failed(arguments: list[str], folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Return the status and the one line that was printed."""
    status = main([*arguments, "--folder", str(folder)])
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("xethub-local: ")
    assert printed.err.count("\n") == 1
    return status, printed.err


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main(["create-repo", "model:acme/m", "--folder", str(tmp_path / "file" / "data")]) == 1
    assert "cannot use the data folder" in capsys.readouterr().err


def test_a_repository_is_created_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["create-repo", "dataset:acme/corpus", "--folder", str(tmp_path)]
    assert main(arguments) == 0
    assert capsys.readouterr().out == "Created hf://datasets/acme/corpus@main\n"
    assert main(arguments) == 1
    assert "exists" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command", ["serve", "create-repo", "ls", "put", "get", "tokens", "add-user", "faults", "faults add", "reset"]
)
def test_help_explains_itself_with_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([*command.split(), "--help"])
    assert caught.value.code == 0
    printed = capsys.readouterr().out
    assert f"\n  xethub-local {command}" in printed
    assert "examples:" in printed


def test_help_says_what_it_is_and_the_exit_statuses(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    printed = " ".join(capsys.readouterr().out.split())
    assert "development server" in printed
    assert "130 interrupted" in printed


def test_a_folder_of_a_newer_release_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["create-repo", "model:acme/m", "--folder", str(tmp_path)]) == 0
    with sqlite3.connect(tmp_path / "hub.sqlite3") as connection:
        connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    capsys.readouterr()
    status, line = failed(["ls"], tmp_path, capsys)
    assert status == 1
    assert "a newer release wrote it" in line


def test_a_folder_that_is_damaged_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "hub.sqlite3").write_bytes(b"this is no database" * 100)
    status, line = failed(["ls"], tmp_path, capsys)
    assert status == 1
    assert str(tmp_path) in line
