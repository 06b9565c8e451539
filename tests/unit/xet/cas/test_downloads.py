"""Temporary files of a download: read while they are written, continued, and removed after a failure."""

from __future__ import annotations

import re
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pendulum
import pytest

from airflow_provider_xethub.exceptions import XetIntegrityError, XetNotFoundError, XetStalledError
from airflow_provider_xethub.xet import progress, tracing
from airflow_provider_xethub.xet.cas import downloads
from airflow_provider_xethub.xet.cas import session as cas_session
from airflow_provider_xethub.xet.cas.session import CasAccess
from airflow_provider_xethub.xet.cas.slowdown import at_most
from airflow_provider_xethub.xet.process import temporary_names
from airflow_provider_xethub.xet.token import XetToken
from support.commit_builders import ANYWHERE
from support.failing_disk import fail_at

TOKEN = XetToken(ANYWHERE, "read", "https://cas.example", pendulum.now().add(minutes=15), access_token="xet_0")
ACCESS = CasAccess(TOKEN)


def test_a_temporary_file_that_stays_is_logged_and_keeps_no_other(tmp_path, monkeypatch, caplog):
    stays, goes = tmp_path / "a.part", tmp_path / "b.part"
    for each in (stays, goes):
        each.touch()
    fail_at(monkeypatch, Path, "unlink", "a.part")
    downloads._remove([stays, goes, tmp_path / "missing"])
    assert [*tmp_path.iterdir()] == [stays]
    assert caplog.messages == [f"The temporary file {stays} cannot be removed: input/output error. A retry removes it."]


def test_a_large_file_is_awaited_and_read_while_it_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "READ_WHILE_WRITTEN", 4)
    monkeypatch.setattr(downloads, "_BLOCK", 7)
    polled, read, read_again, looked = threading.Event(), threading.Event(), threading.Event(), []

    class Scratch(type(tmp_path)):
        def exists(self):
            found = super().exists()
            looked.append(found)
            if len(looked) == 2:
                polled.set()
            return found

    scratch = Scratch(tmp_path / "scratch")

    def written():
        assert polled.wait(10)
        scratch.write_bytes(b"first ")
        assert read.wait(10)
        with scratch.open("ab") as stream:
            stream.write(b"second")
        assert read_again.wait(10)

    pieces = downloads._pieces(downloads.Wanted("a.bin", "ab" * 32, 12, tmp_path / "part"), scratch, written)
    assert next(pieces) == b"first "
    read.set()
    assert next(pieces) == b"second"
    read_again.set()
    assert list(pieces) == []
    assert [each.name for each in tmp_path.iterdir()] == ["part"]
    assert (tmp_path / "part").read_bytes() == b"first second"


def test_a_file_is_read_in_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "_BLOCK", 4)
    scratch = tmp_path / "scratch"
    wanted = downloads.Wanted("a.bin", "ab" * 32, 10, tmp_path / "part")
    pieces = downloads._pieces(wanted, scratch, lambda: scratch.write_bytes(b"0123456789"))
    assert list(pieces) == [b"0123", b"4567", b"89"]


def test_a_file_is_continued_where_the_attempt_before_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "_BLOCK", 3)
    (tmp_path / "scratch").write_bytes(b"begun lat")  # the aborted client still writes
    wanted = downloads.Wanted("a.bin", "ab" * 32, 18, tmp_path / "part")
    pieces = downloads._appended(wanted, tmp_path / "scratch", 5, iter([b" late", b" the end"]))
    assert [*pieces] == [b"beg", b"un", b" late", b" the end"]
    assert (tmp_path / "part").read_bytes() == b"begun late the end"
    assert not (tmp_path / "scratch").exists()


@pytest.mark.parametrize("size", [3, 4])
def test_a_file_that_the_client_could_not_write_is_an_error(tmp_path, monkeypatch, size):
    monkeypatch.setattr(downloads, "READ_WHILE_WRITTEN", 4)
    scratch, ran_in, read = tmp_path / "scratch", [], threading.Event()

    def written():
        thread = threading.current_thread()
        ran_in.append((thread.name, thread.daemon))
        scratch.write_bytes(b"abc")
        assert size == 3 or read.wait(10)
        raise ConnectionError

    pieces = downloads._pieces(downloads.Wanted("a.bin", "ab" * 32, size, tmp_path / "part"), scratch, written)
    with pytest.raises(ConnectionError):  # noqa: PT012 - the pieces arrive before it
        for _ in pieces:
            read.set()
    assert ran_in == [("MainThread", False) if size == 3 else ("xethub-written", True)]
    assert not (tmp_path / "part").exists()


