"""SIGTERM at any moment of each thing that a task waits for: gone at once, nothing left, and the retry succeeds."""

from __future__ import annotations

import json
import os
import random
import signal
import statistics
import time

import pytest

from airflow_provider_xethub.operators.xethub import XetUploadOperator
from support.builders import TEXT, names, publish, sealed, write
from support.examples import at_length
from support.forked_tasks import Forks
from support.object_stores import S3, s3_server
from xethub_local.control.faults import Fault

pytestmark = [pytest.mark.long, pytest.mark.exhaustive, pytest.mark.timeout(600)]

TIMES = at_length(10, 20)
MOST_SECONDS = 1.0
"""From the signal until the process is gone, for the middle one of all."""

BUSY_SECONDS = 3.0
"""The same for the slowest of them, on a machine that has other things to do."""

DATA = os.urandom(3 << 20)
RETRY = "Retry-After"


@pytest.fixture(scope="module")
def s3():
    with s3_server() as server:
        yield server


@pytest.fixture
def bucket(s3: S3, monkeypatch):
    s3.connect(monkeypatch)
    name = f"b{os.urandom(6).hex()}"
    s3.client.create_bucket(Bucket=name)
    return name


@pytest.fixture
def temporary(tmp_path):
    folder = tmp_path / "temporary"
    folder.mkdir()
    return folder


@pytest.fixture
def forks(connection, bucket, temporary):
    forks = Forks({"TMPDIR": str(temporary)})
    yield forks
    forks.close()


@pytest.fixture
def where(repo):
    return {"repo_id": repo.repo_id, "repo_type": "dataset"}


@pytest.fixture
def records(hub, where, repo, tmp_path):
    return publish(repo, tmp_path / "before", {"d/a.bin": DATA, "d/b.bin": os.urandom(5000), "d/c.csv": TEXT})


class Trials:
    """Stops one task again and again, each time at another moment while one of ``faults`` holds it up."""

    def __init__(self, forks, hub, temporary, name):
        self.forks, self.hub, self.temporary, self.name = forks, hub, temporary, name
        self.seconds: list[float] = []
        self.random = random.Random(name)

    def stop(self, operator, arguments, fault, sent=signal.SIGTERM, timeout=None):
        """One trial; returns how the task ended."""
        armed = self.hub.faults.add(fault)
        self.forks.start(operator, arguments, timeout)
        deadline = time.monotonic() + 120
        while not self.hub.faults.acted(armed):
            assert time.monotonic() < deadline, (fault.route, self.hub.log.requests(), self.forks.end())
            time.sleep(0.005)
        time.sleep(self.random.uniform(0, 0.3))
        at = self.forks.kill(sent)
        ended = self.forks.end()
        self.seconds.append(ended["gone"] - at)
        self.hub.faults.clear()
        if sent == signal.SIGTERM:
            assert (ended["state"], ended["error"]) == ("up_for_retry", "XetCancelledError"), ended
            assert names(self.temporary) == []
        return ended

    def retry(self, operator, arguments):
        self.forks.start(operator, arguments)
        ended = self.forks.end()
        assert ended["state"] == "success", ended

    def report(self):
        ordered = sorted(self.seconds)
        median, slowest = statistics.median(ordered), ordered[-1]
        print(f"{self.name}: {len(ordered)} stopped, median {median:.3f} s, slowest {slowest:.3f} s")
        assert median < MOST_SECONDS
        assert slowest < BUSY_SECONDS


@pytest.fixture
def trials(forks, hub, temporary, request):
    return Trials(forks, hub, temporary, request.node.name)


def slow(*routes):
    return [Fault(route, delay=60) for route in routes]


XORBS = slow("POST /cas/.*/v1/xorb-grants/.*", "PUT /cas/.*/uploads/.*", "POST /cas/.*/xorb-commits/.*")
WRITES = [*XORBS, *slow("POST /cas/.*/v2/shards", "GET /cas/.*/v1/chunks/.*")]
READS = slow("GET /cas/.*/v2/reconstructions/.*", "GET /cas/.*/data/.*")


def test_a_token(trials, where):
    faults = [*slow("GET .*-token/.*"), Fault("GET .*-token/.*", status=429, headers={RETRY: "40"})]
    for number in range(TIMES):
        trials.stop("XetTokenOperator", {"scope": "write", **where}, faults[number % 2])
        trials.retry("XetTokenOperator", {"scope": "write", **where})
    trials.report()


@pytest.mark.parametrize("kind", ["local", "stored"])
def test_an_upload(trials, where, tmp_path, hub, s3, bucket, kind):
    faults = [*WRITES, *slow("GET .*-write-token/.*")]
    for number in range(TIMES):
        content = {"a.bin": os.urandom(3 << 20), f"{number}.bin": os.urandom(70_000), f"{number}.csv": TEXT}
        if kind == "local":
            source = str(write(tmp_path / f"in{number}", content))
        else:
            s3.put(bucket, {f"{number}/{name}": each for name, each in content.items()})
            source = f"s3://aws@{bucket}/{number}/"
        arguments = {"source": source, **where}
        trials.stop("XetUploadOperator", arguments, faults[number % len(faults)])
        trials.retry("XetUploadOperator", arguments)
    trials.report()


