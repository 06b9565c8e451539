"""When a transfer counts as crawling, and with how many requests it goes on: decided over samples, without a clock."""

from __future__ import annotations

from collections.abc import Iterator

from airflow_provider_xethub.xet.cas.crawl import RULES, Sample, Verdict, Watch, is_bound_by_bandwidth

MB = 1_000_000
TOTAL = 1_000_000 * MB


class Transfer:
    """A transfer whose rate the test sets, sampled twice a second."""

    def __init__(self, concurrency: int = 64, total: int = TOTAL, *, returns: bool = True, min_rate: float = 0) -> None:
        self.watch = Watch(concurrency, returns=returns, min_rate=min_rate)
        self.total = total
        self.at = 1_000.0
        self.moved = self.done = 0.0

    def run(
        self, seconds: float, rate: float, *, content: float | None = None, waits: bool = True, every: float = 0.5
    ) -> list[Verdict]:
        """Move for some seconds at ``rate`` bytes per second, and return the verdicts."""
        return list(self._run(seconds, rate, rate if content is None else content, waits, every))

    def _run(self, seconds: float, rate: float, content: float, waits: bool, every: float) -> Iterator[Verdict]:
        end = self.at + seconds
        while self.at < end:
            self.at += every
            self.moved += rate * every
            self.done = min(self.total, self.done + content * every)
            verdict = self.watch.add(Sample(self.at, int(self.moved), int(self.done), self.total, waits))
            if verdict:
                yield verdict


def test_a_transfer_that_drops_to_a_small_share_of_its_best_goes_on_with_few_requests() -> None:
    transfer = Transfer()
    assert transfer.run(30, 2_000 * MB) == []
    assert transfer.run(50, MB) == []  # a minute is not over
    (verdict,) = transfer.run(60, MB)
    assert (verdict.concurrency, verdict.has_failed) == (4, False)
    assert 1_900 * MB < verdict.best < 2_100 * MB
    assert MB * 0.9 < verdict.rate < 2_000 * MB / 20


def test_a_transfer_of_seconds_does_not_wait_for_a_minute() -> None:
    transfer = Transfer(total=400 * MB)  # 20 seconds at its best rate
    assert transfer.run(5, 20 * MB) == []
    assert transfer.run(4, 0.5 * MB) == []
    (verdict,) = transfer.run(3, 0.5 * MB)
    assert (verdict.concurrency, verdict.has_failed) == (4, False)


def test_a_file_that_is_finished_long_after_its_bytes_arrived_is_no_movement() -> None:
    transfer = Transfer(total=600 * MB)
    assert transfer.run(3, 20 * MB, content=0) == []
    assert transfer.run(2, 0.5 * MB, content=0) == []
    transfer.done += 8 * MB
    assert [each.concurrency for each in transfer.run(5, 0.5 * MB, content=0)] == [4]


def test_a_short_hiccup_is_no_crawl() -> None:
    transfer = Transfer(total=500 * MB)
    for _ in range(4):
        assert transfer.run(5, 20 * MB) == []
        assert transfer.run(4, 0.5 * MB) == []


def test_the_rate_that_a_task_demands_is_a_bound_whatever_the_best_was() -> None:
    transfer = Transfer(min_rate=MB)
    assert transfer.run(300, 1.1 * MB) == []
    verdicts = transfer.run(75, 0.9 * MB)
    assert [(each.concurrency, each.is_too_slow) for each in verdicts] == [(4, False)]
    verdicts = transfer.run(300, 0.9 * MB)
    assert [(each.concurrency, each.is_too_slow) for each in verdicts][:3] == [(2, False), (1, False), (None, True)]


def test_a_rate_that_is_reached_with_fewer_requests_is_enough() -> None:
    transfer = Transfer(min_rate=MB)
    assert [each.concurrency for each in transfer.run(65, 0.9 * MB)] == [4]
    assert transfer.run(3_000, 1.1 * MB) == []
    assert transfer.watch.concurrency == 4


def test_with_one_request_allowed_nothing_is_tried_before_it_is_too_slow() -> None:
    (verdict, *_) = Transfer(1, min_rate=MB).run(61, 0.5 * MB)
    assert verdict.is_too_slow


def test_the_demanded_rate_also_holds_after_a_crawl_was_given_up() -> None:
    transfer = Transfer(min_rate=0.5 * MB)
    transfer.run(30, 2_000 * MB)
    verdicts = transfer.run(1_000, MB)
    assert [each.is_too_slow for each in verdicts] == [False] * 4
    assert transfer.run(70, 0.4 * MB)[0].is_too_slow


