from __future__ import annotations

import logging
import re
from types import SimpleNamespace

import pytest

from airflow_provider_xethub import exceptions
from airflow_provider_xethub.xet import progress


def told(caplog, total, done):
    meter = progress.Meter("the upload of 1 file", total, lambda: SimpleNamespace(total_bytes_completed=done))
    with caplog.at_level(logging.INFO):
        meter.log_progress()
    return caplog.messages[-1]


def test_a_line_says_share_bytes_rate_and_time_left(caplog):
    line = told(caplog, 4_000_000, 1_000_000)
    assert re.fullmatch(r"25 % of the upload of 1 file: 1\.0 MB of 4\.0 MB, [\d.]+ [kMGT]?B/s, about \d+ s left", line)


def test_a_line_at_the_beginning_and_at_the_end_promises_nothing(caplog):
    assert "left" not in told(caplog, 4_000_000, 0)
    assert told(caplog, 10, 10).startswith("100 %")
    assert told(caplog, 0, 0).startswith("100 %")


def test_the_figures_of_an_upload_fit_in_a_line():
    transfer = {
        "files": 3,
        "bytes": 68_200_000,
        "bytes_sent": 3_400_000,
        "bytes_deduplicated": 64_790_000,
        "seconds": 1.14,
    }
    assert progress.upload_summary(transfer) == "Uploaded 3 files, 68.2 MB: sent 3.4 MB, 95.0 % deduplicated, 1.1 s."
    assert "0.0 % deduplicated" in progress.upload_summary({**transfer, "bytes": 0, "bytes_deduplicated": 0})


NOTHING_SENT = {"files": 0, "bytes": 0, "bytes_sent": 0, "bytes_deduplicated": 0, "seconds": 0.0}


def published(inline=(), through_cas=(), unchanged=(), **fields):
    files = [{"path": path, "xet_hash": None} for path in inline]
    files += [{"path": path, "xet_hash": "ab" * 32} for path in through_cas]
    return {
        "repo": "hf://datasets/acme/corpus",
        "url": "https://hub/commit/1",
        "files": files,
        "deleted": [],
        "unchanged": list(unchanged),
        "created": True,
        "pull_request": None,
        "commits": [{}],
        **fields,
    }


def test_files_that_go_inline_with_the_commit_are_counted():
    many = [f"{number}.json" for number in range(150)]
    assert progress.upload_summary(NOTHING_SENT, published(many)) == "Uploaded 150 files inline with the commit."
    one = {**NOTHING_SENT, "files": 1, "bytes": 1000, "bytes_sent": 1000}
    assert progress.upload_summary(one, published(["a", "b"], ["c"], unchanged=["a"])) == (
        "Uploaded 1 file, 1.0 kB: sent 1.0 kB, 0.0 % deduplicated, 0.0 s. 1 file went inline with the commit."
    )
    assert progress.upload_summary(NOTHING_SENT, published(["a"], ["c"], unchanged=["a", "c"])) == (
        "Uploaded nothing: the repository has all files already."
    )


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (
            {"unchanged": ["a", "b"]},
            "Committed 1 changed, 0 deleted, 2 unchanged files to hf://datasets/acme/corpus@main: https://hub/commit/1",
        ),
        (
            {"deleted": ["old"], "commits": [{}, {}]},
            "Committed 3 changed, 1 deleted, 0 unchanged files to hf://datasets/acme/corpus@main in 2 commits: "
            "https://hub/commit/1",
        ),
        (
            {"unchanged": ["a", "b", "c"], "created": False},
            "Nothing to commit: all 3 files are unchanged in hf://datasets/acme/corpus@main: https://hub/commit/1",
        ),
        (
            {"repo": "hf://datasets/acme/corpus@refs%2Fpr%2F7", "pull_request": "https://hub/discussions/7"},
            "Opened pull request 7 of acme/corpus with 3 changed, 0 deleted, 0 unchanged files: "
            "https://hub/discussions/7",
        ),
        (
            {"repo": "hf://buckets/acme/store", "oid": "", "commits": []},
            "Stored 3 changed, 0 deleted, 0 unchanged files in hf://buckets/acme/store: https://hub/commit/1",
        ),
    ],
)
def test_a_commit_is_summed_up_in_a_line(fields, said):
    assert progress.commit_summary(published(["a"], ["b", "c"], **fields)) == said


def test_the_figures_of_a_download_fit_in_a_line():
    transfer = {"files": 1, "bytes": 1500, "bytes_received": 1600, "skipped": 2, "seconds": 0.8}
    assert progress.download_summary(transfer) == (
        "Downloaded 1 file, 1.5 kB, verified, in 0.8 s; 2 already there, unchanged."
    )
    nothing = {**transfer, "files": 0, "bytes": 0}
    assert progress.download_summary(nothing) == "Downloaded nothing: all 2 files are already there, unchanged."
    assert progress.download_summary({**nothing, "skipped": 1}) == (
        "Downloaded nothing: the file is already there, unchanged."
    )


def test_the_tree_of_errors_shows_each_with_its_base_and_what_a_retry_does():
    shown: dict[str, tuple[str, bool | None]] = {}
    parents: list[str] = []
    for line in (exceptions.__doc__ or "").splitlines():
        found = re.match(r"    ((?:[│ ] {3})*)(?:[├└]── )?(Xet\w+)(.*)", line)
        if not found:
            continue
        depth = 0 if line.startswith("    Xet") else len(found[1]) // 4 + 1
        parents[depth:] = [found[2]]
        retried = {"retry": True, "final": False}.get(found[3].split()[-1] if found[3].split() else "")
        shown[found[2]] = (parents[depth - 1] if depth else "Exception", retried)
    classes = {
        name: value
        for name, value in vars(exceptions).items()
        if isinstance(value, type) and issubclass(value, exceptions.XetHubError)
    }
    assert set(shown) == set(classes)
    for name, (base, retried) in shown.items():
        assert classes[name].__bases__[0].__name__ == base, name
        assert retried is None or classes[name].retryable is retried, name


@pytest.mark.parametrize(
    ("sent", "text"), [(250_000, "75 % deduplicated or compressed"), (1_000_500, "0 % deduplicated or compressed")]
)
def test_a_line_of_an_upload_says_what_need_not_be_sent(caplog, sent, text):
    report = SimpleNamespace(total_bytes_completed=1_000_000, total_transfer_bytes_completed=sent, shard=object())
    meter = progress.Meter("the upload of 1 file", 4_000_000, lambda: report)
    with caplog.at_level(logging.INFO):
        meter.log_progress()
    assert f"/s, {text}, about" in caplog.messages[-1]


def test_a_transfer_that_stands_still_says_so_before_it_is_cancelled(caplog, monkeypatch):
    monkeypatch.setattr(progress, "LOG_INTERVAL", 0)
    report = SimpleNamespace(total_bytes_completed=1_000_000)
    meter = progress.Meter("the upload of 1 file to hf://a/b@main", 4_000_000, lambda: report)
    meter.check()  # a megabyte more than at the start
    meter.check()
    assert [each.levelname for each in caplog.records][-1] == "WARNING"
    assert caplog.messages[-1] == (
        "No progress for 0 s at 1.0 MB of 4.0 MB in the upload of 1 file to hf://a/b@main. The client retries; after "
        "2 min without progress the transfer is cancelled."
    )
