"""A link that collapses while many requests are open: the default client crawls on it, and the provider finishes.

The windows of the provider are seconds here instead of a minute, and the rates are those of a small link.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import pytest

from airflow_provider_xethub.exceptions import XetTooSlowError
from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.operators.xethub import XetDownloadOperator
from airflow_provider_xethub.xet import progress
from airflow_provider_xethub.xet.cas import crawl, downloads, slowdown, uploads
from airflow_provider_xethub.xet.cas.limits import TransferLimits
from airflow_provider_xethub.xet.publish.commit import CommitRequest
from support.builders import publish
from xethub_local.control.faults import Fault
from xethub_local.control.link import Link
from xethub_local.control.presets import PRESETS

pytestmark = pytest.mark.long

ROOMY = TransferLimits(memory=4_000_000_000, concurrency=2)
CONTENT = PRESETS["crowded-link"].fault.route
DOWNLOAD = """
import sys
from huggingface_hub import HfApi
url, token, repo_id, folder = sys.argv[1:]
HfApi(endpoint=url, token=token).snapshot_download(repo_id, repo_type="dataset", local_dir=folder)
"""


@pytest.fixture(autouse=True)
def short_windows(monkeypatch):
    rules = crawl.Rules(
        window=1.2, least_window=0.8, best_window=0.3, best_bytes=4_000_000, share=1 / 8, least=1.0, settle=0.5
    )
    monkeypatch.setattr(crawl, "RULES", rules)
    monkeypatch.setattr(slowdown, "_memory", slowdown._Memory())
    monkeypatch.setattr(progress, "CHECK_INTERVAL", 0.05)


def arm(hub, **link):
    fault = hub.faults.add(Fault(CONTENT, **link))
    found = hub.faults.link(fault)
    assert found
    return found


@pytest.fixture
def restarts(monkeypatch):
    """Notes how often a link has collapsed whenever the provider begins a transfer again.

    On a busy machine, a link may recover and collapse once more before the provider has seen enough, and while the
    server still receives what the closed connections hold.
    """
    found: list[int] = []
    links: list[Link] = []
    settle = slowdown.settle

    def settled(session):
        settle(session)
        found.append(links[-1].collapses)

    for module in (downloads, uploads):
        monkeypatch.setattr(module, "settle", settled)

    def watch(link: Link) -> list[int]:
        links.append(link)
        return found

    return watch


def test_the_default_client_crawls_and_a_download_finishes_in_time(hub, hook, repo, tmp_path, restarts):
    given = {f"{number:02}.bin": os.urandom(8_000_000) for number in range(36)}
    size, rate = 288_000_000, 32_000_000
    ideal = size / rate
    records = publish(repo, tmp_path, given)
    link = {"bandwidth": rate, "max_open": 4, "collapse_after": 1.5, "collapsed_bandwidth": 500_000}

    by_default = arm(hub, **link)
    folder = tmp_path / "default"
    client = subprocess.Popen([sys.executable, "-c", DOWNLOAD, hub.url, hub.token(), repo.repo_id, str(folder)])
    try:
        deadline = time.monotonic() + 3 * ideal
        while not by_default.collapses:
            assert client.poll() is None
            assert time.monotonic() < deadline
            threading.Event().wait(0.05)
        before, started = by_default.passed, time.monotonic()
        with pytest.raises(subprocess.TimeoutExpired):
            client.wait(5)
        crawled = max(1, by_default.passed - before) / (time.monotonic() - started)
        left = size - by_default.passed
    finally:
        client.kill()
        client.wait()
    assert by_default.most_open > 4
    assert left / crawled > 10 * ideal  # it needs more than ten times the ideal time from here

    hub.faults.clear()
    ours = arm(hub, **link)
    begun_again = restarts(ours)
    started = time.monotonic()
    hook.download(tmp_path / "ours", records)
    took = time.monotonic() - started
    assert begun_again == [ours.collapses], "once, and it did not collapse again"
    print(f"took {took:.1f} s, {took / ideal:.2f} times the ideal")
    assert took < left / crawled / 4, "it must not crawl to the end; how close it comes to the ideal is a figure"
    assert {name: (tmp_path / "ours" / name).read_bytes() for name in given} == given


def test_the_next_transfer_of_the_process_begins_with_as_few_requests(hub, hook, repo, tmp_path, caplog, restarts):
    given = {f"{number:02}.bin": os.urandom(4_000_000) for number in range(16)}
    records = publish(repo, tmp_path, given)
    link = arm(hub, bandwidth=32_000_000, max_open=4, collapse_after=0.8, collapsed_bandwidth=500_000)
    begun_again = restarts(link)
    hook.download(tmp_path / "first", records)
    assert begun_again == [link.collapses]

    caplog.clear()
    hook.download(tmp_path / "second", records)

    assert begun_again == [link.collapses]
    assert "Beginning the download of 16 files" in caplog.text
    assert {name: (tmp_path / "second" / name).read_bytes() for name in given} == given


def test_a_transfer_below_the_rate_that_a_task_demands_ends_and_leaves_nothing(
    hub, connection, repo, tmp_path, run_task
):
    records = publish(repo, tmp_path, {"a.bin": os.urandom(8_000_000)})
    link = arm(hub, bandwidth=1_000_000)

    run = run_task(
        XetDownloadOperator, files=records, destination=f"{tmp_path}/out/", max_concurrency=1, min_rate="2MB"
    )

    assert isinstance(run.error, XetTooSlowError), run.error
    assert run.state == "up_for_retry"
    assert "less than min_rate, 2.0 MB/s, with 1 request at a time" in str(run.error)
    assert link.passed < 8_000_000
    assert [path.name for path in tmp_path.rglob("*") if "out" in path.parts and path.is_file()] == []


def test_an_upload_finishes_in_time_and_keeps_what_cas_has(hub, hook, repo, tmp_path, restarts):
    size, rate = 640_000_000, 64_000_000
    source = tmp_path / "large.bin"
    with source.open("wb") as file:  # piece by piece: the memory of this process decides how many xorbs are in flight
        for _ in range(size // 1_000_000):
            file.write(os.urandom(1_000_000))
    link = arm(hub, bandwidth=rate, max_open=1, collapse_after=2.5, collapsed_bandwidth=4_000_000)
    begun_again = restarts(link)

    started = time.monotonic()
    transfer = XetHubConnection().publish(source, CommitRequest(repo, (), message="large"), limits=ROOMY)["transfer"]
    took = time.monotonic() - started

    assert begun_again == [link.collapses], "once, and it did not collapse again"
    assert took < size / 4_000_000 / 2, took  # half of what it takes to crawl to the end
    # At most the two xorbs that were in flight were sent twice.
    assert transfer["bytes_sent"] < size + 2 * (66 << 20), transfer
    assert [file["size"] for file in hook.list_files(repo) if file["path"] == "large.bin"] == [size]


def test_a_link_that_is_slow_for_another_reason_is_reported_once(hub, hook, repo, tmp_path, caplog):
    given = {f"{number:02}.bin": os.urandom(2_000_000) for number in range(24)}
    records = publish(repo, tmp_path, given)
    hub.faults.add(Fault(CONTENT, bandwidth=32_000_000, times=12))
    hub.faults.add(Fault(CONTENT, bandwidth=2_000_000))

    hook.download(tmp_path / "out", records)

    assert {name: (tmp_path / "out" / name).read_bytes() for name in given} == given
    reports = [record.message for record in caplog.records if "Fewer requests at a time did not help" in record.message]
    assert len(reports) <= 1
