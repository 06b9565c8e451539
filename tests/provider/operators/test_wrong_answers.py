"""Hub and CAS misbehave: what the task says, whether Airflow retries it, and that nothing damaged is left."""

from __future__ import annotations

import os

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_xethub import exceptions
from airflow_provider_xethub.operators.xethub import (
    XetCommitOperator,
    XetDownloadOperator,
    XetListOperator,
    XetTokenOperator,
    XetUploadOperator,
)
from airflow_provider_xethub.sensors.xethub import XetFileSensor
from airflow_provider_xethub.xet.cas import session as cas_session
from airflow_provider_xethub.xet.hub import client as hub_module
from support.builders import binary, commits, names, publish, sealed, write
from xethub_local.control.faults import Fault

UNREADABLE = exceptions.XetAirflowConnectionError

UPLOADS = "POST /cas/.*/v1/xorbs/.*"
GRANTS = "POST /cas/.*/v1/xorb-grants/.*"
SHARDS = "POST /cas/.*/v2/shards"
READS = "GET /cas/.*/v./reconstructions/.*"
DATA = "GET /cas/.*/data/.*"
HTML = {"status": 200, "headers": {"Content-Type": "text/html"}, "body": "<html>Please log in</html>"}


@pytest.fixture(autouse=True)
def _quick(monkeypatch, hub):
    monkeypatch.setattr(cas_session, "RETRIES", 0)
    monkeypatch.setattr(hub_module, "MAX_TRIES", 1)
    # Without grants: to hf-xet any 200 there, such as a login page, says that the xorb is stored already.
    hub.faults.add(Fault(GRANTS, status=404))


@pytest.fixture
def where(connection, repo):
    return {"repo_id": repo.repo_id, "repo_type": "dataset"}


@pytest.fixture
def source(tmp_path):
    """Content that CAS has not yet, so that it really is sent."""
    return str(write(tmp_path / "in", {"a.bin": os.urandom(5000), "b.bin": os.urandom(9000)}))


@pytest.fixture
def record(hub, where, repo, tmp_path):
    [file] = publish(repo, tmp_path / "before", {"d/a.bin": binary()})
    hub.log.clear()
    return file


@pytest.fixture
def out(tmp_path):
    """A destination that holds an older file; afterwards nothing temporary is left in it."""
    folder = write(tmp_path / "out", {"d/a.bin": b"older"})
    yield folder
    assert not [name for name in names(folder) if name.endswith(".xetpart")]


def ended(run, kind, *parts, retried):
    assert isinstance(run.error, kind), repr(run.error)
    assert run.state == ("up_for_retry" if retried else "failed")
    assert isinstance(run.error, AirflowFailException) is not retried
    for part in parts:
        assert part in run.text
    return run


def nothing_happened(hub, repo, out):
    assert commits(hub, repo) <= 2
    assert (out / "d/a.bin").read_bytes() == b"older"
    assert names(out) == ["d/a.bin"]


# --- the Hub ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        (XetTokenOperator, {}),
        (XetListOperator, {}),
        (XetFileSensor, {"path": "a"}),
        (XetUploadOperator, {"source": __file__}),
        (XetDownloadOperator, {"path": "d/a.bin"}),
        (XetCommitOperator, {"delete": "d/a.bin"}),
    ],
)
def test_a_hub_that_is_down_or_no_hub_is_told_apart(hub, where, repo, record, run_task, out, kind, arguments):
    if kind is XetDownloadOperator:
        arguments = {**arguments, "destination": str(out)}
    hub.stop()
    try:
        run = run_task(kind, **where, **arguments)
        ended(
            run,
            exceptions.XetConnectionError,
            f"The Hub at {hub.url} could not be reached (connection refused). Check",
            retried=True,
        )
        assert "connection refused" in run.text
    finally:
        hub.start()
    hub.faults.add(Fault(".* /api/.*", **HTML))
    run = run_task(kind, **where, **arguments)
    ended(run, exceptions.XetProtocolError, "with an HTML page. Check that the host", retried=False)
    assert "log in" not in run.text
    hub.faults.clear()
    for status, error in ((503, exceptions.XetServerError), (429, exceptions.XetRateLimitError)):
        if kind is XetFileSensor and status == 429:
            continue  # it waits longer then
        hub.faults.add(Fault(".* /api/.*", status=status))
        ended(run_task(kind, **where, **arguments), error, str(status), retried=True)
        hub.faults.clear()
    nothing_happened(hub, repo, out)


