"""A token handed to a process that is not Airflow: complete, private, renewed, and gone when the block ends."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from datetime import datetime

import psutil
import pytest

from airflow_provider_xethub.exceptions import (
    XetCancelledError,
    XetDestinationError,
    XetInputError,
    XetTokenBindingError,
    XetTokenExpiredError,
    XetTokenScopeError,
    XetTokenSealError,
    XetTokenTamperedError,
)
from airflow_provider_xethub.hooks.tokens import hand_over as module
from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.xet.hub import client as hub_client
from airflow_provider_xethub.xet.token_binding import TokenBinding
from support.builders import sealed
from xethub_local.control.faults import Fault

TOKENS = "GET .*/xet-(read|write)-token/.*"


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "handed"
    path.mkdir(mode=0o700)
    yield path
    assert list(path.iterdir()) == []


@pytest.fixture
def logged(capfd):
    """Returns what was logged so far: Airflow's hook writes to standard output."""
    parts = []

    def text():
        parts.append("".join(capfd.readouterr()))
        return "".join(parts)

    return text


@pytest.fixture
def quick(monkeypatch):
    """Renews as often as the life of the token says, however short it is, and asks the Hub once each time."""
    monkeypatch.setattr(module, "_SHORTEST_DELAY", 0.1)
    monkeypatch.setattr(module, "_LONGEST_DELAY", 0.1)
    monkeypatch.setattr(hub_client, "MAX_TRIES", 1)


def renewals():
    return [thread for thread in threading.enumerate() if thread.name == "xethub-hand-over"]


def read(path):
    return json.loads(path.read_text())


def wait_for(condition):
    deadline = time.monotonic() + 60
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def test_the_file_has_what_another_process_needs(hub, hook, repo, folder):
    token = hook.get_token(repo, "write")
    with hook.hand_over(token, folder) as path:
        found = read(path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert path.parent.parent == folder
    assert found.pop("expires_at_unix") == token.local_expiry
    assert datetime.fromisoformat(found.pop("expires_at")) == token.expires_at
    assert found == {
        "version": 1,
        "endpoint": hub.url,
        "repo": f"hf://datasets/{repo.repo_id}@main",
        "repo_type": "dataset",
        "repo_id": repo.repo_id,
        "revision": "main",
        "scope": "write",
        "cas_url": token.cas_url,
        "access_token": token.access_token,
        "renewed": True,
    }
    assert not path.parent.exists()


def test_a_bucket_has_no_revision(hook, make_repo, folder):
    bucket = make_repo("bucket")
    with hook.hand_over(hook.get_token(bucket), folder) as path:
        assert (read(path)["repo"], read(path)["revision"]) == (f"hf://buckets/{bucket.repo_id}", None)


def test_without_a_folder_it_is_in_memory(hook, repo):
    with hook.hand_over(hook.get_token(repo)) as path:
        assert path.is_relative_to("/dev/shm")
    assert not path.parent.exists()


def test_a_sealed_token_is_opened_and_masked(hook, repo, folder, logged):
    with hook.hand_over(sealed(repo, "write"), folder) as path:
        assert read(path)["scope"] == "write"
        assert f"Handed over the write token for {repo} in {path}. It is valid for 15 min, and renewed" in logged()


def test_it_is_gone_after_an_exception(hook, repo, folder):
    with pytest.raises(ZeroDivisionError), hook.hand_over(hook.get_token(repo), folder):
        raise ZeroDivisionError


def test_several_at_once_do_not_touch_each_other(hook, repo, make_repo, folder):
    other = make_repo()
    with hook.hand_over(hook.get_token(repo), folder) as outer:
        with hook.hand_over(hook.get_token(other), folder) as inner, hook.hand_over(hook.get_token(repo), folder):
            assert len(list(folder.iterdir())) == 3
            assert (read(outer)["repo"], read(inner)["repo"]) == (repo.uri, other.uri)
        assert read(outer)["repo"] == repo.uri
        assert not inner.exists()


def test_a_thread_may_hand_over(hook, repo, folder):
    token, found = hook.get_token(repo), []

    def work():
        with hook.hand_over(token, folder) as path:
            found.append(read(path)["access_token"])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [token.access_token] * 4


def test_a_forked_process_that_leaves_the_block_removes_nothing(hook, repo, folder):
    def leave():
        with hook.hand_over(hook.get_token(repo), folder) as path:
            if child := os.fork():
                os.waitpid(child, 0)
                assert read(path)["repo"] == repo.uri
                return os.getpid()
            return None

    if leave() is None:
        os._exit(0)


# --- which token ---


def test_a_token_for_something_else_is_refused(hook, repo, make_repo, folder):
    token = hook.get_token(repo)
    for options in ({"scope": "write"}, {"repo": make_repo()}, {"repo": repo.at("dev")}):
        with pytest.raises(XetTokenScopeError), hook.hand_over(token, folder, **options):
            pytest.fail("the block ran")
    with hook.hand_over(hook.get_token(repo, "write"), folder, scope="read", repo=repo) as path:
        assert read(path)["scope"] == "write"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"token": None}, "not the output of a XetTokenOperator"),
        ({"token": ""}, "not the output of a XetTokenOperator"),
        ({"token": "{{ a template }}"}, "not the output of a XetTokenOperator"),
        ({"scope": "admin"}, "scope 'admin' is unknown"),
        ({"folder": ""}, "folder is empty"),
        ({"folder": 5}, "folder must be a path"),
    ],
)
def test_wrong_arguments_are_refused(hook, repo, arguments, message):
    with (
        pytest.raises(XetInputError, match=message),
        hook.hand_over(**{"token": hook.get_token(repo), **arguments}),
    ):
        pytest.fail("the block ran")


