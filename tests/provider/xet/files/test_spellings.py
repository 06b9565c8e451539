"""Two files never become one where a destination does not tell names apart; where it does, both arrive."""

from __future__ import annotations

import os
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_xethub.exceptions import XetDestinationError, XetInputError
from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.xet.files import spellings
from support.builders import binary, names, publish, write
from support.folding import FoldingLocal, FoldingPlace, mounted

NFC, NFD = "caf\u00e9.bin", "cafe\u0301.bin"
REPO = "hf://datasets/acme/corpus@main"

ALIKE = [
    (["Data.bin", "data.bin"], r"Data.bin and data.bin would share one file: .* 'Data.bin' and 'data.bin' apart"),
    (["x/A/1.bin", "x/a/2.bin"], r"x/A/1.bin and x/a/2.bin would share one folder: .*/x does not tell 'A' and 'a'"),
    (["a", "A/b"], r"a and A/b would share one name"),
    ([NFC, NFD], r"'caf\\xe9.bin' and 'cafe\\u0301.bin' apart"),
    (["b", "c", "B", "d/e", "d/f"], r"b and B would share one file"),
    (["x/README", "x/readme", "x/ReadMe"], r"x/README and x/readme would share"),
]


@pytest.fixture
def share(tmp_path):
    folder = tmp_path / "share"
    folder.mkdir()
    return folder


@pytest.fixture
def many(hub, connection, repo, tmp_path):
    """Records of files whose names some destinations take for the same, and their contents."""
    contents = {
        name: binary(300, name) for name in ("Data.bin", "data.bin", "A/x.bin", "a/y.bin", NFC, NFD, "alone.bin")
    }
    publish(repo, tmp_path / "before", contents)
    hub.log.clear()
    return [file for file in XetHubConnection().list_files(repo) if file["path"] in contents], contents


def refused(destination, root, paths):
    with pytest.raises(XetInputError) as caught:
        spellings.check(destination, str(root), paths, REPO)
    return str(caught.value)


# --- each kind of destination


@pytest.mark.parametrize("as_uri", [False, True], ids=["path", "file://"])
def test_a_destination_that_tells_names_apart_gets_all_of_them(many, tmp_path, as_uri):
    files, contents = many
    out = tmp_path / "out"
    for skipped in (0, 0 if as_uri else len(files)):
        result = XetHubConnection().download(f"file://{out}/" if as_uri else out, files)
        assert names(out) == sorted(contents)
        assert all((out / name).read_bytes() == content for name, content in contents.items())
        assert result["transfer"]["skipped"] == skipped


def test_a_share_is_asked_and_gets_nothing_of_two_that_it_takes_for_one(many, share):
    files, contents = many
    with pytest.raises(XetInputError, match=r"would share one file: share://share does not tell 'Data.bin'") as refused:
        XetHubConnection().download(FoldingPlace(share), files)
    assert f"The same holds for {NFD} and {NFC}, A/x.bin and a/y.bin." in str(refused.value)
    assert list(share.iterdir()) == []
    some = [file for file in files if file["path"] in ("Data.bin", "a/y.bin", NFC)]
    for _ in range(2):
        XetHubConnection().download(FoldingPlace(share), some)
        assert names(share) == sorted(["Data.bin", "a/y.bin", NFC])
        assert all((share / name).read_bytes() == contents[name] for name in names(share))


@pytest.mark.parametrize("path", ["data.bin", "A/x.bin"])
def test_what_is_there_is_not_replaced_under_another_spelling(many, share, path):
    """As where another map index downloads the other one into the same folder."""
    files, _ = many
    write(share, {"Data.bin": b"mine", "a/y.bin": b"mine"})
    one = [file for file in files if file["path"] == path]
    with pytest.raises(XetInputError, match=f"{path} would take the place of .* Move '(Data.bin|a)' away"):
        XetHubConnection().download(FoldingPlace(share), one)
    assert {name: (share / name).read_bytes() for name in names(share)} == {"Data.bin": b"mine", "a/y.bin": b"mine"}


def test_a_single_file_does_not_replace_one_of_another_spelling(many, share):
    files, _ = many
    write(share, {"Data.bin": b"mine"})
    one = [file for file in files if file["path"] == "data.bin"]
    with pytest.raises(XetInputError, match=r"data.bin would take the place of 'Data.bin'"):
        XetHubConnection().download(FoldingPlace(share, "data.bin"), one, single=True)
    XetHubConnection().download(FoldingPlace(share, "new.bin"), one, single=True)
    XetHubConnection().download(FoldingPlace(share, "Data.bin"), one, single=True)
    assert names(share) == ["Data.bin", "new.bin"]


def test_a_real_mount_that_ignores_case(many, tmp_path):
    """It also lists names in another spelling than they were given: downloading again must not be refused for that."""
    files, contents = many
    with mounted(tmp_path) as place:
        for destination in (place / "one", f"file://{place}/two/"):
            with pytest.raises(XetInputError, match=r"Data.bin and data.bin would share one file"):
                XetHubConnection().download(destination, [file for file in files if "ata" in file["path"]])
        assert [path for path in place.rglob("*") if path.is_file()] == []
        some = [file for file in files if file["path"] in ("Data.bin", "A/x.bin", "alone.bin")]
        for skipped in (0, 3):
            result = XetHubConnection().download(place / "one", some)
            assert result["transfer"]["skipped"] == skipped
            assert all((place / "one" / name).read_bytes() == contents[name] for name in ("Data.bin", "A/x.bin"))
        other = [file for file in files if file["path"] == "data.bin"]
        XetHubConnection().download(place / "three", other)


# --- the local adapter, on a folder that looks names up as a share does


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
    with pytest.raises(XetInputError, match="would take the place of"):
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
