"""What was downloaded and verified is not downloaded again: after damage, a refused token, or a second task."""

from __future__ import annotations

import os

import pytest

from airflow_provider_xethub.exceptions import XetIntegrityError, XetUnauthorizedError
from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.xet import native_client
from airflow_provider_xethub.xet.cas import downloads as cas_downloads
from airflow_provider_xethub.xet.files.targets import local_targets
from airflow_provider_xethub.xet.files.xet_hash import complete
from airflow_provider_xethub.xet.publish.commit import CommitRequest
from support.builders import binary, names, publish, sealed, write
from xethub_local.control.faults import Fault

READS = "GET /cas/.*/v./reconstructions/.*"
DATA = "GET /cas/.*/data/.*"
LATE = 3.0
"""Seconds after which one answer comes: long enough for all other files to be there."""


def last_of(files):
    return f"GET /cas/.*/v./reconstructions/{files[-1]['xet_hash']}"


@pytest.fixture
def many(connection, repo, tmp_path):
    return publish(repo, tmp_path / "before", {f"{number:02}.bin": binary(3000, number) for number in range(20)})


def is_whole(out, files, folder):
    assert names(out) == sorted(file["path"] for file in files)
    return all((out / file["path"]).read_bytes() == (folder / file["path"]).read_bytes() for file in files)


@pytest.mark.parametrize("followed", [1, 16 << 20])
def test_a_401_in_the_middle_leads_to_one_new_token_and_to_the_rest(
    hub, hook, repo, many, tmp_path, monkeypatch, followed
):
    monkeypatch.setattr(cas_downloads, "READ_WHILE_WRITTEN", followed)
    hub.log.clear()
    refused = hub.faults.add(Fault(last_of(many), times=1, status=401, delay=LATE))

    hook.download(tmp_path / "out", many)

    assert hub.faults.acted(refused) == 1
    assert is_whole(tmp_path / "out", many, tmp_path / "before/published")
    assert len(hub.log.requests("GET .*/xet-read-token/main")) == 2
    asked = [request.path for request in hub.log.requests(READS, status=200)]
    assert len(asked) < 1.5 * len(many)


def test_a_401_in_the_middle_of_a_large_file_leads_to_one_new_token(hub, hook, repo, tmp_path):
    large = publish(repo, tmp_path / "before", {"large.bin": os.urandom(20 << 20)})
    hub.log.clear()
    hub.faults.add(Fault(DATA, times=1, status=401))
    hook.download(tmp_path / "out", large)
    assert is_whole(tmp_path / "out", large, tmp_path / "before/published")
    assert len(hub.log.requests("GET .*/xet-read-token/main")) == 2


def test_without_a_connection_a_401_in_the_middle_says_so_and_keeps_what_is_unchanged(
    hub, repo, many, tmp_path, disconnect
):
    token = sealed(repo)
    disconnect()
    hub.faults.add(Fault(last_of(many), status=401, delay=LATE))
    hook = XetHubConnection(None)
    with pytest.raises(XetUnauthorizedError, match=r"Fetch a new one\..* the download of 19.bin "):
        hook.download(tmp_path / "out", many, token=token)
    kept = names(tmp_path / "out")
    assert kept
    assert not [name for name in kept if name.endswith(".xetpart")]
    hub.faults.clear()
    hub.log.clear()
    assert hook.download(tmp_path / "out", many, token=token)["transfer"]["skipped"] == len(kept)
    assert len(hub.log.requests(READS, status=200)) == len(many) - len(kept)


def test_only_the_damaged_file_is_fetched_again(hub, hook, many, tmp_path):
    bad = {**many[7], "sha256": "0" * 64}
    hub.log.clear()
    with pytest.raises(XetIntegrityError, match=f"07.bin .*sha256 is {many[7]['sha256']} instead of 0{{64}}.*twice"):
        hook.download(tmp_path / "out", [*many[:7], bad, *many[8:]])
    assert names(tmp_path / "out") == [file["path"] for file in many if file is not many[7]]
    asked = [request.path.rpartition("/")[2] for request in hub.log.requests(READS, status=200)]
    assert asked.count(bad["xet_hash"]) == 2
    assert len(asked) == len(many) + 1


def test_inline_files_are_read_several_at_a_time_and_damaged_ones_once_more(hub, hook, repo, tmp_path):
    texts = {f"{number:02}.csv": b"a,b\n%d\n" % number for number in range(12)}
    files = publish(repo, tmp_path / "before", texts)
    resolve = "GET .*/resolve/main/.*"
    slow = hub.faults.add(Fault(f"{resolve[:-2]}.*csv", delay=1, times=8))
    bad = hub.faults.add(Fault(f"{resolve[:-2]}0[89].csv", corrupt=True, times=1))
    result = hook.download(tmp_path / "out", files)
    assert is_whole(tmp_path / "out", files, tmp_path / "before/published")
    assert (hub.faults.acted(slow), hub.faults.acted(bad)) == (8, 1)
    # One after the other, eight answers take eight seconds.
    assert result["transfer"]["seconds"] < 7


# --- buckets, where the Hub tells no sha256


@pytest.fixture
def in_bucket(hub, hook, make_repo, tmp_path):
    bucket = make_repo("bucket")
    source = write(tmp_path / "in", {"a.bin": binary(200_000), "b.bin": binary(300_000, 2)})
    hook.publish(source, CommitRequest(bucket, ()))
    files = hook.list_files(bucket)
    assert [file["sha256"] for file in files] == [None, None]
    return files


def test_a_bucket_file_is_verified_by_its_xet_hash_and_fetched_once_more(hub, hook, in_bucket, tmp_path):
    bad = hub.faults.add(Fault(DATA, corrupt=True, times=1))
    hook.download(tmp_path / "out", in_bucket)
    assert hub.faults.acted(bad) == 1
    assert is_whole(tmp_path / "out", in_bucket, tmp_path / "in")
    assert hook.download(tmp_path / "out", in_bucket)["transfer"]["skipped"] == 2


def test_a_bucket_file_that_arrives_damaged_is_refused(in_bucket, tmp_path):
    (target,) = local_targets(in_bucket[:1], tmp_path / "out", single=False)
    (tmp_path / "out").mkdir()
    target.part.write_bytes(binary(199_999) + b"x")
    with pytest.raises(XetIntegrityError, match=f"a.bin of {in_bucket[0]['repo']} arrived damaged.*: Xet hash is"):
        complete(target, [target.part.read_bytes()])
    assert names(tmp_path / "out") == [target.part.name]


def test_a_bucket_file_that_is_the_same_wrong_one_twice_is_refused(hub, hook, in_bucket, tmp_path, monkeypatch):
    """As from a CAS that has other content under this hash."""
    monkeypatch.setattr(native_client, "xet_hashes", lambda paths: ["ab" * 32 for _ in paths])
    hub.log.clear()
    with pytest.raises(XetIntegrityError, match=rf"a.bin of hf://buckets/.* Xet hash is {'ab' * 32} .*fetched twice"):
        hook.download(tmp_path / "out", in_bucket)
    assert names(tmp_path / "out") == []
    assert len(hub.log.requests(READS, status=200)) == 4
