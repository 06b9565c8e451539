"""What the pages say about the places where Airflow runs: settings exist, versions are those of the package.

No test here builds an image or calls a cloud. Those snippets are read, and each name in them that this provider
decides is compared with the code.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import fnmatch
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow.models.connection import Connection
from packaging.requirements import Requirement

import airflow_provider_xethub
from airflow_provider_xethub import get_provider_info
from airflow_provider_xethub.hooks.connections import connection as fields
from support.documentation import DOCS, ROOT, Block, snippets, table

WHEEL = f"airflow_provider_xethub-{airflow_provider_xethub.__version__}-py3-none-any.whl"
OPTIONS = get_provider_info.get_provider_info()["config"]["xethub"]["options"]
SETTING = re.compile(r"AIRFLOW__XETHUB__([A-Z_]+)")
CONSTRAINED = r"grep -vE '(\^\([^']+\)==)' constraints\.txt"


def known(name: str) -> bool:
    """Whether the provider has an option, or its secret has one that says where it comes from."""
    stem = re.sub("_(cmd|secret)$", "", name)
    return name in OPTIONS or (stem in OPTIONS and OPTIONS[stem]["sensitive"])


def places() -> list[Block]:
    found = [block for block in snippets("yaml", "text", "dockerfile", "bash", "ini") if block.page == "deployment.md"]
    assert {block.info for block in found} == {"yaml", "text", "dockerfile", "bash", "ini"}
    return found


def environment(value: Any) -> Iterator[tuple[str, Any]]:
    """The environment variables in a Compose file, in a list of Kubernetes, or in a string of Helm that holds one."""
    if isinstance(value, str) and value.lstrip().startswith("- name:"):
        value = yaml.safe_load(value)
    if isinstance(value, dict):
        if set(value) == {"name", "value"}:
            yield value["name"], value["value"]
        for key, inner in value.items():
            if str(key).startswith("AIRFLOW"):
                yield key, inner
            yield from environment(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from environment(inner)


@pytest.mark.parametrize("block", places(), ids=str)
def test_settings_of_this_provider_exist(block):
    names = {name.lower() for name in SETTING.findall(block.body)}
    names |= set(re.findall(r"\bxethub[.-](?!cache|$)([a-z_]+)=", block.body))
    assert {name for name in names if not known(name)} == set()


def test_the_options_of_a_service_exist():
    rows = [row[0].strip("`") for row in table("deployment.md", "Option", "Amazon MWAA")]
    own = [row.partition(".")[2] for row in rows if row.startswith("xethub.")]
    assert own
    assert all(known(name) for name in own)


@pytest.mark.parametrize("block", [block for block in places() if block.info == "yaml"], ids=str)
def test_variables_are_strings_and_connections_are_read(block):
    found = dict(environment(yaml.safe_load(block.body)))
    assert found
    for name, value in found.items():
        assert isinstance(value, str), f"{name}: Kubernetes and Compose take strings only"
        if name.startswith("AIRFLOW_CONN_") and not value.startswith("${"):
            connection = Connection.from_json(value, conn_id="xethub_default")
            assert connection.conn_type == get_provider_info.CONNECTION_TYPE
            assert set(connection.extra_dejson) <= set(get_provider_info.CONNECTION_FIELDS)
            assert fields.endpoint(connection) == "https://hub.acme.example"


def test_mounts_and_folders_of_the_chart_fit():
    (values,) = [yaml.safe_load(b.body) for b in places() if b.info == "yaml" and "fernetKeySecretName" in b.body]
    mounts = {mount["name"]: mount["mountPath"] for mount in values["volumeMounts"]}
    assert set(mounts) == {volume["name"] for volume in values["volumes"]}
    variables = dict(environment(values["extraEnv"]))
    assert variables["AIRFLOW__XETHUB__CACHE_FOLDER"] == mounts["xethub-cache"]
    assert f"{mounts['acme-ca']}/ca-bundle.pem" in (DOCS / "deployment.md").read_text()


def test_compose_gives_every_service_the_key_that_airflows_own_file_leaves_empty():
    (compose,) = [yaml.safe_load(b.body) for b in places() if b.info == "yaml" and "x-xethub" in b.body]
    assert set(compose["services"]) > {"airflow-worker", "airflow-triggerer", "airflow-apiserver", "airflow-scheduler"}
    for name, service in compose["services"].items():
        assert service["environment"]["AIRFLOW__CORE__FERNET_KEY"].startswith("${FERNET_KEY:?"), name
        mounts = dict(volume.split(":") for volume in service["volumes"])
        assert set(mounts) == set(compose["volumes"])
        assert service["environment"]["AIRFLOW__XETHUB__CACHE_FOLDER"] == mounts["xethub-cache"]


def test_wheels_are_named_as_they_are_built():
    for block in [*places(), *(block for block in snippets("bash") if block.page == "installation.md")]:
        for name in re.findall(r"airflow_provider_xethub\S*?\.whl", block.body):
            assert fnmatch(WHEEL, name), f"{block}: {name}"


def test_edge_workers_are_given_the_same_secrets_as_the_centre():
    import configparser

    centre, worker = [configparser.ConfigParser(), configparser.ConfigParser()]
    blocks = [block.body for block in places() if block.info == "ini" and "[edge]" in block.body]
    for parser, body in zip((centre, worker), blocks, strict=True):
        parser.read_string(body)
    for section, option in (("core", "fernet_key"), ("api_auth", "jwt_secret"), ("edge", "api_url")):
        assert centre[section][option] == worker[section][option]
    assert worker["core"]["execution_api_server_url"].endswith("/execution/")


# --- Airflow's constraints --------------------------------------------------------------------------------------------


def floors(names: list[str]) -> dict[str, str]:
    """The oldest versions that this provider and its client accept."""
    found = {}
    for line in (requires("airflow-provider-xethub") or []) + (requires("huggingface_hub") or []):
        requirement = Requirement(line)
        name = requirement.name.replace("_", "-")
        least = [each.version for each in requirement.specifier if each.operator == ">="]
        if name in names and least and not (requirement.marker and "extra" in str(requirement.marker)):
            found.setdefault(name, least[0])
    return found


def test_what_is_in_the_way_is_what_pyproject_asks_for():
    rows = table("installation.md", "Package", "With Airflow's constraints")
    shown = {row[0].strip("`"): row[1].partition(",")[0] for row in rows}
    assert floors(list(shown)) == shown
    pinned = (ROOT / "tests/compat/run.py").read_text().partition("NEW = (")[2].partition(")")[0]
    assert set(shown) <= set(re.findall(r'"([^"]+)"', pinned)), "what make compat installs anew on an old Airflow"


def test_the_lines_that_the_command_leaves_out_are_those_of_the_table():
    (pattern,) = re.findall(CONSTRAINED, (DOCS / "installation.md").read_text())
    rows = [row[0].strip("`") for row in table("installation.md", "Package", "With Airflow's constraints")]
    lines = [*(f"{name}==1.0" for name in rows), "clickclick==20.10.2", "rich-click==1.8.9", "click-repl==0.3.0"]
    assert [line for line in lines if not re.search(pattern, line)] == lines[-3:]


def test_the_pages_name_no_package_index():
    index = re.compile(r"py" r"pi\.org|files\.python" r"hosted|azurecr\.io|quay\.io|gcr\.io|pkg\.dev")
    for name in ("installation.md", "deployment.md", "platform.md"):
        assert not index.search((DOCS / name).read_text()), name


def test_what_is_not_tried_says_so():
    """Every section about a service or a tool that no test here can start."""
    text = (DOCS / "deployment.md").read_text()
    for title in ("Docker image", "Docker Compose", "Helm", "Amazon MWAA", "Google Cloud Composer", "Astronomer"):
        section = text.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
        assert section.lstrip().startswith("Not tried here"), title


def test_the_messages_that_the_platform_page_looks_for_exist():
    rows = [row[0].strip("`") for row in table("platform.md", "In the log", "Watch it")]
    package = Path(airflow_provider_xethub.__file__).parent
    sources = "".join(path.read_text() for path in package.rglob("*.py"))
    assert len(rows) >= 3
    assert [row for row in rows if row not in sources] == []