@pytest.mark.parametrize("kind", ["local", "stored"])
def test_a_download(trials, where, tmp_path, records, s3, bucket, kind):
    faults = [*READS, *slow("GET .*-read-token/.*", "GET .*/resolve/.*")]
    for number in range(TIMES):
        out = tmp_path / "out" / str(number)
        destination = str(out) if kind == "local" else f"s3://aws@{bucket}/{number}/"
        arguments = {"destination": destination, "files": records}
        trials.stop("XetDownloadOperator", arguments, faults[number % len(faults)])
        left = names(out) if kind == "local" else [each.partition("/")[2] for each in s3.content(bucket)]
        assert s3.unfinished(bucket) == []
        assert set(left) <= {"d/c.csv"}  # what is complete stays there
        if kind == "local" and left:
            assert (out / "d/c.csv").read_bytes() == TEXT
        trials.retry("XetDownloadOperator", arguments)
        if kind == "local":
            assert (out / "d/a.bin").read_bytes() == DATA
        else:
            found = s3.content(bucket)
            assert found.pop(f"{number}/d/a.bin") == DATA
            s3.client.delete_objects(
                Bucket=bucket, Delete={"Objects": [{"Key": each} for each in [*found, f"{number}/d/a.bin"]]}
            )
    trials.report()


def test_a_commit(trials, run_task, where, tmp_path):
    faults = slow("POST .*/preupload/.*", "POST .*/commit/.*", "GET .*-read-token/.*", READS[0].route, READS[1].route)
    for number in range(TIMES):
        source = write(
            tmp_path / f"in{number}", {f"{number}.bin": os.urandom(5000), f"{number}.csv": TEXT * (number + 300)}
        )
        files = run_task(XetUploadOperator, source=str(source), commit=False, **where).value
        trials.stop("XetCommitOperator", {"files": files}, faults[number % len(faults)])
        trials.retry("XetCommitOperator", {"files": files})
    trials.report()


def test_a_listing(trials, where, records):
    for _ in range(TIMES // 4):
        trials.stop("XetListOperator", where, slow("GET .*/tree/.*")[0])
        trials.retry("XetListOperator", where)
    trials.report()


def test_a_given_token_that_serves_a_worker_without_a_connection(trials, repo, tmp_path):
    token = sealed(repo, "write")
    arguments = {"source": str(tmp_path / "in/a.bin"), "commit": False, "token": token, "xethub_conn_id": None}
    for number in range(TIMES // 4):
        write(tmp_path / "in", {"a.bin": os.urandom(len(DATA))})  # new each time: what CAS has is not sent
        trials.stop("XetUploadOperator", arguments, WRITES[number % 2])
    trials.retry("XetUploadOperator", arguments)
    trials.report()


def test_a_moment_that_nothing_was_waited_for(trials, hub, where, records, tmp_path, s3, bucket):
    """Any moment from the beginning of ``execute`` to its end; where it was faster, it has succeeded."""
    hub.faults.add(Fault(".*", delay=0.02))
    chance = trials.random
    stopped = 0
    trials.forks.start("XetUploadOperator", {"source": str(write(tmp_path / "first", {"a.bin": DATA})), **where})
    began = time.monotonic()
    longest = trials.forks.end()["gone"] - began
    for number in range(3 * TIMES):
        out = tmp_path / "out" / str(number)
        source = write(tmp_path / f"in{number}", {"a.bin": os.urandom(5 << 20), f"{number}.csv": TEXT})
        operator, arguments = chance.choice(
            [
                ("XetDownloadOperator", {"destination": str(out), "files": records}),
                ("XetDownloadOperator", {"destination": f"file://{out}/", "files": records}),
                ("XetDownloadOperator", {"destination": f"s3://aws@{bucket}/{number}/", "files": records}),
                ("XetUploadOperator", {"source": str(source), **where}),
                ("XetUploadOperator", {"source": f"file://{source}", **where}),
            ]
        )
        trials.forks.start(operator, arguments)
        time.sleep(chance.uniform(0, 1.5 * longest))
        try:
            at = trials.forks.kill()
        except ProcessLookupError:  # it was faster
            at = time.monotonic()
        ended = trials.forks.end()
        assert names(trials.temporary) == []
        assert [each for each in names(out) if each not in ("d/a.bin", "d/b.bin", "d/c.csv")] == []
        if (out / "d/a.bin").exists():
            assert (out / "d/a.bin").read_bytes() == DATA
        assert s3.unfinished(bucket) == []
        assert all(each in (DATA, TEXT) or len(each) == 5000 for each in s3.content(bucket).values())
        if ended.get("state") != "success":
            stopped += 1
            trials.seconds.append(ended["gone"] - at)
            trials.retry(operator, arguments)
    assert stopped > TIMES
    trials.report()


def test_an_execution_timeout_at_any_moment(trials, hub, where, records, tmp_path):
    hub.faults.add(Fault("GET /cas/.*", delay=60))
    for number in range(TIMES // 2):
        limit = trials.random.uniform(0.5, 2.0)
        out = tmp_path / "out" / str(number)
        trials.forks.start("XetDownloadOperator", {"destination": str(out), "files": records}, limit)
        began = time.monotonic()
        ended = trials.forks.end()
        assert (ended["state"], ended["error"]) == ("up_for_retry", "AirflowTaskTimeout"), ended
        trials.seconds.append(max(0.0, ended["gone"] - began - limit))
        assert names(trials.temporary) == []
        assert set(names(out)) <= {"d/c.csv"}  # what is complete stays there
        assert all((out / name).read_bytes() == TEXT for name in names(out))
    trials.report()


def test_a_download_that_was_killed_leaves_nothing_once_its_retry_is_through(trials, where, records, tmp_path):
    for number in range(TIMES // 4):
        out = tmp_path / "out" / str(number)
        arguments = {"destination": str(out), "files": records}
        trials.stop("XetDownloadOperator", arguments, READS[1], signal.SIGKILL)
        trials.retry("XetDownloadOperator", arguments)
        assert names(out) == ["d/a.bin", "d/b.bin", "d/c.csv"], json.dumps(names(out))
