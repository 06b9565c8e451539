"""The test of the leak test: each kind of credential, in each form, in each place, is planted and found."""

from __future__ import annotations

import base64
import gzip
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
import pytest
from cryptography.fernet import Fernet

from demo import services
from leaks import places, stage
from leaks.__main__ import ALLOWED, left_behind
from leaks.forms import FORMS, spellings
from leaks.play import operators_in
from leaks.report import Allowed, Report
from leaks.search import Finding, Piece, Search
from leaks.watch import IN_MEMORY, Watch
from leaks.world import HEADER, PROXY_PASSWORD, WEBHOOK_SECRET, fernet_key, marks, recognisable
from support.waiting import until
from xethub_local.local_store import LocalStore
from xethub_local.store.issuer import DEFAULT_SUBJECT

KINDS = (
    "Hub token",
    "Xet token",
    "ID token",
    "exchanged token",
    "secret header",
    "proxy password",
    "Airflow's Fernet key",
    "provider's Fernet key",
    "webhook secret",
    "signature of a data URL",
    "private key of a recipient",
)


@pytest.fixture(scope="module")
def credentials(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """One credential of each kind, as the local Hub and the others issue them."""
    with recognisable():
        store = LocalStore(tmp_path_factory.mktemp("hub"))
        store.repositories.create("datasets/a/b", private=True, author="local")
        identity = store.access.identify(f"Bearer {store.tokens['write']}")
        publisher = store.publishers.add(_resource(), {"sub": "worker"})
        yield {
            "Hub token": store.tokens["write"],
            "Xet token": store.access.issue_xet_token(identity, "write", "datasets/a/b", "main")[0],
            "ID token": store.issuer.identity("http://hub", store.access.now(), sub=DEFAULT_SUBJECT),
            "exchanged token": store.access.exchanged_tokens.issue(
                publisher, issuer="http://hub", subject="worker", lifetime=60
            )[0],
            "secret header": HEADER,
            "proxy password": PROXY_PASSWORD,
            "Airflow's Fernet key": fernet_key(),
            "provider's Fernet key": fernet_key(),
            "webhook secret": WEBHOOK_SECRET,
            "signature of a data URL": store.access.sign_data_url("/data?x=1").rpartition("=")[2],
            "private key of a recipient": base64.urlsafe_b64encode(os.urandom(32)).decode().rstrip("="),
        }
        store.close()


def _resource() -> Any:
    from xethub_local.store.publishers import Resource

    return Resource.parse("datasets/a/b")


@pytest.fixture(scope="module")
def search(credentials: Mapping[str, str]) -> Search:
    assert tuple(credentials) == KINDS
    return Search(marks({kind: [each] for kind, each in credentials.items()}))


def written(form: str, credential: str) -> bytes:
    """Write a credential down in a form, with something before and after it."""
    text = f"Bearer {credential}\n"
    if form == "URL-encoded":
        return f"http://a.example/?q={quote(text, safe='')}&b=1".encode()
    if form.startswith("base64"):
        return base64.b64encode(b"x" * int(form[-1]) + credential.encode() + b"tail")
    if form == "reversed":
        return text[::-1].encode()
    if form == "JSON-escaped":
        return json.dumps({"extra": json.dumps({"headers": json.dumps({"X": credential})})}).encode()
    return text.encode()


def planted(credentials: Mapping[str, str]) -> bytes:
    """Return a text with every credential in every form."""
    return b"\n".join(written(form, each) for each in credentials.values() for form in FORMS)


def found(findings: list[Finding]) -> set[tuple[str, str]]:
    return {(each.kind, each.form) for each in findings}


def expected(credentials: Mapping[str, str]) -> set[tuple[str, str]]:
    """Return all pairs of kinds and forms; a form that does not change a credential is the plain one."""
    pairs = {(kind, form) for kind, each in credentials.items() for form, _ in spellings(each)}
    assert len(pairs) > len(KINDS) * 5
    return pairs


def family(form: str) -> str:
    return form.partition(" at ")[0]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_found_in_each_form(search: Search, credentials: Mapping[str, str], kind: str, form: str) -> None:
    credential = credentials[kind]
    findings = list(search.find(Piece("somewhere", "a file", b"\0\xff" + written(form, credential))))
    assert {each.kind for each in findings} == {kind}
    changes = form in {name for name, _ in spellings(credential)}
    # What is searched for may begin anywhere in the credential, at another offset of base64.
    assert (family(form) if changes else "plain") in {family(each.form) for each in findings}
    # What is printed of it does not show it, nor half of it.
    assert all(credential[: len(credential) // 2] not in str(each) for each in findings)


def test_either_alphabet_of_base64_is_searched() -> None:
    credential = "\u00ff\u00fe>>>???" * 3
    search = Search({"odd": [credential]})
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for offset in range(3):
            content = encode(b"x" * offset + credential.encode() + b"yz")
            assert {each.form for each in search.find(Piece("a", "b", content))} == {f"base64 at offset {offset}"}


def test_a_half_of_a_token_is_found(search: Search, credentials: Mapping[str, str]) -> None:
    token = credentials["Hub token"]
    for half in (token[:-10], token[10:]):
        assert {each.kind for each in search.find(Piece("a", "b", half.encode()))} == {"Hub token"}


@pytest.mark.parametrize("compress", [gzip.compress, zlib.compress])
def test_what_is_compressed_is_found(search: Search, credentials: Mapping[str, str], compress) -> None:  # type: ignore[no-untyped-def]
    findings = list(search.find(Piece("a", "b", compress(planted(credentials)))))
    assert found(findings) >= expected(credentials)


def test_usual_text_is_no_finding(search: Search) -> None:
    text = Path(__file__).read_bytes() + os.urandom(100_000) + base64.b64encode(os.urandom(100_000))
    assert not list(search.find(Piece("a", "b", text)))


def test_a_short_mark_is_refused() -> None:
    with pytest.raises(ValueError, match="has 3 characters; 12 are needed"):
        Search({"secret header": ["abc"]})


def test_a_kind_that_was_not_used_is_refused() -> None:
    with pytest.raises(ValueError, match="used no Xet token"):
        marks({"Xet token": []})


TABLES = ("xcom", "connection", "log", "trigger", "import_error", "rendered_task_instance_fields", "task_state_store",
          "asset_state_store", "asset_event", "serialized_dag", "anything_else")  # fmt: skip


def left(folder: Path, content: bytes) -> Path:
    """Write this content into everything that Airflow leaves on disk."""
    for name in (
        "airflow/logs/dag_id=a/attempt=1.log",
        "logs/standalone.log",
        "logs/hf_xet/xet.log",
        "openlineage.jsonl",
        "temporary/a/b",
        "home/xet/c",
        "manifests/d.gz",
        "downloads/e",
        "airflow/airflow.cfg",
    ):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    with closing(sqlite3.connect(folder / "airflow" / "airflow.db")) as connection:
        for table in TABLES:
            connection.execute(f"CREATE TABLE {table} (id INTEGER, value TEXT)")
            connection.execute(f"INSERT INTO {table} VALUES (1, ?)", (content.decode("latin-1"),))
        connection.execute("CREATE TABLE dag_code (id INTEGER, value BLOB)")
        connection.execute("INSERT INTO dag_code VALUES (1, ?)", (zlib.compress(content),))
        connection.commit()
    return folder


def test_each_kind_in_each_form_is_found_in_each_place_on_disk(
    tmp_path: Path, search: Search, credentials: Mapping[str, str]
) -> None:
    report = Report(search, places.PLACES, ())
    report.add(left_behind(left(tmp_path, planted(credentials))))
    by_place = {place: found([each for each in report.leaks if each.place == place]) for place in places.PLACES}
    elsewhere = {place for place in places.PLACES if place.startswith("API")}
    elsewhere |= {"webhooks", "metrics", "environments", "command lines", "identity files", places.REQUEST_IDS}
    assert {place for place, pairs in by_place.items() if not pairs} == elsewhere
    # On its pages, SQLite interrupts a long value.
    whole = {place: pairs for place, pairs in by_place.items() if pairs and place != places.PAGES}
    assert all(pairs >= expected(credentials) for pairs in whole.values()), whole
    assert {kind for kind, _ in by_place[places.PAGES]} == set(KINDS)


def test_a_deleted_row_is_found_on_the_pages(tmp_path: Path, search: Search, credentials: Mapping[str, str]) -> None:
    database = tmp_path / "airflow.db"
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA secure_delete = OFF")  # some builds of SQLite overwrite what is deleted
        connection.execute("CREATE TABLE xcom (value TEXT)")
        connection.execute("INSERT INTO xcom VALUES (?)", (credentials["Xet token"],))
        connection.commit()
        connection.execute("DELETE FROM xcom")
        connection.commit()
    report = Report(search, places.PLACES, ())
    report.add([*places.rows(database), *places.pages(database)])
    assert {each.place for each in report.leaks} == {places.PAGES}


def test_what_is_there_only_for_a_while_is_found(
    tmp_path: Path, search: Search, credentials: Mapping[str, str]
) -> None:
    """In the environment and the command line of a process, in its files with and without a name, in a trigger."""
    (temporary := tmp_path / "temporary").mkdir()
    database = tmp_path / "airflow.db"
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TABLE trigger (id INTEGER, encrypted_kwargs TEXT)")
        connection.execute("INSERT INTO trigger VALUES (1, ?)", (credentials["Xet token"],))
        connection.commit()
    code = (
        "import sys, tempfile; file = tempfile.TemporaryFile(dir=sys.argv[1]); file.write(sys.argv[2].encode());"
        "file.flush(); open(f'{sys.argv[1]}/named', 'w').write('named ' + sys.argv[2]);"
        "print('ready', flush=True); input()"
    )
    command = [sys.executable, "-c", code, str(temporary), credentials["Hub token"]]
    environment = {**os.environ, "SECRET": credentials["proxy password"]}
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        with Watch(process.pid, [temporary], database) as watch:
            until(lambda: watch.rounds > 1)
        process.communicate("\n")
    (temporary / "named").unlink()
    report = Report(search, places.PLACES, ())
    report.add(watch.pieces())
    assert {(each.place, each.kind) for each in report.leaks} >= {
        ("environments", "proxy password"),
        ("command lines", "Hub token"),
        ("temporary files", "Hub token"),
        ("triggers", "Xet token"),
    }
    names = {each.name for each in report.leaks if each.place == "temporary files"}
    assert any(name.startswith(f"{temporary / 'named'}, mode 0") for name in names)
    assert any(name.endswith(f"(deleted) of process {process.pid}, mode 0600") for name in names)


LOG_OF_HF_XET = """\
{"level":"INFO","fields":{"message":"Received CAS response","request_id":"a \\"TOKEN\\" b","status_code":401}}
{"level":"ERROR","fields":{"message":"Fatal Error: \\"s3::get_range\\" api call failed (request id TOKEN): HTTP 401"}}
"""


@pytest.mark.parametrize("elsewhere", ["", '{"fields":{"message":"Authorization: TOKEN"}}', "(request id TOKEN)\n): "])
def test_what_a_server_repeats_in_the_log_of_the_client_is_a_place_of_its_own(
    tmp_path: Path, search: Search, credentials: Mapping[str, str], elsewhere: str
) -> None:
    text = (LOG_OF_HF_XET + elsewhere).replace("TOKEN", credentials["Xet token"])
    (tmp_path / "xet.log").write_text(text)
    report = Report(search, places.PLACES, ALLOWED)
    report.add(places.client_logs(tmp_path))
    assert {each.place for each in report.leaks} == ({"client logs"} if elsewhere else set())
    assert {each.place for each in report.tolerated} == {places.REQUEST_IDS}


def test_a_token_may_be_in_memory_for_its_user_only(search: Search, credentials: Mapping[str, str]) -> None:
    token, key = (credentials[kind].encode() for kind in ("Xet token", "private key of a recipient"))
    names = {
        f"{folder}/{name}, mode {mode}": content
        for folder in ("/dev/shm/xethub-1", "/run/examples/handed", "/tmp")
        for name, content in (("token.json", token), ("key.json", key))
        for mode in ("0600", "0644")
    }
    report = Report(search, places.PLACES, ALLOWED)
    report.add(Piece("temporary files", name, content) for name, content in names.items())
    allowed = {
        "/dev/shm/xethub-1/token.json, mode 0600",
        "/run/examples/handed/token.json, mode 0600",
        "/run/examples/handed/key.json, mode 0600",
    }
    assert {each.name for each in report.leaks} == set(names) - allowed


def test_a_token_that_is_still_there_at_the_end_is_a_leak(
    tmp_path: Path, search: Search, credentials: Mapping[str, str]
) -> None:
    work = left(tmp_path, b"") / "examples" / "handed"
    work.mkdir(parents=True)
    (work / "token.json").write_text(credentials["Xet token"])
    (work / "token.json").chmod(0o600)
    with tempfile.NamedTemporaryFile(dir=IN_MEMORY) as handed_over:
        handed_over.write(credentials["Xet token"].encode())
        handed_over.flush()
        report = Report(search, places.PLACES, ALLOWED)
        report.add(left_behind(tmp_path))
    assert {each.name for each in report.leaks} == {str(work / "token.json"), handed_over.name}


def test_decorators_are_seen_among_the_tasks_that_ran(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "airflow.db")) as connection:
        connection.execute("CREATE TABLE task_instance (operator TEXT, custom_operator_name TEXT, start_date TEXT)")
        rows = [
            ("XetDecoratedOperator", "@task.xethub", "2026"),
            ("XetListOperator", "XetListOperator", "2026"),
            ("XetCopyOperator", "XetCopyOperator", None),
        ]
        connection.executemany("INSERT INTO task_instance VALUES (?, ?, ?)", rows)
        connection.commit()
    assert operators_in(tmp_path / "airflow.db") == {"XetDecoratedOperator", "@task.xethub", "XetListOperator"}


def test_what_the_arguments_of_a_trigger_contain_is_found(search: Search, credentials: Mapping[str, str]) -> None:
    key = credentials["Airflow's Fernet key"]
    encrypted = Fernet(key).encrypt(json.dumps({"token": credentials["Xet token"]}).encode())
    row = Piece("triggers", "trigger 1", b"1\n" + encrypted + b"\nqueue")
    assert not list(search.find(row))
    [piece] = places.opened([row, Piece("triggers", "trigger 2", Fernet(fernet_key()).encrypt(b"other"))], key)
    assert {each.kind for each in search.find(piece)} == {"Xet token"}


def test_a_metric_is_received() -> None:
    with stage.MetricsSink() as sink, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.sendto(b"airflow.xethub:1|c", ("127.0.0.1", sink.port))
        until(lambda: sink.received)
    assert sink.received == [b"airflow.xethub:1|c"]


def report_of(search: Search, *pieces: Piece, allowed: tuple[Allowed, ...] = ()) -> Report:
    report = Report(search, ("task logs", "configuration"), allowed)
    report.add(pieces)
    return report


def test_a_place_without_content_is_a_problem(search: Search) -> None:
    report = report_of(search, Piece("task logs", "a.log", b"Uploaded 1 file."), Piece("configuration", "b", b""))
    assert report.all_problems() == ["Nothing to search in configuration: the test is blind there."]


def test_what_is_allowed_in_one_place_is_a_leak_in_another(search: Search, credentials: Mapping[str, str]) -> None:
    key = credentials["Airflow's Fernet key"].encode()
    other = credentials["Hub token"].encode()
    report = report_of(
        search,
        Piece("configuration", "airflow.cfg", key),
        Piece("configuration", "airflow.cfg", b"hub = " + other),
        Piece("configuration", "copy.txt", key),
        Piece("task logs", "a.log", key),
        allowed=ALLOWED,
    )
    leaks = {(each.kind, each.place, each.name) for each in report.leaks}
    assert leaks == {
        ("Hub token", "configuration", "airflow.cfg"),
        ("Airflow's Fernet key", "configuration", "copy.txt"),
        ("Airflow's Fernet key", "task logs", "a.log"),
    }
    assert "ok Airflow's Fernet key in configuration: Airflow reads it from airflow.cfg." in report.table()
    assert any(problem.startswith("LEAK: Hub token, plain, in configuration") for problem in report.all_problems())


def test_a_place_where_nothing_planted_was_found_is_a_problem(search: Search) -> None:
    planted = Search({"planted": ["planted-0123456789"]})
    report = Report(search, ("task logs", "configuration"), (), dict.fromkeys(("task logs", "configuration"), planted))
    report.add([Piece("task logs", "a.log", b"planted-0123456789"[::-1]), Piece("configuration", "airflow.cfg", b"x")])
    assert report.all_problems() == ["What was planted in configuration was not found: the test is blind there."]
    assert [line.split()[-12] for line in report.table().splitlines()[1:4]] == ["found", "MISSED", "1/2"]


FAKE_AIRFLOW = """
import os, subprocess, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Healthy(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"scheduler": {"status": "%s"}}' % os.environ["STATUS"].encode())

task = subprocess.Popen(["sleep", "1000"], preexec_fn=os.setpgrp)
with open(os.environ["TASK"] + ".part", "w") as file:
    file.write(str(task.pid))
os.rename(file.name, os.environ["TASK"])
HTTPServer(("127.0.0.1", int(os.environ["AIRFLOW__API__PORT"])), Healthy).serve_forever()
"""


@pytest.fixture
def fake_airflow(tmp_path: Path) -> Path:
    """Return a folder with a command ``airflow``, which starts a task and serves its own state."""
    (command := tmp_path / "bin" / "airflow").parent.mkdir()
    command.write_text(f"#!{sys.executable}\n{FAKE_AIRFLOW}")
    command.chmod(0o755)
    return command.parent


def has_ended(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_a_task_that_still_runs_is_ended_with_airflow(
    tmp_path: Path, fake_airflow: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tasks are in process groups of their own, so that ending Airflow's is not enough."""
    monkeypatch.setattr(services, "BIN", fake_airflow)
    setting = stage.Stage(tmp_path / "run")
    setting.env = {**services.environment(setting.folder), "TASK": str(tmp_path / "task"), "STATUS": "healthy"}
    with stage.airflow(setting):
        task = psutil.Process(int((tmp_path / "task").read_text()))
    until(lambda: has_ended(task), patience=10)  # the kernel ends it a moment after SIGKILL was sent


INTERRUPTED = """
import sys
from pathlib import Path
from demo import services
from leaks.__main__ import main

services.BIN = Path(sys.argv.pop(1))
sys.exit(main())
"""


def test_ctrl_c_leaves_nothing_behind(tmp_path: Path, fake_airflow: Path) -> None:
    """Also if whoever waits presses it once more."""
    (folder := tmp_path / "tmp").mkdir()
    env = {**os.environ, "TMPDIR": str(folder), "TASK": str(tmp_path / "task"), "STATUS": "starting"}
    env["PYTHONPATH"] = str(services.ROOT / "tests")
    command = [sys.executable, "-c", INTERRUPTED, str(fake_airflow), "--quick"]
    with subprocess.Popen(command, env=env, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        until(lambda: (tmp_path / "task").exists() or process.poll() is not None)
        task = psutil.Process(int((tmp_path / "task").read_text()))
        for _ in range(2):
            process.send_signal(signal.SIGINT)
            time.sleep(0.2)  # signals of a kind that arrive together count as one
        output, errors = process.communicate()
    assert (process.returncode, errors) == (1, "Stopped.\n"), output
    until(lambda: has_ended(task), patience=10)  # the kernel ends it a moment after SIGKILL was sent
    assert not list(folder.iterdir())


def test_the_table_counts_what_was_searched(search: Search) -> None:
    report = report_of(search, Piece("task logs", "a.log", b"x" * 2_000_000), Piece("task logs", "b.log", b"y"))
    lines = report.table().splitlines()
    assert lines[1].split()[:4] == ["task", "logs", "2", "2.0"]
    assert set(lines[1].split()[5:]) == {"."}
