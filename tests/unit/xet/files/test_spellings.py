"""Names that a destination does not tell apart are found before anything is written."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_xethub.exceptions import XetDestinationError, XetInputError
from airflow_provider_xethub.xet.files import spellings
from support.builders import write
from support.failing_disk import fail_at
from support.folding import NFC, NFD, FoldingLocal

REPO = "hf://datasets/acme/corpus@main"

ALIKE = [
    (["Data.bin", "data.bin"], r"Data.bin and data.bin would share one file: .* 'Data.bin' and 'data.bin' as equal"),
    (["x/A/1.bin", "x/a/2.bin"], r"x/A/1.bin and x/a/2.bin would share one folder: .*/x treats 'A' and 'a' as equal"),
    (["a", "A/b"], r"a and A/b would share one name"),
    ([NFC, NFD], r"'caf\\xe9.bin' and 'cafe\\u0301.bin' as equal"),
    (["b", "c", "B", "d/e", "d/f"], r"b and B would share one file"),
    (["x/README", "x/readme", "x/ReadMe"], r"x/README and x/readme would share"),
]


def refused(destination, root, paths):
    with pytest.raises(XetInputError) as caught:
        spellings.check(destination, str(root), paths, REPO)
    return str(caught.value)


@pytest.mark.parametrize(("paths", "text"), ALIKE)
def test_what_would_become_one_is_named_and_nothing_is_left(share, paths, text):
    assert re.search(text, refused(FoldingLocal(share.parent), share, paths))
    assert list(share.iterdir()) == []
    spellings.check(spellings.Local(), str(share), paths, REPO)
    assert list(share.iterdir()) == []


def test_a_folder_that_does_not_exist_yet_is_tried_above_it(share):
    assert "share one file" in refused(FoldingLocal(share.parent), share / "new/deep", ["x/A", "x/a"])
    assert list(share.iterdir()) == []


def test_nothing_is_written_where_no_names_are_alike(share, monkeypatch):
    monkeypatch.setattr(spellings.Local, "trial", None)
    write(share, {"Data.bin": b"", "a/b": b""})
    spellings.check(FoldingLocal(share.parent), str(share), ["Data.bin", "a/b", "a/c", "d"], REPO)


@pytest.mark.parametrize("there", [NFC, NFD])
def test_what_was_stored_in_another_form_than_it_was_given_is_the_same_file(share, there):
    """As HFS+ does it: what was downloaded before is listed with another spelling than the record's."""

    class Normalising(FoldingLocal):
        def trial(self, folder):
            real = super().trial(folder)
            listed = type("Trial", (), {"create": lambda *_: None, "listed": lambda _: [there]})
            return type("Both", (), {"__enter__": lambda _: real.__enter__() and listed(), "__exit__": real.__exit__})()

    write(share, {there: b"before"})
    spellings.check(Normalising(share.parent), str(share), [NFD if there == NFC else NFC], REPO)
    with pytest.raises(XetInputError, match="would replace"):
        spellings.check(FoldingLocal(share.parent), str(share), [NFD if there == NFC else NFC], REPO)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_tried_is_named(share):
    share.chmod(0o500)
    with pytest.raises(XetDestinationError, match="share cannot be written on this worker: permission denied"):
        spellings.check(spellings.Local(), str(share), ["A", "a"], REPO)


def test_a_name_that_the_destination_does_not_take_is_named(share):
    with pytest.raises(XetDestinationError, match="cannot be written on this worker: file name too long"):
        spellings.check(spellings.Local(), str(share), ["A" * 300, "a" * 300], REPO)
    assert list(share.iterdir()) == []


@given(st.text(max_size=8))
def test_names_that_python_folds_together_have_one_key(name):
    for other in (name.upper(), name.lower(), name.casefold()):
        assert spellings.key(other) == spellings.key(name) or other.casefold() != name.casefold()


@pytest.mark.parametrize(
    "work", [lambda place, path: place.has(path), lambda place, path: place.trial(path).__enter__()]
)
def test_a_folder_that_cannot_be_seen_now_is_not_missing(share, monkeypatch, work):
    fail_at(monkeypatch, os, "stat", share.name)
    with pytest.raises(XetDestinationError, match="share cannot be written on this worker: input/output error"):
        work(spellings.Local(), str(share))


def test_a_trial_that_cannot_be_removed_is_an_error_of_the_destination(share, monkeypatch):
    fail_at(monkeypatch, Path, "rmdir", ".xetpart", times=1)
    text = "share cannot be written on this worker: input/output error"
    with pytest.raises(XetDestinationError, match=text), spellings.Local().trial(str(share)):
        pass
