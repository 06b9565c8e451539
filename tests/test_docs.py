"""The documentation tells the truth: every snippet is run, every table compared with the code.

A snippet is a fenced block of a page. What is done with it depends on its language (``_CHECKS``); a language that is
not known here fails, so that none is skipped in silence.
"""

from __future__ import annotations

import ast
import configparser
import inspect
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import metadata
from pathlib import Path
from typing import Any, get_type_hints
from xml.etree import ElementTree

import pytest
from airflow.cli import cli_parser
from airflow.models.connection import Connection
from airflow.sdk import DAG, BaseOperator, BaseSensorOperator

from airflow_provider_xethub import exceptions, get_provider_info, records
from airflow_provider_xethub.commit import ADVISED_CHANGES, CommitRequest
from airflow_provider_xethub.commit_parts import MAX_CHANGES, MAX_INLINE_BYTES
from airflow_provider_xethub.decorators.xethub import PLACES, XetDecoratedOperator
from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.hub import MAX_TRIES, RETRY_BUDGET
from airflow_provider_xethub.local import cli, control_api
from airflow_provider_xethub.local.faults import READY_MADE, Fault
from airflow_provider_xethub.local.hub_errors import ConflictError
from airflow_provider_xethub.local.hub_of_one_test import HubOfOneTest
from airflow_provider_xethub.local.request_log import RequestLog
from airflow_provider_xethub.local.server import LocalHub
from airflow_provider_xethub.local.server_url import announced
from airflow_provider_xethub.operators import xethub as operators
from airflow_provider_xethub.repo import Repo
from airflow_provider_xethub.sensors import xethub as sensors
from airflow_provider_xethub.token import FRESH_MARGIN, SealedTokenDict
from airflow_runs import new_dag

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
BIN = Path(sys.executable).parent
PAGES = [*sorted(DOCS.glob("*.md")), ROOT / "README.md"]

_FENCE = re.compile(r"^(?P<fence>`{3,}|:{3,})(?P<info>\S.*)\n(?P<body>(?:.*\n)*?)(?P=fence)\s*$", re.MULTILINE)
_DIRECTIVES = {"{image}", "{toctree}", "{literalinclude}", "{include}", "{raw}", "{eval-rst}", "{warning}"}
_DOWN = "http://127.0.0.1:1"


@dataclass(frozen=True)
class Block:
    """A fenced block of a page, and the line it begins at."""

    page: str
    line: int
    info: str
    body: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}:{self.info.split()[0]}"

    @property
    def is_test(self) -> bool:
        return self.info == "python" and ("def test_" in self.body or "@pytest.fixture" in self.body)


def read_blocks(page: Path) -> list[Block]:
    text = page.read_text()
    found = list(_FENCE.finditer(text))
    assert len(re.findall(r"^\s*(?:`{3,}|~{3,}|:{3,})", text, re.MULTILINE)) == 2 * len(found), f"unread in {page.name}"
    return [
        Block(page.name, text[: match.start()].count("\n") + 1, match["info"].strip(), match["body"]) for match in found
    ]


BLOCKS = [block for page in PAGES for block in read_blocks(page)]
SNIPPETS = [block for block in BLOCKS if not block.info.startswith("{")]


def snippets(*languages: str) -> list[Block]:
    return [block for block in SNIPPETS if block.info in languages]


def test_every_block_is_of_a_kind_that_is_checked():
    assert len(PAGES) == 17
    for block in BLOCKS:
        assert block.info.split()[0] in _DIRECTIVES | {"python", "bash", "console", "json", "ini"}, str(block)
    for block in SNIPPETS:
        assert len(block.body.strip()) > 0, str(block)


# --- python -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The folder that stands for ``/data`` of the pages."""
    folder = tmp_path / "data"
    (folder / "photos").mkdir(parents=True)
    (folder / "photos/adelie.bin").write_bytes(bytes(range(256)) * 500)
    (folder / "photos/gentoo.bin").write_bytes(bytes(reversed(range(256))) * 500)
    (folder / "photos/notes.csv").write_text("species\nAdelie\n")
    (folder / "report.txt").write_text("all is well\n")
    return folder


