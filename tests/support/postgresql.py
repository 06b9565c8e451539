"""A PostgreSQL server for one test: on loopback, with its data in a temporary folder, never as root."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

PATIENCE = 60.0
USER = "airflow"


def programs() -> Path | None:
    """Return the folder with ``initdb`` and ``postgres``; Debian does not put it into the path."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if found:
        return found[-1].parent
    on_path = shutil.which("postgres")
    return Path(on_path).resolve().parent if on_path else None


@contextmanager
def server() -> Iterator[str]:
    """Run a server with an empty database, and give what an SQLAlchemy URL has after its driver."""
    folder = programs()
    assert folder is not None, "PostgreSQL is missing: apt-get install postgresql"
    # It refuses to run as root; the Debian package brings this user.
    user: dict[str, Any] = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.getuid() == 0 else {}
    with TemporaryDirectory(prefix="xethub-postgresql-") as home:
        if user:
            shutil.chown(home, "postgres", "postgres")
        data, password, port = Path(home, "data"), secrets.token_hex(16), _free_port()
        (word := Path(home, "password")).write_text(password)
        word.chmod(0o644)
        made: list[str | Path] = ["--pgdata", data, "--username", USER, "--pwfile", word, "--no-sync"]
        made += ["--auth", "scram-sha-256"]
        subprocess.run([folder / "initdb", *made], check=True, stdout=subprocess.DEVNULL, cwd=home, **user)
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": port,
            "unix_socket_directories": "",
            "fsync": "off",
            "full_page_writes": "off",
            "synchronous_commit": "off",
            "max_connections": 200,
        }
        with Path(home, "log").open("wb") as log:
            process = subprocess.Popen(
                [folder / "postgres", "-D", data, *(f"--{name}={value}" for name, value in settings.items())],
                stdout=log,
                stderr=log,
                cwd=home,
                **user,
            )
        try:
            where = f"{USER}:{password}@127.0.0.1:{port}"
            _create_database(where, process, Path(home, "log"))
            yield f"{where}/tests"
        finally:
            process.terminate()  # SIGTERM waits for open connections to end
            try:
                process.wait(2)
            except subprocess.TimeoutExpired:
                process.send_signal(2)  # SIGINT ends them
                process.wait(PATIENCE)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def _create_database(where: str, process: subprocess.Popen[bytes], log: Path) -> None:
    import psycopg2

    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            connection = psycopg2.connect(f"postgresql://{where}/postgres")
            break
        except psycopg2.OperationalError:
            assert process.poll() is None, log.read_text(errors="replace")
            assert time.monotonic() < deadline, log.read_text(errors="replace")
            time.sleep(0.05)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("CREATE DATABASE tests TEMPLATE template0 ENCODING 'UTF8'")
    connection.close()
