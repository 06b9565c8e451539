"""``hook.api``: neither progress bars nor credentials of the client library get into a task's log."""

from __future__ import annotations

import inspect
import json
import traceback

import pytest
from huggingface_hub import CommitOperationDelete, HfApi, constants
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils.tqdm import enable_progress_bars

from support.builders import binary, publish
from xethub_local.control.faults import Fault


@pytest.mark.parametrize("wanted", [None, False], ids=["default", "HF_HUB_DISABLE_PROGRESS_BARS=0"])
def test_progress_bars_are_no_errors_in_the_log(hook, repo, tmp_path, capfd, monkeypatch, wanted):
    enable_progress_bars()
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", wanted)
    publish(repo, tmp_path / "in", {"a.bin": binary(), "b.bin": binary(seed=1)})
    capfd.readouterr()
    hook.api.snapshot_download(repo.repo_id, repo_type="dataset", local_dir=tmp_path / "out", cache_dir=tmp_path / "c")
    assert ("Fetching 3 files" in capfd.readouterr().err) is (wanted is False)
    enable_progress_bars()


CALLS = {
    "a call": lambda api, repo: api.repo_info(repo.repo_id, repo_type="dataset"),
    "a call in the background": lambda api, repo: api.create_commit(
        repo.repo_id, [CommitOperationDelete("a")], commit_message="gone", repo_type="dataset", run_as_future=True
    ).result(),
    "a listing, page by page": lambda api, repo: [*api.list_repo_tree(repo.repo_id, repo_type="dataset")],
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_an_error_does_not_show_the_token_that_the_server_repeats(hub, hook, repo, call):
    """The library's errors quote headers and bodies; Airflow copies task logs, unmasked, to the output of a worker."""
    token = hub.token()
    headers = {"X-Error-Message": f"bad: {token}", "X-Request-Id": token, "Content-Type": "application/json"}
    # The library repeats a listing for 23 seconds after a status of 500.
    hub.faults.add(Fault("(GET .*|POST .*/commit/.*)", status=400, body=json.dumps({"error": token}), headers=headers))
    with pytest.raises(HfHubHTTPError) as caught:
        call(hook.api, repo)
    shown = "".join(traceback.format_exception(caught.value))
    assert "bad: ***" in shown
    assert token not in f"{shown} {caught.value!r} {vars(caught.value)}"


def test_an_error_does_not_show_the_token_in_the_address_of_a_redirect(hub, hook, repo):
    """An error of the connection has the request, which shows its URL."""
    token = hub.token()
    hub.faults.add(Fault("GET /api/.*", status=307, headers={"Location": f"http://127.0.0.2:1/?q={token}"}))
    with pytest.raises(Exception, match="refused") as caught:
        hook.api.repo_info(repo.repo_id, repo_type="dataset")
    error, shown = caught.value, []
    while error:
        shown.append(f"{error!r} {vars(error)}")
        error = error.__cause__ or error.__context__
    assert "q=***" in str(shown)
    assert token not in str(shown)


def test_the_api_is_that_of_the_library(hook):
    assert isinstance(hook.api, HfApi)
    assert str(inspect.signature(hook.api.repo_info)) == str(inspect.signature(HfApi().repo_info))
