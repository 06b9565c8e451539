"""The client at times ends a stream as if it were complete where CAS gave an error: the error is told every time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_provider_xethub import exceptions
from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.xet.cas import downloads as cas_downloads
from airflow_provider_xethub.xet.cas import ranges as cas_ranges
from airflow_provider_xethub.xet.cas import session as cas_session
from airflow_provider_xethub.xet.cas import streams as cas_streams
from support.builders import binary, publish
from xethub_local.control.faults import Fault

READS = "GET /cas/.*/v./reconstructions/.*"
DATA = "GET /cas/.*/data/.*"

TIMES = 60
"""Of a hundred streams that fail, 7 (401) to 21 (404) end without an error, 8 (data) with one that tells nothing."""


@pytest.fixture
def file(connection, repo, tmp_path, monkeypatch):
    monkeypatch.setattr(cas_session, "RETRIES", 0)
    [file] = publish(repo, tmp_path / "before", {"a.bin": binary(3000, repo)})
    return file


@pytest.fixture
def access(file, repo):
    """What a worker without a connection has: a token, and nowhere to get another one."""
    return cas_session.CasAccess(XetHubConnection().get_token(repo, "read"))


def stream(access, file, folder):
    def receive(number, pieces):
        if (size := sum(map(len, pieces))) != file["size"]:
            raise exceptions.XetIntegrityError(f"ended early, after {size} bytes")

    cas_streams.fetch(access, [(file["xet_hash"], file["size"])], receive)


def read(access, file, folder):
    cas_ranges.Ranges(lambda refused: access).read("a.bin", file["xet_hash"], file["size"], 0, file["size"])


def keep(access, file, folder):
    wanted = cas_downloads.Wanted("a.bin", file["xet_hash"], file["size"], folder / "a.bin")
    cas_downloads.fetch(access, [wanted], lambda number, pieces: all(pieces))


@pytest.fixture(params=[stream, read, keep])
def told(request, file, tmp_path):
    """All kinds of errors that come of doing it often."""

    def told(access):
        kinds = set()
        for _ in range(TIMES):
            with pytest.raises(exceptions.XetHubError) as raised:
                request.param(access, file, tmp_path)
            kinds.add(raised.type)
        return kinds

    return told


@pytest.mark.parametrize(
    ("route", "status", "kind"),
    [
        (READS, 401, exceptions.XetUnauthorizedError),
        (READS, 403, exceptions.XetForbiddenError),
        (READS, 404, exceptions.XetNotFoundError),
        (READS, 500, exceptions.XetServerError),
        (DATA, 404, exceptions.XetNotFoundError),
        (DATA, 500, exceptions.XetServerError),
    ],
)
def test_what_cas_answers_is_told_every_time(hub, access, told, route, status, kind):
    hub.faults.add(Fault(route, status=status))
    assert told(access) == {kind}


@pytest.mark.parametrize("do", [stream, read])
@pytest.mark.parametrize(("status", "kind"), [(403, exceptions.XetForbiddenError), (404, exceptions.XetNotFoundError)])
def test_what_cas_answers_is_told_even_where_the_client_never_does(
    hub, access, file, tmp_path, monkeypatch, do, status, kind
):
    """As on a busy machine, where each of its tries may end in the same way."""
    monkeypatch.setattr(cas_streams, "pieces", lambda *_: iter(()))
    with pytest.raises(exceptions.XetIntegrityError, match="ended early"):
        do(access, file, tmp_path)
    hub.faults.add(Fault(READS, status=status))
    with pytest.raises(kind, match=f"CAS answered {status} for hf://"):
        do(access, file, tmp_path)


def test_that_the_token_expired_is_told_every_time(access, told):
    assert told(replace(access, token=replace(access.token, skew=10_000))) == {exceptions.XetTokenExpiredError}
