"""A watcher whose triggerer is killed again and again: no commit is lost, and what is told twice is known."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from airflow_provider_xethub.triggers import xethub as triggers
from support.triggerer_process import TriggererProcess, stored_connection
from support.watched import Watched

pytest.importorskip("airflow.models.asset_state_store", reason="Airflow keeps no state for assets before 3.3")
pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]

HANDED_OVER_SECONDS = 1.0
"""How often a triggerer hands events over."""


class Witness(threading.Thread):
    """Looks all the time whether a commit is remembered that is not told: it would be lost by a kill at that moment."""

    def __init__(self, watched: Watched) -> None:
        super().__init__(daemon=True)
        self._watched, self._stop_it = watched, threading.Event()
        self._first = watched.made[0]
        self.looks = 0
        self.lost: set[str] = set()

    def run(self) -> None:
        while not self._stop_it.wait(0.05):
            told, remembered = self._watched.stored()
            self.looks += 1
            if remembered not in (None, self._first, *told):
                self.lost.add(remembered)

    def stop(self) -> None:
        self._stop_it.set()
        self.join()


@pytest.fixture
def watched(hub, repo, connection, airflow_db, tmp_path):
    with stored_connection("stored", host=hub.url, password=hub.token()) as conn_id:
        watched = Watched(hub, repo, conn_id, tmp_path)
        witness = Witness(watched)
        witness.start()
        yield watched
        witness.stop()
        assert witness.looks > 100
        assert not witness.lost


def test_no_commit_is_lost_and_only_what_is_not_remembered_yet_is_told_again(watched, tmp_path):
    log, lives = tmp_path / "triggerer.log", []

    def life(work, *, end=TriggererProcess.kill):
        """Start a triggerer, let it work, end it; keep what was remembered before, and what it told."""
        before, begin = watched.stored()
        with TriggererProcess(log) as triggerer:
            work(triggerer)
            end(triggerer)
        after = watched.told()
        assert after[: len(before)] == before
        lives.append((begin or watched.made[0], after[len(before) :]))

    def tell_and_settle(triggerer):
        seen = watched.looks()
        triggerer.until(lambda: watched.looks() > seen + 1)
        watched.commit()
        watched.settle(triggerer)

    def killed_between_commits(triggerer):
        watched.settle(triggerer)  # it begins at the newest commit
        tell_and_settle(triggerer)

    def killed_when_it_has_seen_a_commit(triggerer):
        watched.settle(triggerer)
        watched.commit()
        seen = watched.looks()
        triggerer.until(lambda: watched.looks() > seen)

    def killed_while_events_are_stored(triggerer):
        told = len(watched.told())
        triggerer.until(lambda: len(watched.told()) > told)

    def killed_when_all_are_told_and_none_remembered(triggerer):
        told = len(watched.told())
        triggerer.until(lambda: len(watched.told()) > told and watched.told()[-1] == watched.made[-1])

    def held_up_and_killed_when_it_goes_on(triggerer):
        watched.settle(triggerer)
        # The process that stores is held up, while the one that looks sees a commit and waits until it is stored.
        os.kill(triggerer.pid, signal.SIGSTOP)
        time.sleep(2 * HANDED_OVER_SECONDS)  # what is handed over next is not answered, and all behind it has to wait
        watched.commit()
        seen, now = watched.looks(), watched.stored()
        triggerer.until(lambda: watched.looks() > seen)
        time.sleep(2 * triggers.DELIVERY_SECONDS)
        os.kill(triggerer.pid, signal.SIGCONT)
        triggerer.until(lambda: watched.stored() != now)

    life(killed_between_commits)
    watched.commit()
    life(watched.settle)  # between commits, too
    life(killed_when_it_has_seen_a_commit)
    watched.commit(3)
    life(killed_while_events_are_stored)
    life(killed_when_all_are_told_and_none_remembered)
    life(watched.settle, end=lambda triggerer: None)  # ended in good order
    life(held_up_and_killed_when_it_goes_on)
    life(tell_and_settle)
    watched.commit(2)
    life(tell_and_settle)

    _, *made = watched.made
    assert len(made) >= 10
    place = {oid: number for number, oid in enumerate(watched.made)}
    for begin, told in lives:
        # Each begins behind what is remembered, and tells in order: what is remembered is not told again.
        assert told == watched.made[place[begin] + 1 :][: len(told)]
    told = watched.told()
    assert list(dict.fromkeys(told)) == made
    print(f"\n{len(made)} commits, {len(lives)} triggerers, {len(told) - len(made)} told again")


def test_between_commits_each_is_told_once_however_often_it_is_killed(watched, tmp_path):
    for _ in range(4):
        with TriggererProcess(tmp_path / "triggerer.log") as triggerer:
            watched.settle(triggerer)
            watched.commit()
            watched.settle(triggerer)
            triggerer.kill()
        watched.commit(2)
    with TriggererProcess(tmp_path / "triggerer.log") as triggerer:
        watched.settle(triggerer)
    assert watched.told() == watched.made[1:]
    assert len(watched.made) == 13
