"""The tables of the documentation say what the code does, and leave nothing out."""

from __future__ import annotations

import inspect
import re
import time
from typing import Any

import pytest
from airflow.sdk import BaseOperator, BaseSensorOperator
from huggingface_hub import HfApi

import airflow_provider_xethub
from airflow_provider_xethub import get_provider_info
from airflow_provider_xethub.decorators.xethub import PROVIDED, XetDecoratedOperator
from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.operators import pull_requests as pull_request_operators
from airflow_provider_xethub.operators import refs, repositories
from airflow_provider_xethub.operators import xethub as operators
from airflow_provider_xethub.sensors import pull_requests as pull_request_sensors
from airflow_provider_xethub.sensors import scans as scan_sensors
from airflow_provider_xethub.sensors import xethub as sensors
from airflow_provider_xethub.xet.hub.client import MAX_TRIES, RETRY_BUDGET
from airflow_provider_xethub.xet.publish.commit import ADVISED_CHANGES
from airflow_provider_xethub.xet.publish.parts import MAX_CHANGES, MAX_INLINE_BYTES
from airflow_provider_xethub.xet.repo import Repo
from airflow_provider_xethub.xet.token import FRESH_MARGIN
from support.airflow_runs import new_dag
from support.documentation import (
    DOCS,
    PAGES,
    all_errors,
    table,
)
from xethub_local.cli import main as cli
from xethub_local.control import api as control_api
from xethub_local.control.fault import Fault
from xethub_local.control.presets import PRESETS
from xethub_local.control.request_log import RequestLog
from xethub_local.testing import IsolatedHub

_DOWN = "http://127.0.0.1:1"


def shown_default(parameter: inspect.Parameter) -> str:
    if parameter.default is inspect.Parameter.empty:
        return "required"
    default = parameter.default
    return f'`"{default}"`' if isinstance(default, str) else f"`{default!r}`"


_MODULES = (
    operators,
    pull_request_operators,
    sensors,
    pull_request_sensors,
    scan_sensors,
    repositories,
    refs,
)
"""Where DAG authors import operators and sensors from."""

_BASES = (
    operators.XetOperator,
    operators.XetLimitedOperator,
    operators.XetTransferOperator,
    operators.XetCommittingOperator,
    pull_request_operators.XetPullRequestOperator,
    repositories.XetRepositoryOperator,
    sensors.XetSensor,
)


def module_of(kind: type) -> Any:
    """The module from which DAG authors import it."""
    return next(module for module in _MODULES if getattr(module, kind.__name__, None) is kind)


def public_classes() -> list[type]:
    return [
        value
        for module in _MODULES
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, BaseOperator)
        and (module in (operators, sensors) or value.__module__ == module.__name__)
        and value.__module__.startswith("airflow_provider_xethub.")
        and value not in _BASES
    ]


def section_of(kind: type) -> tuple[str, str]:
    """The one page that has a section about the class, and the section."""
    found = {
        page.name: page.read_text().partition(f"\n## {kind.__name__}\n") for page in PAGES if page.name != "faults.md"
    }
    ((page, section),) = [(name, after) for name, (_, heading, after) in found.items() if heading]
    return page, section.partition("\n## ")[0]


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
    page, text = section_of(kind)
    own = table(page, "Argument", kind.__name__)
    common = table("operators.md", "Argument", "Arguments of every operator")
    rows = {row[0].strip("`"): row for row in (common if issubclass(kind, operators.XetOperator) else []) + own}
    arguments = arguments_of(kind)
    assert set(rows) == set(arguments)
    for name, parameter in arguments.items():
        assert rows[name][1] == shown_default(parameter), name
        assert rows[name][2] == ("yes" if name in kind.template_fields else "no"), name
        assert rows[name][3], name
    assert "**Returns**" in text
    assert re.search(r"\*\*[Rr]etries", text)
    assert f"{kind.__name__}(" in text


def test_the_reference_has_every_public_name():
    text = (DOCS / "reference.md").read_text()
    for name in airflow_provider_xethub.__all__:
        assert re.search(rf"auto(class|function):: airflow_provider_xethub\.{name}\b", text), name
    for kind in public_classes():
        (members,) = re.findall(rf"automodule:: {module_of(kind).__name__}\n   :members: (.*)", text)
        assert kind.__name__ in members.split(", ")


def test_every_argument_of_the_decorator_is_documented_with_its_default():
    rows = {row[0].strip("`"): row for row in table("functions.md", "Argument", "@task.xethub")}
    arguments = arguments_of(XetDecoratedOperator)
    upload = arguments_of(operators.XetUploadOperator)
    of_airflow = {"python_callable", "op_args", "op_kwargs", "kwargs_to_upstream", "task_id"}
    # An upload's patterns say what to take of its source; here they say what to download.
    assert set(rows) == set(arguments) - of_airflow - set(upload) | {"patterns"}
    for name, row in rows.items():
        assert row[1] == shown_default(arguments[name])
        assert row[2] == ("yes" if name in XetDecoratedOperator.template_fields else "no"), name
    text = (DOCS / "functions.md").read_text().partition("\n## @task.xethub\n")[2].partition("\n## ")[0]
    common = set(arguments_of(operators.XetOperator)) | {"source"}
    assert all(f"`{name}`" in text for name in set(upload) - common)
    assert [row[0].strip("`") for row in table("functions.md", "Parameter", "@task.xethub")] == list(PROVIDED)


