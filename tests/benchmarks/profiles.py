"""The links of the benchmark: how far away the Hub is, how much the link carries, and what it loses.

The distance and the losses are faults of the local Hub. The capacity is that of the loopback interface, limited with
``tbf`` in a network namespace that the whole benchmark runs in: it needs root, or user namespaces, and ``tc``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

_INSIDE = "XETHUB_BENCHMARK_NAMESPACE"


@dataclass(frozen=True)
class Profile:
    """One link.

    :param delay: seconds by which each answer of the Hub is late.
    :param rate: what the link carries, as ``tc`` writes it.
    :param burst: bytes that it carries at once; at least what it carries in a tick of the kernel, 4 ms.
    :param lost: of so many requests to CAS, one loses its connection.
    :param crowded: what the link carries in bytes per second until too many requests for content are open for seconds
        together; then it collapses, see :mod:`xethub_local.control.link`.
    """

    name: str
    delay: float = 0.0
    rate: str | None = None
    burst: int = 0
    lost: int | None = None
    crowded: int | None = None


NEAR, FAR = Profile("+0 ms"), Profile("+50 ms", delay=0.05)
FAST, SLOW = Profile("10 Gbit/s", rate="10gbit", burst=8 << 20), Profile("100 Mbit/s", rate="100mbit", burst=256 << 10)
LOSSY = Profile("losses", lost=20)
CROWDED = Profile("a crowded link", crowded=24_000_000)
PROFILES = {each.name: each for each in (NEAR, FAR, FAST, SLOW, LOSSY, CROWDED)}


def enter_namespace() -> str | None:
    """Run this process again in a network namespace of its own; return why that is not possible, or ``None`` inside."""
    if os.environ.get(_INSIDE):
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        return None
    for command in (["unshare", "--net"], ["unshare", "--net", "--map-root-user"]):
        try:
            test = "ip link set lo up && tc qdisc add dev lo root tbf rate 1gbit burst 1mb latency 50ms"
            subprocess.run([*command, "sh", "-c", test], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            continue
        os.environ[_INSIDE] = "1"
        os.execvp(command[0], [*command, sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - no shell is wanted
    return "no network namespace with tbf: it needs root or user namespaces, and the programs unshare, ip and tc"


@contextmanager
def shaped(profile: Profile) -> Iterator[None]:
    """Limit the loopback interface of this namespace for as long as the block lasts."""
    if profile.rate is None:
        yield
        return
    limit = ["tbf", "rate", profile.rate, "burst", str(profile.burst), "latency", "50ms"]
    subprocess.run(["tc", "qdisc", "replace", "dev", "lo", "root", *limit], check=True)
    try:
        yield
    finally:
        subprocess.run(["tc", "qdisc", "delete", "dev", "lo", "root"], check=True)
