"""What a task takes as files: lists, manifests and mixtures, as one sequence."""

from __future__ import annotations

import pytest

from airflow_provider_xethub.exceptions import XetInputError
from airflow_provider_xethub.xet.manifests import files as manifests
from airflow_provider_xethub.xet.manifests.spool import spooled
from airflow_provider_xethub.xet.records import xet_file_record

REPO = "hf://datasets/acme/corpus@main"


def records(count, start=0, repo=REPO):
    return [xet_file_record(f"{n:03}.bin", n, repo, sha256=f"{n:064x}") for n in range(start, start + count)]


class Reader:
    """Reads manifests from memory, and counts how often."""

    def __init__(self):
        self.contents = {}
        self.reads = []

    def manifest(self, files, repo=REPO):
        spool = spooled([files])
        self.contents[spool.sha256] = spool
        totals = spool.totals
        return {
            "manifest": "cas",
            "repo": repo,
            "file_count": totals.file_count,
            "bytes": totals.bytes,
            "xet_hash": "0" * 64,
            "sha256": spool.sha256,
            "size": spool.size,
        }

    def __call__(self, manifest):
        self.reads.append(manifest["sha256"])
        return self.contents[manifest["sha256"]]


@pytest.fixture
def reader():
    return Reader()


def test_lists_stay_a_list(reader):
    files = records(3)
    for value in (
        files,
        [files[:1], [files[1:]]],
        tuple(files),
        {"files": files, "oid": "x"},
        [{"files": files[:1]}, {"files": [[files[1]], files[2:]]}],
        iter(files),
    ):
        assert manifests.read(value, reader) == files
    assert manifests.read(files[0], reader) == files[:1]
    assert manifests.read([], reader) == []


def test_a_manifest_is_a_sequence_that_is_read_once_and_when_it_is_needed(reader):
    files = manifests.read(reader.manifest(records(5)), reader)
    assert (len(files), files.bytes, str(files.source), bool(files)) == (5, 10, REPO, True)
    assert reader.reads == []
    assert list(files) == list(files) == records(5)
    assert (files[0], files[-1], files[1:3]) == (records(5)[0], records(5)[4], records(2, 1))
    with pytest.raises(IndexError):
        files[5]
    assert (files.uris, files.folder) == ([REPO], "")
    assert len(reader.reads) == 1


def test_mixtures_keep_their_order(reader):
    value = [
        records(1),
        [reader.manifest(records(2, 1)), records(1, 3)[0]],
        reader.manifest([]),
        {"files": records(1, 4)},
    ]
    files = manifests.read(value, reader)
    assert list(files) == records(5)
    assert (len(files), files.bytes) == (5, 10)
    assert [len(batch) for batch in manifests.batches(files, 2)] == [2, 2, 1]


def test_an_empty_manifest_is_empty(reader):
    files = manifests.read(reader.manifest([]), reader)
    assert not files
    assert list(files) == []
    assert files.folder == ""


def test_records_can_be_changed_as_they_are_read(reader):
    files = manifests.read(reader.manifest(records(2)), reader)
    once = files.changed(lambda file: {**file, "repo": "hf://acme/m@main"})
    twice = once.changed(lambda file: {**file, "path": file["repo"]})
    assert [file["path"] for file in twice] == ["hf://acme/m@main"] * 2
    assert list(files) == records(2)


def test_repositories_are_compared_over_all_parts(reader):
    other = "hf://datasets/acme/other@main"
    files = manifests.read([reader.manifest(records(1)), reader.manifest(records(1, repo=other), other)], reader)
    with pytest.raises(XetInputError, match="the files are of several repositories"):
        files.source  # noqa: B018
    at = "hf://datasets/acme/corpus@" + "c" * 40
    assert str(manifests.read([reader.manifest(records(1, repo=at), at), records(1)], reader).source) == at


def test_the_result_of_a_download_is_read_with_the_places_of_the_files(reader):
    value = {**reader.manifest(records(2)), "destination": "/data/"}
    assert [file["local_path"] for file in manifests.read(value, reader)] == ["/data/000.bin", "/data/001.bin"]
    value["destination"] = "s3://aws@bucket/x"
    assert [file["storage_uri"] for file in manifests.read(value, reader)][1] == "s3://aws@bucket/x/001.bin"


@pytest.mark.parametrize(
    "value", [None, "a.bin", b"a", 5, ["a.bin"], [None], [[records(1)[0]], 5], {"files": "a"}, {"files": None}]
)
def test_what_is_no_record_is_refused(value, reader):
    with pytest.raises(XetInputError, match="files must be Xet file records, as XetUploadOperator or XetListOperator"):
        manifests.read(value, reader)


@pytest.mark.parametrize("name", ["path", "size", "sha256", "xet_hash", "repo"])
def test_a_record_without_a_field_is_refused(name, reader):
    incomplete = {key: value for key, value in records(1)[0].items() if key != name}
    with pytest.raises(XetInputError, match=f"files has a record with no {name}"):
        manifests.read([incomplete], reader)


@pytest.mark.parametrize("item", [("manifest", "cas"), ["file_count", 5000], ("sha256", "a" * 64)])
def test_a_task_that_is_mapped_over_a_manifest_is_told_what_to_do(item, reader):
    with pytest.raises(XetInputError) as caught:
        manifests.read(item, reader)
    assert "without expand(), or map over XetListOperator(batch_files" in str(caught.value)[:120]
