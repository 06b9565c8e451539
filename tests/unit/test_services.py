"""What services read in the repository. None of them has read it yet; what is known of their formats is checked."""

from __future__ import annotations

import importlib
import inspect
from importlib.metadata import metadata
from typing import Any

import jsonschema
import pytest
import yaml
from airflow.sdk import BaseHook, BaseOperator, BaseSensorOperator
from airflow.triggers.base import BaseTrigger

from airflow_provider_xethub.get_provider_info import get_provider_info
from support.distributions import ROOT

INFO = get_provider_info()
URLS = dict(each.split(", ") for each in metadata("airflow-provider-xethub").get_all("Project-URL", []))

# --- Read the Docs ----------------------------------------------------------------------------------------------------

COMMANDS = {"type": "array", "items": {"type": "string"}, "minItems": 1}
READ_THE_DOCS = {
    "type": "object",
    "properties": {
        "version": {"const": 2},
        "build": {
            "type": "object",
            "properties": {
                "os": {"enum": ["ubuntu-20.04", "ubuntu-22.04", "ubuntu-24.04", "ubuntu-lts-latest"]},
                "tools": {
                    "type": "object",
                    "properties": {"python": {"enum": ["3", "3.8", "3.9", "3.10", "3.11", "3.12", "latest"]}},
                    "minProperties": 1,
                    "additionalProperties": False,
                },
                "jobs": {
                    "type": "object",
                    "properties": dict.fromkeys(
                        ("create_environment", "pre_install", "install", "post_install"), COMMANDS
                    ),
                    "additionalProperties": False,
                },
            },
            "required": ["os", "tools"],
            "additionalProperties": False,
        },
        "sphinx": {
            "type": "object",
            "properties": {
                "builder": {"enum": ["html", "dirhtml", "singlehtml"]},
                "configuration": {"type": "string"},
                "fail_on_warning": {"type": "boolean"},
            },
            "additionalProperties": False,
        },
    },
    "required": ["version"],
    "additionalProperties": False,
}
"""The part that we use of what Read the Docs accepts, in its own JSON schema of ``.readthedocs.yaml``, version 2."""


def read_the_docs() -> dict[str, Any]:
    return yaml.safe_load((ROOT / ".readthedocs.yaml").read_text())


def test_read_the_docs_accepts_its_file():
    jsonschema.validate(read_the_docs(), READ_THE_DOCS)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**read_the_docs(), "sphinx": {"config": "docs/conf.py"}}, READ_THE_DOCS)


def test_read_the_docs_builds_what_is_there():
    settings = read_the_docs()
    assert (ROOT / settings["sphinx"]["configuration"]).is_file()
    assert settings["sphinx"]["fail_on_warning"] is True
    words = settings["build"]["jobs"]["install"][-1].split()
    assert words[:4] == ["python", "-m", "pip", "install"]
    assert all((ROOT / word).exists() for word in words if word.startswith(".") or word.endswith(".txt"))
    assert f"\n{words[words.index('--group') + 1]} = [" in (ROOT / "pyproject.toml").read_text()


# --- Airflow's registry -----------------------------------------------------------------------------------------------

KINDS = {"hooks": BaseHook, "operators": BaseOperator, "sensors": BaseSensorOperator, "triggers": BaseTrigger}


def offered(kind: str) -> dict[str, str]:
    """The classes of a kind that nothing of this provider derives from, with the first lines of their docstrings."""
    modules = [importlib.import_module(name) for each in INFO[kind] for name in each["python-modules"]]
    found = {
        value
        for module in modules
        for name, value in vars(module).items()
        if inspect.isclass(value) and issubclass(value, KINDS[kind]) and not name.startswith("_")
        and value.__module__.startswith(f"airflow_provider_xethub.{kind}.")
    }  # fmt: skip
    places = {value: next(m.__name__ for m in modules if getattr(m, value.__name__, None) is value) for value in found}
    leaves = [value for value in found if not any(value in other.__mro__[1:] for other in found)]
    return {f"{places[value]}.{value.__name__}": inspect.getdoc(value).partition("\n")[0] for value in leaves}


def registry() -> dict[str, Any]:
    return yaml.safe_load((ROOT / ".airflow-registry.yaml").read_text())


def test_the_registry_is_told_what_airflow_is_told():
    entry = registry()
    assert entry["package-name"] == INFO["package-name"]
    assert entry["description"] == INFO["description"]
    assert (entry["source-url"], entry["docs-url"]) == (URLS["Repository"], URLS["Documentation"])


@pytest.mark.parametrize("kind", KINDS)
def test_the_registry_is_told_of_each_class(kind):
    assert {each["module"]: each["description"] for each in registry()[kind]} == offered(kind)


def test_the_registry_is_told_of_the_decorator():
    (decorator,) = INFO["task-decorators"]
    (other,) = registry()["other"]
    assert other["module"] == decorator["class-name"]
    assert f"@task.{decorator['name']}" in other["description"]
