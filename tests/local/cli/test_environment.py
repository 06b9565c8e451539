"""What clients of the running server need: ``xethub-local env``, and a Hub token that was chosen."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError

from support.serving import COMMAND, serving
from xethub_local.server import LocalHub
from xethub_local.store.announced_url import announced

TOKEN = "hf_only_for_tests"

Run = Callable[..., str]
RunOn = Callable[[Path], Run]


def variables(printed: str) -> dict[str, str]:
    """What a shell would set."""
    words = shlex.split(printed)
    assert words[::2] == ["export"] * len(words[::2])
    return dict(word.split("=", 1) for word in words[1::2])


def test_env_prints_what_clients_need(tmp_path: Path, run_on: RunOn) -> None:
    with LocalHub(tmp_path) as hub, announced(hub.folder, hub.url):
        found = variables(run_on(tmp_path)("env"))
    assert found["HF_ENDPOINT"] == hub.url
    assert found["HF_TOKEN"] == hub.token("write")
    connection = json.loads(found["AIRFLOW_CONN_XETHUB_DEFAULT"])
    assert connection == {"conn_type": "xethub", "host": hub.url, "password": hub.token("write")}
    assert len(found) == 3


def test_env_says_that_no_server_runs(tmp_path: Path, run_on: RunOn) -> None:
    failed = run_on(tmp_path / "none")("env", status=1)
    assert failed.startswith("xethub-local: there is no local Hub in the folder")
    with LocalHub(tmp_path / "hub"):
        pass
    assert "xethub-local serve --folder" in run_on(tmp_path / "hub")("env", "--wait", "0.2", status=1)
    assert "--wait must be from 0" in run_on(tmp_path)("env", "--wait", "-1", status=2)


def test_env_waits_for_a_server_that_starts_meanwhile(tmp_path: Path) -> None:
    waiting = subprocess.Popen(
        [*COMMAND, "env", "--wait", "60", "--folder", str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    try:
        with serving(tmp_path) as (_, started):
            printed, _ = waiting.communicate(timeout=60)
    finally:
        waiting.kill()
    assert waiting.returncode == 0
    assert variables(printed)["HF_TOKEN"] in started


def test_a_shell_evaluates_it(tmp_path: Path) -> None:
    """Also with a folder whose name a shell would take apart."""
    folder = tmp_path / "it's $HOME"
    with serving(folder):
        script = f'eval "$({shlex.join([*COMMAND, "env", "--folder", str(folder)])})" && exec "$0" -c "$1"'
        code = "from huggingface_hub import HfApi; print(HfApi().whoami()['name'])"
        done = subprocess.run(
            ["bash", "-c", script, sys.executable, code], capture_output=True, text=True, timeout=60, check=False
        )
    assert (done.returncode, done.stdout) == (0, "local\n"), done.stderr


def test_a_chosen_token_writes_and_is_not_stored(tmp_path: Path) -> None:
    with LocalHub(tmp_path, write_token=TOKEN) as hub:
        assert hub.token() == TOKEN
        for token in (TOKEN, hub.access.hub_token("local", "write")):
            assert HfApi(hub.url, token).whoami()["auth"]["accessToken"]["role"] == "write"
        HfApi(hub.url, TOKEN).create_repo("acme/corpus")
        for wrong in (TOKEN + "x", TOKEN[:-1], "hf_", TOKEN.upper()):
            with pytest.raises(HfHubHTTPError, match="Invalid user token"):
                HfApi(hub.url, wrong).whoami()
        hub.access.revoke("local", "write")
        with pytest.raises(HfHubHTTPError, match="Invalid user token"):
            HfApi(hub.url, TOKEN).whoami()
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or TOKEN.encode() not in path.read_bytes(), path
    with LocalHub(tmp_path) as hub, pytest.raises(HfHubHTTPError, match="Invalid user token"):
        HfApi(hub.url, TOKEN).whoami()


@pytest.mark.parametrize("token", ["", "hf_", "hf_short", "only_for_tests", "hf_only for tests", "hf_über_den_wolken"])
def test_a_chosen_token_must_look_like_one(
    tmp_path: Path, token: str, run_on: RunOn, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="a chosen Hub token must be hf_"):
        LocalHub(tmp_path, write_token=token)
    monkeypatch.setenv("XETHUB_LOCAL_TOKEN", token)
    assert "XETHUB_LOCAL_TOKEN: a chosen Hub token must be hf_ and 8 to 200" in run_on(tmp_path)(
        "serve", "--port", "0", status=2
    )


def test_serve_takes_the_chosen_token_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XETHUB_LOCAL_TOKEN", TOKEN)
    with serving(tmp_path) as (_, printed):
        url = (tmp_path / "server.url").read_text().strip()
        assert f"HF_ENDPOINT={url} HF_TOKEN={TOKEN}" in printed
        assert HfApi(url, TOKEN).whoami()["name"] == "local"
