"""The workflow that publishes: what may have an identity, and that the procedure describes this file."""

from __future__ import annotations

import re

import yaml

from support.documentation import ROOT

FILE = ROOT / ".github/workflows/release.yml"
WORKFLOW = yaml.safe_load(FILE.read_text())
JOBS = WORKFLOW["jobs"]


def test_only_the_job_that_a_person_approves_has_an_identity_or_writes():
    assert WORKFLOW["permissions"] == {}
    rights = {name: job["permissions"] for name, job in JOBS.items()}
    publish = rights.pop("publish")
    assert publish == {"contents": "write", "id-token": "write", "attestations": "write"}
    assert all(each == {"contents": "read"} for each in rights.values())
    assert [name for name, job in JOBS.items() if "environment" in job] == ["publish"]
    assert set(JOBS["publish"]["needs"]) == set(rights)


def test_the_job_that_publishes_runs_no_code_of_the_repository():
    steps = JOBS["publish"]["steps"]
    assert not [step for step in steps if "checkout" in step.get("uses", "")]
    assert not [step for step in steps if re.search(r"\b(make|python|pip|uv)\b", step.get("run", ""))]


def test_the_workflow_has_no_secret_and_the_procedure_names_it():
    assert "secrets." not in FILE.read_text()
    procedure = (ROOT / "CONTRIBUTING.md").read_text().partition("## Release\n")[2].partition("## Dependencies\n")[0]
    assert FILE.name in procedure
    assert f"the environment `{JOBS['publish']['environment']}`" in procedure
    (tags,) = WORKFLOW[True]["push"]["tags"]  # YAML reads the key "on" as true
    assert f"only tags `{tags}` allowed" in procedure


def test_the_version_of_a_tag_is_found():
    command = next(step["run"] for step in JOBS["build"]["steps"] if "__version__" in step.get("run", ""))
    module = re.search(r"\S+/__init__\.py", command)[0]
    assert re.search(r'^__version__ = "\d+\.\d+\.\d+"$', (ROOT / module).read_text(), re.MULTILINE)
