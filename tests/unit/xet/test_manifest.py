"""A manifest that comes through XCom is checked field by field before any of it is used."""

from __future__ import annotations

import pytest

from airflow_provider_xethub.exceptions import XetInputError
from airflow_provider_xethub.xet import manifest
from airflow_provider_xethub.xet.records import xet_file_record

COMMIT = "c" * 40
LISTING = {
    "manifest": "listing",
    "repo": f"hf://datasets/acme/corpus@{COMMIT}",
    "file_count": 3000,
    "bytes": 12,
    "path": None,
    "patterns": ["*.png"],
    "digest": "a" * 64,
}
CAS = {
    "manifest": "cas",
    "repo": "hf://acme/m@main",
    "file_count": 3000,
    "bytes": 12,
    "xet_hash": "b" * 64,
    "sha256": "c" * 64,
    "size": 99,
}
STORAGE = {**CAS, "manifest": "storage", "uri": "s3://aws@b/x.jsonl.gz"}
del STORAGE["xet_hash"]


@pytest.mark.parametrize("value", [LISTING, CAS, STORAGE, {**LISTING, "destination": "/data"}])
def test_a_manifest_is_accepted_as_it_was_returned(value):
    assert manifest.check(value) == value


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"manifest": "url"}, "a kind other than listing, cas, storage"),
        ({"manifest": None}, "a kind other than"),
        ({"repo": "https://evil.example/acme/m"}, "not a repository URI"),
        ({"repo": 1}, "'repo' that is not a string"),
        ({"repo": "hf://acme/m@main"}, "a listing that names no commit"),
        ({"file_count": 10**12}, "a file_count above 50,000,000"),
        ({"file_count": -1}, "a file_count that is not an integer"),
        ({"file_count": True}, "a file_count that is not an integer"),
        ({"bytes": None}, "'bytes' that is not an integer"),
        ({"digest": "x"}, "a digest that is not 64 hex digits"),
        ({"patterns": []}, "patterns that are not 1 to 20000"),
        ({"patterns": "*.png"}, "patterns that is not a list"),
        ({"patterns": [1]}, "an item of patterns that is not a string"),
        ({"path": "a" * 5000}, "a path of more than 4096 bytes"),
        ({"path": "a", "folders": ["b"]}, "both folders and path"),
        ({"folders": ["a\0b"]}, "an item of folders that is not valid Unicode"),
        ({"folders": ["x"] * 20_001}, "folders that are not 1 to 20000"),
        ({"destination": 7}, "'destination' that is not a string"),
        ({**CAS, "xet_hash": "../../etc"}, "a Xet hash that is not 64 hex digits"),
        ({**CAS, "size": 10**12}, "a size above"),
        ({**CAS, "sha256": None}, "a sha256 that is not 64 hex digits"),
        ({**STORAGE, "uri": ["s3://x"]}, "'uri' that is not a string"),
    ],
)
def test_an_edited_manifest_is_refused_by_name(change, part):
    with pytest.raises(XetInputError) as caught:
        manifest.check({**LISTING, **change})
    assert str(caught.value).startswith("files has a manifest with ")
    assert part in str(caught.value)


def test_what_airflow_makes_of_a_manifest_in_expand_is_recognised():
    assert all(manifest.is_item_of_manifest((key, value)) for key, value in LISTING.items())
    record = xet_file_record("a", 1, "hf://acme/m@main")
    assert not manifest.is_item_of_manifest([record, record])
    assert not manifest.is_item_of_manifest(["a", "b"])


def test_the_digest_of_records_depends_on_each_of_them_and_not_on_their_order():
    files = [xet_file_record(f"{n}", n, "hf://acme/m@main", sha256=f"{n:064x}") for n in range(50)]

    def digest(records):
        totals = manifest.Totals()
        totals.add(records)
        return totals.digest

    assert digest(files) == digest(files[::-1])
    assert len({digest(files), digest(files[1:]), digest([*files, files[0]])}) == 3
    for name, value in (("path", "other"), ("size", 999), ("sha256", "f" * 64), ("xet_hash", "f" * 64)):
        assert digest([{**files[0], name: value}, *files[1:]]) != digest(files), name
