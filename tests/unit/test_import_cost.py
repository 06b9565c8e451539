"""What each process of Airflow loads with the provider: a DAG file is parsed often, and a plugin is in all of them."""

from __future__ import annotations

import functools
import json
import subprocess
import sys

NAME = "airflow_provider_xethub"
CLIENTS = {"requests", "urllib3", "hf_xet", "huggingface_hub", "tenacity", "cryptography", "opentelemetry"}


@functools.cache
def loaded_after(*modules: str) -> frozenset[str]:
    """The top-level modules that a new interpreter has loaded after importing these."""
    code = (
        f"import {', '.join(modules)}, json, sys; print(json.dumps(sorted({{m.split('.')[0] for m in sys.modules}})))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return frozenset(json.loads(result.stdout.splitlines()[-1]))


def test_parsing_a_dag_loads_no_client_that_airflow_itself_does_not():
    kinds = ("operators", "sensors", "triggers", "decorators")
    others = (f"{NAME}.operators.repositories", f"{NAME}.operators.refs")
    ours = loaded_after(*(f"{NAME}.{kind}.xethub" for kind in kinds), *others)
    assert NAME in ours
    assert not ours & {"requests", "hf_xet", "huggingface_hub", "s3fs", "openlineage"}
    assert not (ours - loaded_after("airflow.sdk", "airflow.providers.common.compat.sdk")) & CLIENTS


def test_the_plugin_is_light_as_every_process_of_airflow_loads_it():
    ours = loaded_after(f"{NAME}.plugins.xethub")
    assert NAME in ours
    assert "fastapi" not in ours
    assert not (ours - loaded_after("airflow.plugins_manager")) & CLIENTS


def test_what_airflow_asks_about_assets_loads_names_and_rules_only():
    """Airflow imports it wherever it reads an asset: in the DAG processor, the scheduler and the API server."""
    ours = loaded_after(f"{NAME}.assets.xethub")
    assert NAME in ours
    assert not ours & {"airflow", "openlineage", *CLIENTS}


def test_the_provider_info_loads_nothing():
    loaded = loaded_after(f"{NAME}.get_provider_info")
    assert not loaded & {"airflow", "pendulum", *CLIENTS}


def test_the_filesystem_loads_its_clients_when_it_is_opened():
    ours = loaded_after(f"{NAME}.fs.xethub", f"{NAME}.links.xethub", f"{NAME}.hooks.xethub")
    assert NAME in ours
    assert not (ours - loaded_after("airflow.sdk", "airflow.providers.common.compat.sdk")) & CLIENTS


def test_a_commit_of_uploaded_files_loads_nothing_that_transfers_need():
    """Tasks that commit run after each set of mapped uploads: transfers would cost them 15 ms."""
    code = f"import {NAME}.xet.publish.publisher, sys; print(*sys.modules, sep='\\n')"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    ours = {name.removeprefix(f"{NAME}.xet.") for name in result.stdout.split() if name.startswith(f"{NAME}.xet.")}
    assert "publish.commit" in ours
    assert not {name for name in ours if name.split(".")[0] in {"cas", "files", "transfer"}}
