"""The console script, as real processes."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import shlex
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
import requests

from support.serving import COMMAND, serving
from xethub_local.cli.main import main


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_prints_how_to_connect_serves_and_stops_on_a_signal(tmp_path: Path, number: signal.Signals) -> None:
    create = ("--create-repo", "dataset:acme/corpus", "--create-repo", "bucket:acme/raw", "--token-life", "77")
    with serving(tmp_path, *create) as (process, printed):
        found = re.search(r"export AIRFLOW_CONN_XETHUB_DEFAULT=(.*)", printed)
        assert found is not None
        connection = json.loads(shlex.split(found[1])[0])
        url, token = connection["host"], connection["password"]
        assert connection["conn_type"] == "xethub"
        assert (
            f"airflow connections add xethub_default --conn-type xethub --conn-host {url} --conn-password {token}"
            in printed
        )
        assert str(tmp_path) in printed
        assert "development server" in printed
        session = requests.Session()
        session.headers["Authorization"] = f"Bearer {token}"
        assert session.get(f"{url}/api/whoami-v2", timeout=20).json()["auth"]["accessToken"]["role"] == "write"
        answer = session.get(f"{url}/api/datasets/acme/corpus/xet-write-token/main", timeout=20)
        assert 70 < answer.json()["exp"] - time.time() <= 78
        assert session.get(f"{url}/api/buckets/acme/raw", timeout=20).json()["totalFiles"] == 0
        began = time.perf_counter()
        process.send_signal(number)
        out, errors = process.communicate(timeout=20)
        assert time.perf_counter() - began < 2
        assert (process.returncode, out, errors) == (0, "Stopped.\n", "")


def test_a_folder_is_served_again_with_the_same_tokens(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(tmp_path, "--create-repo", "model:acme/m") as (_, printed):
        assert main(["create-repo", "dataset:acme/later", "--private", "--folder", str(tmp_path)]) == 0
    with serving(tmp_path, "--create-repo", "model:acme/m") as (_, again):
        assert re.findall("hf_[A-Za-z0-9]+", printed) == re.findall("hf_[A-Za-z0-9]+", again)
    capsys.readouterr()
    assert main(["ls", "--folder", str(tmp_path)]) == 0
    listed = capsys.readouterr().out
    assert [line.split("\t")[:2] for line in listed.splitlines()] == [
        ["dataset:acme/later", "private"],
        ["model:acme/m", "public"],
    ]
    assert main(["tokens", "--folder", str(tmp_path)]) == 0
    assert set(re.findall("hf_[A-Za-z0-9]+", capsys.readouterr().out)) == set(re.findall("hf_[A-Za-z0-9]+", printed))


def test_a_port_in_use_is_one_readable_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            [*COMMAND, "serve", "--port", str(port), "--folder", str(tmp_path)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"xethub-local: port {port} on 127.0.0.1 is in use. "
        "Stop the process that listens there, or choose another port with --port.\n"
    )


def test_a_server_tells_the_folder_where_it_is_while_it_runs(tmp_path: Path) -> None:
    with serving(tmp_path) as (process, printed):
        url = (tmp_path / "server.url").read_text().strip()
        assert f"Local Hub (development server): {url}\n" in printed
        assert requests.get(url, timeout=20).status_code == 200
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
    assert not (tmp_path / "server.url").exists()


def test_the_url_of_a_later_server_is_left_alone(tmp_path: Path) -> None:
    with serving(tmp_path) as (process, _), serving(tmp_path) as (_, later):
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
        assert (tmp_path / "server.url").read_text().strip() in later


def test_the_url_is_one_that_this_machine_reaches(tmp_path: Path) -> None:
    options = ("--public-url", "http://hub.example:1", "--host", "0.0.0.0", "--allow-remote")  # noqa: S104
    with serving(tmp_path, *options) as (_, printed):
        assert "Local Hub (development server): http://hub.example:1\n" in printed
        url = (tmp_path / "server.url").read_text().strip()
        assert url.startswith("http://127.0.0.1:")
        assert requests.get(url, timeout=20).status_code == 200


def test_a_missing_extra_is_named(tmp_path: Path) -> None:
    hidden = "import sys; sys.modules['blake3'] = None; from xethub_local.cli.main import main; "
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"{hidden}sys.exit(main(['create-repo', 'model:acme/m', '--folder', {str(tmp_path)!r}]))",
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "install xethub-local again" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_reader_who_leaves_is_no_error(tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert main(["create-repo", f"model:acme/{name}", "--folder", str(tmp_path)]) == 0
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [*COMMAND, "ls", "--folder", str(tmp_path)],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


def test_an_interrupt_is_one_line_and_status_130(tmp_path: Path) -> None:
    assert main(["create-repo", "bucket:acme/raw", "--folder", str(tmp_path)]) == 0
    with subprocess.Popen(
        [*COMMAND, "put", "-", "bucket:acme/raw:x", "--folder", str(tmp_path)],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Whoever runs the tests in the background of a shell has them ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        process.stdin.write("x" * (3 << 20))
        # It has written some of that, and waits for more.
        while not any(copy.stat().st_size for copy in tmp_path.glob(".stdin.*")):
            time.sleep(0.02)
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
        assert (process.returncode, errors) == (130, "xethub-local: interrupted.\n")
    assert not list(tmp_path.glob(".stdin.*"))


def on_a_terminal(arguments: list[str], **environment: str) -> str:
    """Run a command whose standard output is a terminal of 80 columns, and return what it shows."""
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS")}
    with subprocess.Popen(
        [*COMMAND, *arguments], stdout=child, stderr=child, stdin=child, env={**kept, "TERM": "xterm", **environment}
    ) as process:
        os.close(child)
        shown = b""
        while True:
            try:
                piece = os.read(parent, 65536)
            except OSError:  # how a terminal says that nobody has it open any more
                break
            if not piece:
                break
            shown += piece
    os.close(parent)
    assert process.returncode == 0, shown
    return shown.decode()


def test_a_terminal_shows_headings_and_readable_sizes(tmp_path: Path) -> None:
    for name in ("a", "n" * 90):
        assert main(["create-repo", f"dataset:acme/{name}", "--folder", str(tmp_path)]) == 0
    shown = on_a_terminal(["ls", "--folder", str(tmp_path)])
    assert "Repository" in shown
    assert "kB" in shown
    assert "\x1b[" in shown
    plain = on_a_terminal(["ls", "--folder", str(tmp_path)], NO_COLOR="1")
    assert "\x1b[3" not in plain
    assert all(len(re.sub(r"\x1b\[[0-9;]*m", "", line)) <= 80 for line in plain.splitlines())


def test_lines_to_be_copied_are_not_wrapped_on_a_terminal(tmp_path: Path) -> None:
    shown = on_a_terminal(["create-repo", f"dataset:acme/{'n' * 90}", "--folder", str(tmp_path)])
    assert shown == f"Created hf://datasets/acme/{'n' * 90}@main\r\n"
