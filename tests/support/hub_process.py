"""The local Hub in a process of its own, which a test may kill and start again on the same folder and port."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any


@dataclass
class Served:
    """A request as the server saw it: what of it had happened when the server ended. ``status`` 0: no answer yet."""

    route: str
    received: int = 0
    status: int = 0
    is_complete: bool = False


class HubProcess:
    """A local Hub as a child process. It ends with this one: it watches its standard input.

    It notes each step of each request in a file at once, so that one can see what a killed server was doing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = ""
        self.tokens: dict[str, str] = {}
        self.process: subprocess.Popen[str] | None = None
        self.notes = folder.parent / f"{folder.name}.requests"
        self.errors = (folder.parent / f"{folder.name}.errors").open("a+")

    def start(self) -> HubProcess:
        """Start it, and return when it listens; a second time on the port of the first."""
        port = self.url.rpartition(":")[2] or "0"
        self.process = subprocess.Popen(
            [sys.executable, __file__, str(self.folder), port, str(self.notes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
        )
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line, f"The local Hub did not start: {self.error_text()[-2000:]}"
        said = json.loads(line)
        self.url, self.tokens = said["url"], said["tokens"]
        return self

    @property
    def pid(self) -> int:
        assert self.process
        return self.process.pid

    def kill(self) -> None:
        """Kill it, as a crash would."""
        assert self.process
        self.process.send_signal(signal.SIGKILL)
        self._wait()

    def stop(self) -> None:
        """Let it end in good order."""
        assert self.process
        assert self.process.stdin
        self.process.stdin.close()
        self._wait()

    def error_text(self) -> str:
        """Everything it ever wrote to standard error."""
        self.errors.seek(0)
        return self.errors.read()

    def served(self) -> list[Served]:
        """The requests since it was started, in order."""
        found: dict[str, Served] = {}
        for line in self.notes.read_text().splitlines():
            number, what, value = line.split(" ", 2)
            if what == "begins":
                found[number] = Served(value)
            elif what == "received":
                found[number].received = int(value)
            elif what == "answers":
                found[number].status = int(value)
            else:
                found[number].is_complete = True
        return [*found.values()]

    def memory(self, what: str = "VmRSS") -> int:
        """Memory in bytes that it holds now, or held at most: ``VmHWM``. Linux only."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{what}:"))

    def _wait(self) -> None:
        assert self.process
        self.process.wait(30)
        for stream in (self.process.stdin, self.process.stdout):
            if stream:
                stream.close()

    def __enter__(self) -> HubProcess:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process and self.process.poll() is None:
            self.stop()
        self.errors.close()


class Noting:
    """Writes down what happens to each request, one line for each step, without a buffer."""

    def __init__(self, app: Any, path: str) -> None:
        self._app = app
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
        self._numbers = itertools.count()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        number, received = next(self._numbers), 0

        def note(what: str, value: object) -> None:
            os.write(self._file, f"{number} {what} {value}\n".encode())

        async def noting_receive() -> Any:
            nonlocal received
            message = await receive()
            if message.get("body"):
                received += len(message["body"])
                note("received", received)
            return message

        async def noting_send(message: Any) -> None:
            if message["type"] == "http.response.start":
                note("answers", message["status"])
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body"):
                note("ends", 0)

        note("begins", f"{scope['method']} {scope['raw_path'].decode('latin-1')}")
        await self._app(scope, noting_receive, noting_send)


def main() -> None:
    from xethub_local.server import LocalHub

    folder, port, notes = sys.argv[1:]
    hub = LocalHub(folder, int(port))
    hub._app = Noting(hub._app, notes)
    with hub:
        print(json.dumps({"url": hub.url, "tokens": {role: hub.token(role) for role in ("read", "write")}}), flush=True)
        sys.stdin.read()  # until the parent closes it, or is no more


if __name__ == "__main__":
    main()
