"""``xethub-local faults`` and ``reset``: they talk to the server that runs on the folder."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path

import pytest
import requests

from support.serving import serving
from xethub_local.cli.main import main
from xethub_local.control.fault import Fault
from xethub_local.control.presets import PRESETS
from xethub_local.server import LocalHub
from xethub_local.store.announced_url import announced, announced_url

Run = Callable[..., str]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalHub]:
    with LocalHub(tmp_path_factory.mktemp("hub")) as running, announced(running.folder, running.url):
        yield running


@pytest.fixture
def run(hub: LocalHub, run_on: Callable[[Path], Run]) -> Iterator[Run]:
    """Run a command on the Hub's folder, which has no faults at first."""
    hub.faults.clear()
    yield run_on(hub.folder)
    hub.faults.clear()


def test_a_ready_made_fault_is_switched_on_listed_and_removed(hub: LocalHub, run: Run) -> None:
    number = run("faults", "add", "hub-down", "--times", "2").strip()
    (armed,) = hub.faults.armed()
    assert (str(armed.id), armed.fault.status, armed.fault.times) == (number, 503, 2)
    assert requests.get(f"{hub.url}/api/whoami-v2", timeout=20).status_code == 503
    (line,) = run("faults").splitlines()
    assert line.split("\t")[:4] == [number, "1", "1", armed.fault.route]
    assert "status=503" in line.split("\t")[4]
    assert run("faults", "list") == run("faults")
    assert run("faults", "remove", number) == ""
    assert run("faults") == ""
    assert number in run("faults", "remove", number, status=1)


def test_every_field_of_a_fault_is_an_option(hub: LocalHub, run: Run) -> None:
    run(
        *["faults", "add", "--route", "GET /api/.*", "--times", "3", "--skip", "1", "--client", "hf_xet/"],
        *["--delay", "0.5", "--headers", "Retry-After=1", "--headers", "X-A=b=c", "--fields", "exp=0"],
        *["--fields", "casUrl=http://elsewhere", "--without-fields", "a", "--without-fields", "b"],
        *["--without-headers", "X-B", "--token-life", "5", "--data-url-life", "-1", "--clock-offset", "-2.5"],
    )
    run("faults", "add", "--route", ".*", "--status", "418", "--body", "tea")
    run("faults", "add", "--route", ".*", "--lose-answer", "--drop")
    run("faults", "add", "--route", ".*", "--drop", "middle")
    run("faults", "add", "--route", ".*", "--endless", "trickle")
    run("faults", "add", "--route", ".*", "--corrupt", "--truncate", "7")
    run(
        "faults",
        "add",
        "--route",
        ".*",
        "--bandwidth",
        "9",
        "--max-open",
        "4",
        "--collapsed-bandwidth",
        "1",
        "--collapse-after",
        "2",
    )
    given = [armed.fault for armed in hub.faults.armed()]
    assert given == [
        Fault(
            "GET /api/.*",
            times=3,
            skip=1,
            client="hf_xet/",
            delay=0.5,
            headers={"Retry-After": "1", "X-A": "b=c"},
            fields={"exp": 0, "casUrl": "http://elsewhere"},
            without_fields=("a", "b"),
            without_headers=("X-B",),
            token_life=5,
            data_url_life=-1,
            clock_offset=-2.5,
        ),
        Fault(".*", status=418, body="tea"),
        Fault(".*", lose_answer=True, drop=True),
        Fault(".*", drop="middle"),
        Fault(".*", endless="trickle"),
        Fault(".*", corrupt=True, truncate=7),
        Fault(".*", bandwidth=9, max_open=4, collapsed_bandwidth=1, collapse_after=2.0),
    ]
    used = {name for fault in given for name in fault.to_json()}
    assert used == {each.name for each in fields(Fault)}


def test_every_option_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["faults", "add", "--help"])
    printed = " ".join(capsys.readouterr().out.split())
    assert "--truncate N end the response body after this many bytes" in printed
    for each in fields(Fault):
        assert f"--{each.name.replace('_', '-')} " in printed


def test_the_catalogue_is_shown_without_a_server(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["faults", "catalogue", "--folder", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("\t")[0] for line in lines] == list(PRESETS)


def test_faults_are_cleared_while_the_hub_is_down(hub: LocalHub, run: Run) -> None:
    for name in PRESETS:
        run("faults", "add", name)
    assert len(run("faults").splitlines()) == len(PRESETS)
    assert run("faults", "clear") == ""
    assert hub.faults.armed() == []


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["faults", "add"], 2, "no fault given"),
        (["faults", "add", "--status", "503"], 2, "no fault given"),
        (["faults", "add", "no-such-fault"], 1, "no-such-fault"),
        (["faults", "add", "--route", "(", "--status", "503"], 1, "regular expression"),
        (["faults", "add", "--route", ".*", "--status", "42"], 1, "200 to 599"),
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(run: Run, arguments: list[str], status: int, message: str) -> None:
    assert message in run(*arguments, status=status)


def test_words_that_are_no_option_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in (["--drop", "end"], ["--times", "often"], ["--headers", "Retry-After"], ["--nothing"]):
        with pytest.raises(SystemExit) as caught:
            main(["faults", "add", "--route", ".*", *wrong])
        assert caught.value.code == 2


def test_reset_clears_faults_and_the_log_and_keeps_the_data(hub: LocalHub, run: Run) -> None:
    run("create-repo", "model:acme/kept")
    run("faults", "add", "slow-hub")
    assert run("reset") == "Server reset; repositories are unchanged.\n"
    assert hub.faults.armed() == []
    assert hub.log.requests() == []
    assert "model:acme/kept" in run("ls")


def test_reset_with_data_needs_a_yes(hub: LocalHub, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run("create-repo", "model:acme/gone")
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    assert "confirm it with --yes" in run("reset", "--data", status=2)
    assert "model:acme/gone" in run("ls")
    assert "all repositories deleted" in run("reset", "--data", "--yes")
    assert run("ls") == ""


def test_no_server_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["create-repo", "model:acme/m", "--folder", str(tmp_path)]) == 0
    capsys.readouterr()
    for command in (["faults"], ["reset"], ["faults", "add", "hub-busy"]):
        assert main([*command, "--folder", str(tmp_path)]) == 1
        assert f"Start it with: xethub-local serve --folder {tmp_path}\n" in capsys.readouterr().err


def test_a_server_that_was_killed_is_recognised(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(tmp_path) as (process, _):
        assert main(["faults", "--folder", str(tmp_path)]) == 0
        process.send_signal(signal.SIGKILL)
        process.wait(20)
    assert announced_url(tmp_path) is not None
    assert main(["faults", "--folder", str(tmp_path)]) == 1
    printed = capsys.readouterr().err
    assert "does not respond" in printed
    assert printed.count("\n") == 1


def test_the_server_of_another_folder_is_recognised(
    hub: LocalHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["create-repo", "model:acme/m", "--folder", str(tmp_path)]) == 0
    with announced(tmp_path, hub.url):
        assert main(["faults", "--folder", str(tmp_path)]) == 1
    assert "belongs to another folder" in capsys.readouterr().err


def test_no_proxy_is_asked(hub: LocalHub, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert run("faults") == ""


def test_no_token_is_in_the_file_or_in_a_message(hub: LocalHub, run: Run) -> None:
    text = (hub.folder / "server.url").read_text() + run("faults", "add", "nothing", status=1)
    assert "hf_" not in text