def test_a_crawling_download_has_new_temporary_files_that_are_removed(tmp_path, monkeypatch):
    unfinished = downloads._Unfinished()
    part = tmp_path / f".part-{'0' * 32}.xetpart"
    made = [unfinished.begin(number, part) for number in (1, 1, 2)]
    assert len({*made, part}) == 4
    assert unfinished.scratch == {1: made[1], 2: made[2]}
    assert all(path.exists() for path in made)
    monkeypatch.setattr(temporary_names, "another", lambda part: made[0])
    with pytest.raises(FileExistsError):
        unfinished.begin(3, part)
    unfinished.remove()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("sizes", "files", "requests"),
    [
        ([10], None, 8),
        ([4 << 20] * 2, None, 8),
        ([(4 << 20) - 1] * 2, 8, 8),
        ([1 << 20] * 2, 16, 8),
        ([(1 << 20) - 1, 1 << 20], 16, 8),
        ([512 << 10] * 2, 32, 16),
        ([0, 0], 64, 32),
        ([], None, 8),
    ],
)
def test_more_small_files_than_large_ones_are_fetched_at_a_time(monkeypatch, sizes, files, requests):
    monkeypatch.setattr(CasAccess, "download_buffer", lambda self: 123)
    config = downloads._config(ACCESS, sizes)
    found = (config.get("data.max_concurrent_file_downloads"), config["client.ac_initial_download_concurrency"])
    assert found == (files, requests)
    assert [type(each) for each in found] == [type(files), int]
    assert config == cas_session.settings(len(sizes), sum(sizes), buffer=123) | config
    assert config["reconstruction.download_buffer_size"] == 123
    assert config["deduplication.global_dedup_query_enabled"] is (bool(sizes) and sizes[0] > 128 << 10)


# --- whole downloads, with a client in memory -------------------------------------------------------------------------

CONTENT = {"aa" * 32: b"first", "bb" * 32: b"second", "cc" * 32: b"third!!"}


class Client:
    """A session of the client, and its group of downloads: has these contents, and fails for those that are errors.

    Those that are blocked wait until the download is aborted.
    """

    def __init__(self, contents, received=100):
        self.contents, self.received, self.done = contents, received, 0
        self.aborted, self.sessions, self.groups = [], [], []
        self.blocked, self.release, self.late = set(), threading.Event(), []
        self.new_file_download_group = object()
        self.starting = lambda: None

    def start(self, access, config):
        assert access.token is TOKEN
        self.sessions.append(config)
        return self

    def begin(self, access, new):
        assert (access.token, new) == (TOKEN, self.new_file_download_group)
        self.groups.append([])
        return self

    def start_download_file(self, info, path):
        self.groups[-1].append((info.hash, info.file_size, path))
        self.starting()

        def result():
            if info.hash in self.blocked and not self.release.wait(2):
                self.late.append(info.hash)
            content = self.contents[info.hash]
            if isinstance(content, Exception):
                raise content
            with open(path, "wb") as stream:  # noqa: PTH123 - as the client
                stream.write(content)
            self.done += len(content)

        return SimpleNamespace(result=result)

    def progress(self):
        return SimpleNamespace(total_bytes_completed=self.done, total_transfer_bytes_completed=self.received)

    def abort(self):
        self.aborted.append("group")
        self.release.set()

    def sigint_abort(self):
        self.aborted.append("session")


class Rules:
    """The slowdown of a transfer, which starts it again as often as this says."""

    concurrency, moved = None, 7_000

    def __init__(self, restarts=0):
        self.restarts, self.made, self.samples = restarts, [], []

    def make(self, *of, **options):
        self.made.append((*of, options))
        return self

    def should_restart(self, moved, done, total, *, waits):
        self.samples.append((moved, done, total))
        self.restarts -= waits
        return waits and self.restarts >= 0