@pytest.fixture
def corpus(hub, connection, data) -> Repo:
    """The repository ``acme/corpus`` of the pages, with what they expect to be in it."""
    repo = Repo("acme/corpus", "dataset")
    try:
        hub.create_repo("acme/corpus", "dataset")
        hub.create_repo("acme/published", "dataset")
    except ConflictError:
        pass
    else:
        XetHubConnection().publish(data, CommitRequest(repo, ()))
        hub.repositories.create_branch("datasets/acme/corpus", "v1")
    XetHubConnection().publish(data, CommitRequest(repo, ()))
    return repo


def imports_of(page: str) -> str:
    """What a page tells its readers to import, once, for all of its snippets."""
    blocks = [block.body for block in snippets("python") if block.page == page]
    return "\n".join(body for body in blocks if all(is_import_or_constant(node) for node in ast.parse(body).body))


def is_import_or_constant(node: ast.stmt) -> bool:
    if isinstance(node, ast.Assign):
        return all(isinstance(target, ast.Name) and target.id.isupper() for target in node.targets)
    return isinstance(node, (ast.Import, ast.ImportFrom))


def run_as_file(source: str, name: str) -> list[DAG]:
    """Run Python source as Airflow runs a DAG file; give its DAGs, and the one around for tasks outside of any."""
    namespace: dict[str, Any] = {}
    with new_dag() as around:
        exec(compile(source, name, "exec"), namespace)  # noqa: S102 - our own pages
    dags = {id(value): value for value in namespace.values() if isinstance(value, DAG)}
    dags |= {id(value.dag): value.dag for value in namespace.values() if isinstance(value, BaseOperator)}
    return list(({id(around): around} | dags).values())


@pytest.mark.parametrize("block", [block for block in snippets("python") if not block.is_test], ids=str)
def test_python_snippets_run_and_their_tasks_succeed(block, corpus, data, run_dag):
    source = (imports_of(block.page) + "\n" + block.body).replace("/data/", f"{data}/")
    for dag in run_as_file(source, str(block)):
        for task in dag.tasks:
            task.retries = 0  # what does not work at once should say so at once
        if dag.tasks:
            run = run_dag(dag)
            assert set(run.states.values()) == {"success"}, run.states


def write_pytest(folder: Path) -> list[Block]:
    """Write what the pages show as a user would: DAG files under their names, each test into a file of its own."""
    for block in snippets("python"):
        dag_file = re.match(r"# dags/(\w+\.py)\n", block.body)
        if dag_file:
            (folder / dag_file[1]).write_text(block.body)
    tests = [block for block in SNIPPETS if block.is_test]
    for block in tests:
        (folder / f"test_line_{block.line}.py").write_text(block.body)
    return tests


@pytest.mark.slow
def test_snippets_that_are_tests_pass(tmp_path, airflow_db):
    tests = write_pytest(tmp_path)
    assert {block.page for block in tests} == {"testing.md"}
    # Of the plugins of this machine only ours: where all are loaded, so is ours.
    environment = {
        **os.environ,
        "AIRFLOW__CORE__DAGS_FOLDER": str(tmp_path),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }
    done = run(sys.executable, "-m", "pytest", "-q", "-p", "airflow_provider_xethub.local.pytest_plugin", "-p",
               "no:cacheprovider", "-c", os.devnull, "--rootdir=.", ".", cwd=tmp_path, env=environment)  # fmt: skip
    assert f"{len(tests)} passed" in done


# --- shell ------------------------------------------------------------------------------------------------------------


def run(*command: str, cwd: Path, **options: Any) -> str:
    environment = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": ""}
    options.setdefault("env", environment)
    done = subprocess.run(command, cwd=cwd, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=250,
                          **options)  # fmt: skip
    assert done.returncode == 0, f"{shlex.join(command)}:\n{done.stdout[-5000:]}"
    return done.stdout


