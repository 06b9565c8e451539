"""Those that wait for files of a bucket follow its event stream, and ask again and again where there is none."""

from __future__ import annotations

import asyncio

import pytest

from airflow_provider_xethub.hooks.events import value_of
from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.triggers.xethub import XetFileTrigger
from airflow_provider_xethub.xet.hub import bucket_events
from airflow_provider_xethub.xet.wait import poller
from support.builders import binary, publish
from support.trigger_runs import Triggerer, in_thread, until
from xethub_local.control.faults import Fault

EVENTS = "GET .*/events"
PATHS = "POST .*/paths-info"
TREE = "GET .*/tree"


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(poller, "MIN_INTERVAL", 0.2)
    monkeypatch.setattr(bucket_events, "MIN_RECONNECT_SECONDS", 0.1)


@pytest.fixture
def bucket(make_repo, connection):
    return make_repo("bucket")


@pytest.fixture
def where(bucket):
    return {"repo_id": bucket.repo_id, "repo_type": "bucket", "poke_interval": 0.2}


@pytest.fixture
def streams(monkeypatch):
    """All streams of a test, and what they told."""
    made = []
    real = bucket_events.BucketStream

    class Spied(real):
        def __init__(self, hub, repo, tell):
            self.told = []
            made.append(self)

            def spy(is_followed, paths):
                self.told.append((is_followed, paths))
                tell(is_followed, paths)

            super().__init__(hub, repo, spy)

    monkeypatch.setattr(bucket_events, "BucketStream", Spied)
    return made


def asked(hub) -> int:
    return len(hub.log.requests(PATHS)) + len(hub.log.requests(TREE))


def test_a_bucket_is_asked_only_when_its_events_say_that_something_changed(
    hub, bucket, where, streams, tmp_path, make_repo
):
    hub.log.clear()
    publish(make_repo("bucket"), tmp_path / "0", {"7.bin": binary()})
    by_publishing = asked(hub)

    async def wait():
        triggerer = Triggerer()
        triggerer.start({i: XetFileTrigger(paths=[f"{i}.bin"], **where) for i in range(50)})
        await until(lambda: streams and streams[0].told == [(True, None)])
        # The look that follows asks for all of them at once.
        await until(lambda: asked(hub) > by_publishing)
        await asyncio.sleep(1)
        until_now = len(hub.log.requests())
        await asyncio.sleep(1.5)
        assert len(hub.log.requests()) == until_now
        looked = asked(hub)
        # The look may be over before the call that publishes returns.
        await in_thread(lambda: publish(bucket, tmp_path / "1", {"7.bin": binary()}))
        await until(lambda: triggerer.ended)
        assert asked(hub) - looked == by_publishing + 1
        await in_thread(lambda: publish(bucket, tmp_path / "2", {"8.bin": binary(), "9.bin": binary(seed=1)}))
        await until(lambda: len(triggerer.ended) == 3)
        assert triggerer.fired == {7, 8, 9}
        await triggerer.stop([i for i in range(50) if i not in triggerer.ended])
        # A request is in the log when it has ended.
        await until(lambda: hub.log.requests(EVENTS))
        return value_of(triggerer.events[7][0])

    assert asyncio.run(wait()) == XetHubConnection().get_files(bucket, ["7.bin"])
    streams[0]._thread.join(30)
    assert not streams[0]._thread.is_alive()


def test_patterns_and_changes_are_found_in_a_bucket_as_well(hub, bucket, where, streams, tmp_path):
    (before,) = publish(bucket, tmp_path / "1", {"a.bin": binary()})

    async def wait():
        triggerer = Triggerer()
        known = {"a.bin": [before["xet_hash"]]}
        triggerer.start({"changed": XetFileTrigger(paths=["a.bin"], known=known, **where)})
        triggerer.start({"two": XetFileTrigger(patterns=["new/*"], min_files=2, **where)})
        await until(lambda: streams and streams[0].told)
        await in_thread(lambda: publish(bucket, tmp_path / "2", {"new/1.bin": binary(), "a.bin": binary()}))
        await asyncio.sleep(1)
        assert not triggerer.fired
        await in_thread(lambda: publish(bucket, tmp_path / "3", {"new/2.bin": binary(seed=2), "a.bin": binary(seed=3)}))
        await until(lambda: len(triggerer.ended) == 2)
        return {name: value_of(events[0]) for name, events in triggerer.events.items()}

    found = asyncio.run(wait())
    assert [file["path"] for file in found["two"]] == ["new/1.bin", "new/2.bin"]
    assert found["changed"][0]["xet_hash"] != before["xet_hash"]


