"""How fast the local Hub is beside the store that is built into the transfer client, and how much memory it takes.

Everything in one run, so that the two meet the same machine: the real client (``hf_xet``, default settings) uploads and
downloads one large file and many small ones, in turn through ``xethub-local serve`` (a process of its own) and through
``local://<folder>``. Every transfer is a fresh process with a fresh cache; every repetition has fresh stores; every
downloaded byte is compared with its source. Exits with status 1 where a target is missed.

Run it with ``make bench-local``, or by hand with other sizes: see ``--help``.
"""

from __future__ import annotations

import argparse
import contextlib
import filecmp
import json
import os
import platform
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hf_xet

from benchmarks import chart
from xethub_local.local_store import LocalStore

MIB = 1024 * 1024
HUB, BUILT_IN = "local Hub", "local://"
TARGET_RATIO = 0.5
TARGET_SMALL_DOWNLOAD = 1.0
TARGET_MEMORY = 300  # MB
REPO = "bench/data"


@dataclass(frozen=True)
class Workload:
    """Files to move, and how many times as fast as the built-in store the Hub must be."""

    name: str
    folder: Path
    size: int
    targets: dict[str, float]


@dataclass
class Memory:
    """Of a server, over its life, in MB. ``resident`` counts mapped files too, ``anonymous`` does not."""

    resident: float = 0
    anonymous: float = 0


@dataclass
class Results:
    """Seconds by workload, direction and store; the server's peak memory by workload."""

    seconds: dict[tuple[str, str, str], list[float]] = field(default_factory=dict)
    memory: dict[str, Memory] = field(default_factory=dict)

    def median(self, workload: str, direction: str, store: str) -> float:
        return statistics.median(self.seconds[workload, direction, store])

    def ratio(self, workload: str, direction: str) -> float:
        """Speed of the Hub as a multiple of the built-in store's."""
        return self.median(workload, direction, BUILT_IN) / self.median(workload, direction, HUB)


class Server:
    """``xethub-local serve`` in a process of its own."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        port = _free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._hub_token = ""
        self.memory = Memory()
        command = [sys.executable, "-m", "xethub_local.cli", "serve", "--folder", str(folder)]
        command += ["--port", str(port), "--create-repo", f"dataset:{REPO}"]
        self._process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        _wait_until_listening(self._process, port)
        store = LocalStore(folder)
        self._hub_token = store.tokens["write"]
        store.close()
        self._watching = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()

    def operation(self, scope: str) -> dict[str, Any]:
        """Return the endpoint and Xet token that an operation of the client takes."""
        request = urllib.request.Request(
            f"{self.url}/api/datasets/{REPO}/xet-{scope}-token/main",
            headers={"Authorization": f"Bearer {self._hub_token}"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            token = json.load(answer)
        return {
            "endpoint": token["casUrl"],
            "token": token["accessToken"],
            "token_expiry_unix_secs": token["exp"],
        }

    def stop(self) -> None:
        self._watching.set()
        self._watcher.join()
        self._process.terminate()
        self._process.wait(30)

    def _watch(self) -> None:
        while not self._watching.wait(0.02):
            status = Path(f"/proc/{self._process.pid}/status")
            if not status.exists():
                return  # not Linux: no figures
            fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
            kilobytes = {name: int(fields[name].split()[0]) for name in ("VmHWM", "RssAnon") if name in fields}
            self.memory.resident = max(self.memory.resident, kilobytes.get("VmHWM", 0) * 1024 / 1e6)
            self.memory.anonymous = max(self.memory.anonymous, kilobytes.get("RssAnon", 0) * 1024 / 1e6)


def main() -> int:
    options = _options()
    results = Results()
    with tempfile.TemporaryDirectory(prefix="bench-local-", dir=options.folder) as name:
        workloads = make_workloads(Path(name) / "sources", options.size_mib, options.files)
        for repetition in range(options.repetitions):
            for workload in workloads:
                stores = [HUB, BUILT_IN] if repetition % 2 == 0 else [BUILT_IN, HUB]
                for store in stores:
                    print(f"{workload.name}, {store}, {repetition + 1} of {options.repetitions} …", file=sys.stderr)
                    measure(workload, store, Path(name) / "run", results)
    missed = report(workloads, results, options.repetitions)
    if options.chart:
        title = "Speed of the local Hub beside the store built into hf_xet"
        options.chart.write_text(chart.draw(bars(workloads, results), title), encoding="utf-8")
    return 1 if missed and not options.report_only else 0


def make_workloads(folder: Path, size_mib: int, files: int) -> list[Workload]:
    """Write the source files: random bytes, which no compression and no deduplication makes smaller."""
    large, small = folder / "large", folder / "small"
    large.mkdir(parents=True)
    small.mkdir()
    with (large / "0").open("wb") as file:
        for _ in range(size_mib):
            file.write(os.urandom(MIB))
    sizes = random.Random(1)
    total = 0
    for number in range(files):
        size = sizes.randint(1_000, 20_000)
        (small / f"{number:05}").write_bytes(os.urandom(size))
        total += size
    return [
        Workload(f"1 file of {size_mib:,} MiB", large, size_mib * MIB, {"upload": 0.5, "download": 0.5}),
        Workload(
            f"{files:,} files of 1-20 kB",
            small,
            total,
            {"upload": TARGET_RATIO, "download": TARGET_SMALL_DOWNLOAD},
        ),
    ]


def measure(workload: Workload, store: str, run: Path, results: Results) -> None:
    """Upload and download a workload through one store that nobody used before."""
    run.mkdir()
    try:
        with _opened(store, run, workload.name, results) as operation:
            uploaded = transfer(run, workload.folder, operation("write"), None)
            back = run / "back"
            back.mkdir()
            downloaded = transfer(run, back, operation("read"), uploaded["files"])
        names = [path.name for path in workload.folder.iterdir()]
        _, different, missing = filecmp.cmpfiles(workload.folder, back, names, shallow=False)
        if different or missing:
            raise SystemExit(f"{store}: {len(different) + len(missing)} files did not come back as they were.")
    finally:
        shutil.rmtree(run)
    for direction, done in (("upload", uploaded), ("download", downloaded)):
        results.seconds.setdefault((workload.name, direction, store), []).append(done["seconds"])


@contextlib.contextmanager
def _opened(store: str, run: Path, workload: str, results: Results) -> Iterator[Any]:
    folder = run / "store"
    if store == BUILT_IN:
        folder.mkdir()
        yield lambda _: {"endpoint": f"local://{folder}"}
        return
    server = Server(folder, environment(run / "server-cache"))
    try:
        yield server.operation
    finally:
        server.stop()
        peak = results.memory.setdefault(workload, Memory())
        peak.resident = max(peak.resident, server.memory.resident)
        peak.anonymous = max(peak.anonymous, server.memory.anonymous)


def transfer(run: Path, folder: Path, operation: dict[str, Any], files: list[Any] | None) -> Any:
    """Run the client once, with an empty cache, after everything written before has reached the disk."""
    os.sync()
    with tempfile.TemporaryDirectory(dir=run) as cache:
        done = subprocess.run(
            [sys.executable, str(Path(__file__).with_name("transfer.py"))],
            input=json.dumps({"folder": str(folder), "operation": operation, "files": files}),
            env=environment(Path(cache)),
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    return json.loads(done.stdout)


def environment(cache: Path) -> dict[str, str]:
    """Return this process's environment without settings of the client, and with its cache elsewhere."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "RUST_LOG"))}
    loopback = "127.0.0.1,localhost"
    return {**kept, "HF_XET_CACHE": str(cache), "HF_XET_LOG_DEST": os.devnull} | dict.fromkeys(
        ("NO_PROXY", "no_proxy"), loopback
    )