@contextmanager
def serving(arguments: list[str], folder: Path) -> Iterator[str]:
    """Run ``xethub-local serve`` until the block ends; gives what it prints."""
    command = [str(BIN / "xethub-local"), "serve", *arguments]
    process = subprocess.Popen(command, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert process.stdout
    try:
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith("Stop with"):
                break
        yield "".join(lines)
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
    assert process.returncode == 0


def pip_install(words: list[str], _: Path) -> None:
    name, bracket, extras = words[2].partition("[")
    assert words[:2] == ["pip", "install"]
    assert name == metadata("airflow-provider-xethub")["Name"]
    if bracket:
        assert extras.rstrip("]") in metadata("airflow-provider-xethub").get_all("Provides-Extra")


def airflow(words: list[str], _: Path) -> None:
    parsed = cli_parser.get_parser().parse_args(words[1:])
    if words[1:3] == ["connections", "add"]:
        check_connection(
            Connection(
                parsed.conn_id,
                conn_type=parsed.conn_type,
                host=parsed.conn_host,
                password=parsed.conn_password,
                extra=parsed.conn_extra,
            )
        )


def export(words: list[str], _: Path) -> None:
    name, _, value = words[1].partition("=")
    if name.startswith("AIRFLOW_CONN_"):
        if value.startswith("{"):
            check_connection(Connection.from_json(value, conn_id=name))
        else:
            check_connection(Connection(name, uri=value))
    else:
        assert name == "AIRFLOW__CORE__LOAD_EXAMPLES"


def check_connection(connection: Connection) -> None:
    """It is one that the hook takes, and says what the page says."""
    from airflow_provider_xethub.hooks import connection as read

    assert connection.conn_type == get_provider_info.CONNECTION_TYPE
    assert read.endpoint(connection) in ("https://huggingface.co", "http://127.0.0.1:7777")
    assert connection.password == "hf_…"
    extra = connection.extra_dejson
    assert set(extra) <= set(get_provider_info.CONNECTION_FIELDS)
    read_proxy = {"ca_bundle": "/etc/ssl/certs/acme.pem", "proxy": "http://user:password@proxy.acme.example:3128"}
    assert extra in ({}, {"repo_type": "dataset", "repo_id": "acme/corpus"}, read_proxy)


def make(words: list[str], _: Path) -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in words[1:]:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def execute(words: list[str], folder: Path) -> None:
    assert run(*words, cwd=folder)


_COMMANDS: dict[str, Callable[[list[str], Path], None]] = {
    "pip": pip_install,
    "airflow": airflow,
    "export": export,
    "make": make,
    "python": execute,
    "xethub-local": execute,
}
_IN_THE_WALKTHROUGH = {"mkdir", "printf", "head"}


@pytest.mark.parametrize("block", snippets("bash"), ids=str)
def test_shell_snippets_are_right(block, tmp_path):
    for line in block.body.splitlines():
        words = shlex.split(line)
        if block.page == "quickstart.md" and words[0] in _IN_THE_WALKTHROUGH:
            continue  # test_the_quick_start_works_as_written runs them
        _COMMANDS[words[0]](words, tmp_path)


def looks_like(printed: str, shown: str) -> bool:
    """Whether the output is what the page shows, where ``…`` stands for anything."""
    parts = [re.escape(part) for part in shown.strip().split("…")]
    return re.fullmatch("(?:.|\n)*?".join(parts), printed.strip()) is not None


def sessions(block: Block) -> list[tuple[list[str], str]]:
    """The commands of a console block, each with the output shown for it."""
    found = re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block.body, re.MULTILINE)
    return [(shlex.split(command), shown) for command, shown in found]


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


@pytest.mark.slow
def test_the_quick_start_works_as_written(tmp_path):
    """A new user's two terminals: nothing from this test run's environment but the installed package."""
    blocks = [block for block in SNIPPETS if block.page == "quickstart.md"]
    serve, *later = [session for block in blocks if block.info == "console" for session in sessions(block)]
    with serving([*serve[0][2:], "--port", "0"], tmp_path) as printed:
        url, token = re.search(r"http://\S+", printed)[0], re.search(r"write +(hf_\w+)", printed)[1]
        lines = [line for block in blocks if block.info == "bash" for line in block.body.splitlines()]
        lines = [line for line in lines if not line.startswith(("pip ", "airflow standalone"))]
        script = "\n".join(["set -eu", 'cp "$QUICKSTART" "$(mkdir -p ~/airflow/dags; echo ~/airflow/dags)"', *lines])
        for shown, real in {
            "http://127.0.0.1:7777": url,
            "hf_…": token,
            "/tmp/penguins": f"{tmp_path}/penguins",
        }.items():
            script = script.replace(shown, real)
        dag = tmp_path / "xethub_quickstart.py"
        dag.write_text(included("quickstart.md").read_text().replace("/tmp/penguins", f"{tmp_path}/penguins"))
        kept = {name: os.environ[name] for name in ("NO_PROXY", "no_proxy", "LANG") if name in os.environ}
        environment = kept | {"HOME": str(tmp_path), "PATH": f"{BIN}:/usr/bin:/bin", "QUICKSTART": str(dag)}
        output = run("bash", "-c", script, cwd=tmp_path, env=environment)
        tasks = [row[0].strip("`") for row in table("quickstart.md", "Task")]
        assert sorted(tasks) == sorted(task_ids(dag))
        assert re.search(r"state[=:'\" ]+success", output), output[-3000:]
        copies = {path.name for path in Path(f"{tmp_path}/penguins-copy").iterdir()}
        assert copies == {"penguins.csv", "photos.bin", "summary.csv"}
        for command, shown in later:
            assert looks_like(run(*command, cwd=tmp_path), shown)


