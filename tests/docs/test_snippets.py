"""The documentation tells the truth: every snippet is run, every table compared with the code.

A snippet is a fenced block of a page. What is done with it depends on its language; a language that is not known here
fails, so that none is skipped in silence. Those of the shell are in ``test_shell.py``, and tables are in
``test_tables.py``.
"""

from __future__ import annotations

import ast
import configparser
import importlib
import importlib.util
import json
import os
import re
import sys
from pathlib import Path
from typing import Any, get_type_hints
from xml.etree import ElementTree

import pytest
from airflow.models.connection import Connection

from airflow_provider_xethub import get_provider_info
from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.operators import xethub as operators
from airflow_provider_xethub.xet import records, token
from airflow_provider_xethub.xet.repo import Repo
from airflow_provider_xethub.xet.token_binding import TokenBindingDict
from support.documentation import (
    BLOCKS,
    DOCS,
    PAGES,
    ROOT,
    SNIPPETS,
    Block,
    included,
    run,
    run_as_file,
    snippets,
)

_DIRECTIVES = {"{image}", "{toctree}", "{literalinclude}", "{include}", "{raw}", "{eval-rst}", "{warning}"}
# Those after the first line are in test_places.py.
_LANGUAGES = {"python", "bash", "console", "json", "ini", "yaml"} | {"dockerfile", "text"}
# Run in Node, by tests/local/clients/javascript/test_documentation.py.
_LANGUAGES |= {"javascript"}


def test_every_block_is_of_a_kind_that_is_checked():
    assert len(PAGES) > 30
    for block in BLOCKS:
        assert block.info.split()[0] in _DIRECTIVES | _LANGUAGES, str(block)
    for block in SNIPPETS:
        assert len(block.body.strip()) > 0, str(block)


# --- python -----------------------------------------------------------------------------------------------------------


def imports_of(page: str) -> str:
    """What the snippets of a page use without importing it: what the first one imports, and those that only import."""
    bodies = [ast.parse(block.body).body for block in snippets("python") if block.page == page and not block.is_test]
    shared = [node for node in bodies[0] if is_import_or_constant(node)]
    shared += [node for body in bodies[1:] if all(map(is_import_or_constant, body)) for node in body]
    return "\n".join(ast.unparse(node) for node in shared)


def is_import_or_constant(node: ast.stmt) -> bool:
    if isinstance(node, ast.Assign):
        return all(isinstance(target, ast.Name) and target.id.isupper() for target in node.targets)
    return isinstance(node, (ast.Import, ast.ImportFrom))


@pytest.mark.parametrize("block", [block for block in snippets("python") if not block.is_test], ids=str)
def test_python_snippets_run_and_their_tasks_succeed(block, corpus, data, run_dag, request):
    if "hf_token" in block.body:
        request.getfixturevalue("without_the_provider")
    # There is no S3 here; everything but the storage is the same for a folder as for a bucket.
    source = (imports_of(block.page) + "\n" + block.body).replace("s3://aws_default@lake/", "file:///data/")
    source = source.replace("/data/", f"{data}/")
    source = source.replace("/opt/transfer.py", str(DOCS / "examples/hand_over/transfer.py"))
    for dag in run_as_file(source, str(block)):
        if "S3Hook" in block.body:
            assert {task.task_id for task in dag.tasks} <= {"find", "copy"}
            continue  # it parses; to run it takes an S3 that the hook of the Amazon provider reaches
        for task in dag.tasks:
            task.retries = 0  # what does not work at once should say so at once
        if dag.tasks:
            run = run_dag(dag)
            # Nothing has triggered the consumer of an event: it has nothing to do.
            skipped = {"skipped"} if "triggering_asset_events" in block.body else set()
            assert {"success"} <= set(run.states.values()) <= {"success"} | skipped, run.states


_JOBS = """publish download fan-out mirror copy release waiting functions object-storage repositories filesystem
large-results handover recipes assets tokens operators"""


@pytest.mark.parametrize("page", _JOBS.split())
def test_the_page_of_a_job_begins_with_a_dag_that_runs_as_pasted(page):
    first = next(block for block in BLOCKS if block.page == f"{page}.md")
    assert first.line <= 11, "at most ten lines before it"
    including = first.info.startswith("{literalinclude}")
    code = included(first.page, first).read_text() if including else first.body
    assert "with DAG(" in code
    assert first.info == "python" or including
    only_imports = [
        b
        for b in snippets("python")
        if b.page == first.page and all(map(is_import_or_constant, ast.parse(b.body).body))
    ]
    assert only_imports == [], "an example has its imports with it"


