"""What the documentation shows of a shell: commands are right, and print what it says."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Callable
from importlib.metadata import metadata
from pathlib import Path

import pendulum
import pytest
import yaml
from airflow.cli import cli_parser
from airflow.models.connection import Connection

from airflow_provider_xethub import get_provider_info
from airflow_provider_xethub.xet import recipient
from airflow_provider_xethub.xet.repo import Repo
from airflow_provider_xethub.xet.token import XetToken
from support.documentation import BIN, ROOT, run, snippets
from support.terminals import follow_the_quick_start, looks_like, serving, sessions
from xethub_local.cli import main as cli
from xethub_local.server import LocalHub
from xethub_local.store.access import check_chosen_token
from xethub_local.store.announced_url import announced
from xethub_token.recipient import RecipientKey


def pip(words: list[str], _: Path) -> None:
    assert words[0] == "pip"
    if words[1:] == ["check"]:
        return
    assert words[1] in ("install", "download")
    arguments = iter(words[2:])
    for word in arguments:
        if word in _PIP_FILES:
            next(arguments)
        elif not word.startswith("--"):
            requirement(word)
        else:
            assert word in ("--force-reinstall", "--no-deps", "--no-index"), word


_PIP_FILES = ("--constraint", "--find-links", "--dest")


def requirement(word: str) -> None:
    """Check what pip is asked for: an Airflow, or one of ours as a wheel, a folder, or a repository of git."""
    name, _, address = word.rpartition(" @ ")
    if "://" in address:
        provider = metadata("airflow-provider-xethub")
        repository = dict(each.split(", ") for each in provider.get_all("Project-URL", []))["Repository"]
        address, _, folder = address.partition("#subdirectory=")
        release = f"{repository}/releases/download/v{provider['Version']}/"
        if address.startswith("git+"):
            assert address == f"git+{repository}"
            word = f"./{folder}"
            assert name in ("", name_of(word))
        else:
            assert address.startswith(release), word
            word = f"./{address.removeprefix(release)}"
    name, bracket, extras = word.partition("[")
    if name.endswith(".whl"):
        name = re.fullmatch(r"\./(\w+)-(?:\*|[\d.]+-py3-none-any)\.whl", name)[1].replace("_", "-")
    elif name.startswith("."):
        name = name_of(name)
    name, _, pinned = name.partition("==")
    assert metadata(name)["Name"] == name
    assert pinned in ("", metadata(name)["Version"])
    if bracket:
        assert extras.rstrip("]") in metadata(name).get_all("Provides-Extra")


def name_of(folder: str) -> str:
    """The distribution that is built from a folder of the repository."""
    return re.findall(r'^name = "(.+)"', (ROOT / folder / "pyproject.toml").read_text(), re.MULTILINE)[0]


def git(words: list[str], _: Path) -> None:
    address = str(metadata("airflow-provider-xethub").get_all("Project-URL"))
    assert words[:2] == ["git", "clone"]
    assert f"Repository, {words[2]}'" in address


def cd(words: list[str], _: Path) -> None:
    assert words == ["cd", "airflow-provider-xethub"]


def composer(words: list[str], _: Path) -> None:
    """Check the command by hand, as there is no gcloud here: its flags, and an option as ``section-name=value``."""
    assert words[:4] == ["gcloud", "composer", "environments", "update"]
    flags = dict(zip(words[5::2], words[6::2], strict=True))
    assert set(flags) <= {"--location", "--update-pypi-package", "--update-airflow-configs"}
    assert flags.get("--update-pypi-package") in (None, "airflow-provider-xethub")
    section, option = flags.get("--update-airflow-configs", "xethub-telemetry=").split("-", 1)
    assert option.partition("=")[0] in get_provider_info.get_provider_info()["config"][section]["options"]


def astro(words: list[str], _: Path) -> None:
    """Check the command by hand. The name that it sets is compared in ``test_places.py``."""
    assert words[:4] == ["astro", "deployment", "variable", "create"]
    (assignment,) = words[4:]
    assert assignment.startswith("AIRFLOW__XETHUB__")


def grep(words: list[str], folder: Path) -> None:
    (folder / words[-1]).write_text("click==8.2.1\nrich-click==1.8.9\n")
    assert run(*words, cwd=folder) == "rich-click==1.8.9\n"


def xethub_token(words: list[str], folder: Path) -> None:
    if words[1] == "open":
        key = RecipientKey.generate()
        key.save(folder / words[words.index("--key") + 1])
        repo = Repo.from_uri(words[words.index("--repo") + 1])
        sealed = XetToken(repo, "write", "https://cas.example", pendulum.now().add(hours=1), access_token="t")
        document = json.dumps(sealed.to_document(None, renewed=False)).encode()
        (folder / words[2]).write_text(recipient.seal(document, key.public))
    execute(words, folder)


def airflow(words: list[str], _: Path) -> None:
    if words[1] == "edge":  # a command of a provider that is not installed here
        assert words == ["airflow", "edge", "worker", "--queues", "uploads"]
        return
    assert cli_parser.get_parser().parse_args(words[1:])


def export(words: list[str], _: Path) -> None:
    name, value = words[1].split("=", 1)
    if name.startswith("AIRFLOW_CONN_"):
        if value == "$(cat /run/secrets/xethub_default)":
            return  # test_connections_are_right_in_each_form
        check_connection(Connection.from_json(value, conn_id=name))
    else:
        assert (name, value) in (("AIRFLOW__CORE__LOAD_EXAMPLES", "False"), ("AIRFLOW__API__HOST", "127.0.0.1"))


def check_connection(connection: Connection) -> None:
    """It is one that the hook takes, and says what the page says."""
    from airflow_provider_xethub.hooks.connections import connection as read

    assert connection.conn_type == get_provider_info.CONNECTION_TYPE
    assert read.endpoint(connection) in ("https://huggingface.co", "http://127.0.0.1:7777")
    assert connection.password == (None if "identity" in connection.extra_dejson else "hf_…")
    extra = connection.extra_dejson
    assert set(extra) <= set(get_provider_info.CONNECTION_FIELDS)
    read_proxy = {"ca_bundle": "/etc/ssl/certs/acme.pem", "proxy": "http://user:password@proxy.acme.example:3128"}
    identity = {"identity": "file", "identity_file": "/var/run/secrets/huggingface/token"}
    defaults = {"repo_type": "dataset", "repo_id": "acme/corpus"}
    in_backend = {**defaults, "timeout": 60}
    limits = {"max_concurrency": 8, "max_bandwidth": "50MB", "min_rate": "1MB"}
    assert extra in ({}, defaults, in_backend, read_proxy, limits, {**identity, **defaults})


def test_connections_are_right_in_each_form():
    """Those that a file contains, as JSON and as URI, and a file of several."""
    found = []
    for block in snippets("json"):
        value = json.loads(block.body)
        if "conn_type" in value:
            found.append(Connection.from_json(block.body, conn_id="hub"))
        elif "xethub_default" in value:
            found += [Connection.from_json(json.dumps(fields), conn_id=name) for name, fields in value.items()]
    uris = re.findall(r"`(xethub://[^`]+)`", (ROOT / "docs/connection.md").read_text())
    found += [Connection("hub", uri=uri) for uri in uris]
    assert len(uris) == 2
    assert len(found) == 6
    for connection in found:
        check_connection(connection)


def keep(words: list[str], folder: Path) -> None:
    assert words[1:] == ["make", "demo"]
    make(words[1:], folder)


def make(words: list[str], _: Path) -> None:
    makefile = (ROOT / "Makefile").read_text()
    for word in words[1:]:
        name, is_set, value = word.partition("=")
        assert re.search(rf"^{name} \?=" if is_set else rf"^{name}:", makefile, re.MULTILINE), word
        assert all((ROOT / path).exists() for path in value.split() if "/" in path), word


def docker(words: list[str], _: Path) -> None:
    """Check the command by hand, as there is no engine here: its options, and the arguments of the local Hub."""
    if words[1] == "build":
        assert words[2:] == ["--tag", "xethub-local", "provider/local"]
        assert (ROOT / words[-1] / "Dockerfile").is_file()
        return
    assert words[1] == "run"
    at = words.index("xethub-local")
    assert {word for word in words[:at] if word.startswith("--")} <= {"--detach", "--publish", "--env"}
    if words[at + 1 :]:
        cli._parser().parse_args(words[at + 1 :])


def execute(words: list[str], folder: Path) -> None:
    assert run(*words, cwd=folder)


_COMMANDS: dict[str, Callable[[list[str], Path], None]] = {
    "pip": pip,
    "git": git,
    "cd": cd,
    "docker": docker,
    "gcloud": composer,
    "astro": astro,
    "grep": grep,
    "airflow": airflow,
    "export": export,
    "KEEP=1": keep,
    "make": make,
    "python": execute,
    "xethub-local": execute,
    "xethub-token": xethub_token,
}
# What tests below run as a whole.
_IN_A_WALKTHROUGH = {
    "quickstart.md": {"python3", "source", "mkdir", "printf", "head", "cp"},
    "local-hub.md": {"xethub-local", "eval", "echo", "hf"},
    "local-hub-ci.md": {"xethub-local", "eval", "npm"},
}


@pytest.mark.parametrize("block", snippets("bash"), ids=str)
def test_shell_snippets_are_right(block, tmp_path):
    for line in block.body.replace("\\\n", " ").splitlines():
        words = shlex.split(line)
        if words[0] in _IN_A_WALKTHROUGH.get(block.page, ()):
            continue
        _COMMANDS[words[0]](words, tmp_path)


@pytest.mark.parametrize("page", sorted({block.page for block in snippets("console")}))
def test_consoles_show_what_is_printed(page, tmp_path, capsys, data, monkeypatch):
    monkeypatch.chdir(data)
    (data / "photos/notes.csv").unlink()
    (data / "birds.csv").write_text("species,count\nAdelie,3\n")
    with LocalHub(tmp_path / "tidy") as hub, announced(hub.folder, hub.url):
        check_consoles(page, tmp_path, capsys)


def check_consoles(page, tmp_path, capsys):
    for block in snippets("console"):
        if block.page != page:
            continue
        assert block.body.startswith("$ ")
        for command, shown in sessions(block):
            assert command[0] == "xethub-local"
            if command[1] == "serve":
                with serving([*command[2:], *([] if "--port" in command else ["--port", "0"])], tmp_path) as printed:
                    port = re.search(r"127\.0\.0\.1:(\d+)", printed)
                    assert port
                    printed = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:7777", printed)
                    assert looks_like(printed, shown), printed
            elif page != "quickstart.md":  # there, test_the_quick_start_works_as_written runs it after the DAG
                capsys.readouterr()
                assert cli.main([*command[1:], "--folder", str(tmp_path / "tidy")]) == 0, capsys.readouterr().err
                printed = capsys.readouterr().out
                assert looks_like(printed, shown), printed


def test_the_quick_start_works_as_written(tmp_path):
    """With nothing of this test run's environment but the installed package."""
    follow_the_quick_start(BIN, tmp_path)