@pytest.fixture
def fetch(tmp_path, monkeypatch):
    """Fetch files from a client, and take a part of the content of each for damaged."""

    def fetch(client, damaged=(), rules=None, contents=CONTENT, verified=lambda: None, access=ACCESS):
        rules = rules or Rules()
        monkeypatch.setattr(cas_session, "start", client.start)
        monkeypatch.setattr(cas_session, "begin", client.begin)
        monkeypatch.setattr(downloads, "Slowdown", rules.make)
        files = [
            downloads.Wanted(f"{number}.bin", xet_hash, len(content), tmp_path / f"{number}.part")
            for number, (xet_hash, content) in enumerate(contents.items())
        ]
        left, taken = list(damaged), []

        def consume(number, pieces):
            content = b"".join(pieces)
            verified()
            if number in left:
                left.remove(number)
                raise XetIntegrityError(f"{number}.bin arrived damaged.")
            taken.append((number, content))

        try:
            return downloads.fetch(access, files, consume), sorted(taken)
        finally:
            client.taken = sorted(taken)

    return fetch


ALL = list(enumerate(CONTENT.values()))


def test_files_are_fetched_and_passed_on(fetch, tmp_path):
    client, rules = Client(CONTENT), Rules()
    assert fetch(client, rules=rules) == (100, ALL)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.part", "1.part", "2.part"]
    [group] = client.groups
    assert [(xet_hash, size) for xet_hash, size, _ in group] == [(each, len(CONTENT[each])) for each in CONTENT]
    assert all(path.startswith(f"{tmp_path}/") and not path.endswith(".part") for _, _, path in group)
    [(about, access, config, options)] = rules.made
    assert about == f"the download of 3 files from {ANYWHERE}"
    assert (access, options) == (ACCESS, {"upload": False})
    assert client.sessions == [config]
    assert config["data.max_concurrent_file_downloads"] == 64
    assert client.aborted == []


def test_a_download_begins_with_as_few_requests_as_an_earlier_one_ended_with(fetch):
    client, rules = Client(CONTENT), Rules()
    rules.concurrency = 3
    fetch(client, rules=rules)
    [(_, _, config, _)] = rules.made
    assert client.sessions == [at_most(config, 3)]


@pytest.fixture
def clock(monkeypatch):
    """A clock that begins to count on demand: each look at it takes a second."""

    class Clock:
        now, runs = 0, staticmethod(lambda: False)

        def monotonic(self):
            self.now += bool(self.runs())
            return self.now

    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    monkeypatch.setattr(progress, "CHECK_INTERVAL", 0.002)
    return clock


def test_a_file_that_is_still_verified_counts_as_progress(fetch, clock):
    client = Client({"aa" * 32: b"first"})

    def verified():
        clock.runs = lambda: True
        while clock.now < 10:
            time.sleep(0.002)

    access = CasAccess(TOKEN, stall_timeout=3)
    assert fetch(client, contents=client.contents, verified=verified, access=access)[0] == 100


def test_a_download_that_stands_still_is_cancelled_and_begins_no_other_file(fetch, clock, monkeypatch):
    monkeypatch.setattr(downloads, "FILES_AT_A_TIME", 1)
    client = Client(CONTENT)
    client.blocked = {"bb" * 32}
    clock.runs = lambda: client.done
    about = f"The download of 3 files from {ANYWHERE} was cancelled at 5 B of 18 B;"
    with pytest.raises(XetStalledError, match=re.escape(about)):
        fetch(client, access=CasAccess(TOKEN, stall_timeout=3))
    assert not client.late
    assert [number for number, _ in client.taken if number == 2] == []


def test_a_download_that_is_stopped_while_it_begins_starts_no_other_file(fetch, clock, tmp_path):
    client = Client(CONTENT)

    def starting():
        clock.runs = lambda: True
        assert client.release.wait(10)

    client.starting = starting
    with pytest.raises(XetStalledError):
        fetch(client, access=CasAccess(TOKEN, stall_timeout=3))
    assert [xet_hash for xet_hash, _, _ in client.groups[0]] == ["aa" * 32]
    assert not list(tmp_path.iterdir())


def test_a_damaged_file_is_fetched_once_more_after_all_others(fetch, caplog, monkeypatch):
    retries = []
    monkeypatch.setattr(tracing, "count_retry", lambda: retries.append(1))
    client = Client(CONTENT)
    assert fetch(client, damaged=[2, 1]) == (200, ALL)
    assert [[xet_hash[:2] for xet_hash, _, _ in group] for group in client.groups] == [["aa", "bb", "cc"], ["bb", "cc"]]
    assert sorted(caplog.messages) == [f"{number}.bin arrived damaged. Fetching it again." for number in (1, 2)]
    assert client.sessions[1]["data.max_concurrent_file_downloads"] == 64
    assert retries == [1]