def task_ids(dag_file: Path) -> set[str]:
    return {task.task_id for dag in run_as_file(dag_file.read_text(), dag_file.name) for task in dag.tasks}


def included(page: str) -> Path:
    (block,) = [block for block in BLOCKS if block.page == page and block.info.startswith("{literalinclude}")]
    return (DOCS / block.info.split()[1]).resolve()


def test_included_files_are_there():
    assert included("quickstart.md") == ROOT / "dags_example/xethub_quickstart.py"
    for block in BLOCKS:
        kind, *rest = block.info.split()
        if kind in ("{include}", "{literalinclude}"):
            assert (DOCS / rest[0]).is_file(), str(block)
        if kind == "{raw}":
            assert (DOCS / re.search(r":file: (\S+)", block.body)[1]).is_file(), str(block)


# --- json and ini -----------------------------------------------------------------------------------------------------


def keys(kind: Any) -> set[str]:
    return set(get_type_hints(kind))


_SHAPES: list[set[str]] = [
    keys(SealedTokenDict),
    keys(records.XetCommitResult),
    keys(records.XetPublishResult),
    keys(records.XetTransfer),
    keys(records.XetReceived),
    keys(records.XetCopied),
    keys(records.XetAssetEvent),
]


@pytest.mark.parametrize("block", snippets("json"), ids=str)
def test_json_has_the_real_shape(block):
    value = json.loads(block.body)
    if isinstance(value, list):
        for file in value:
            check_file(file)
    elif "xethub_default" in value:
        for conn_id, fields in value.items():
            connection = Connection.from_json(json.dumps(fields), conn_id=conn_id)
            connection.extra_dejson.pop("timeout")
            assert set(connection.extra_dejson) <= set(get_provider_info.CONNECTION_FIELDS)
    else:
        assert set(value) in _SHAPES, str(block)
        if "xet_token" in value:
            from airflow_provider_xethub.token import SealedToken

            assert SealedToken.from_xcom(value).to_xcom() == value


def check_file(file: dict[str, Any]) -> None:
    assert keys(records._XetFile) <= set(file) <= keys(records.XetFile)
    Repo.from_uri(file["repo"])


def test_what_operators_return_has_the_shape_that_is_shown(corpus, data, run_task):
    repo = {"repo_id": "acme/corpus", "repo_type": "dataset"}
    assert set(run_task(operators.XetTokenOperator, **repo).value) == keys(SealedTokenDict)
    listed = run_task(operators.XetListOperator, **repo).value
    assert {file["xet_hash"] is None for file in listed} == {True, False}
    published = run_task(operators.XetUploadOperator, source=str(data), **repo)
    assert set(published.value) == keys(records.XetPublishResult)
    assert set(published.xcoms["transfer"]) == keys(records.XetTransfer)
    uploaded = run_task(operators.XetUploadOperator, source=str(data), commit=False, **repo).value
    committed = run_task(operators.XetCommitOperator, files=uploaded, **repo).value
    assert set(committed) == keys(records.XetCommitResult)
    copied = run_task(operators.XetCopyOperator, files=listed, path_in_repo="copies", **repo).value
    assert set(copied) == keys(records.XetCopyResult)
    assert set(copied["copied"]) == keys(records.XetCopied)
    downloaded = run_task(operators.XetDownloadOperator, files=listed, destination=str(data / "copy"))
    assert set(downloaded.xcoms["transfer"]) == keys(records.XetReceived)
    for file in [*listed, *uploaded, *committed["files"], *downloaded.value]:
        check_file(file)


