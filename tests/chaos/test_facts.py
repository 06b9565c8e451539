"""What is there at the end is found, and what should not be there, too."""

from __future__ import annotations

import base64
from pathlib import Path
from urllib.parse import quote

import pytest

from chaos import facts
from chaos.deployment import Fleet
from chaos.plan import REPO_ID, digest
from chaos.verdict import Commit, Download
from xethub_local.metadata.commits import PutRegular
from xethub_local.server import LocalHub

SECRET = "hf_qwErtZ+/" + "asdf" * 4
SPELLINGS = {
    "plain": SECRET,
    "URL-encoded": quote(SECRET, safe=""),
    **{
        f"base64 at offset {offset}": base64.b64encode(b"x" * offset + SECRET.encode() + b"yz").decode()
        for offset in range(3)
    },
}


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path, "", "", "", "")


def _write(path: Path, content: bytes = b"") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_credential_is_found_in_each_spelling(spelling: str) -> None:
    places = [("log", b"clean"), ("database", f"before {SPELLINGS[spelling]} after".encode())]
    assert facts.places_of_credentials(places, {"the Hub token": SECRET}) == ["database: the Hub token"]


def test_the_beginning_of_a_credential_alone_is_none() -> None:
    assert facts.places_of_credentials([("log", SECRET[:-1].encode())], {"the Hub token": SECRET}) == []


def test_temporary_files_belong_to_the_worker_where_the_last_attempt_ran(fleet: Fleet) -> None:
    for item in ("item-000", "item-001"):
        _write(fleet.home("one") / "inbox" / item / "items" / ".part")
    _write(fleet.shared / "item-002" / ".part")
    _write(fleet.shared / "item-002" / "data.bin")
    found = facts.temporary_files(fleet, {"item-000": "one", "item-001": "two", "item-002": "two"})
    assert found == (["shared: item-002/.part", "one: item-000/items/.part"], ["one: item-001/items/.part"])


def test_downloads_are_final_names_only(fleet: Fleet) -> None:
    _write(fleet.home("two") / "inbox" / "item-000" / "items" / "data.bin", b"1")
    _write(fleet.home("two") / "inbox" / "item-000" / "items" / ".part", b"2")
    assert list(facts.downloads(fleet)) == [Download("item-000", "two", {"items/data.bin": digest(b"1")})]


def test_each_commit_says_what_it_changed(tmp_path: Path) -> None:
    with LocalHub(tmp_path / "hub") as hub:
        hub.create_repo(REPO_ID, "dataset")
        for title, content in (("one", b"1"), ("two", b"2"), ("nothing", b"2")):
            changes = [PutRegular("a.txt", content), PutRegular("b.txt", b"0")]
            hub.commits.commit(f"datasets/{REPO_ID}", "main", changes, title=title)
        commits, files = facts.repository(hub)
    assert commits[:2] == [Commit("one", frozenset(["a.txt", "b.txt"])), Commit("two", frozenset(["a.txt"]))]
    assert [each.changed for each in commits[2:]] in ([], [frozenset()])
    assert files == {"a.txt": digest(b"2"), "b.txt": digest(b"0")}
