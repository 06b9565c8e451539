"""What may import what (docs: the arrows of the design), and what a DAG file costs to parse."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import airflow_provider_xethub

NAME = "airflow_provider_xethub"
PROVIDER = Path(airflow_provider_xethub.__file__).parent
MODULES = {path.relative_to(PROVIDER).with_suffix("").as_posix(): path for path in PROVIDER.rglob("*.py")}

CLIENTS = {"requests", "urllib3", "hf_xet", "huggingface_hub", "tenacity", "cryptography"}
BORDERS = (
    *("hooks/", "decorators/", "operators/", "sensors/", "triggers/", "assets/", "fs/", "links/", "plugins/"),
    "retry_policy",
)
PURE = ("repo", "token", "exceptions", "answers", "path_patterns", "source_rules")
SHARED = {"repo", "exceptions", "path_patterns", "source_rules", "source_scan"}  # what the local Hub may use as well
LOCAL = sorted(name for name in MODULES if name.startswith("local/"))
BENEATH = sorted(name for name in MODULES if not name.startswith((*BORDERS, "local/")))

# Each arrow of the design, for the modules of the provider itself.
ALLOWED = {
    "exceptions": set(),
    "records": set(),
    "bounded_answers": set(),
    "answers": {"records"},
    "retry_policy": {"exceptions"},
    "progress": {"exceptions", "records"},
    "get_provider_info": set(),
    "arguments": {"repo", "exceptions"},
    "repo": {"exceptions"},
    "urls": set(),
    "redaction": set(),
    "token": {"urls", "repo", "exceptions"},
    "token_relay": {"token", "exceptions"},
    "workers": {"progress", "exceptions"},
    "object_writers": set(),
    "storage_entries": {"exceptions"},
    "object_storage": {"object_writers", "part_files", "storage_entries", "exceptions"},
    "path_patterns": {"arguments"},
    "source_rules": {"part_files", "exceptions"},
    "source_scan": {"path_patterns", "source_rules"},
    "stored_sources": {
        *("object_storage", "storage_entries", "path_patterns", "source_rules", "workers", "exceptions"),
    },
    "sources": {
        *("arguments", "stored_sources", "object_storage", "storage_entries", "path_patterns", "source_rules"),
        *("source_scan", "workers", "repo", "exceptions"),
    },
    "part_files": set(),
    "spellings": {"part_files", "exceptions"},
    "downloads": {"answers", "part_files", "spellings", "repo", "exceptions", "records"},
    "stored_downloads": {
        "cas",
        "downloads",
        "part_files",
        "spellings",
        "task_state",
        "object_storage",
        "workers",
        "repo",
        "exceptions",
        "records",
    },
    "digests": {"downloads", "stored_downloads", "hub", "repo", "exceptions", "records"},
    "network": set(),
    "network_errors": {"network", "exceptions"},
    "cas_errors": {"redaction", "exceptions"},
    "client_cache": {"exceptions"},
    "child_processes": set(),
    "cas": {
        "cas_errors",
        "child_processes",
        "client_cache",
        "network",
        "network_errors",
        "progress",
        "redaction",
        "workers",
        "token",
        "token_relay",
        "exceptions",
    },
    "cas_uploads": {"cas", "progress", "workers", "exceptions", "records"},
    "xet_hash_downloads": {"cas", "downloads", "exceptions", "records"},
    "cas_downloads": {"cas", "part_files", "progress", "workers", "exceptions"},
    "transfers": {
        *("cas", "cas_downloads", "cas_streams", "cas_uploads", "downloads", "hub", "repo", "records", "exceptions"),
        *(
            "digests",
            "part_files",
            "workers",
            "sources",
            "stored_sources",
            "stored_downloads",
            "task_state",
            "xet_hash_downloads",
        ),
    },
    "inline": {
        *("transfers", "downloads", "object_storage", "storage_entries", "stored_sources", "workers", "records"),
        "exceptions",
    },
    "cas_streams": {"cas", "cas_errors", "progress", "workers", "exceptions"},
    "cas_ranges": {"cas", "cas_streams", "progress", "workers", "exceptions"},
    "cas_writes": {"cas", "cas_uploads", "progress", "workers", "exceptions"},
    "tree_listing": {"repo"},
    "file_tree": {"answers", "hub", "repo", "exceptions"},
    "hub_errors": {"answers", "redaction", "token", "exceptions"},
    "hub_session": {"bounded_answers", "network", "redaction", "urls", "exceptions"},
    "hub": {
        *("answers", "bounded_answers", "hub_errors", "hub_session", "tree_listing", "network", "network_errors"),
        *("redaction", "token", "urls", "repo", "exceptions", "records"),
    },
    "samples": {"records", "token"},
    "task_state": {"workers"},
    "commit_request": {"answers", "arguments", "task_state", "repo", "exceptions", "records"},
    "preupload": {"answers", "hub", "workers", "repo", "exceptions", "records"},
    "commit_parts": {"commit_request", "preupload", "exceptions", "records"},
    "commit": {"answers", "commit_parts", "commit_request", "preupload", "hub", "repo", "exceptions", "records"},
    "copies": {
        *("answers", "arguments", "commit_parts", "commit_request", "downloads", "preupload", "hub", "repo"),
        "exceptions",
        "records",
    },
    "bucket": {"answers", "commit_request", "hub", "repo", "exceptions", "records"},
    "history": {"hub", "repo", "records"},
    "waiting": {"arguments", "history", "hub", "path_patterns", "repo", "exceptions", "records"},
    "bucket_stream": {"answers", "hub", "repo"},
    "webhook": {"answers", "urls", "repo", "exceptions"},
    "pace": set(),
    "polling": {"bucket_stream", "pace", "waiting", "hub", "repo", "exceptions"},
    "hub_pages": {"repo", "records"},
    "asset_uri": {"repo", "exceptions"},
    "asset_events": {"asset_uri", "repo", "records"},
    "sensors/deferral": {"exceptions"},
    "hooks/api": {"hooks", "hooks/configuration"},
    "hooks/connection": {"arguments", "hooks", "hooks/keys", "network", "urls", "exceptions"},
    "links/xethub": set(),
    "assets/xethub": {"asset_events", "asset_uri", "repo", "assets/openlineage"},
    "assets/outlets": {"asset_events", "asset_uri", "repo", "records", "hooks/errors"},
    "assets/openlineage": {"asset_uri", "hub_pages", "hooks/lineage", "hooks/xethub"},
}


def imports_of(name: str, *, at_import: bool = False) -> set[str]:
    """Every module that a file imports, inside functions as well; ``at_import`` only those it needs to be imported."""
    tree = ast.parse(MODULES[name].read_text())
    found = set()
    todo: list[ast.AST] = [tree]
    while todo:
        node = todo.pop()
        if at_import and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        if at_import and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} has a relative import"
            # "from package import x" may mean a module of the package.
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        todo += ast.iter_child_nodes(node)
    return found


def own(name: str, **options) -> set[str]:
    """The modules of the provider that a file imports, such as ``local/app``."""
    paths = {each.removeprefix(f"{NAME}.").replace(".", "/") for each in imports_of(name, **options) if NAME in each}
    return {path for path in paths if path in MODULES or f"{path}/__init__" in MODULES}


def foreign(name: str, **options) -> set[str]:
    return {each.split(".")[0] for each in imports_of(name, **options)} - {NAME, *sys.stdlib_module_names}


def test_the_walk_sees_imports_inside_functions():
    assert "hooks/xethub" in MODULES
    assert own("hooks/xethub") > own("hooks/xethub", at_import=True)
    assert "airflow" in foreign("hooks/tokens")
    assert own("commit") >= {"hub", "repo", "exceptions"}


@pytest.mark.parametrize("name", PURE)
def test_pure_modules_import_neither_airflow_nor_a_client(name):
    assert foreign(name) <= ({"pendulum"} if name == "token" else set())


@pytest.mark.parametrize("name", sorted(ALLOWED))
def test_arrows_point_one_way(name):
    assert own(name) <= ALLOWED[name]


@pytest.mark.parametrize("name", BENEATH)
def test_nothing_beneath_the_hooks_knows_airflow_or_what_is_above_it(name):
    assert "airflow" not in foreign(name)
    assert not {each for each in own(name) if f"{each}/".startswith(BORDERS)}


@pytest.mark.parametrize("name", LOCAL)
def test_the_local_hub_knows_only_names_errors_and_the_rule_for_sources_of_the_provider(name):
    assert {each for each in own(name) if not f"{each}/".startswith("local/")} <= SHARED
    assert not foreign(name) & {"airflow", *CLIENTS}


@pytest.mark.parametrize("name", sorted(set(MODULES) - set(LOCAL)))
def test_the_provider_never_imports_the_local_hub(name):
    assert not {each for each in own(name) if f"{each}/".startswith("local/")}
    assert not foreign(name) & {"starlette", "uvicorn", "blake3", "lz4"}


@pytest.mark.parametrize("name", sorted(name for name in MODULES if name.startswith(BORDERS)))
def test_what_a_dag_file_imports_loads_no_client(name):
    assert not foreign(name, at_import=True) & CLIENTS


def test_hooks_do_not_know_operators():
    for name in MODULES:
        if name.startswith("hooks/"):
            above = ("decorators/", "operators/", "sensors/", "triggers/", "links/", "assets/")
            assert not {each for each in own(name) if f"{each}/".startswith(above)}


def test_operators_do_not_know_decorators():
    for name in MODULES:
        if not name.startswith("decorators/"):
            assert not {each for each in own(name) if each.startswith("decorators/")}


def test_the_plugin_is_light_as_every_process_of_airflow_loads_it():
    ours = loaded_after(f"{NAME}.plugins.xethub")
    assert NAME in ours
    assert "fastapi" not in ours
    assert not (ours - loaded_after("airflow.plugins_manager")) & CLIENTS


def test_nothing_knows_the_filesystem_but_those_who_open_it():
    for name in MODULES:
        if not name.startswith("fs/"):
            assert not {each for each in own(name) if each.startswith("fs")}, name


def loaded_after(*modules: str) -> set[str]:
    """The top-level modules that a new interpreter has loaded after importing these."""
    code = (
        f"import {', '.join(modules)}, json, sys; print(json.dumps(sorted({{m.split('.')[0] for m in sys.modules}})))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(result.stdout.splitlines()[-1]))


def test_what_airflow_asks_about_assets_loads_names_and_rules_only():
    """Airflow imports it wherever it reads an asset: in the DAG processor, the scheduler and the API server."""
    ours = loaded_after(f"{NAME}.assets.xethub")
    assert NAME in ours
    assert not ours & {"airflow", "openlineage", *CLIENTS}


def test_openlineage_is_needed_nowhere_but_where_its_provider_asks():
    users = {name for name in MODULES if "openlineage" in foreign(name)}
    assert users == {"assets/openlineage", "assets/xethub"}
    assert not {name for name in users if "openlineage" in foreign(name, at_import=True)}


def test_only_the_hook_of_object_storage_knows_its_filesystems():
    """What they are asked is asked through an object that was given; ``fsspec`` is no dependency of ours."""
    of_ours = {
        "fs/compressed",
        "fs/files",
        "fs/hf",
        "fs/listing",
        "fs/local_sources",
        "fs/transactions",
        "fs/xethub",
    }  # what fsspec calls must be its own classes
    assert {name for name in MODULES if foreign(name) & {"fsspec", "upath", "s3fs"}} == of_ours
    assert "airflow" in foreign("hooks/storage")
    assert "hooks/storage" not in own("hooks/xethub", at_import=True)


def test_parsing_a_dag_loads_no_client_that_airflow_itself_does_not():
    kinds = ("operators", "sensors", "triggers", "decorators")
    ours = loaded_after(*(f"{NAME}.{kind}.xethub" for kind in kinds))
    assert NAME in ours
    assert not ours & {"requests", "hf_xet", "huggingface_hub", "s3fs"}
    assert not (ours - loaded_after("airflow.sdk", "airflow.providers.common.compat.sdk")) & CLIENTS


def test_the_provider_info_loads_nothing():
    loaded = loaded_after(f"{NAME}.get_provider_info")
    assert not loaded & {"airflow", "pendulum", *CLIENTS}


@pytest.mark.parametrize("name", sorted(MODULES))
def test_no_file_is_two_things(name):
    assert len(MODULES[name].read_text().splitlines()) <= 400