@pytest.mark.parametrize("block", snippets("ini"), ids=str)
def test_settings_exist(block):
    from airflow.configuration import conf

    parser = configparser.ConfigParser()
    parser.read_string(block.body)
    own = get_provider_info.get_provider_info()["config"]
    for section in parser.sections():
        known = set(own[section]["options"]) if section in own else set(conf.getsection(section) or {})
        assert set(parser[section]) <= known, f"{section}: {set(parser[section]) - known}"


# --- tables -----------------------------------------------------------------------------------------------------------


def table(page: str, first: str, section: str | None = None) -> list[list[str]]:
    """The rows of the table whose first heading is ``first``, in a page or one of its sections."""
    text = (DOCS / page).read_text()
    if section:
        text = text.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    lines = iter(text.splitlines())
    for line in lines:
        if line.startswith((f"| {first} |", f"| `{first}")):
            assert set(next(lines)) <= set("|-")
            rows = []
            for row in lines:
                if not row.startswith("|"):
                    return rows
                rows.append([cell.strip() for cell in row[1:-1].split("|")])
            return rows
    return []


def shown_default(parameter: inspect.Parameter) -> str:
    if parameter.default is inspect.Parameter.empty:
        return "required"
    default = parameter.default
    return f'`"{default}"`' if isinstance(default, str) else f"`{default!r}`"


def public_classes() -> list[type]:
    return [
        value
        for module in (operators, sensors)
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, BaseOperator)
        and value.__module__.startswith("airflow_provider_xethub.")
        and value not in (operators.XetOperator, operators.XetTransferOperator, sensors.XetSensor)
    ]


def arguments_of(kind: type) -> dict[str, inspect.Parameter]:
    own: dict[str, inspect.Parameter] = {}
    for base in kind.__mro__:
        if base in (BaseOperator, BaseSensorOperator):
            break
        if "__init__" in vars(base):
            own = dict(inspect.signature(vars(base)["__init__"]).parameters) | own
    return {name: parameter for name, parameter in own.items() if name not in ("self", "kwargs")}


@pytest.mark.parametrize("kind", public_classes(), ids=lambda kind: kind.__name__)
def test_every_argument_is_documented_with_its_default(kind):
    own = table("operators.md", "Argument", kind.__name__)
    common = table("operators.md", "Argument", "Arguments of every operator")
    rows = {row[0].strip("`"): row for row in (common if issubclass(kind, operators.XetOperator) else []) + own}
    arguments = arguments_of(kind)
    assert set(rows) == set(arguments)
    for name, parameter in arguments.items():
        assert rows[name][1] == shown_default(parameter), name
        assert rows[name][2] == ("yes" if name in kind.template_fields else "no"), name
        assert rows[name][3], name
    text = (DOCS / "operators.md").read_text().partition(f"\n## {kind.__name__}\n")[2].partition("\n## ")[0]
    assert "**Returns**" in text
    assert re.search(r"\*\*[Rr]etries", text)
    assert f"{kind.__name__}(" in text


def test_every_argument_of_the_decorator_is_documented_with_its_default():
    rows = {row[0].strip("`"): row for row in table("operators.md", "Argument", "@task.xethub")}
    arguments = arguments_of(XetDecoratedOperator)
    upload = arguments_of(operators.XetUploadOperator)
    of_airflow = {"python_callable", "op_args", "op_kwargs", "kwargs_to_upstream", "task_id"}
    # An upload's patterns say what to take of its source; here they say what to download.
    assert set(rows) == set(arguments) - of_airflow - set(upload) | {"patterns"}
    for name, row in rows.items():
        assert row[1] == shown_default(arguments[name])
        assert row[2] == ("yes" if name in XetDecoratedOperator.template_fields else "no"), name
    text = (DOCS / "operators.md").read_text().partition("\n## @task.xethub\n")[2].partition("\n## ")[0]
    common = set(arguments_of(operators.XetOperator)) | {"source"}
    assert all(f"`{name}`" in text for name in set(upload) - common)
    assert [row[0].strip("`") for row in table("operators.md", "Parameter", "@task.xethub")] == list(PLACES)


def test_the_hook_has_the_methods_that_are_listed():
    for row in table("operators.md", "Method"):
        for name, arguments in re.findall(r"`(\w+)(?:\(([^)]*)\))?`", row[0]):
            member = inspect.getattr_static(XetHubConnection, name)
            for argument in filter(None, re.split(r", ?", arguments)):
                assert argument == "…" or argument in inspect.signature(member).parameters, f"{name}: {argument}"


