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
    assert progress.upload_summary(transfer) == "3 files, 68.2 MB: sent 3.4 MB, 95.0 % deduplicated, 1.1 s"
    assert "0.0 % deduplicated" in progress.upload_summary({**transfer, "bytes": 0, "bytes_deduplicated": 0})


def test_the_figures_of_a_download_fit_in_a_line():
    transfer = {"files": 1, "bytes": 1500, "bytes_received": 1600, "skipped": 2, "seconds": 0.8}
    assert progress.download_summary(transfer) == "1 file, 1.5 kB, verified; 2 skipped as unchanged; 0.8 s"


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