def test_a_token_that_is_bound_to_other_tasks_is_refused(hook, repo, folder):
    token = hook._tokens.seal(hook.get_token(repo), TokenBinding("another_dag"))
    with pytest.raises(XetTokenBindingError), hook.hand_over(token, folder):
        pytest.fail("the block ran")


def test_a_changed_token_is_refused(hook, repo, folder):
    token = {**sealed(repo), "repo": "hf://datasets/acme/other@main"}
    with pytest.raises(XetTokenTamperedError), hook.hand_over(token, folder):
        pytest.fail("the block ran")


def test_a_token_that_does_not_open_is_replaced_only_for_what_the_task_names(hub, hook, repo, folder):
    reference = {**sealed(repo), "sealed": None}
    for options in ({}, {"repo": repo}, {"scope": "read"}):
        with (
            pytest.raises(XetTokenSealError, match=r"name scope= and repo= in hand_over\(\)"),
            hook.hand_over(reference, folder, **options),
        ):
            pytest.fail("the block ran")
    with hook.hand_over(reference, folder, scope="read", repo=repo) as path:
        assert read(path)["access_token"] in hub.access.issued_xet_tokens()
    with (
        pytest.raises(XetTokenTamperedError),
        hook.hand_over({**reference, "repo": "hf://a/b@main"}, folder, scope="read", repo=repo),
    ):
        pytest.fail("the block ran")


def test_a_token_of_another_connection_is_handed_over_as_it_is(hook, connection, hub, repo, folder):
    connection("other_hub")
    other = XetHubConnection("other_hub")
    token = other.seal_token(other.get_token(repo))
    with hook.hand_over(token, folder) as path:
        # The endpoint of this connection may be another Hub.
        assert (read(path)["endpoint"], read(path)["renewed"]) == (None, False)
        assert not renewals()
    hub.access.token_life = 20
    stale = other.seal_token(other.refresh_token(other.get_token(repo)))
    with pytest.raises(XetTokenExpiredError, match="other_hub"), hook.hand_over(stale, folder):
        pytest.fail("the block ran")


def test_without_the_connection_it_says_that_the_token_ends(hook, repo, folder, disconnect, logged):
    token = sealed(repo)
    disconnect()
    with XetHubConnection(None).hand_over(token, folder) as path:
        assert (read(path)["endpoint"], read(path)["renewed"]) == (None, False)
    assert "valid for 15 min and cannot be renewed without its connection" in logged()


def test_an_expired_token_is_replaced_or_refused(hub, hook, repo, folder, disconnect):
    hub.access.token_life = 1
    expired = sealed(repo)
    hub.access.token_life = 900
    wait_for(lambda: datetime.fromisoformat(expired["expires_at"]).timestamp() < time.time())
    with hook.hand_over(expired, folder) as path:
        assert read(path)["expires_at_unix"] > time.time() + 600
    disconnect()
    with pytest.raises(XetTokenExpiredError), XetHubConnection(None).hand_over(expired, folder):
        pytest.fail("the block ran")


