"""A thousand sensors wait: what it costs the Hub, counted by the Hub."""

from __future__ import annotations

import asyncio
import time

from airflow_provider_xethub.hooks.events import value_of
from airflow_provider_xethub.triggers.xethub import XetFileTrigger, XetRevisionTrigger
from support.builders import binary, publish
from support.trigger_runs import Triggerer, again, in_thread, until

INTERVAL = 1.0
MANY, SOME = 1000, 100


def test_a_thousand_that_wait_for_one_repository_cost_one_request_each_interval(hub, make_repo, connection, tmp_path):
    first, second = make_repo(), make_repo()

    def asked(repo, route="") -> int:
        return len(hub.log.requests(f".* /api/datasets/{repo.repo_id}/{route}.*"))

    def triggers(repo, number):
        where = {"repo_id": repo.repo_id, "repo_type": "dataset", "poke_interval": INTERVAL}
        return {(repo.repo_id, i): XetFileTrigger(paths=[f"part-{i}.bin"], **where) for i in range(number)}

    async def wait():
        triggerer = Triggerer()
        triggerer.start(triggers(first, MANY) | triggers(second, SOME))
        # Every path of all of them is asked for within the first looks, and then no more.
        await until(lambda: asked(first, "commits/") > 2 and asked(second, "commits/") > 2)
        assert asked(first, "paths-info/") <= 2
        assert asked(second, "paths-info/") <= 2
        hub.log.clear()
        began = time.monotonic()
        await until(lambda: asked(first) >= 5 and asked(second) >= 5)
        intervals = (time.monotonic() - began) / INTERVAL
        for repo in (first, second):
            assert asked(repo) == asked(repo, "commits/") <= intervals + 1

        await in_thread(lambda: publish(first, tmp_path / "1", {"part-7.bin": binary()}))
        hub.log.clear()
        await until(lambda: triggerer.ended)
        assert asked(first, "commits/") <= 1
        assert asked(first, "paths-info/") <= 1
        # One more interval: nobody else fires.
        seen = asked(first, "commits/")
        await until(lambda: asked(first, "commits/") > seen + 1 and asked(second, "commits/") > 1)
        assert triggerer.ended == triggerer.fired == {(first.repo_id, 7)}
        (file,) = value_of(triggerer.events[first.repo_id, 7][0])
        assert file["path"] == "part-7.bin"

        # Away and back again: what came meanwhile is found at the first look of the new one.
        await triggerer.stop([name for name in triggerer._tasks if name not in triggerer.ended])
        await in_thread(lambda: publish(second, tmp_path / "2", {f"part-{i}.bin": binary(seed=i) for i in range(30)}))
        hub.log.clear()
        later = Triggerer()
        later.start({name: t for name, t in triggers(second, SOME).items() if name not in triggerer.ended})
        await until(lambda: len(later.ended) >= 30)
        assert later.fired == {(second.repo_id, i) for i in range(30)}
        assert asked(second) <= 2 * (asked(second, "commits/"))
        await later.stop()

    asyncio.run(wait())


def test_those_that_wait_for_files_and_for_commits_share_the_poll(hub, make_repo, connection, tmp_path):
    repo = make_repo()
    where = {"repo_id": repo.repo_id, "repo_type": "dataset", "poke_interval": INTERVAL}

    async def wait():
        triggerer = Triggerer()
        triggerer.start({("file", i): XetFileTrigger(patterns=[f"{i}/*"], **where) for i in range(20)})
        triggerer.start({("commit", i): again(XetRevisionTrigger(once=True, **where)) for i in range(20)})
        await until(lambda: len(hub.log.requests("GET .*/commits/.*")) > 1)
        hub.log.clear()
        await until(lambda: len(hub.log.requests("GET .*/commits/.*")) > 1)
        assert len(hub.log.requests()) == len(hub.log.requests("GET .*/commits/.*"))
        await in_thread(lambda: publish(repo, tmp_path, {"3/a.bin": binary()}))
        hub.log.clear()
        await until(lambda: len(triggerer.ended) == 21)
        assert triggerer.fired == {("file", 3), *(("commit", i) for i in range(20))}
        assert len(hub.log.requests("GET .*/tree/.*")) == 1
        await triggerer.stop([("file", i) for i in range(20) if i != 3])

    asyncio.run(wait())