@pytest.mark.parametrize("status", [401, 403, 404, 501])
def test_a_bucket_that_cannot_be_followed_is_asked_again_and_again(hub, bucket, where, streams, status, tmp_path):
    hub.faults.add(Fault(EVENTS, status=status))

    async def wait():
        triggerer = Triggerer()
        triggerer.start({"a": XetFileTrigger(paths=["a.bin"], **where)})
        await until(lambda: asked(hub) > 4)
        assert len(hub.log.requests(EVENTS)) == 1
        await in_thread(lambda: publish(bucket, tmp_path, {"a.bin": binary()}))
        await until(lambda: triggerer.ended)

    asyncio.run(wait())
    assert streams[0].told == [(False, [])]


def test_a_stream_that_breaks_resumes_from_its_cursor(hub, bucket, where, streams, tmp_path):
    async def wait():
        triggerer = Triggerer()
        triggerer.start({name: XetFileTrigger(paths=[f"{name}.bin"], **where) for name in "ab"})
        await until(lambda: streams and streams[0].told)
        await in_thread(lambda: publish(bucket, tmp_path / "1", {"a.bin": binary()}))
        await until(lambda: triggerer.ended)
        cursor = streams[0]._cursor
        assert cursor
        # The connection breaks, as on the way through a proxy; what happens meanwhile is told after it is back.
        streams[0]._response.raw.shutdown()
        await until(lambda: (False, []) in streams[0].told)
        await in_thread(lambda: publish(bucket, tmp_path / "2", {"b.bin": binary(seed=1)}))
        await until(lambda: len(triggerer.ended) == 2)

    asyncio.run(wait())
    assert (True, None) not in streams[0].told[1:]


def test_a_cursor_that_is_too_old_makes_it_look_at_everything(hub, bucket, where, streams):
    async def wait():
        triggerer = Triggerer()
        hub.faults.add(
            Fault(EVENTS, times=1, status=200, headers={"Content-Type": "text/event-stream"},
                  body='event: changes\ndata: {"cursor": "0", "changes": []}\n\nevent: reset\ndata: {}\n\n')
        )  # fmt: skip
        triggerer.start({"a": XetFileTrigger(paths=["a.bin"], **where)})
        await until(lambda: streams and (True, None) in streams[0].told)
        await triggerer.stop()

    asyncio.run(wait())
    assert streams[0].told == [(False, []), (False, []), (True, None)]


def test_garbage_in_the_stream_is_left_out(hub, bucket, where, streams, tmp_path):
    body = (
        ": still here\n\nevent: changes\ndata: no json\n\nevent: changes\ndata: [1]\n\nevent: unknown\ndata: {}\n\n"
        'event: changes\ndata: {"cursor": "x", "changes": [{"no": "path"}]}\n\n'
    )

    async def wait():
        triggerer = Triggerer()
        headers = {"Content-Type": "text/event-stream"}
        hub.faults.add(Fault(EVENTS, times=1, status=200, headers=headers, body=body))
        triggerer.start({"a": XetFileTrigger(paths=["a.bin"], **where)})
        await until(lambda: streams and any(is_followed for is_followed, _ in streams[0].told))
        await in_thread(lambda: publish(bucket, tmp_path, {"a.bin": binary()}))
        await until(lambda: triggerer.ended)

    asyncio.run(wait())
    assert streams[0].told[0] == (False, None)


def test_a_bucket_that_is_followed_is_looked_at_now_and_then_all_the_same(hub, where, streams, monkeypatch):
    monkeypatch.setattr(poller, "SAFETY_INTERVAL", 1.0)

    async def wait():
        triggerer = Triggerer()
        triggerer.start({"a": XetFileTrigger(paths=["a.bin"], **where)})
        await until(lambda: streams and streams[0].told)
        await until(lambda: asked(hub) > 4)
        await triggerer.stop()

    asyncio.run(wait())
