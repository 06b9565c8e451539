"""A download that takes longer than its token lives goes on with a connection, and says how far it got without."""

from __future__ import annotations

import pytest

from airflow_provider_xethub.exceptions import XetTokenExpiredError
from airflow_provider_xethub.operators.xethub import XetDownloadOperator
from support.builders import binary, names, publish, sealed
from xethub_local.control.faults import Fault
from xethub_local.server import LocalHub

READS = "GET /cas/.*/v./reconstructions/.*"
TOKENS = "GET .*/xet-read-token/main"
LIFE = 33
"""The client wants the next token 30 s before the expiry of its own: this one serves it for three seconds."""

FILES = 70
"""More than are asked for at the same time: 32 for a folder on the worker, 16 as streams."""


@pytest.fixture(scope="module")
def running_hub(tmp_path_factory):
    """A Hub of its own: requests are counted, and what an earlier test's fault delays is counted when it ends."""
    with LocalHub(tmp_path_factory.mktemp("hub")) as hub:
        yield hub


@pytest.fixture
def many(hub, connection, repo, tmp_path):
    contents = {f"{number:02}.bin": binary(3000, f"{repo}{number}") for number in range(FILES)}
    files = publish(repo, tmp_path / "b", contents)
    hub.log.clear()
    return files


@pytest.fixture(params=["{}/", "file://{}/"])
def destination(request, tmp_path):
    return request.param.format(tmp_path / "out")


@pytest.fixture
def slow(hub):
    """Each answer takes longer than a token serves: what is asked for next needs another one."""
    hub.access.token_life = LIFE
    return hub.faults.add(Fault(READS, delay=4))


def test_with_a_connection_a_download_outlives_its_tokens(hub, slow, many, destination, run_task, tmp_path):
    run = run_task(XetDownloadOperator, destination=destination, files=many)
    assert len(run.value) == FILES
    assert names(tmp_path / "out") == [file["path"] for file in many]
    # One is the hook's, the others the client's own: one for each round of answers, and none in vain.
    assert 2 <= len(hub.log.requests(TOKENS)) <= 2 + FILES // 16
    assert len(hub.log.requests(READS)) == FILES


def test_without_a_connection_a_download_says_how_far_it_got_and_is_not_retried(
    hub, repo, slow, many, destination, run_task, tmp_path, disconnect
):
    token = sealed(repo)
    disconnect()
    run = run_task(XetDownloadOperator, destination=destination, files=many, token=token, xethub_conn_id=None)
    assert isinstance(run.error, XetTokenExpiredError)
    assert run.is_final
    kept = names(tmp_path / "out")
    assert 0 < len(kept) < FILES
    assert not [name for name in kept if name.endswith(".xetpart")]
    for part in (
        "The Xet token expired, and no connection",
        "It expired during the download of ",
        str(repo),
        "xethub_conn_id",
    ):
        assert part in run.text
    assert f"{len(kept)} of {FILES} files are complete" in run.text


def test_what_is_there_is_not_fetched_again_with_the_next_token(
    hub, repo, slow, many, connection, run_task, tmp_path, disconnect
):
    token = sealed(repo)
    disconnect()
    run_task(XetDownloadOperator, destination=str(tmp_path / "out"), files=many, token=token)
    kept = len(names(tmp_path / "out"))
    hub.faults.clear()
    connection()
    token = sealed(repo)
    disconnect()
    hub.log.clear()
    run = run_task(XetDownloadOperator, destination=str(tmp_path / "out"), files=many, token=token)
    assert run.xcoms["transfer"]["skipped"] == kept > 0
    assert len(hub.log.requests(READS)) == FILES - kept