def test_a_hub_that_recovers_is_not_even_noticed(hub, where, run_task, monkeypatch):
    monkeypatch.setattr(hub_module, "MAX_TRIES", 3)
    hub.faults.add(Fault("GET .*-token/.*", times=1, status=503))
    hub.faults.add(Fault("GET .*-token/.*", times=1, status=429, headers={"Retry-After": "0"}))
    assert run_task(XetTokenOperator, **where).value["sealed"]
    assert len(hub.log.requests("GET .*-token/.*")) == 3


def test_a_token_answer_that_breaks_the_protocol_is_refused(hub, where, source, repo, run_task):
    hub.faults.add(Fault("GET .*-token/.*", status=200, body='{"accessToken": "secret-value", "exp": 1}'))
    run = run_task(XetUploadOperator, source=source, commit=False, **where)
    ended(run, exceptions.XetTokenFormatError, "lacks the field", retried=False)
    assert "secret-value" not in run.text
    assert not hub.log.requests(".* /cas/.*")


# --- CAS --------------------------------------------------------------------------------------------------------------

STATUSES = [
    (401, exceptions.XetUnauthorizedError, False, "it rejected the Xet token. Fetch a new one"),
    (403, exceptions.XetForbiddenError, False, "the Xet token lacks permission"),
    (404, exceptions.XetNotFoundError, False, "it has no such file. Upload it"),
    (409, exceptions.XetServerError, True, "it is busy. Let the task retry later"),
    (429, exceptions.XetRateLimitError, True, "too many requests. Let the task retry later"),
    (503, exceptions.XetServerError, True, "it has a problem. Let the task retry later"),
]


@pytest.mark.parametrize("commit", [True, False])
@pytest.mark.parametrize(("status", "kind", "retried", "text"), STATUSES)
def test_what_cas_answers_to_an_upload_is_said(hub, where, repo, source, run_task, status, kind, retried, text, commit):
    fault = hub.faults.add(Fault(UPLOADS, status=status))
    run = run_task(XetUploadOperator, source=source, commit=commit, **where)
    ended(run, kind, text, "the upload of 2 files to", repo.uri, f"{hub.url}/cas/", retried=retried)
    assert hub.faults.acted(fault) == (2 if status == 401 else 1)
    assert len(hub.log.requests("GET .*/xet-write-token/main")) == (2 if status == 401 else 1)
    assert commits(hub, repo) == 1
    hub.faults.clear()
    assert run_task(XetUploadOperator, source=source, commit=commit, **where).value


@pytest.mark.parametrize(("status", "kind", "retried", "text"), [each for each in STATUSES if each[0] != 404])
def test_what_cas_answers_to_a_grant_is_said(hub, where, repo, source, run_task, status, kind, retried, text):
    # 404 says that grants are not offered there, and the client posts instead.
    hub.faults.clear()
    fault = hub.faults.add(Fault(GRANTS, status=status))
    run = run_task(XetUploadOperator, source=source, **where)
    ended(run, kind, text, "the upload of 2 files to", repo.uri, f"{hub.url}/cas/", retried=retried)
    assert hub.faults.acted(fault)
    assert commits(hub, repo) == 1
    hub.faults.clear()
    assert run_task(XetUploadOperator, source=source, **where).value


@pytest.mark.parametrize("route", [READS, DATA])
@pytest.mark.parametrize(("status", "kind", "retried", "text"), STATUSES)
def test_what_cas_answers_to_a_download_is_said(hub, repo, record, run_task, out, status, kind, retried, text, route):
    fault = hub.faults.add(Fault(route, status=status))
    run = run_task(XetDownloadOperator, destination=str(out), files=[record])
    if (route, status) == (DATA, 403):
        # No token goes to a signed URL, so it has expired.
        ended(run, exceptions.XetTransferError, "a signed URL, which may have expired", repo.uri, retried=True)
    else:
        ended(run, kind, text, "the download of d/a.bin (5000 bytes) from", repo.uri, retried=retried)
    assert hub.faults.acted(fault)
    assert "sig=" not in run.text
    nothing_happened(hub, repo, out)
    hub.faults.clear()
    assert run_task(XetDownloadOperator, destination=str(out), files=[record]).value
    assert (out / "d/a.bin").read_bytes() == binary()


