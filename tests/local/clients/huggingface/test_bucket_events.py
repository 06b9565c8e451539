"""Following what happens in a bucket, as ``HfFileSystem(live_follow=True)`` does."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path

import pytest
import requests
from huggingface_hub import HfApi, HfFileSystem
from huggingface_hub._bucket_live_follow import BUCKET_FOLLOWERS, BucketFileChange, BucketFollower

from xethub_local.hub import bucket_events as hub_bucket_events
from xethub_local.local_store import LocalStore
from xethub_local.metadata.bucket_log import BucketEvents, ForgottenError
from xethub_local.metadata.repositories import Repositories
from xethub_local.server import LocalHub
from xethub_local.store.database import Database


def until(condition: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def stream(hub: LocalHub, bucket: str, query: str = "") -> requests.Response:
    headers = {"Authorization": f"Bearer {hub.token()}"}
    return requests.get(f"{hub.url}/api/buckets/{bucket}/events{query}", headers=headers, stream=True, timeout=20)


def told(answer: requests.Response) -> Iterator[tuple[str, dict[str, object]]]:
    """Yield the events of a stream, comments as events named ``:``."""
    name = ""
    for line in answer.iter_lines(chunk_size=1, decode_unicode=True):
        key, _, value = line.partition(": ")
        if key == "event":
            name = value
        elif key == "data":
            yield name, json.loads(value)
        elif line.startswith(":"):
            yield ":", {}


def paths(event: tuple[str, dict[str, object]]) -> list[tuple[str, str]]:
    name, data = event
    assert name == "changes"
    return [(change["op"], change["path"]) for change in data["changes"]]  # type: ignore[attr-defined]


@pytest.fixture
def bucket(api: HfApi, request: pytest.FixtureRequest) -> str:
    name = hashlib.sha256(request.node.name.encode()).hexdigest()[:12]
    return api.create_bucket(f"acme/{name}").bucket_id


def test_a_file_system_learns_what_others_do(hub: LocalHub, api: HfApi, bucket: str) -> None:
    files = HfFileSystem(endpoint=hub.url, token=hub.token(), live_follow=True)
    assert files.ls(f"buckets/{bucket}", detail=False) == []
    follower = next(one for one, _ in BUCKET_FOLLOWERS.values() if one.bucket_id == bucket)
    try:
        until(lambda: follower.subscribed)
        api.batch_bucket_files(bucket, add=[(b"1", "d/a.txt"), (b"2", "b.txt")])
        until(lambda: files.ls(f"buckets/{bucket}", detail=False) == [f"buckets/{bucket}/b.txt", f"buckets/{bucket}/d"])
        api.batch_bucket_files(bucket, delete=["b.txt"])
        until(lambda: files.ls(f"buckets/{bucket}", detail=False) == [f"buckets/{bucket}/d"])
    finally:
        follower.stop()


def test_a_follower_resumes_where_it_was_when_the_server_comes_back(tmp_path: Path) -> None:
    seen: list[BucketFileChange] = []
    with LocalHub(tmp_path) as hub:
        api = HfApi(endpoint=hub.url, token=hub.token())
        api.create_bucket("acme/raw")
        reconciled: list[int] = []
        follower = BucketFollower(
            endpoint=hub.url,
            bucket_id="acme/raw",
            token=hub.token(),
            on_changes=seen.extend,
            on_reconcile=lambda: reconciled.append(1),
            is_alive=lambda: True,
        )
        follower.start()
        try:
            until(lambda: follower.subscribed)
            api.batch_bucket_files("acme/raw", add=[(b"1", "a")])
            until(lambda: seen)
            hub.stop()
            follower.subscribed = False
            hub.start()
            api.batch_bucket_files("acme/raw", add=[(b"2", "a"), (b"3", "b")], delete=[])
            until(lambda: len(seen) == 3)
        finally:
            follower.stop()
    assert [(change.op, change.path) for change in seen] == [("add", "a"), ("update", "a"), ("add", "b")]
    assert (seen[2].size, len(seen[2].xet_hash or ""), len(reconciled)) == (1, 64, 1)
    assert seen[2].mtime is not None
    assert seen[2].uploaded_at is not None


def test_what_happened_is_told_again_from_a_cursor_and_from_a_time(hub: LocalHub, api: HfApi, bucket: str) -> None:
    with stream(hub, bucket) as answer:
        assert next(told(answer)) == ("ready", {})
    api.batch_bucket_files(bucket, add=[(b"1", "a")])
    updated = requests.get(f"{hub.url}/api/buckets/{bucket}", timeout=20).json()["updatedAt"]
    time.sleep(0.002)
    api.batch_bucket_files(bucket, add=[(b"1", "b")], delete=["a"])
    created = requests.get(f"{hub.url}/api/buckets/{bucket}", timeout=20).json()["createdAt"]
    with stream(hub, bucket, f"?since={created}") as answer:
        events = told(answer)
        first, second, ready = next(events), next(events), next(events)
    assert (paths(first), paths(second)) == ([("add", "a")], [("add", "b"), ("delete", "a")])
    assert ready == ("ready", {"cursor": second[1]["cursor"]})
    with stream(hub, bucket, f"?cursor={first[1]['cursor']}") as answer:
        assert next(told(answer)) == second
    with stream(hub, bucket, f"?since={updated}") as answer:
        assert paths(next(told(answer)))[0] in [("add", "a"), ("add", "b")]
    with stream(hub, bucket, f"?since={datetime.now(timezone.utc).isoformat()}") as answer:
        assert next(told(answer)) == ready
    with stream(hub, bucket) as answer:
        events = told(answer)
        assert next(events) == ready
        api.batch_bucket_files(bucket, delete=["b"])
        assert paths(next(events)) == [("delete", "b")]


def test_who_does_not_move_hears_a_heartbeat(hub: LocalHub, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_bucket_events, "HEARTBEAT_SECONDS", 0.02)
    monkeypatch.setattr(hub_bucket_events, "_POLL_SECONDS", 0.02)
    with stream(hub, bucket) as answer:
        events = told(answer)
        assert [next(events)[0] for _ in range(4)] == ["ready", ":", ":", ":"]


@pytest.mark.parametrize("query", ["?cursor=x", "?cursor=-1", f"?cursor={10**17}", f"?cursor={10**30}", "?since=soon"])
def test_a_start_that_makes_no_sense_is_400(hub: LocalHub, bucket: str, query: str) -> None:
    assert stream(hub, bucket, query).status_code == 400


def test_a_stream_ends_with_the_bucket_and_is_closed_to_strangers(hub: LocalHub, api: HfApi, bucket: str) -> None:
    api.update_bucket_settings(bucket, private=True)
    assert requests.get(f"{hub.url}/api/buckets/{bucket}/events", timeout=20).status_code == 401
    with stream(hub, bucket) as answer:
        events = told(answer)
        assert next(events)[0] == "ready"
        api.delete_bucket(bucket)
        assert list(events) == []
    assert stream(hub, bucket).status_code == 404


def test_followers_cost_no_threads_and_are_forgotten_when_they_leave(tmp_path: Path) -> None:
    with LocalHub(tmp_path) as hub:
        hub.create_repo("acme/raw", "bucket")
        answers = [stream(hub, "acme/raw") for _ in range(100)]
        streams = [told(answer) for answer in answers]
        for events in streams:
            assert next(events)[0] == "ready"
        followers = hub._store.bucket_files.events.followers
        assert followers() == 100
        workers = [thread for thread in threading.enumerate() if "AnyIO" in thread.name]
        assert len(workers) < 50
        assert requests.get(f"{hub.url}/api/buckets/acme/raw", timeout=20).status_code == 200
        for answer in answers[1:]:
            answer.close()
        until(lambda: followers() == 1)
        hub.stop()
        assert [name for name, _ in streams[0]] == ["reconnect"]


def test_another_process_on_the_same_folder_is_heard(hub: LocalHub, api: HfApi, bucket: str) -> None:
    with stream(hub, bucket) as answer:
        events = told(answer)
        assert next(events)[0] == "ready"
        other = LocalStore(hub.folder)
        try:
            with other.bucket_files.batch(f"buckets/{bucket}") as batch:
                batch.changes.append({"op": "delete", "path": "x"})
        finally:
            other.close()
        assert paths(next(events)) == [("delete", "x")]


def test_old_events_are_forgotten_and_who_missed_them_is_told_so(tmp_path: Path) -> None:
    db = Database(tmp_path)
    repositories = Repositories(db)
    repositories.create("buckets/acme/a")
    repositories.create("buckets/acme/b")
    events = BucketEvents(db, kept=3)
    for number in range(5):
        with db.write() as connection:
            events.record(connection, "buckets/acme/a", [{"n": number}], 100.0 + number)
    newest = events.newest("buckets/acme/a")
    assert [event.changes for event in events.after("buckets/acme/a", newest - 3)] == [[{"n": n}] for n in (2, 3, 4)]
    assert events.cursor_at("buckets/acme/a", 103.0) == newest - 2
    assert events.cursor_at("buckets/acme/a", 200.0) == newest
    assert events.after("buckets/acme/b", 0) == []
    for missed in (lambda: events.after("buckets/acme/a", newest - 4), lambda: events.cursor_at("buckets/acme/a", 101)):
        with pytest.raises(ForgottenError):
            missed()
    with db.write() as connection:
        events.record(connection, "buckets/acme/b", [{"n": n} for n in range(2500)], 200.0)
    assert [len(event.changes) for event in events.after("buckets/acme/b", 0)] == [1000, 1000, 500]
    db.close()


def test_who_was_away_too_long_is_told_to_look_again(hub: LocalHub, api: HfApi, bucket: str) -> None:
    api.batch_bucket_files(bucket, add=[(b"1", "a")])
    events = hub._store.bucket_files.events
    with hub.repositories.db.write() as connection:
        connection.execute(
            "INSERT INTO hub_bucket_forgotten VALUES (?, ?, ?)", (f"buckets/{bucket}", 10**9, time.time() + 9)
        )
    with stream(hub, bucket, f"?cursor={events.newest(f'buckets/{bucket}')}") as answer:
        assert [name for name, _ in told(answer)] == ["reset"]


def test_what_happens_here_is_told_at_once(
    hub: LocalHub, api: HfApi, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_bucket_events, "_POLL_SECONDS", 600.0)  # longer than the stream's own time limit
    with stream(hub, bucket) as answer:
        events = told(answer)
        assert next(events)[0] == "ready"
        for number in range(3):
            api.batch_bucket_files(bucket, add=[(b"1", str(number))])
            assert paths(next(events)) == [("add", str(number))]
