"""A download that is ended because it crawls, and continued with fewer requests. When it is: tests/unit/xet/cas."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from airflow_provider_xethub.xet import progress
from airflow_provider_xethub.xet.cas import crawl, downloads
from airflow_provider_xethub.xet.cas.slowdown import Slowdown
from support.builders import binary, names, publish
from xethub_local.control.fault import Fault

DATA = "GET /cas/.*/data/.*"


@pytest.fixture
def end_once(monkeypatch):
    """Ends the first attempt as one that crawls, as soon as it has moved so many bytes; returns when that was."""

    def arrange(least):
        ended = []

        def should_restart(self, moved, done, total, *, waits=True):
            if ended or moved < least:
                return False
            ended.append(moved)
            return True

        monkeypatch.setattr(Slowdown, "should_restart", should_restart)
        return ended

    monkeypatch.setattr(crawl, "RULES", replace(crawl.RULES, settle=0.05))
    monkeypatch.setattr(progress, "CHECK_INTERVAL", 0.01)
    monkeypatch.setattr(downloads, "READ_WHILE_WRITTEN", 1 << 20)
    return arrange


@pytest.fixture
def downloaded(hook, connection, repo, tmp_path):
    """Publishes files, and downloads them."""
    contents = {"large.bin": os.urandom(3 << 20), **{f"{number}.bin": binary(3000, number) for number in range(4)}}
    records = publish(repo, tmp_path / "before", contents)

    def run():
        hook.download(tmp_path / "out", records)
        assert names(tmp_path / "out") == sorted(contents)
        assert all((tmp_path / "out" / name).read_bytes() == content for name, content in contents.items())

    return run


def test_files_are_continued_where_the_first_attempt_ended(hub, downloaded, end_once):
    hub.faults.add(Fault(DATA, bandwidth=8_000_000))
    ended = end_once(500_000)
    downloaded()
    assert ended


def test_an_attempt_that_ends_while_its_files_are_handed_over_begins_no_other(downloaded, end_once, monkeypatch):
    ended, stopped = end_once(0), []
    abort_on_failure, fetch_once = downloads.cas_session.abort_on_failure, downloads._fetch_once

    class Waiting(list):
        def __iter__(self):
            for number, file in enumerate(list.__iter__(self)):
                if number and stopped:
                    assert stopped[0].wait(10)
                yield file

    def remember(abort, event):
        stopped.append(event)
        return abort_on_failure(abort, event)

    monkeypatch.setattr(downloads.cas_session, "abort_on_failure", remember)
    monkeypatch.setattr(
        downloads, "_fetch_once", lambda access, files, *more: fetch_once(access, Waiting(files), *more)
    )
    downloaded()
    assert ended