def all_errors() -> dict[str, type[exceptions.XetHubError]]:
    return {
        name: value
        for name, value in vars(exceptions).items()
        if isinstance(value, type) and issubclass(value, exceptions.XetHubError)
    }


def built_ins(kind: type) -> set[str]:
    """The built-in exceptions that it is, without those that these are themselves."""
    bases = [base for base in kind.__mro__ if base.__module__ == "builtins" and base is not Exception]
    inner = {base for other in bases for base in other.__mro__[1:]}
    return {base.__name__ for base in bases if base not in inner}


def test_every_error_is_documented_with_its_base_and_whether_it_is_retried():
    rows = {row[0].strip("`"): row for row in table("errors.md", "Error")}
    assert list(rows) == list(all_errors())
    for name, kind in all_errors().items():
        _, also, happened, _, retried = rows[name]
        assert retried == ("yes" if kind.retryable else "no"), name
        assert set(re.findall(r"`(\w+)`", also)) == built_ins(kind) - {"BaseException", "object"}, name
        assert happened, name


def test_errors_that_other_pages_name_exist():
    for page in PAGES:
        for name in re.findall(r"`(Xet\w+Error)`", page.read_text()):
            assert name in all_errors(), f"{page.name}: {name}"


def test_every_connection_field_is_documented():
    rows = {re.search(r"`(\w+)`", row[1])[1]: row for row in table("connection.md", "Field in the UI")}
    labels = {name: field["label"] for name, field in get_provider_info.CONNECTION_FIELDS.items()}
    behaviour = get_provider_info.FIELD_BEHAVIOUR
    labels |= behaviour["relabeling"]
    assert {name: row[0] for name, row in rows.items()} == labels
    for name, field in get_provider_info.CONNECTION_FIELDS.items():
        _, where, what = rows[name]
        assert where == f"extra `{name}`"
        for word in re.findall(r"[a-z]{5,}", field["description"].lower()):
            assert word in what.lower(), f"{name}: {word}"
        for bound in ("minimum", "maximum"):
            assert bound not in field["schema"] or str(field["schema"][bound]) in what
        for value in field["schema"].get("enum", []):
            assert f"`{value}`" in what
    hidden = re.search(r"The UI hides ([^:]*):", (DOCS / "connection.md").read_text())[1]
    assert set(re.findall(r"`(\w+)`", hidden)) == set(behaviour["hidden-fields"])


_WHOAMI = "GET /api/whoami-v2"
_PROVOKED: dict[str, tuple[dict[str, Any], Fault | None]] = {
    "Connected to": ({}, None),
    "only public repositories work": ({"password": ""}, None),
    "is missing, wrong or expired": ({"password": "hf_wrong"}, None),
    "may not do this": ({}, Fault(_WHOAMI, status=403)),
    "could not be reached": ({"host": _DOWN}, None),
    "did not answer to": ({"extra": {"timeout": 1}}, Fault(_WHOAMI, delay=1.2)),
    "is not trusted here": ({"host": "https://hub.example"}, None),
    "wants a user and a password": ({}, Fault(_WHOAMI, status=407)),
    "is not the URL of a proxy": ({"extra": {"proxy": "proxy.example:3128"}}, None),
    "with an HTML page": ({}, Fault(_WHOAMI, status=200, headers={"Content-Type": "text/html"}, body="<html>")),
    "it is not a Hub": ({}, Fault(_WHOAMI, status=404)),
    "redirects to": ({}, Fault(_WHOAMI, status=302, headers={"Location": "https://elsewhere.example/"})),
    "is not the URL of a Hub": ({"host": "ftp://hub"}, None),
    "has blanks in it": ({"password": "hf_a hf_b"}, None),
    "is not a text": ({"extra": {"ca_bundle": 5}}, None),
    "is not a JSON object.": ({"extra": "[]"}, None),
    "is not 1 to 600 seconds": ({"extra": {"timeout": 0}}, None),
    "is not a JSON object of texts": ({"extra": {"secret_headers": "X-Key: 1"}}, None),
}


def test_every_answer_of_the_connection_test_is_explained():
    assert [row[0].strip("`") for row in table("connection.md", "The answer has")] == list(_PROVOKED)


