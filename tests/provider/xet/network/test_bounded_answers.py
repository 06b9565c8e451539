"""Answers without end: in bytes, in time, in pages, in lines. A server of our own sends them byte by byte."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress

import pytest

from airflow_provider_xethub.exceptions import XetConnectionError, XetForbiddenError, XetProtocolError, XetTimeoutError
from airflow_provider_xethub.triggers.xethub import XetRevisionTrigger
from airflow_provider_xethub.xet.hub import bucket_events, history
from airflow_provider_xethub.xet.hub.client import Hub
from airflow_provider_xethub.xet.network import bounded_answers
from airflow_provider_xethub.xet.repo import Repo
from airflow_provider_xethub.xet.wait import poller
from support.builders import TEXT, publish
from support.small_server import Answer, Asked, SmallServer
from support.trigger_runs import Triggerer, in_thread, until
from xethub_local.control.faults import Fault

REPO = Repo("acme/corpus", "dataset")
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
DEFLATED = OK + b"Content-Encoding: deflate\r\nTransfer-Encoding: chunked\r\n\r\n"
FORBIDDEN = b"HTTP/1.1 403 Forbidden\r\nX-Error-Message: why\r\nTransfer-Encoding: chunked\r\n\r\n"
MIB = 1 << 20
BOMB = gzip.compress(b" " * (8 * MIB))


@contextmanager
def says(*answers: Callable[[], Iterable[bytes]]) -> Iterator[str]:
    """Serve raw bytes, one answer for each request of a connection and then the first again, and give the URL."""
    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve(connection: socket.socket) -> None:
            with connection, suppress(OSError):
                number = 0
                while connection.recv(65536) and not ended.is_set():
                    for piece in answers[number % len(answers)]():
                        if ended.is_set():
                            return
                        connection.sendall(piece)
                    number += 1

        def accept() -> None:
            with suppress(OSError):
                while True:
                    threading.Thread(target=serve, args=[server.accept()[0]], daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}"
        finally:
            ended.set()


def again(head: bytes, piece: bytes, pause: float = 0) -> Callable[[], Iterable[bytes]]:
    def pieces() -> Iterator[bytes]:
        yield head
        while True:
            yield piece
            time.sleep(pause)

    return pieces


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def impatient(url: str, timeout: float = 5) -> Hub:
    made = Hub(url, timeout=timeout)
    made.retries_enabled = False
    return made


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setattr(bounded_answers, "MAX_BYTES", MIB)


@pytest.mark.parametrize(
    "answer",
    [
        again(CHUNKED, chunk(b" " * 65536)),
        again(OK + b"\r\n", b" " * 65536),
        again(OK + b"Content-Length: %d\r\n\r\n" % 10**12, b" "),
        lambda: [OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(BOMB), BOMB],
        again(OK + b"Content-Encoding: gzip, gzip\r\n\r\n", b"x"),
        again(OK + b"Content-Encoding: br\r\n\r\n", b"x"),
        # urllib3 2.6.2 to 2.7.0 decompress the bytes after the end again and again, and read nothing meanwhile.
        lambda: [DEFLATED, chunk(zlib.compress(b" " * MIB) + b"more"), chunk(b"")],
    ],
    ids=[
        "chunked",
        "until closed",
        "declared",
        "compressed",
        "compressed twice",
        "not asked for",
        "bytes after the end",
    ],
)
def test_an_answer_without_end_is_given_up(answer):
    with says(answer) as url:
        for ask in (lambda: impatient(url).list_files(REPO), lambda: impatient(url).read_inline(REPO, "a.txt")):
            with pytest.raises(XetProtocolError, match=r"with more than 1 MiB, or in an encoding.* (from|in) hf://"):
                ask()


@pytest.mark.parametrize(
    "answer",
    [
        again(CHUNKED, chunk(b" "), 0.05),
        again(OK + b"\r\n", b" ", 0.05),
        again(OK + b"Content-Length: 1000000\r\n\r\n", b" ", 0.05),
        again(b"HTTP/1.1 200 OK\r\nX-Long: ", b"a", 0.05),
        again(b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.05),
    ],
    ids=["chunked", "until closed", "declared", "in a header", "before the answer"],
)
def test_an_answer_that_takes_for_ever_is_given_up(answer, monkeypatch):
    monkeypatch.setattr(bounded_answers, "DEADLINE_FACTOR", 0.1)
    started = time.monotonic()
    with says(answer) as url, pytest.raises(XetTimeoutError, match=r"did not respond in time.* the listing"):
        impatient(url).list_files(REPO)
    assert time.monotonic() - started < 4


def test_of_a_refusal_only_the_beginning_is_read(monkeypatch):
    monkeypatch.setattr(bounded_answers, "MAX_ERROR_BYTES", 1000)
    refusal = again(FORBIDDEN, chunk(b"x" * 999))
    with says(refusal) as url, pytest.raises(XetForbiddenError, match="The Hub says: why"):
        impatient(url).list_files(REPO)


@pytest.mark.parametrize("through_a_proxy", [False, True], ids=["directly", "through a proxy"])
@pytest.mark.parametrize("head", [CHUNKED, FORBIDDEN], ids=["an answer", "a refusal"])
def test_a_chunk_size_without_end_is_given_up(head, through_a_proxy, monkeypatch):
    """urllib3 before 2.8 reads it into memory until the deadline."""
    monkeypatch.setattr(bounded_answers, "DEADLINE_FACTOR", 0.4)
    sent = itertools.count()

    def pieces() -> Iterator[bytes]:
        yield head
        while next(sent) < 10_000:
            yield b"0" * 65536

    with says(pieces) as url:
        if through_a_proxy:
            monkeypatch.setenv("http_proxy", url)
        asked = impatient("http://hub.example" if through_a_proxy else url)
        with pytest.raises(XetConnectionError):
            asked.list_files(REPO)
    assert next(sent) * 65536 < 64 * MIB  # the buffers of both sockets, and what is sent until it is noticed


def test_only_gzip_is_requested_and_of_a_stream_nothing_compressed():
    def answer(asked: Asked) -> Answer:
        return Answer([], headers={"Content-Encoding": "gzip"} if "compressed" in asked.path else {})

    with SmallServer(answer) as server:
        session = Hub(server.url).session
        session.get("/api/a", headers={"Accept-Encoding": "deflate, br"})
        session.get("/api/a", stream=True).close()
        with pytest.raises(bounded_answers.TooLargeError):
            session.get("/api/compressed", stream=True)
        encodings = [asked.headers["accept-encoding"] for asked in server.asked]
    assert encodings == ["gzip", "identity", "identity"]


def test_a_redirect_has_the_same_limits():
    redirect = again(b"HTTP/1.1 302 Found\r\nLocation: /x\r\nTransfer-Encoding: chunked\r\n\r\n", chunk(b"x" * 65536))
    with says(redirect) as url, pytest.raises(XetProtocolError, match="more than 1 MiB"):
        impatient(url).list_files(REPO)


def test_an_answer_within_the_limits_is_whole_and_the_connection_stays_open():
    page = b'[{"type":"directory","path":"%s"}]' % (b"d" * 4000)
    packed = gzip.compress(page)
    answers = [
        lambda: [OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed), packed],
        lambda: [CHUNKED, *(chunk(page[at : at + 7]) for at in range(0, len(page), 7)), chunk(b"")],
    ]
    with says(*answers) as url:
        asked = impatient(url)
        found = [asked.tree(REPO, recursive=False)[0]["path"] for _ in range(4)]
    assert found == ["d" * 4000] * 4


@pytest.mark.parametrize("page", [[], [{"type": "directory", "path": "d"}]])
def test_pages_without_end_are_given_up(page, monkeypatch):
    monkeypatch.setattr(bounded_answers, "MAX_PAGES", 30)
    number = iter(range(10**6))

    def answer(asked: Asked) -> Answer:
        return Answer(page, headers={"Link": f'<{asked.path}?cursor={next(number)}>; rel="next"'})

    with SmallServer(answer) as server, pytest.raises(XetProtocolError, match="with too many pages"):
        Hub(server.url).list_files(REPO)
    assert len(server.asked) == (30 if page else bounded_answers.MAX_EMPTY_PAGES)
    with SmallServer(answer) as server, pytest.raises(XetProtocolError, match="the commits of hf://"):
        history.commits_until(Hub(server.url), REPO, {"0" * 40})


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (EVENTS, chunk(b"x" * 4096)),
        (EVENTS, chunk(b"data: " + b"x" * 4000 + b"\n")),
        (EVENTS, b"0" * 65536),
        (EVENTS.replace(b"Transfer", b"Content-Encoding: gzip\r\nTransfer"), chunk(BOMB)),
    ],
    ids=["a line without end", "an event without end", "a chunk size without end", "compressed"],
)
def test_an_event_without_end_breaks_the_stream(head, piece, monkeypatch):
    monkeypatch.setattr(bucket_events, "_MAX_EVENT", 100_000)
    monkeypatch.setattr(bucket_events, "MIN_RECONNECT_SECONDS", 0.01)
    told = []
    events = again(head, piece)
    with says(events) as url:
        stream = bucket_events.BucketStream(Hub(url), Repo("acme/b", "bucket"), lambda *news: told.append(news))
        stream.start()
        deadline = time.monotonic() + 30
        while len(told) < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        stream.stop()
    assert told[:2] == [(False, [])] * 2


def test_a_repository_whose_answer_never_ends_does_not_stop_another(hub, make_repo, connection, tmp_path, monkeypatch):
    monkeypatch.setattr(poller, "MIN_INTERVAL", 0.2)
    monkeypatch.setattr(bounded_answers, "DEADLINE_FACTOR", 1)
    monkeypatch.setattr("airflow_provider_xethub.xet.wait.conditions.MAX_DELAY", 0.2)
    connection(extra={"timeout": 1})
    slow, quick = make_repo(), make_repo()
    looks = {each: f"GET .*{each.repo_id}/commits/.*" for each in (slow, quick)}

    async def run() -> Triggerer:
        triggerer = Triggerer()
        for name, each in (("slow", slow), ("quick", quick)):
            trigger = XetRevisionTrigger(repo_id=each.repo_id, repo_type="dataset", poke_interval=0.2)
            triggerer.start({name: trigger})
        await until(lambda: all(len(hub.log.requests(each)) > 1 for each in looks.values()))
        fault = hub.faults.add(Fault(looks[slow], endless="trickle"))
        await in_thread(lambda: publish(quick, tmp_path / "quick", {"a.txt": TEXT}))
        await until(lambda: triggerer.events["quick"])
        await until(lambda: hub.faults.acted(fault) > 1)  # the first look was given up
        hub.faults.clear()
        await in_thread(lambda: publish(slow, tmp_path / "slow", {"a.txt": TEXT}))
        await until(lambda: triggerer.events["slow"])
        await triggerer.stop()
        return triggerer

    assert not asyncio.run(run()).errors


def test_odd_events_are_left_out_and_the_stream_goes_on(monkeypatch):
    """A cursor that no URL can carry, JSON that nests too deeply, a path that is none: the thread lives on."""
    monkeypatch.setattr(bucket_events, "MIN_RECONNECT_SECONDS", 0.01)
    told, cursors = [], []
    lines = [
        b'event: changes\ndata: {"cursor": "\\ud800", "changes": [{"path": "a\\u0000"}]}\n\n',
        b"event: changes\ndata: " + b"[" * 50_000 + b"\n\n",
        b'event: changes\ndata: {"cursor": "good", "changes": [{"path": "b"}]}\n\n',
    ]

    def answer(asked: Asked) -> Answer:
        cursors.append(asked.query.get("cursor"))
        return Answer(b"".join(lines), headers={"Content-Type": "text/event-stream"})

    with SmallServer(answer) as server:
        stream = bucket_events.BucketStream(Hub(server.url), Repo("acme/b", "bucket"), lambda *news: told.append(news))
        stream.start()
        deadline = time.monotonic() + 30
        while len(cursors) < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        stream.stop()
    assert told[:3] == [(False, None), (False, ["b"]), (False, [])]
    assert cursors[:2] == [None, ["good"]]