def test_a_token_with_little_time_left_is_replaced_first(hub, hook, repo, folder):
    """``@huggingface/hub`` asks for another one when less than a minute is left."""
    hub.access.token_life = 50
    token = sealed(repo)
    hub.access.token_life = 900
    with hook.hand_over(token, folder) as path:
        assert read(path)["expires_at_unix"] > time.time() + 600


def test_a_full_folder_is_an_error_that_can_be_retried(hook, repo, folder, monkeypatch):
    from airflow_provider_xethub.xet.files import private_folders

    write = private_folders.PrivateFolder.write

    def full(self, name, content):
        if name == "token.json":
            raise OSError(28, "No space left on device")
        return write(self, name, content)

    monkeypatch.setattr(private_folders.PrivateFolder, "write", full)
    with (
        pytest.raises(XetDestinationError, match=r"cannot be written to .*: no space left on device") as caught,
        hook.hand_over(hook.get_token(repo), folder),
    ):
        pytest.fail("the block ran")
    assert caught.value.retryable


# --- renewal ---


def test_the_file_always_has_a_token_with_half_of_its_life_left(hub, hook, repo, folder, quick):
    hub.access.token_life = 2
    with hook.hand_over(hook.get_token(repo, "write"), folder) as path:
        known = [read(path)["access_token"]]
        while len(known) < 3:
            found = read(path)  # never half of one
            assert found["expires_at_unix"] - time.time() > 0.5
            if found["access_token"] != known[-1]:
                known.append(found["access_token"])
            time.sleep(0.02)
        assert (found["scope"], found["repo"]) == ("write", repo.uri)
        assert hub.log.requests(rf"GET {repo.token_path('write')}")
        assert not hub.log.requests(rf"GET {repo.token_path('read')}")
    wait_for(lambda: not renewals())


@pytest.mark.airflow
@pytest.mark.parametrize("version", [None, (3, 1, 8)], ids=["as it is", "as before Airflow 3.2"])
def test_a_renewed_token_is_masked_before_it_can_be_printed(hub, hook, repo, folder, quick, version, monkeypatch):
    from airflow.providers.common.compat import version_compat
    from airflow.providers.common.compat.sdk import redact

    if version is not None:
        monkeypatch.setattr(version_compat, "get_base_airflow_version_tuple", lambda: version)
    hub.access.token_life = 2
    with hook.hand_over(hook.get_token(repo), folder) as path:
        first = read(path)["access_token"]
        new = wait_for(lambda: (found := read(path)["access_token"]) != first and found)
        assert new not in redact(f"printed {new}")


def test_a_renewal_that_fails_for_a_while_is_tried_again(hub, hook, repo, folder, logged, quick):
    token = hook.get_token(repo)
    hub.access.token_life = 2
    with hook.hand_over(hook.refresh_token(token), folder) as path:
        first = read(path)["access_token"]
        fault = hub.faults.add(Fault(TOKENS, status=500))
        wait_for(lambda: "was not renewed and will be tried again" in logged())
        wait_for(lambda: len(hub.log.requests(TOKENS, status=500)) > 2)
        assert read(path)["access_token"] == first
        hub.faults.clear()
        wait_for(lambda: read(path)["access_token"] != first)
    assert fault
    assert logged().count("was not renewed") == 1
    assert "Renewed the token handed over for" in logged()


def test_a_renewal_that_the_hub_refuses_is_reported_once_and_the_file_stays(hub, hook, repo, folder, logged, quick):
    hub.access.token_life = 2
    with hook.hand_over(hook.get_token(repo), folder) as path:
        first = read(path)["access_token"]
        hub.faults.add(Fault(TOKENS, status=401))
        wait_for(lambda: "was not renewed. It expires in" in logged())
        wait_for(lambda: not renewals())
        assert read(path)["access_token"] == first
    assert logged().count("was not renewed") == 1