@pytest.mark.parametrize("page", ["functions.md", "repositories.md"])
def test_the_hook_has_the_methods_that_are_listed(page):
    assert table(page, "Method")
    for row in table(page, "Method"):
        for name, arguments in re.findall(r"`(\w+)(?:\(([^)]*)\))?`", row[0]):
            member = inspect.getattr_static(XetHubConnection, name)
            for argument in filter(None, re.split(r", ?", arguments)):
                assert argument == "…" or argument in inspect.signature(member).parameters, f"{name}: {argument}"


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
    "Warning": ({}, None),
    "over plain http": ({}, None),
    "minimum_credential": ({"password": "hf_x"}, None),
    "only public repositories work": ({"password": ""}, None),
    "Found the identity": (
        {"password": None, "extra": {"identity": "variable", "identity_variable": "ID_TOKEN"}},
        None,
    ),
    "has no trusted publisher": (
        {"password": None, "extra": {"identity": "variable", "identity_variable": "ID_TOKEN", "repo_id": "acme/m"}},
        None,
    ),
    "is missing, wrong or expired": ({"password": "hf_wrong"}, None),
    "lacks permission": ({}, Fault(_WHOAMI, status=403)),
    "could not be reached": ({"host": _DOWN}, None),
    "did not respond in time": ({"extra": {"timeout": 1}}, Fault(_WHOAMI, delay=1.2)),
    "is not trusted here": ({"host": "https://hub.example"}, None),
    "requires a (different) username and password": ({}, Fault(_WHOAMI, status=407)),
    "is not the URL of a proxy": ({"extra": {"proxy": "proxy.example:3128"}}, None),
    "with an HTML page": ({}, Fault(_WHOAMI, status=200, headers={"Content-Type": "text/html"}, body="<html>")),
    "it is not a Hub": ({}, Fault(_WHOAMI, status=404)),
    "redirects to": ({}, Fault(_WHOAMI, status=302, headers={"Location": "https://elsewhere.example/"})),
    "does not speak https": ({"host": "https://{hub}"}, None),
    "but its host says": ({"host": "http://127.0.0.1:7777", "port": 7778}, None),
    "but no host": ({"host": "", "port": 7777}, None),
    "is not the URL of a Hub": ({"host": "ftp://hub"}, None),
    "contains whitespace": ({"password": "hf_a hf_b"}, None),
    "must be a string": ({"extra": {"ca_bundle": 5}}, None),
    "is not a JSON object.": ({"extra": "[]"}, None),
    "must be between 1 and 600 seconds": ({"extra": {"timeout": 0}}, None),
    "is not a JSON object of strings": ({"extra": {"secret_headers": "X-Key: 1"}}, None),
}


_WORKING = ("Connected to", "Warning", "over plain http", "only public repositories work", "Found the identity")


def test_every_answer_of_the_connection_test_is_explained():
    assert [row[0].strip("`") for row in table("connection.md", "The result contains")] == list(_PROVOKED)


@pytest.mark.parametrize("fragment", _PROVOKED)
def test_the_connection_test_answers_as_explained(fragment, hub, connection, monkeypatch):
    fields, fault = _PROVOKED[fragment]
    if fragment == "is not trusted here":
        import requests

        monkeypatch.setattr(requests.Session, "send", _untrusted)
    if fragment == "over plain http":
        monkeypatch.setattr("airflow_provider_xethub.xet.urls.is_loopback", lambda _: False)
    # Tries and waits are tested elsewhere.
    monkeypatch.setattr("airflow_provider_xethub.xet.hub.client.MAX_TRIES", 1)
    monkeypatch.setattr("airflow_provider_xethub.xet.hub.client.with_retries", lambda once, **_: once())
    if fault:
        hub.faults.add(fault)
    if "{hub}" in fields.get("host", ""):
        fields = {"host": fields["host"].replace("{hub}", hub.url.removeprefix("http://"))}
    if fragment == "minimum_credential":
        monkeypatch.setenv("AIRFLOW__XETHUB__MINIMUM_CREDENTIAL", "keyless")
    monkeypatch.setenv("AIRFLOW__XETHUB__IDENTITY_VARIABLES", "ID_TOKEN")
    monkeypatch.setenv("ID_TOKEN", hub.identity())
    connection(**fields)
    works, message = XetHubConnection().test_connection()
    assert fragment in message
    assert works == (fragment in _WORKING)


def _untrusted(*_: Any, **__: Any) -> None:
    import requests

    raise requests.exceptions.SSLError("certificate verify failed")


OWN_KEY, OTHER_KEY = "b3VyIG93biBrZXkgZm9yIHRoZSB0ZXN0cyBvbmx5ISE=", "c29tZSBvdGhlciBrZXkgZm9yIHRoZSB0ZXN0cyEhISE="


