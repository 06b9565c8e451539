"""By which digest a download is verified, and what is looked up or refused where the record has none."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_provider_xethub.exceptions import (
    XetAirflowConnectionError,
    XetInputError,
    XetNotFoundError,
    XetSourceError,
)
from airflow_provider_xethub.xet.files.targets import Target
from airflow_provider_xethub.xet.repo import Repo
from airflow_provider_xethub.xet.transfer import digests
from support.commit_builders import ANYWHERE, record

FULL = record(ANYWHERE, "a.bin", b"content")
INLINE = {**FULL, "sha256": None, "xet_hash": None, "blob_id": "12" * 20}
BARE = {**FULL, "sha256": None}
BUCKET = {**BARE, "repo": "hf://buckets/acme/b"}
EMPTY = {**BARE, "size": 0}


class Known:
    """A Hub that has these files; keeps what it was asked for."""

    def __init__(self, *files):
        self.files, self.asked = files, []

    def get_files(self, repo, paths):
        self.asked.append((repo, paths))
        return [file for file in self.files if file["path"] in paths and file["repo"] == repo.uri]


def completed(files, hub):
    targets = [Target(file, Path(file["path"]), Path("part")) for file in files]
    return [target.file for target in digests.completed(targets, None if hub is None else lambda: hub)]


@pytest.mark.parametrize(
    ("file", "is_verifiable"),
    [
        (FULL, True),
        (INLINE, True),
        (BARE, False),
        (BUCKET, True),
        ({**BUCKET, "xet_hash": None}, False),
        (EMPTY, True),
        ({**INLINE, "blob_id": None}, False),
    ],
)
def test_a_file_needs_a_digest_that_covers_its_content(file, is_verifiable):
    assert digests.is_verifiable(file) is is_verifiable
    if is_verifiable:
        digests.check([file])
        return
    with pytest.raises(XetInputError) as caught:
        digests.check([file])
    assert str(caught.value) == (
        f"The record of a.bin of {file['repo']} has no sha256 and no blob_id, so the file cannot be verified. Nothing "
        "was downloaded. Pass records as XetListOperator returns them, or give the task a connection (xethub_conn_id) "
        "that can look them up."
    )


def test_the_xet_hash_of_an_empty_file_is_wrong_for_any_other():
    with pytest.raises(XetInputError) as caught:
        digests.check([{**FULL, "xet_hash": "0" * 64}])
    assert str(caught.value) == (
        f"The record of a.bin of {ANYWHERE} has 7 bytes and the Xet hash of an empty file. Nothing was downloaded. "
        "Pass records as XetListOperator returns them."
    )
    digests.check([{**EMPTY, "xet_hash": "0" * 64}])


def test_what_is_missing_is_looked_up_once_for_each_repository():
    other = Repo("acme/m")
    others = [{**BARE, "path": path, "repo": other.uri} for path in ("b", "c")]
    hub = Known(FULL, *({**file, "sha256": None, "xet_hash": None, "blob_id": "34" * 20} for file in others))
    wanted = [FULL, {**BARE, "xet_hash": None}, *({**file, "xet_hash": None} for file in others)]
    found = completed(wanted, hub)
    assert [file["sha256"] for file in found] == [FULL["sha256"], FULL["sha256"], None, None]
    assert [file.get("blob_id") for file in found] == [None, None, "34" * 20, "34" * 20]
    assert found[1] == FULL
    assert hub.asked == [(ANYWHERE, ["a.bin"]), (other, ["b", "c"])]


@pytest.mark.parametrize("hub", [None, Known()])
def test_nothing_is_looked_up_where_nothing_is_missing(hub):
    assert completed([FULL, INLINE, BUCKET, EMPTY], hub) == [FULL, INLINE, BUCKET, EMPTY]
    assert hub is None or hub.asked == []


def test_without_a_connection_what_is_missing_is_refused():
    with pytest.raises(XetInputError, match=r"The record of a\.bin of .* has no sha256 and no blob_id"):
        completed([FULL, BARE], None)


def test_a_connection_that_cannot_be_opened_is_named_with_what_it_was_for():
    def hub():
        raise XetAirflowConnectionError("There is no connection.")

    with pytest.raises(XetAirflowConnectionError, match=r"^The record of a\.bin of .* look them up\. There is no conn"):
        digests.completed([Target(BARE, Path("a.bin"), Path("part"))], hub)


@pytest.mark.parametrize("change", [{"size": 8}, {"xet_hash": "cd" * 32}])
def test_another_file_under_the_path_is_not_taken(change):
    with pytest.raises(XetSourceError) as caught:
        completed([BARE], Known({**FULL, **change}))
    assert str(caught.value) == (
        f"a.bin of {ANYWHERE} changed since it was listed. List it again, or list and download a commit (revision), "
        "which does not change. Nothing of it was kept."
    )


def test_a_file_that_has_gone_is_named():
    with pytest.raises(XetNotFoundError) as caught:
        completed([BARE], Known())
    assert str(caught.value) == f"a.bin is no longer in {ANYWHERE}. It was not downloaded."
    assert caught.value.status == 404


@pytest.mark.parametrize(
    ("now", "is_other"),
    [
        (None, True),
        (FULL, False),
        ({**FULL, "size": 8}, True),
        ({**FULL, "sha256": "0" * 64}, True),
        ({**FULL, "xet_hash": "cd" * 32}, True),
        ({**FULL, "sha256": None, "xet_hash": None}, False),
        ({**FULL, "blob_id": "34" * 20}, False),
    ],
)
def test_a_record_describes_the_file_that_the_hub_has_now(now, is_other):
    assert digests.is_other(FULL, now) is is_other


def test_a_blob_id_that_differs_is_another_file():
    assert digests.is_other(INLINE, {**INLINE, "blob_id": "34" * 20})
    assert not digests.is_other(INLINE, INLINE)
