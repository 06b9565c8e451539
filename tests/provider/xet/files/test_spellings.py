"""Two files never become one where a destination does not tell names apart; where it does, both arrive."""

from __future__ import annotations

import pytest

from airflow_provider_xethub.exceptions import XetInputError
from airflow_provider_xethub.hooks.xethub import XetHubConnection
from support.builders import binary, names, publish, write
from support.folding import NFC, NFD, FoldingPlace, mounted


@pytest.fixture
def many(hub, connection, repo, tmp_path):
    """Records of files whose names some destinations take for the same, and their contents."""
    contents = {
        name: binary(300, name) for name in ("Data.bin", "data.bin", "A/x.bin", "a/y.bin", NFC, NFD, "alone.bin")
    }
    publish(repo, tmp_path / "before", contents)
    hub.log.clear()
    return [file for file in XetHubConnection().list_files(repo) if file["path"] in contents], contents


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
    with pytest.raises(XetInputError, match=r"would share one file: share://share treats 'Data.bin'") as refused:
        XetHubConnection().download(FoldingPlace(share), files)
    assert f"The same applies to {NFD} and {NFC}, A/x.bin and a/y.bin." in str(refused.value)
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
    with pytest.raises(XetInputError, match=f"{path} would replace .* Move '(Data.bin|a)' away"):
        XetHubConnection().download(FoldingPlace(share), one)
    assert {name: (share / name).read_bytes() for name in names(share)} == {"Data.bin": b"mine", "a/y.bin": b"mine"}


def test_a_single_file_does_not_replace_one_of_another_spelling(many, share):
    files, _ = many
    write(share, {"Data.bin": b"mine"})
    one = [file for file in files if file["path"] == "data.bin"]
    with pytest.raises(XetInputError, match=r"data.bin would replace 'Data.bin'"):
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
