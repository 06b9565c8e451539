"""The filesystem of a connection, and the search for its secrets in all that a test leaves behind."""

from __future__ import annotations

import io
import json
import logging
import traceback
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from support.object_stores import forget_filesystems
from support.private_network import Proxy
from support.secret_values import HEADER, PROXY_PASSWORD

if TYPE_CHECKING:
    from airflow_provider_xethub.fs.xethub import XetHubFileSystem
    from support.fork_server import ForkServer
    from xethub_local.control.faults import Fault
    from xethub_local.server import LocalHub


@pytest.fixture
def fs(connection: object) -> Iterator[XetHubFileSystem]:
    """The filesystem of ``xethub_default``, as Airflow opens it; no other test has used it."""
    from airflow.sdk.io import attach

    from airflow_provider_xethub.fs.xethub import XetHubFileSystem

    XetHubFileSystem.clear_instance_cache()
    forget_filesystems()
    yield attach("hf", "xethub_default").fs
    forget_filesystems()


@pytest.fixture
def kill_at(hub: LocalHub, fork_server: ForkServer) -> Callable[..., None]:
    """Runs code in a process of its own, and kills it once a fault has met a request of it."""

    def kill(fault: Fault, code: str, *arguments: str) -> None:
        hub.faults.add(fault)
        fork_server.start(code, *arguments).kill_when(lambda: hub.faults.acted(fault))
        hub.faults.remove(fault)

    return kill


@pytest.fixture
def seen(caplog, capfd):
    """Everything that came out: log records with their tracebacks, both streams, and what a test adds."""
    caplog.set_level(logging.DEBUG)
    extra = io.StringIO()

    class Seen:
        def add(self, *values):
            for value in values:
                print(value, repr(value), file=extra)
                if isinstance(value, BaseException):
                    traceback.print_exception(value, file=extra)
                    print(vars(value), value.args, file=extra)

        def run(self, run):
            self.add(run.error) if run.error else None
            self.add(run.message, run)
            print(json.dumps(run.xcoms), json.dumps(run.rendered), file=extra)
            return run

        def text(self):
            streams = capfd.readouterr()
            return "\n".join([extra.getvalue(), caplog.text, *map(str, caplog.records), streams.out, streams.err])

    return Seen()


@pytest.fixture
def secrets(hub, connection):
    """Returns all secrets so far; the connection has all that can be one."""
    earlier = set(hub.access.issued_xet_tokens())
    wrong = "hf_" + "w" * 34

    def collect():
        return {
            hub.token("write"),
            hub.token("read"),
            wrong,
            HEADER,
            PROXY_PASSWORD,
            *hub.access.issued_xet_tokens(),
        } - earlier

    with Proxy("anna", PROXY_PASSWORD) as proxy:
        headers = json.dumps({"X-Proxy-Key": HEADER})
        collect.extra = {"secret_headers": headers, "proxy": f"http://anna:{PROXY_PASSWORD}@{proxy.address}"}
        collect.wrong, collect.proxy = wrong, proxy
        connection(extra=json.dumps(collect.extra))
        yield collect