@pytest.mark.parametrize("with_connection", [True, False])
@pytest.mark.parametrize(
    "row",
    [row for row in table("tokens.md", "The token is") if not row[0].startswith("forgotten")],
    ids=lambda row: row[0][:40],
)
def test_tokens_that_cannot_be_used_end_as_the_table_says(row, with_connection, corpus, hub, run_task, monkeypatch):
    monkeypatch.setattr("airflow_provider_xethub.hooks.tokens.sealing._airflow", lambda: None)
    monkeypatch.setenv("AIRFLOW__XETHUB__FERNET_KEY", OWN_KEY)
    hub.access.token_life = {"stale: less than 30 seconds left": 20, "expired": 2}.get(row[0], 900)
    value: Any = run_task(operators.XetTokenOperator, repo_id="acme/corpus", repo_type="dataset").value
    asked: Repo | None = corpus
    if row[0] == "expired":
        monkeypatch.setattr("time.time", lambda now=time.time: now() + 10)
    elif row[0].startswith(("a reference", "the same")):
        monkeypatch.setenv("AIRFLOW__XETHUB__FERNET_KEY", OTHER_KEY)
        asked = None if "names no" in row[0] else corpus
    if row[0].startswith("for another") or "another repository" in row[0]:
        asked = Repo("acme/other", "dataset")
    if row[0].startswith("changed"):
        value = {**value, "expires_at": "2099-01-01T00:00:00Z"}
    hub.access.token_life = 900
    hub.log.clear()
    hook = XetHubConnection("xethub_default" if with_connection else None)
    says = row[1] if with_connection else row[2]
    error = re.search(r"`(\w+)`", says)
    if error:
        with pytest.raises(all_errors()[error[1]]) as caught:
            hook.fresh_token(value, "read", asked)
        assert type(caught.value).__name__ == error[1]
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
        assert "Write token >> upload" in run.text


def test_numbers_in_the_pages_are_those_of_the_code():
    errors, tokens = (DOCS / "errors.md").read_text(), (DOCS / "tokens.md").read_text()
    assert "at most six times, within a minute" in errors
    assert (MAX_TRIES, RETRY_BUDGET) == (7, 60)
    assert f"more than {FRESH_MARGIN:.0f} seconds before the expiry" in tokens
    page = (DOCS / "publish.md").read_text()
    assert f"More than {MAX_CHANGES:,} changes, or more than {MAX_INLINE_BYTES >> 20} MiB of files" in page
    assert f"down to the {ADVISED_CHANGES} changes that the Hub advises" in page


def test_what_changes_for_mapped_tasks_is_what_the_benchmark_measured():
    text = (DOCS / "benchmarks.md").read_text()
    measured = {
        who: re.search(rf"^\| 32 tasks, \+50 ms \| {who} \|(.*)\|$", text, re.MULTILINE)[1].split("|")
        for who in ("huggingface_hub", "this provider")
    }
    columns = re.search(r"^\| Step \| Who \|(.*)\|$", text, re.MULTILINE)[1].split("|")
    page = (DOCS / "migration.md").read_text()
    for what, column in {
        "Requests of 32 mapped tasks to the Hub": " Hub ",
        "Commits of 32 mapped tasks": " Commits ",
    }.items():
        at = columns.index(column)
        assert f"| {what} |{measured['huggingface_hub'][at]}|{measured['this provider'][at]}|" in page


def test_methods_of_huggingface_hub_that_are_replaced_exist():
    section = (DOCS / "migration.md").read_text().partition("\n### Names: huggingface_hub\n")[2].partition("\n## ")[0]
    names = re.findall(r"`(\w+)`", " ".join(re.findall(r"^\* (.+?): ", section, re.MULTILINE)))
    assert len(names) == 8
    for name in names:
        assert hasattr(HfApi, name), name


def test_every_command_and_option_of_the_local_hub_is_documented(capsys):
    text = (DOCS / "local-hub.md").read_text()
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    commands = re.findall(r"^    ([a-z-]+)$|^    ([a-z-]+)  ", capsys.readouterr().out, re.MULTILINE)
    assert len(commands) == 12
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
    assert rows == {name: made.description for name, made in PRESETS.items()}


def test_the_fixtures_have_what_the_page_lists():
    of_the_server = {"add", "add_report", "clear", "close"}
    for first, kind in (("xethub", IsolatedHub), ("xethub.log", RequestLog)):
        shown = {name for row in table("testing.md", f"`{first}`") for name in re.findall(r"`(\w+)", row[0])}
        there = {name for name in vars(kind) if not name.startswith("_")}
        there |= set(re.findall(r":ivar (\w+):", kind.__doc__ or ""))
        assert shown == there - of_the_server, first


def test_every_control_route_is_documented():
    shown = {row[0].strip("`") for row in table("testing.md", "Request")}
    there = {f"{method} {route.path}" for route in control_api.routes(None, str) for method in route.methods - {"HEAD"}}
    assert shown == there