@pytest.mark.parametrize("fragment", _PROVOKED)
def test_the_connection_test_answers_as_explained(fragment, hub, connection, monkeypatch):
    fields, fault = _PROVOKED[fragment]
    if fragment == "is not trusted here":
        import requests

        monkeypatch.setattr(requests.Session, "send", _untrusted)
    # Tries and waits are tested elsewhere.
    monkeypatch.setattr("airflow_provider_xethub.hub.MAX_TRIES", 1)
    monkeypatch.setattr("airflow_provider_xethub.hub.with_retries", lambda once, **_: once())
    if fault:
        hub.faults.add(fault)
    connection(**fields)
    works, message = XetHubConnection().test_connection()
    assert fragment in message
    assert works == (fragment in ("Connected to", "only public repositories work"))


def _untrusted(*_: Any, **__: Any) -> None:
    import requests

    raise requests.exceptions.SSLError("certificate verify failed")


OWN_KEY, OTHER_KEY = "b3VyIG93biBrZXkgZm9yIHRoZSB0ZXN0cyBvbmx5ISE=", "c29tZSBvdGhlciBrZXkgZm9yIHRoZSB0ZXN0cyEhISE="


@pytest.mark.parametrize("with_connection", [True, False])
@pytest.mark.parametrize(
    "row",
    [row for row in table("tokens.md", "The token is") if not row[0].startswith("forgotten")],
    ids=lambda row: row[0][:20],
)
def test_tokens_that_cannot_be_used_end_as_the_table_says(row, with_connection, corpus, hub, run_task, monkeypatch):
    monkeypatch.setattr("airflow_provider_xethub.hooks.keys._airflow", lambda: None)
    monkeypatch.setenv("AIRFLOW__XETHUB__FERNET_KEY", OWN_KEY)
    hub.access.token_life = {"stale: less than 30 seconds left": 20, "expired": 2}.get(row[0], 900)
    value: Any = run_task(operators.XetTokenOperator, repo_id="acme/corpus", repo_type="dataset").value
    asked = corpus
    if row[0] == "expired":
        monkeypatch.setattr("time.time", lambda now=time.time: now() + 10)
    elif row[0].startswith("a reference"):
        monkeypatch.setenv("AIRFLOW__XETHUB__FERNET_KEY", OTHER_KEY)
    elif row[0].startswith("for another"):
        asked = Repo("acme/other", "dataset")
    elif row[0].startswith("changed"):
        value = {**value, "expires_at": "2099-01-01T00:00:00Z"}
    hub.access.token_life = 900
    hub.log.clear()
    hook = XetHubConnection("xethub_default" if with_connection else None)
    says = row[1] if with_connection else row[2]
    error = re.search(r"`(\w+)`", says)
    if error:
        with pytest.raises(all_errors()[error[1]]):
            hook.fresh_token(value, "read", asked)
        assert not hub.log.requests()
    else:
        hook.fresh_token(value, "read", asked)
        assert len(hub.log.requests("GET .*/xet-read-token/.*")) == ("fetches another one" in says)


@pytest.mark.parametrize("with_connection", [True, False])
def test_forgotten_tokens_end_as_the_table_says(with_connection, corpus, data, run_task):
    with new_dag() as dag:
        token = operators.XetTokenOperator(task_id="token", scope="write", repo_id="acme/corpus", repo_type="dataset")
        operators.XetUploadOperator(
            task_id="upload",
            source=str(data),
            commit=False,
            token=token.output,
            repo_id="acme/corpus",
            repo_type="dataset",
            xethub_conn_id="xethub_default" if with_connection else None,
        )
    (row,) = [row for row in table("tokens.md", "The token is") if row[0].startswith("forgotten")]
    run = run_task(dag.get_task("upload"))
    if with_connection:
        assert "fetches another one" in row[1]
        assert run.value
    else:
        assert f"`{type(run.error).__name__}`" in row[2]
        assert "write token >> upload" in run.text


def test_numbers_in_the_pages_are_those_of_the_code():
    errors, tokens = (DOCS / "errors.md").read_text(), (DOCS / "tokens.md").read_text()
    assert "at most five times and for at most a minute" in errors
    assert (MAX_TRIES, RETRY_BUDGET) == (5, 60)
    assert f"more than {FRESH_MARGIN:.0f} seconds before the expiry" in tokens
    operators_page = (DOCS / "operators.md").read_text()
    assert f"More than {MAX_CHANGES:,} changes, or more than {MAX_INLINE_BYTES >> 20} MiB of files" in operators_page
    assert f"down to the {ADVISED_CHANGES} changes that the Hub advises" in operators_page


