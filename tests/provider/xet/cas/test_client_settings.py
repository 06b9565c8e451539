"""What the client of CAS leaves behind and tells others: its cache, its reports, and the environment of the task."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile

import pytest

from airflow_provider_xethub.exceptions import XetDestinationError
from airflow_provider_xethub.xet.cas import cache as cas_cache
from support.builders import binary, write


@pytest.fixture
def round_trip(hook, repo, tmp_path):
    def move(seed: object = 0):
        folder = write(tmp_path / f"in{seed}", {"a.bin": binary(100_000, seed)})
        records = hook.upload(str(folder), repo)["files"]
        hook.download(tmp_path / f"out{seed}", records)

    return move


def remembered(folder):
    return list(folder.rglob("*.mdb"))


# --- cache


def test_the_cache_is_where_the_administrator_wants_it(round_trip, monkeypatch, tmp_path):
    folder = tmp_path / "chosen" / "by the administrator"
    monkeypatch.setenv("AIRFLOW__XETHUB__CACHE_FOLDER", str(folder))
    before = dict(os.environ)
    round_trip()
    assert remembered(folder)
    assert dict(os.environ) == before


def test_without_a_choice_it_is_where_the_client_puts_it(round_trip, monkeypatch, tmp_path, temporary):
    monkeypatch.setenv("HF_XET_CACHE", str(tmp_path / "own"))
    round_trip()
    assert remembered(tmp_path / "own")
    assert not remembered(temporary)


@pytest.mark.parametrize("choice", ["administrator", "client"])
def test_a_cache_that_cannot_be_written_is_replaced_by_one_that_stays(
    round_trip, monkeypatch, not_a_folder, temporary, choice, caplog
):
    if choice == "administrator":
        monkeypatch.setenv("AIRFLOW__XETHUB__CACHE_FOLDER", str(not_a_folder))
    else:
        monkeypatch.setenv("HF_XET_CACHE", str(not_a_folder))
    round_trip()
    (instead,) = temporary.iterdir()
    assert stat.S_IMODE(instead.stat().st_mode) == 0o700
    assert remembered(instead)
    assert (
        f"{not_a_folder} cannot be the cache of the CAS client on this worker (not a directory); using {instead}. "
        "Set [xethub] cache_folder." in caplog.text
    )
    round_trip()
    assert list(temporary.iterdir()) == [instead]


def test_where_there_is_no_folder_at_all_nothing_is_sent(hub, round_trip, monkeypatch, not_a_folder):
    monkeypatch.setenv("HF_XET_CACHE", str(not_a_folder))
    monkeypatch.setattr(tempfile, "tempdir", str(not_a_folder))
    with pytest.raises(XetDestinationError, match=r"Set .* to a writable one\. .*Nothing was sent"):
        round_trip()
    assert not hub.log.requests(".* /cas/.*")


@pytest.mark.parametrize(
    ("environment", "folder"),
    [
        ({"HF_XET_CACHE": "/a", "HF_HOME": "/b"}, "/a"),
        ({"HF_HOME": "/b", "XDG_CACHE_HOME": "/c"}, "/b/xet"),
        ({"XDG_CACHE_HOME": "/c", "HOME": "/d"}, "/c/huggingface/xet"),
        ({"HOME": "/d"}, "/d/.cache/huggingface/xet"),
    ],
)
def test_the_clients_default_folder_is_known(environment, folder, monkeypatch, tmp_path):
    code = (
        "import os, sys; os.environ.update(HF_XET_LOG_DEST=os.devnull); from hf_xet import XetSession;"
        "XetSession().new_upload_commit(endpoint='http://127.0.0.1:1', token='x', token_expiry_unix_secs=1 << 40);"
        "os._exit(0)"
    )
    here = {name: str(tmp_path) + path for name, path in environment.items()}
    subprocess.run([sys.executable, "-c", code], env=here, check=True)
    made = tmp_path / folder.lstrip("/")
    assert made.is_dir()
    for name in ("HF_XET_CACHE", "HF_HOME", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, path in here.items():
        monkeypatch.setenv(name, path)
    assert cas_cache._default_folder(os.environ) == made


def test_the_cache_is_bounded(round_trip, monkeypatch, tmp_path):
    monkeypatch.setenv("AIRFLOW__XETHUB__CACHE_FOLDER", str(tmp_path / "cache"))
    monkeypatch.setattr(cas_cache, "SIZE_LIMIT", "1kb")
    for seed in range(8):
        round_trip(seed)
    bounded = sum(each.stat().st_size for each in remembered(tmp_path / "cache"))
    monkeypatch.undo()
    monkeypatch.setenv("AIRFLOW__XETHUB__CACHE_FOLDER", str(tmp_path / "large"))
    for seed in range(8, 16):
        round_trip(seed)
    assert bounded < sum(each.stat().st_size for each in remembered(tmp_path / "large")) / 2


# --- telemetry


@pytest.mark.parametrize("wanted", [False, True])
def test_nothing_is_reported_unless_the_administrator_wants_it(hub, round_trip, monkeypatch, wanted):
    if wanted:
        monkeypatch.setenv("AIRFLOW__XETHUB__TELEMETRY", "True")
    round_trip()
    assert bool(hub.log.requests(".*telemetry.*")) == wanted


@pytest.mark.parametrize("wanted", [False, True])
def test_the_other_library_reports_no_more_than_that(hub, connection, wanted):
    code = (
        "from airflow_provider_xethub.hooks.xethub import XetHubConnection;"
        "XetHubConnection().api.whoami();"
        "from huggingface_hub import constants; print(constants.HF_HUB_DISABLE_TELEMETRY)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    environment["AIRFLOW__XETHUB__TELEMETRY"] = str(wanted)
    hub.log.clear()
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == str(not wanted)
    assert hub.log.requests(".*whoami.*")
    # The client of CAS may still be reporting what the test before has moved.
    assert not [each for each in hub.log.requests(".*telemetry.*") if "hf_xet" not in each.user_agent]


# --- the environment


def test_a_task_whose_own_code_imports_the_client_first_works_as_well(hub, repo, connection, tmp_path):
    source = write(tmp_path / "in", {"a.bin": binary()})
    code = f"""
import hf_xet, huggingface_hub
session = hf_xet.XetSession()
from airflow_provider_xethub.hooks.xethub import XetHubConnection
hook = XetHubConnection()
files = hook.upload({str(source)!r}, hook.repo({repo.repo_id!r}, "dataset"))["files"]
print(files[0]["size"], hook.download({str(tmp_path / "out")!r}, files)["transfer"]["bytes"])
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "HOME": str(tmp_path)}
    for name in ("HF_XET_LOG_DEST", "RUST_LOG", "HF_XET_CACHE", "HF_HOME"):
        del environment[name]
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "5000 5000"
