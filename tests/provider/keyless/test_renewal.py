"""Transfers that take longer than the ID token, the exchanged token and the Xet token live, together."""

from __future__ import annotations

import threading

import pytest

from airflow_provider_xethub.operators.xethub import XetDownloadOperator, XetUploadOperator
from support.builders import binary, names, publish
from support.identities import SUBJECT
from xethub_local.control.faults import Fault

EXCHANGE = "POST /oauth/token"
FILES = 70
"""More than are asked for at the same time."""


@pytest.fixture
def short_lives(hub, publisher, make_repo, id_file):
    """All expire about a second after they were issued, and an agent keeps the file with the ID token fresh."""
    private = make_repo(private=True)
    publisher(private)
    ended = threading.Event()

    def keep_fresh() -> None:
        seen = -1
        while not ended.wait(0.02):
            exchanges = len(hub.log.requests(EXCHANGE))
            if exchanges != seen:
                seen = exchanges
                fresh = id_file.with_name("fresh")
                fresh.write_text(hub.identity(SUBJECT, lifetime=4))
                fresh.replace(id_file)

    agent = threading.Thread(target=keep_fresh)
    hub.exchanged_token_lifetime = 1
    yield private, agent
    hub.exchanged_token_lifetime = 3600
    ended.set()
    if agent.is_alive():
        agent.join()


def assert_unnoticed(hub, run, log) -> None:
    assert run.error is None, run.text
    assert not hub.log.requests(status=403)
    for word in ("rejected", "retry", "Trying", "Traceback"):
        assert word not in log


def test_a_download_does_not_notice_it(hub, short_lives, connection, keyless, run_task, tmp_path, caplog):
    private, agent = short_lives
    connection()
    contents = {f"{number:02}.bin": binary(3000, f"{private}{number}") for number in range(FILES)}
    files = publish(private, tmp_path / "before", contents)
    keyless()
    hub.log.clear()
    agent.start()
    hub.access.token_life = 31
    hub.faults.add(Fault("GET /cas/.*/v./reconstructions/.*", delay=1.5))
    run = run_task(XetDownloadOperator, destination=f"{tmp_path / 'out'}/", files=files)
    assert_unnoticed(hub, run, caplog.text)
    assert len(names(tmp_path / "out")) == FILES
    assert len(hub.log.requests(EXCHANGE)) >= 2
    assert len(hub.log.requests("GET .*/xet-read-token/.*")) >= 2


def test_an_upload_and_its_commit_do_not_notice_it(hub, short_lives, keyless, run_task, tmp_path, caplog):
    private, agent = short_lives
    agent.start()
    hub.access.token_life = 31
    hub.faults.add(Fault("POST /cas/.*/shards", delay=1.5))
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "large.bin").write_bytes(binary(500_000, str(private)))
    run = run_task(
        XetUploadOperator, source=f"{tmp_path / 'in'}/", repo_id=private.repo_id, repo_type=private.repo_type
    )
    assert_unnoticed(hub, run, caplog.text)
    assert len(hub.log.requests("POST .*/commit/main", status=200)) == 1
    assert len(hub.log.requests(EXCHANGE)) >= 2