@pytest.mark.parametrize(
    ("damaged", "text"),
    [
        ([1, 1], "1.bin arrived damaged. It was fetched twice."),
        ([1, 1, 2], "1.bin arrived damaged. It was fetched twice."),
        ([2, 2, 1, 1], "1.bin arrived damaged. It was fetched twice. 1 other file arrived damaged as well."),
        ([2, 2, 1, 1, 0, 0], "0.bin arrived damaged. It was fetched twice. 2 other files arrived damaged as well."),
    ],
)
def test_files_that_are_damaged_twice_are_an_error(fetch, damaged, text):
    client = Client(CONTENT)
    with pytest.raises(XetIntegrityError) as caught:
        fetch(client, damaged=damaged)
    assert str(caught.value) == text


def test_many_damaged_files_are_not_all_logged(fetch, caplog):
    many = {f"{number:064x}": b"%d" % number for number in range(12)}
    fetch(Client(many), damaged=range(12), contents=many)
    assert len(caplog.messages) == 10


def test_an_error_of_the_client_ends_the_download_and_leaves_nothing(fetch, tmp_path, monkeypatch):
    refused = XetNotFoundError("No such file in CAS.", status=404)
    asked = []

    def from_client(error, *, about, **options):
        asked.append((str(error), about, options["upload"]))
        return refused

    monkeypatch.setattr(cas_session.cas_errors, "from_client", from_client)
    client = Client({**CONTENT, "bb" * 32: RuntimeError("404")})
    client.blocked = {"aa" * 32}
    with pytest.raises(XetNotFoundError) as caught:
        fetch(client)
    assert caught.value is refused
    assert asked == [("404", f"the download of 1.bin (6 bytes) from {ANYWHERE}", False)]
    assert client.aborted[-1] == "session"
    assert "group" in client.aborted
    assert not client.late, "what other files wait for is aborted"
    assert not [path for path in tmp_path.iterdir() if path.suffix != ".part"]


def test_a_session_that_cannot_begin_is_an_error_about_the_whole_download(fetch, monkeypatch):
    def begin(access, new):
        raise RuntimeError("no session")

    client = Client(CONTENT)
    client.begin = begin
    asked = []

    def from_client(error, *, about, **options):
        asked.append((str(error), about, options["upload"]))
        return XetNotFoundError("No.", status=404)

    monkeypatch.setattr(cas_session.cas_errors, "from_client", from_client)
    with pytest.raises(XetNotFoundError):
        fetch(client)
    assert asked == [("no session", f"the download of 3 files from {ANYWHERE}", False)]


def test_a_download_that_crawls_continues_where_it_was(fetch, tmp_path, monkeypatch):
    monkeypatch.setattr(progress, "CHECK_INTERVAL", 0.01)
    contents = {"aa" * 32: b"first", "bb" * 32: b"second", "cc" * 32: b"third!!"}
    client, rules, streamed = Client(contents), Rules(restarts=1), []
    client.blocked = {"bb" * 32, "cc" * 32}
    monkeypatch.setattr(downloads, "settle", lambda session: streamed.append(("settle", session)))

    def streams(access, content, take, paths, begun, slowdown):
        streamed.append((access, content, paths, begun, slowdown))
        for at, (xet_hash, _) in enumerate(content):
            take(at, iter([contents[xet_hash][begun[at] :]]))
        return 5

    monkeypatch.setattr(downloads.streams, "fetch", streams)
    monkeypatch.setattr(downloads.crawl, "is_bound_by_bandwidth", lambda sizes: sorted(sizes) == [6, 7])
    real = client.abort

    def abort():
        with open(client.groups[0][1][2], "wb") as stream:  # noqa: PTH123 - as the client
            stream.write(b"sec")
        client.contents = dict.fromkeys(contents, RuntimeError("aborted"))
        real()

    client.abort = abort
    received, taken = fetch(client, rules=rules)
    assert (received, taken) == (7_000, ALL)
    assert rules.samples[-1] == (100, 5, 18)
    assert not client.late
    assert streamed == [
        ("settle", client),
        (ACCESS, [("bb" * 32, 6), ("cc" * 32, 7)], ["1.bin", "2.bin"], [3, 0], rules),
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.part", "1.part", "2.part"]
