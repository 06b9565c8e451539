"""An S3 server that is not the limit of what is measured: the Versity S3 Gateway, a Go program over a local folder.

Moto, Python's, needs more CPU for each byte than any of the clients. This one needs 0.6 CPU seconds for a GiB. Its
version and the digests of all that it is built from are in ``versitygw/go.mod`` and ``versitygw/go.sum``.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

_MODULE = Path(__file__).with_name("versitygw")
_PACKAGE = "github.com/versity/versitygw/cmd/versitygw"
_START_SECONDS = 60


def program() -> Path:
    """Return the path of the server, which is built when it is first needed: two minutes of CPU.

    :raises SystemExit: there is no Go to build it with, or it does not build.
    """
    folder = _MODULE / "bin"
    folder.mkdir(exist_ok=True)
    with (_MODULE / ".install.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several runs may start at once
        built, of = folder / "versitygw", folder / "go.sum"
        wanted = (_MODULE / "go.mod").read_bytes() + (_MODULE / "go.sum").read_bytes()
        if built.exists() and of.exists() and of.read_bytes() == wanted:
            return built
        go = shutil.which("go")
        if not go:
            raise SystemExit("The S3 server of the benchmark is built with Go 1.25 or newer. Install Go.")
        command = [go, "build", "-mod=readonly", "-trimpath", "-ldflags=-s -w", "-o", str(built), _PACKAGE]
        done = subprocess.run(command, cwd=_MODULE, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"The S3 server of the benchmark does not build:\n{done.stderr[-4000:]}")
        of.write_bytes(wanted)
        return built


@contextmanager
def fast_s3(folder: Path, bucket: str, key: str, secret: str, environment: Mapping[str, str]) -> Iterator[str]:
    """Start the server, with one empty bucket, and return its URL.

    :param folder: an empty folder for the objects, in a filesystem with extended attributes.
    :param bucket: its name; at least three characters.
    :param key, secret: the credentials that it takes.
    """
    (folder / bucket).mkdir(parents=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [str(program()), "--port", f"127.0.0.1:{port}", "--quiet", "--keep-alive", "posix", str(folder)]
    login = {"ROOT_ACCESS_KEY_ID": key, "ROOT_SECRET_ACCESS_KEY": secret}
    process = subprocess.Popen(
        command, env={**os.environ, **environment, **login}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit("The S3 server of the benchmark did not start.") from None
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()