def test_a_token_that_cas_refuses_once_is_replaced_and_the_upload_succeeds(hub, where, source, repo, run_task):
    hub.faults.add(Fault(UPLOADS, times=1, status=401))
    result = run_task(XetUploadOperator, source=source, **where).value
    assert result["created"]
    assert len(hub.log.requests("GET .*/xet-write-token/main")) == 2


def test_a_token_that_cas_refuses_once_is_replaced_and_the_download_succeeds(hub, record, run_task, out):
    hub.faults.add(Fault(READS, times=1, status=401))
    assert run_task(XetDownloadOperator, destination=str(out), files=[record]).value
    assert (out / "d/a.bin").read_bytes() == binary()
    assert len(hub.log.requests("GET .*/xet-read-token/main")) == 2


def test_a_token_that_cas_refuses_cannot_be_replaced_without_a_connection(
    hub, repo, where, source, record, run_task, out, disconnect
):
    token = sealed(repo, "write")
    disconnect()
    hub.log.clear()
    for route in (UPLOADS, READS):
        hub.faults.add(Fault(route, status=401))
    for conn_id, kind in ((None, exceptions.XetUnauthorizedError), ("xethub_default", UNREADABLE)):
        given = {"token": token, "xethub_conn_id": conn_id}
        run = run_task(XetUploadOperator, source=source, commit=False, **given)
        ended(run, kind, "answered 401", retried=kind is UNREADABLE)
        run = run_task(XetDownloadOperator, destination=str(out), files=[record], **given)
        ended(run, kind, "answered 401", retried=kind is UNREADABLE)
    assert not hub.log.requests(".* /api/.*")
    nothing_happened(hub, repo, out)


def test_a_cas_that_is_down_can_be_tried_again(hub, repo, source, record, run_task, out, disconnect):
    token = sealed(repo, "write")
    disconnect()
    hub.stop()
    try:
        run = run_task(XetUploadOperator, source=source, commit=False, token=token)
        ended(run, exceptions.XetConnectionError, "could not be reached (", retried=True)
        run = run_task(XetDownloadOperator, destination=str(out), files=[record], token=token)
        ended(run, exceptions.XetConnectionError, "could not be reached (", retried=True)
    finally:
        hub.start()
    nothing_happened(hub, repo, out)


@pytest.mark.parametrize("route", [UPLOADS, SHARDS, READS, DATA])
@pytest.mark.parametrize("fault", [{"drop": "before"}, {"drop": "middle"}, HTML])
def test_an_answer_that_breaks_off_or_is_none_of_cas_can_be_tried_again(
    hub, where, repo, source, record, run_task, out, route, fault
):
    hub.faults.add(Fault(route, **fault))
    if route in (UPLOADS, SHARDS):
        run = run_task(XetUploadOperator, source=source, **where)
    else:
        run = run_task(XetDownloadOperator, destination=str(out), files=[record])
    kinds = (exceptions.XetConnectionError, exceptions.XetIntegrityError)
    ended(run, kinds[1] if (route, fault) == (DATA, HTML) else kinds[0], repo.uri, retried=True)
    assert "log in" not in run.text
    nothing_happened(hub, repo, out)


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        ({"corrupt": True}, "d/a.bin of hf://"),
        ({"corrupt": True}, "arrived damaged. Let the task retry; what arrived was discarded: sha256 is"),
        ({"truncate": 100}, "arrived damaged or ended early. Let the task retry: unexpected end of file"),
        ({"truncate": 0}, "expected 5000 uncompressed bytes, got 0"),
        ({"status": 206, "body": b"\xff" * 6000}, "arrived damaged or ended early"),
        ({"status": 206, "body": bytes(6000)}, "arrived damaged or ended early"),
    ],
)
def test_bytes_that_are_not_the_file_never_get_its_name(hub, repo, record, run_task, out, fault, text):
    armed = hub.faults.add(Fault(DATA, **fault))
    run = run_task(XetDownloadOperator, destination=str(out), files=[record])
    assert hub.faults.acted(armed)
    ended(run, exceptions.XetIntegrityError, text, repo.uri, retried=True)
    nothing_happened(hub, repo, out)