def write_pytest(folder: Path) -> list[Block]:
    """Write what the pages show as a user would: modules under their names, each test into a file of its own."""
    for block in snippets("python"):
        named = re.match(r"# (?:dags/)?(\w+\.py)\n", block.body)
        if named:
            (folder / named[1]).write_text(block.body)
    tests = [block for block in SNIPPETS if block.is_test]
    for block in tests:
        name = block.page.removesuffix(".md").replace("-", "_")
        (folder / f"test_{name}_{block.line}.py").write_text(block.body)
    return tests


def test_snippets_that_are_tests_pass(tmp_path, airflow_db):
    tests = write_pytest(tmp_path)
    assert {block.page for block in tests} == {"testing.md", "local-hub-ci.md"}
    # What the page shows does not depend on how long the client waits before it retries.
    impatient = "from airflow_provider_xethub.xet.cas import session\n\nsession.RETRY_DELAY = '20ms'\n"
    (tmp_path / "conftest.py").write_text(impatient)
    # Of the plugins of this machine only ours: where all are loaded, so is ours.
    environment = {
        **os.environ,
        "AIRFLOW__CORE__DAGS_FOLDER": str(tmp_path),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }
    done = run(sys.executable, "-m", "pytest", "-q", "-p", "xethub_local.pytest_plugin", "-p",
               "no:cacheprovider", "-c", os.devnull, "--rootdir=.", ".", cwd=tmp_path, env=environment)  # fmt: skip
    assert f"{sum(block.body.count('def test_') for block in tests)} passed" in done


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
    keys(token.TokenDocument),
    keys(token._SealedTokenFields),
    keys(TokenBindingDict),
    keys(records.XetCommitResult),
    keys(records.XetPublishResult),
    keys(records.XetTransfer),
    keys(records.XetReceived),
    keys(records.XetCopied),
    keys(records._XetMirrorPlan),
    keys(records.XetAssetEvent),
    keys(records.XetRepo),
    keys(records.XetRef),
    keys(records.XetSquashResult),
    keys(records.XetCleanup),
    {"kty", "crv", "x"},  # the public key of a recipient, a JWK
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
            assert set(connection.extra_dejson) <= set(get_provider_info.CONNECTION_FIELDS)
    elif "conn_type" in value:
        assert set(Connection.from_json(block.body).extra_dejson) <= set(get_provider_info.CONNECTION_FIELDS)
    else:
        assert set(value) in _SHAPES, str(block)
        if "xet_token" in value:
            from airflow_provider_xethub.xet.token import SealedToken

            assert SealedToken.from_xcom(value).to_xcom() == value


def check_file(file: dict[str, Any]) -> None:
    assert keys(records._XetFile) <= set(file) <= keys(records.XetFile)
    Repo.from_uri(file["repo"])


def test_what_operators_return_has_the_shape_that_is_shown(corpus, data, run_task):
    repo = {"repo_id": "acme/corpus", "repo_type": "dataset"}
    assert set(run_task(operators.XetTokenOperator, **repo).value) == keys(token._SealedTokenFields)
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
    mirror = {"path_in_repo": "mirror", **repo}
    mirrored = run_task(operators.XetMirrorOperator, source=str(data / "copy"), **mirror)
    assert set(mirrored.value) == keys(records.XetMirrorResult)
    assert set(mirrored.value["plan"]) == keys(records._XetMirrorPlan)
    assert set(mirrored.xcoms["transfer"]) == keys(records.XetTransfer)
    fetched = run_task(operators.XetMirrorOperator, destination=str(data / "mirror"), **mirror)
    assert set(fetched.value) == keys(records.XetMirrorDownload)
    for file in [*listed, *uploaded, *committed["files"], *downloaded.value]:
        check_file(file)


# As documented by their providers, which are not installed here.
_OF_OTHER_PROVIDERS = {"edge": {"api_enabled", "api_url"}}
# What Airflow asks for a secret instead of reading it.
_HOW = ("cmd", "secret")


@pytest.mark.parametrize("block", snippets("ini"), ids=str)
def test_settings_exist(block):
    from airflow.configuration import conf

    parser = configparser.ConfigParser()
    parser.read_string(block.body)
    own = get_provider_info.get_provider_info()["config"]
    for section in parser.sections():
        known = set(own[section]["options"]) if section in own else set(conf.getsection(section) or {})
        known |= set(conf.configuration_description.get(section, {}).get("options", {}))  # also those without a default
        known |= _OF_OTHER_PROVIDERS.get(section, set())
        known |= {f"{name}_{how}" for name in known if (section, name) in conf.sensitive_config_values for how in _HOW}
        assert set(parser[section]) <= known, f"{section}: {set(parser[section]) - known}"