def test_a_renewal_in_flight_writes_nothing_after_the_block(hub, hook, repo, folder, quick):
    hub.access.token_life = 2
    with hook.hand_over(hook.get_token(repo), folder):
        fault = hub.faults.add(Fault(TOKENS, delay=0.5))
        wait_for(lambda: hub.faults.acted(fault))
        [thread] = renewals()
    assert list(folder.iterdir()) == []
    thread.join(20)
    assert not thread.is_alive()


# --- signals ---

_TASK = """
import json, subprocess, sys
from airflow.providers.standard.operators.python import PythonOperator
from airflow_provider_xethub.hooks.xethub import XetHubConnection
from support.airflow_runs import run_task

def work(token, folder):
    with XetHubConnection().hand_over(token, folder) as path:
        subprocess.run([sys.executable, "-c", "import time; print('I run', flush=True); time.sleep(60)", path])

run = run_task(PythonOperator, python_callable=work, op_args=[json.loads(sys.argv[1]), sys.argv[2]])
print(run.state, type(run.error).__name__, run.error, flush=True)
"""


def start(script, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )


def wait_for_file(folder):
    return wait_for(lambda: list(folder.glob("*/token.json")))[0]


@pytest.mark.airflow
def test_a_stopped_task_removes_it_and_ends_what_it_started(hook, repo, folder):
    """Airflow's own handler of SIGTERM would let a Python task go on until it is killed."""
    with start(_TASK, json.dumps(sealed(repo)), str(folder)) as process:
        path = wait_for_file(folder)
        # Not earlier: a signal inside of Popen leaves the new process to nobody.
        assert any(line == "I run\n" for line in process.stdout)
        [child] = psutil.Process(process.pid).children()
        process.send_signal(signal.SIGTERM)
        wait_for(lambda: not path.exists())
        output = process.stdout.read()
    assert "up_for_retry XetCancelledError The task was stopped from outside, and the token" in output
    # Whoever has it now, as its parent is gone, may not have collected it yet.
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def fork_that_holds(hook, token, folder):
    """Start a process that is in the block until it gets a signal."""
    if child := os.fork():
        return child
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        with hook.hand_over(token, folder):
            time.sleep(60)
    finally:
        os._exit(1)


def test_outside_of_a_task_sigterm_ends_the_process_and_removes_it(hook, repo, folder):
    child = fork_that_holds(hook, hook.get_token(repo), folder)
    path = wait_for_file(folder)
    os.kill(child, signal.SIGTERM)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGTERM
    assert not path.exists()


def test_what_a_killed_task_leaves_expires_and_the_next_hand_over_removes_it(hook, repo, folder):
    child = fork_that_holds(hook, hook.get_token(repo), folder)
    path = wait_for_file(folder)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert read(path)["expires_at_unix"] < time.time() + 910
    with hook.hand_over(hook.get_token(repo), folder):
        assert not path.exists()


def test_nested_blocks_are_all_removed_and_the_handler_of_the_author_is_called(hook, repo, folder):
    token, called = hook.get_token(repo), []
    before = signal.signal(signal.SIGTERM, lambda *_: called.append(list(folder.iterdir())))
    try:
        own = signal.getsignal(signal.SIGTERM)
        with pytest.raises(XetCancelledError), hook.hand_over(token, folder), hook.hand_over(token, folder):
            signal.raise_signal(signal.SIGTERM)
        assert called == [[]]
        assert signal.getsignal(signal.SIGTERM) is own
    finally:
        signal.signal(signal.SIGTERM, before)


def test_blocks_that_end_in_another_order_leave_no_handler_that_acts(hook, repo, folder):
    token, called = hook.get_token(repo), []
    before = signal.signal(signal.SIGTERM, lambda *_: called.append(1))
    try:
        first, second = ExitStack(), ExitStack()
        first.enter_context(hook.hand_over(token, folder))
        second.enter_context(hook.hand_over(token, folder))
        first.close()
        with pytest.raises(XetCancelledError):
            signal.raise_signal(signal.SIGTERM)
        second.close()
        signal.raise_signal(signal.SIGTERM)
        assert called == [1, 1]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_process_that_ignores_sigterm_goes_on(hook, repo, folder):
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with hook.hand_over(hook.get_token(repo), folder) as path:
            signal.raise_signal(signal.SIGTERM)
            assert path.exists()
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)
