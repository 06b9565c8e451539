"""The bills of materials of a release: valid, complete, with versions and licences, and the same every time."""

from __future__ import annotations

import hashlib
import json
import re
from email import message_from_string
from importlib.metadata import version
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from jsonschema import FormatChecker

from support import sbom
from support.distributions import FOLDERS, build_all

EXPECTED = {
    "airflow-provider-xethub": {"apache-airflow", "huggingface-hub", "hf-xet", "urllib3"},
    "xethub-local": {"starlette", "cryptography", "uvloop"},
    "xethub-token": {"joserfc", "cryptography", "cffi"},
}
"""Some of what each must name: direct, indirect, and by an extra: uvicorn[standard] requires uvloop."""


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return build_all("wheel", tmp_path_factory.mktemp("wheels"))


@pytest.fixture(scope="module")
def bills(wheels) -> dict[str, str]:
    return {name: sbom.bill(wheel) for name, wheel in wheels.items()}


def required(wheel: Path) -> set[str]:
    """What the wheel requires without extras, by purl."""
    with ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("dist-info/METADATA"))
        lines = message_from_string(archive.read(name).decode()).get_all("Requires-Dist", [])
    names = [re.match(r"[\w.-]+", line)[0].lower().replace("_", "-") for line in lines if "extra ==" not in line]
    return {f"pkg:pypi/{name}@{version(name)}" for name in names}


@pytest.fixture
def unchecked(monkeypatch) -> set[str]:
    """The formats that the schema asks for, and that nothing here checks: jsonschema accepts them all."""
    found: set[str] = set()
    check = FormatChecker.check

    def note(self: FormatChecker, instance: object, name: str) -> None:
        check(self, instance, name)
        if name not in self.checkers:
            found.add(name)

    monkeypatch.setattr(FormatChecker, "check", note)
    return found


@pytest.mark.parametrize("name", FOLDERS)
def test_it_is_valid_and_complete(wheels, bills, name, unchecked):
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(bills[name]) is None
    assert not unchecked
    bill: dict[str, Any] = json.loads(bills[name])
    root = bill["metadata"]["component"]
    assert (root["name"], root["version"]) == (name, version(name))
    assert root["licenses"] == [{"license": {"id": "Apache-2.0"}}]
    assert root["hashes"] == [{"alg": "SHA-256", "content": hashlib.sha256(wheels[name].read_bytes()).hexdigest()}]
    assert "timestamp" not in bill["metadata"]
    graph = {each["ref"]: set(each.get("dependsOn", [])) for each in bill["dependencies"]}
    assert graph[root["bom-ref"]] == required(wheels[name])
    components = {each["bom-ref"] for each in bill["components"]}
    assert set().union(*graph.values()) == components == set(graph) - {root["bom-ref"]}
    assert {each["name"] for each in bill["components"]} >= EXPECTED[name]
    assert [each["name"] for each in bill["components"] if not each.get("licenses")] == []


def test_it_is_the_same_every_time(wheels, bills):
    name = "xethub-local"
    assert sbom.bill(wheels[name]) == bills[name]


def test_a_version_that_is_not_pinned_is_refused(wheels, monkeypatch):
    monkeypatch.setattr(sbom, "_pinned", lambda: {"joserfc": {"1.0.0"}})
    with pytest.raises(RuntimeError, match=r"joserfc .* is not the version of constraints\.txt\. Run make setup"):
        sbom.bill(wheels["xethub-token"])