def report(workloads: list[Workload], results: Results, repetitions: int) -> list[str]:
    """Print the table, and return what missed its target."""
    missed = []
    print(f"hf_xet {_version()}, Python {platform.python_version()}, {platform.system()}, {os.cpu_count()} CPUs;")
    print(f"medians of {repetitions}, in seconds and MB/s; ratio: speed of the {HUB} / speed of {BUILT_IN}\n")
    row = "{:<24} {:<9} {:>16} {:>16} {:>7} {:>8}".format
    print(row("", "", HUB, BUILT_IN, "ratio", "target"))
    for workload in workloads:
        for direction, target in workload.targets.items():
            cells = []
            for store in (HUB, BUILT_IN):
                seconds = results.median(workload.name, direction, store)
                cells.append(f"{seconds:6.2f} s {workload.size / seconds / 1e6:6.0f}")
            ratio = results.ratio(workload.name, direction)
            print(row(workload.name, direction, *cells, f"{ratio:.2f}", f">= {target:.1f}"))
            if ratio < target:
                missed.append(f"{workload.name}, {direction}: ratio {ratio:.2f}, target {target:.1f}")
    print()
    for workload in workloads:
        memory = results.memory[workload.name]
        print(
            f"{workload.name}: the server's memory peaked at {memory.resident:.0f} MB (VmHWM), "
            f"{memory.anonymous:.0f} MB of it anonymous; target < {TARGET_MEMORY} MB"
        )
        if memory.resident >= TARGET_MEMORY:
            missed.append(f"{workload.name}: {memory.resident:.0f} MB of memory, target < {TARGET_MEMORY} MB")
    print("\n" + ("\n".join(f"MISSED {line}" for line in missed) or "All targets are met."))
    return missed


def bars(workloads: list[Workload], results: Results) -> list[chart.Group]:
    """Return the table's speeds for the chart."""
    return [
        chart.Group(
            f"{workload.name}, {direction}",
            {store: workload.size / results.median(workload.name, direction, store) / 1e6 for store in (HUB, BUILT_IN)},
        )
        for workload in workloads
        for direction in workload.targets
    ]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size-mib", type=int, default=1024, help="size of the large file (1024)")
    parser.add_argument("--files", type=int, default=5000, help="number of small files (5000)")
    parser.add_argument("--repetitions", type=int, default=3, help="how often to measure everything (3)")
    parser.add_argument("--report-only", action="store_true", help="exit with status 0 whatever was measured")
    parser.add_argument("--chart", type=Path, metavar="FILE", help="also draw the speeds as an SVG")
    parser.add_argument("--folder", type=Path, help="where to keep the data meanwhile; by default the system's")
    return parser.parse_args()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _wait_until_listening(process: subprocess.Popen[bytes], port: int) -> None:
    while True:
        if process.poll() is not None:
            raise SystemExit("The server ended before it listened.")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)


def _version() -> str:
    from importlib.metadata import version

    return version(hf_xet.__name__.replace("_", "-"))


if __name__ == "__main__":
    sys.exit(main())
