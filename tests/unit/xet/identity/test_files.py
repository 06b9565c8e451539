"""Which identity files a connection may name, and how they are read."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from airflow_provider_xethub.exceptions import XetIdentityError
from airflow_provider_xethub.xet.identity import files, variables

HUB = "https://huggingface.co"


@pytest.fixture
def mounted(tmp_path):
    """A file as the kubelet mounts it: links to a folder that it replaces."""
    first = tmp_path / "mount" / "..2026_11_29"
    first.mkdir(parents=True)
    (first / "token").write_text("first")
    (tmp_path / "mount" / "..data").symlink_to(first.name)
    (tmp_path / "mount" / "token").symlink_to("..data/token")
    return tmp_path / "mount" / "token"


def test_a_listed_file_is_read_anew_each_time(mounted):
    identity = files.choose(str(mounted), ["/elsewhere", str(mounted)])
    assert identity.name == f"file {mounted}"
    assert identity.id_token(HUB) == "first"
    second = mounted.parent / "..2026_11_30"
    second.mkdir()
    (second / "token").write_text("second")
    (mounted.parent / "..new").symlink_to(second.name)
    (mounted.parent / "..new").replace(mounted.parent / "..data")
    assert identity.id_token(HUB) == "second"


def test_another_name_of_a_listed_file_reads_the_listed_one(mounted, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(mounted)
    identity = files.choose(str(link), [str(mounted)])
    link.unlink()
    link.write_text("something else")
    assert identity.id_token(HUB) == "first"


@pytest.mark.parametrize(
    "named",
    [
        "{folder}/secret",
        "{folder}/mount",
        "{folder}/mount/",
        "{mounted}/../../secret",
        "{mounted}\0",
        "mount/token",
        "token",
        "",
        "/",
        "~/token",
        "file://{mounted}",
    ],
)
def test_what_is_not_listed_is_refused_without_opening_it(named, mounted, tmp_path, monkeypatch):
    (tmp_path / "secret").write_text("secret")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(XetIdentityError, match=r"^The identity file .* is not allowed\. Ask the administrator"):
        files.choose(named.format(folder=tmp_path, mounted=mounted), [str(mounted), "", "mount/token"])


def test_without_a_list_nothing_is_allowed(mounted):
    with pytest.raises(XetIdentityError, match=r"add it to \[xethub\] identity_files"):
        files.choose(str(mounted), [])


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(
        XetIdentityError, match=rf"^The identity file {tmp_path}/token is missing\. Check that it is mount"
    ):
        files.FileIdentity(f"{tmp_path}/token").id_token(HUB)


def test_a_file_without_permission_is_named(tmp_path):
    path = tmp_path / "token"
    path.write_text("x")
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("root reads everything")
    with pytest.raises(XetIdentityError, match=r"cannot be read: Permission denied"):
        files.FileIdentity(str(path)).id_token(HUB)


def test_a_huge_file_is_not_read(tmp_path):
    path = tmp_path / "token"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(XetIdentityError, match=r"is larger than 16 KiB: it is no ID token\. Nothing was sent"):
        files.FileIdentity(str(path)).id_token(HUB)


@pytest.mark.timeout(10)
def test_nothing_but_a_regular_file_is_opened(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "socket"))
    for path in (tmp_path, fifo, tmp_path / "socket", "/dev/zero", "/dev/tty"):
        with pytest.raises(XetIdentityError, match=r"is not a regular file"):
            files.FileIdentity(str(path)).id_token(HUB)
    listener.close()


@pytest.mark.timeout(10)
def test_a_file_that_becomes_a_fifo_does_not_block(tmp_path, monkeypatch):
    path = tmp_path / "token"
    os.mkfifo(path)
    regular = Path(__file__).stat()
    monkeypatch.setattr(files.Path, "stat", lambda _: regular)
    with pytest.raises(XetIdentityError, match=r"is not a regular file"):
        files.FileIdentity(str(path)).id_token(HUB)


def test_binary_content_is_text_that_no_jwt_has(tmp_path):
    path = tmp_path / "token"
    path.write_bytes(b"\xff\xfe\x00")
    assert not files.FileIdentity(str(path)).id_token(HUB).isascii()


def test_a_listed_variable_is_read_anew_each_time(monkeypatch):
    identity = variables.choose("HF_ID_TOKEN", ["HF_ID_TOKEN"])
    monkeypatch.setenv("HF_ID_TOKEN", "first")
    assert (identity.name, identity.id_token(HUB)) == ("variable HF_ID_TOKEN", "first")
    monkeypatch.setenv("HF_ID_TOKEN", "second")
    assert identity.id_token(HUB) == "second"
    monkeypatch.delenv("HF_ID_TOKEN")
    with pytest.raises(XetIdentityError, match=r"^The identity variable HF_ID_TOKEN is not set in this process"):
        identity.id_token(HUB)


@pytest.mark.parametrize("named", ["AWS_SECRET_ACCESS_KEY", "hf_id_token", ""])
def test_a_variable_that_is_not_listed_is_refused(named):
    with pytest.raises(
        XetIdentityError, match=r"is not allowed\. Ask the administrator to add it to \[xethub\] identity_var"
    ):
        variables.choose(named, ["HF_ID_TOKEN"])