@pytest.mark.parametrize("block", snippets("yaml"), ids=str)
def test_yaml_is_valid_and_issues_id_tokens_for_the_hub(block):
    import yaml

    audiences = re.findall(r"\b(?:aud|audience): (.*)", block.body)
    assert set(audiences) <= {"https://huggingface.co"}
    content = yaml.safe_load(block.body)
    assert isinstance(content, dict)
    if content.get("kind") == "Pod" and "serviceAccountToken" in block.body:
        (container,), (volume,) = content["spec"]["containers"], content["spec"]["volumes"]
        (mount,), (source,) = container["volumeMounts"], volume["projected"]["sources"]
        assert mount["name"] == volume["name"]
        path = f"{mount['mountPath']}/{source['serviceAccountToken']['path']}"
        assert f"identity_files = {path}" in (DOCS / block.page).read_text()


# --- the pages themselves ---------------------------------------------------------------------------------------------


def test_the_architecture_page_names_every_room_that_exists_and_no_other():
    text = (DOCS / "architecture.md").read_text()
    package = ROOT / "provider/airflow_provider_xethub"
    local = ROOT / "provider/local/xethub_local"
    rooms = [*package.iterdir(), *(package / "xet").iterdir(), *(path for path in local.iterdir() if path.is_dir())]
    for path in rooms:
        if (path.name.startswith("_") and path.name != "_moved.py") or path.name == "py.typed":
            continue
        if path.is_dir() or path.parent == package:
            name = path.relative_to(local if path.is_relative_to(local) else package).as_posix()
            assert f"`{name}{'/' if path.is_dir() else ''}`" in text, name
    table = text.partition("\n## Rooms")[2].partition("\n## Dep")[0]
    for row in re.findall(r"^\| (`[^|]+`) \|", table, re.MULTILINE):
        for name in re.findall(r"`([^`]+(?:\.py|/))`", row):
            assert (package / name).exists(), name


def test_the_names_on_the_architecture_page_exist():
    text = (DOCS / "architecture.md").read_text()
    rooms = ("assets", "decorators", "fs", "hooks", "links", "plugins", "sensors", "triggers", "xet")
    found = set(re.findall(rf"`((?:{'|'.join(rooms)})\.[\w.]+)`", text))
    assert len(found) > 40
    for name in sorted(found):
        module, attributes = f"airflow_provider_xethub.{name}", []
        while not find_module(module):
            module, _, attribute = module.rpartition(".")
            attributes.insert(0, attribute)
        thing = importlib.import_module(module)
        for attribute in attributes:
            thing = getattr(thing, attribute, None) or pytest.fail(f"{name}: no {attribute} in {thing}")
    for name in re.findall(r"`hook\.(\w+)", text):
        assert hasattr(XetHubConnection, name), name


def find_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def test_the_diagram_is_an_svg_file_that_loads_nothing():
    text = (DOCS / "token-flow.svg").read_text()
    assert ElementTree.fromstring(text).tag == "{http://www.w3.org/2000/svg}svg"  # noqa: S314 - our own file
    assert not re.search(r"href|@import|https?://(?!www\.w3\.org/2000/svg)", text)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_row_stands_in_a_table(page):
    """A row after an empty line is shown as text."""
    lines = re.sub(r"(?ms)^```.*?^```$", "", page.read_text()).splitlines()
    firsts = [n for n, line in enumerate(lines) if line.startswith("|") and not lines[n - 1].startswith("|")]
    assert [lines[n] for n in firsts if not re.fullmatch(r"[|: -]+", lines[n + 1])] == []


def test_links_between_pages_lead_somewhere():
    for page in [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md"]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_what_contributors_are_told_to_run_exists():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"\bmake ([a-z-]+)", (ROOT / "CONTRIBUTING.md").read_text()):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_pages_show_no_real_credential():
    for page in PAGES:
        text = page.read_text()
        assert not re.search(r"hf_[A-Za-z0-9]{20}", text), page.name


# --- DAGs -------------------------------------------------------------------------------------------------------------


def dag_calls() -> list[tuple[str, str, ast.Call]]:
    """Return where a DAG begins, the code around it, and the call that makes it."""
    codes = [(path.name, path.read_text()) for path in sorted((ROOT / "dags_example").glob("*.py"))]
    codes += [(str(block), block.body) for block in SNIPPETS if block.info.split()[0] == "python"]
    return [
        (where, code, item.context_expr)
        for where, code in codes
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.With)
        for item in node.items
        if isinstance(item.context_expr, ast.Call) and ast.unparse(item.context_expr.func) == "DAG"
    ]


def test_every_dag_of_the_examples_retries_as_one_in_production_does():
    calls = dag_calls()
    assert len(calls) > 12
    for where, code, call in calls:
        shared = [each for each in call.keywords if each.arg is None]  # **OPTIONS
        given = [ast.unparse(each.value) for each in call.keywords if each.arg == "default_args"]
        assert "'retries'" in "".join(given) or ((shared or given == ["RETRIES"]) and '"retries"' in code), where