def test_a_record_with_the_wrong_size_or_digest_never_gets_its_name(repo, record, run_task, out):
    for change in ({"size": 100}, {"size": 6000}, {"sha256": "0" * 64}):
        run = run_task(XetDownloadOperator, destination=str(out), files=[{**record, **change}])
        assert isinstance(run.error, exceptions.XetHubError), change
        assert names(out) == ["d/a.bin"]
        assert (out / "d/a.bin").read_bytes() == b"older"


def test_good_files_are_kept_when_another_arrives_damaged(hub, where, repo, run_task, tmp_path):
    files = publish(repo, tmp_path / "before", {"a.bin": binary(9000, 1), "b.bin": binary(9000, 2)})
    out = tmp_path / "out"
    files[1] = {**files[1], "sha256": "0" * 64}
    run = run_task(XetDownloadOperator, destination=str(out), files=files)
    ended(run, exceptions.XetIntegrityError, "b.bin of hf://", "Let the task retry", retried=True)
    assert names(out) == ["a.bin"]


def test_a_commit_that_cannot_read_inline_files_back_commits_nothing(hub, where, repo, run_task, tmp_path):
    source = write(tmp_path / "in", {"a.csv": b"x,y\n" * 500, "b.bin": binary()})
    files = run_task(XetUploadOperator, source=str(source), commit=False, **where).value
    hub.faults.add(Fault(DATA, corrupt=True))
    run = run_task(XetCommitOperator, files=files)
    assert isinstance(run.error, exceptions.XetHubError)
    assert commits(hub, repo) == 1
    hub.faults.clear()
    assert run_task(XetCommitOperator, files=files).value["created"]


# --- a token that expires meanwhile -----------------------------------------------------------------------------------


def test_a_stale_token_is_replaced_where_there_is_a_connection(hub, repo, source, record, run_task, out):
    hub.access.token_life = 20  # the client wants the next token 30 s before the expiry
    token = sealed(repo, "write")
    hub.log.clear()
    assert len(run_task(XetUploadOperator, source=source, commit=False, token=token).value) == 2
    assert run_task(XetDownloadOperator, destination=str(out), files=[record], token=token).value
    assert hub.log.requests("GET .*/xet-write-token/main")


def test_a_stale_token_is_refused_before_the_transfer_where_there_is_no_connection(
    hub, repo, source, record, run_task, out, disconnect
):
    hub.access.token_life = 20
    token = sealed(repo, "write")
    disconnect()
    hub.log.clear()
    upload = run_task(XetUploadOperator, source=source, commit=False, token=token)
    download = run_task(XetDownloadOperator, destination=str(out), files=[record], token=token)
    for run in (upload, download):
        ended(run, UNREADABLE, "expires within 30 s. Fetch it closer to its use", retried=True)
        assert "it reports the same while a secrets backend or its API server is unavailable" in run.text
    run = run_task(XetUploadOperator, source=source, commit=False, token=token, xethub_conn_id=None)
    ended(run, exceptions.XetTokenExpiredError, "Set xethub_conn_id='xethub_default'", retried=False)
    assert not hub.log.requests()
    nothing_happened(hub, repo, out)


def test_a_token_that_expires_during_a_transfer_ends_it_where_there_is_no_connection(
    hub, repo, source, run_task, out, disconnect
):
    hub.access.token_life = 32
    hub.faults.add(Fault("GET /cas/.*/v1/chunks/.*", delay=4))
    token = sealed(repo, "write")
    disconnect()
    upload = run_task(XetUploadOperator, source=source, commit=False, token=token, deduplicate=True)
    ended(upload, UNREADABLE, "no connection is available to fetch", retried=True)
    nothing_happened(hub, repo, out)


def test_the_client_itself_fetches_the_next_token_in_the_middle_of_a_transfer(hub, where, source, repo, run_task):
    hub.access.token_life = 32
    hub.faults.add(Fault("GET /cas/.*/v1/chunks/.*", delay=2.5))
    files = run_task(XetUploadOperator, source=source, commit=False, **where, deduplicate=True).value
    assert len(files) == 2
    # The hook fetched one, and it was fresh: the others are the client's.
    assert len(hub.log.requests("GET .*/xet-write-token/main", status=200)) >= 2