def script_environment(folder: Path) -> dict[str, str]:
    """What a new user's shell has, besides the installed package."""
    kept = {name: os.environ[name] for name in ("NO_PROXY", "no_proxy", "LANG") if name in os.environ}
    quiet = {"HF_HUB_DISABLE_UPDATE_CHECK": "1", "HF_XET_LOG_DEST": os.devnull}
    return {**kept, **quiet, "HOME": str(folder), "PATH": f"{BIN}:/usr/bin:/bin"}


def test_the_local_hub_starts_as_written(tmp_path):
    """The first lines of its page, in two terminals."""
    first, second = [block.body for block in snippets("bash") if block.page == "local-hub.md"][:2]
    assert len(first.splitlines()) + len(second.splitlines()) <= 10
    install, serve = first.splitlines()
    assert serve == "xethub-local serve"
    pip(shlex.split(install), tmp_path)
    with serving(["--port", "0"], tmp_path):
        run("bash", "-c", f"set -eu\n{second}", cwd=tmp_path, env=script_environment(tmp_path))
    assert (tmp_path / "copy/birds.csv").read_text() == "species,count\n"


def test_what_other_languages_and_a_step_of_ci_run_works_as_written(tmp_path):
    (of_shell,) = [b.body for b in snippets("bash") if b.page == "local-hub-ci.md" and "npm" in b.body]
    (of_step,) = [
        step["run"]
        for block in snippets("yaml")
        if block.page == "local-hub-ci.md" and "GITHUB_ENV" in block.body
        for step in yaml.safe_load(block.body)["jobs"]["test"]["steps"]
        if "GITHUB_ENV" in step.get("run", "")
    ]
    ask = f"{BIN / 'python'} -c \"from huggingface_hub import HfApi; print(HfApi().whoami()['name'])\""
    later = f"export $(cat $GITHUB_ENV)\n{ask}"
    for script in (of_shell.replace("npm test", ask), f"{of_step}\n{later}"):
        assert "serve" in script
        script = script.replace("xethub-local serve", "xethub-local serve --port 0")
        environment = {**script_environment(tmp_path), "GITHUB_ENV": str(tmp_path / "github.env")}
        whole = f"set -eu\ntrap 'kill $!; wait' EXIT\n{script}"
        assert "\nlocal\n" in run("bash", "-c", whole, cwd=tmp_path, env=environment)
    assert {line.partition("=")[0] for line in (tmp_path / "github.env").read_text().split()} == {
        "HF_ENDPOINT",
        "HF_TOKEN",
    }


def test_services_of_ci_fit_the_image():
    """The name and the port that clients are given are those of the image, and so is the token."""
    dockerfile = (ROOT / "provider/local/Dockerfile").read_text()
    names = {"localhost", *re.findall(r'"--allow-host", "(\w+)"', dockerfile)}
    port = re.search(r"^EXPOSE (\d+)$", dockerfile, re.MULTILINE)[1]
    found = 0
    for block in snippets("yaml"):
        if block.page == "local-hub-ci.md" and "services:" in block.body:
            content = yaml.safe_load(block.body)
            job = content.get("jobs", content)["test"]
            services = job["services"]
            service = services["hub"] if isinstance(services, dict) else services[0]
            chosen = (service.get("env") or service["variables"])["XETHUB_LOCAL_TOKEN"]
            variables = job.get("env") or job["variables"]
            assert variables["HF_TOKEN"] == chosen
            check_chosen_token(chosen)
            host, _, of_client = variables["HF_ENDPOINT"].removeprefix("http://").partition(":")
            assert (host in names, of_client) == (True, port)
            found += 1
    assert found == 2