def test_every_command_and_option_of_the_local_hub_is_documented(capsys):
    text = (DOCS / "local-hub.md").read_text()
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    commands = re.findall(r"^    ([a-z-]+)$|^    ([a-z-]+)  ", capsys.readouterr().out, re.MULTILINE)
    assert len(commands) == 9
    for command in (first or second for first, second in commands):
        assert f"$ xethub-local {command}" in text
        with pytest.raises(SystemExit):
            cli.main([command, "--help"])
        for option in re.findall(r"^  (--[a-z-]+)", capsys.readouterr().out, re.MULTILINE):
            assert option in text, f"{command} {option}"
    defaults = {row[0].strip("`"): row[1].strip("`") for row in table("local-hub.md", "Option")}
    options = cli._parser().parse_args(["serve"])
    for option, default in defaults.items():
        value = getattr(options, option.strip("-").replace("-", "_"))
        assert default == str(value) if value else default in ("off", "none", "the host that clients ask for"), option


def test_every_fault_is_documented():
    shown = " ".join(row[0] for row in table("testing.md", "Fault(…)"))
    for name in set(inspect.signature(Fault).parameters) - {"route", "body"}:
        assert f"`{name}=" in shown, name
    for row in table("testing.md", "Fault(…)"):
        Fault(**{"route": ".*", "delay": 1.0} | eval(f"dict({row[0].strip('`')})"))  # noqa: S307 - our own page


def test_ready_made_faults_are_those_of_the_code():
    rows = {row[0].strip("`"): row[1] for row in table("testing.md", "Name")}
    assert rows == {name: made.description for name, made in READY_MADE.items()}


def test_the_fixtures_have_what_the_page_lists():
    of_the_server = {"add", "add_report", "clear", "close"}
    for first, kind in (("xethub", HubOfOneTest), ("xethub.log", RequestLog)):
        shown = {name for row in table("testing.md", f"`{first}`") for name in re.findall(r"`(\w+)", row[0])}
        there = {name for name in vars(kind) if not name.startswith("_")}
        there |= set(re.findall(r":ivar (\w+):", kind.__doc__ or ""))
        assert shown == there - of_the_server, first


def test_every_control_route_is_documented():
    shown = {row[0].strip("`") for row in table("testing.md", "Request")}
    there = {f"{method} {route.path}" for route in control_api.routes(None) for method in route.methods - {"HEAD"}}
    assert shown == there


# --- the pages themselves ---------------------------------------------------------------------------------------------


def test_architecture_names_every_module():
    text = (DOCS / "architecture.md").read_text()
    package = ROOT / "provider/airflow_provider_xethub"
    for path in package.iterdir():
        if path.name not in ("__init__.py", "__pycache__", "py.typed"):
            assert f"`{path.name}{'/' if path.is_dir() else ''}`" in text, path.name
    for name in re.findall(r"^\| `([^`|]+)`", text, re.MULTILINE):
        if name.endswith((".py", "/")):
            assert (package / name).exists(), name


def test_the_diagram_is_an_svg_file_that_loads_nothing():
    text = (DOCS / "token-flow.svg").read_text()
    assert ElementTree.fromstring(text).tag == "{http://www.w3.org/2000/svg}svg"  # noqa: S314 - our own file
    assert not re.search(r"href|@import|https?://(?!www\.w3\.org/2000/svg)", text)


def test_links_between_pages_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_pages_show_no_real_credential():
    for page in PAGES:
        text = page.read_text()
        assert not re.search(r"hf_[A-Za-z0-9]{20}", text), page.name


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_reads_without_a_network(tmp_path):
    command = ["sphinx-build", "-W", "--keep-going", "-q", "-b", "html", str(DOCS), str(tmp_path / "html")]
    environment = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    environment.pop("AIRFLOW_HOME")
    run(*command, "-d", str(tmp_path / "doctrees"), cwd=tmp_path, env=environment)
    pages = list((tmp_path / "html").glob("*.html"))
    assert {page.with_suffix(".html").name for page in PAGES if page.parent == DOCS} <= {page.name for page in pages}
    for page in pages:
        loads = re.findall(r"<(?:script|img|link|iframe)\b[^>]*?(?:src|href)=\"(?:https?:)?//[^\"]*", page.read_text())
        assert not loads, f"{page.name}: {loads}"
