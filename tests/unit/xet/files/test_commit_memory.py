"""What a repository has at a commit comes back as it was kept, or not at all."""

from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_provider_xethub.xet.files.commit_memory import CommitMemory, Place, Stored

PLACE = Place("https://hub.example", "hf://acme/m@main", None, "")
COMMITS = ("2" * 40, "1" * 40)
FILES = {"a.bin": Stored("ab" * 32, "12" * 32), "d/ä.bin": Stored("cd" * 32, "34" * 32)}


class Memory(dict):
    """Keeps in memory what is otherwise on disk."""

    def load(self, name, magic):
        return self.get((name, magic))

    def store(self, name, magic, body):
        self[name, magic] = body


@pytest.fixture
def memory():
    kept = CommitMemory(COMMITS)
    for path, stored in FILES.items():
        kept.add(path, *stored)
    assert {path: kept.get(path) for path in FILES} == FILES
    memory = Memory()
    kept.store(memory, PLACE)
    return memory


def test_what_was_kept_comes_back(memory):
    found = CommitMemory.load(memory, PLACE)
    assert found.commits == COMMITS
    assert {path: found.get(path) for path in FILES} == FILES
    assert found.get("b.bin") is None
    again = Memory()
    found.store(again, PLACE)
    assert again == memory


def test_nothing_is_known_of_another_place_or_before_the_first_upload(memory):
    places = [replace(PLACE, **{name: "other"}) for name in ("endpoint", "repo", "gitignore", "folder")]
    assert len({place.name for place in (PLACE, *places)}) == 5
    assert [CommitMemory.load(memory, place) for place in places] == [None] * 4


def test_without_a_name_in_it_a_file_has_the_same_format_in_all_versions(memory):
    [((name, magic), body)] = memory.items()
    assert (name, magic) == ("ce4530c90725f20c40ce9c016c481db8", b"xethub commit 1\n")
    assert body[:4] == len(body[4:-160]).to_bytes(4, "little")
    assert b"a.bin" not in body


@pytest.mark.parametrize("damage", [b"", b"\xff" * 4, b"\x01\0\0\0{", b"\x04\0\0\0null"])
def test_what_is_damaged_is_unknown(memory, damage):
    [key] = memory
    memory[key] = damage
    assert CommitMemory.load(memory, PLACE) is None