def test_waiting_for_a_source_or_for_the_hub_is_not_too_slow() -> None:
    transfer = Transfer(min_rate=MB)
    assert transfer.run(300, 0.1 * MB, waits=False) == []
    assert transfer.run(300, 0) == []


def test_fewer_requests_that_help_are_kept_and_watched_again() -> None:
    transfer = Transfer()
    transfer.run(30, 2_000 * MB)
    assert len(transfer.run(70, MB)) == 1
    assert transfer.run(300, 300 * MB) == []
    assert transfer.watch.concurrency == 4
    (verdict,) = transfer.run(90, MB)
    assert (verdict.concurrency, verdict.has_failed) == (2, False)


def test_fewer_requests_that_do_not_help_are_given_up_and_nothing_is_tried_again() -> None:
    transfer = Transfer()
    transfer.run(30, 2_000 * MB)
    verdicts = transfer.run(20_000, MB)
    assert [verdict.concurrency for verdict in verdicts] == [4, 2, 1, 64]
    assert [verdict.has_failed for verdict in verdicts] == [False, True, True, True]
    assert transfer.watch.concurrency == 64


def test_an_upload_starts_again_once_and_stays_with_one_request() -> None:
    transfer = Transfer(2, returns=False)
    transfer.run(30, 100 * MB)
    verdicts = transfer.run(3_000, MB)
    assert [verdict.concurrency for verdict in verdicts] == [1, None]


def test_a_link_that_is_slow_by_nature_is_left_alone() -> None:
    assert Transfer().run(7_200, 100_000) == []
    assert Transfer().run(7_200, 30_000) == []


def test_the_first_megabytes_that_only_fill_buffers_are_no_best_rate() -> None:
    transfer = Transfer()
    transfer.run(1, 16 * MB)
    assert transfer.run(7_200, 30_000) == []


def test_a_transfer_that_only_trickles_from_its_start_is_noticed() -> None:
    assert [verdict.concurrency for verdict in Transfer().run(70, 2_000)] == [4]


def test_the_end_of_a_transfer_is_no_crawl() -> None:
    transfer = Transfer(total=60_001 * MB)
    transfer.run(30, 2_000 * MB)
    assert transfer.run(600, 0.1 * MB) == []  # 1 MB is left, which takes 10 seconds


def test_waiting_for_the_hub_after_the_last_byte_is_no_crawl() -> None:
    transfer = Transfer(total=60_000 * MB)
    transfer.run(30, 2_000 * MB)
    assert transfer.run(600, 0) == []


def test_reading_a_large_file_that_cas_has_already_is_no_crawl() -> None:
    transfer = Transfer()
    transfer.run(30, 500 * MB)
    assert transfer.run(600, 0, content=400 * MB) == []


def test_a_slow_disk_or_source_is_no_crawl() -> None:
    transfer = Transfer()
    transfer.run(30, 500 * MB)
    assert transfer.run(600, 0.5 * MB, waits=False) == []


def test_waiting_after_a_429_or_for_a_retry_is_no_crawl() -> None:
    transfer = Transfer()
    transfer.run(30, 500 * MB)
    for _ in range(20):
        assert transfer.run(31, 0) == []
        assert transfer.run(1, 50 * MB) == []


def test_nothing_is_concluded_from_the_time_that_the_process_was_suspended() -> None:
    transfer = Transfer()
    transfer.run(30, 500 * MB)
    transfer.at += 3_600  # stopped, or the lid was closed
    assert transfer.run(59, 500 * MB) == []
    transfer.at += 3_600
    assert transfer.run(300, 100 * MB) == []


def test_a_host_too_busy_to_take_samples_in_time_concludes_nothing() -> None:
    transfer = Transfer()
    transfer.run(30, 500 * MB)
    assert transfer.run(600, MB, every=RULES.window / 4) == []


def test_a_new_session_that_counts_from_zero_is_measured_anew() -> None:
    transfer = Transfer()
    transfer.run(30, 500 * MB)
    transfer.moved = 0
    assert transfer.run(50, MB) == []


def test_many_small_files_never_crawl() -> None:
    assert is_bound_by_bandwidth([500_000_000] * 20 + [10_000] * 5_000)
    assert not is_bound_by_bandwidth([10_000] * 5_000)
    assert not is_bound_by_bandwidth([])
