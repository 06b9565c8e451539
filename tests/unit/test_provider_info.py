from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import json
from pathlib import Path

import airflow
import jsonschema
import pytest
from airflow.providers.common.compat.sdk import BaseHook

from airflow_provider_xethub.get_provider_info import CONNECTION_FIELDS, FIELD_BEHAVIOUR, get_provider_info
from airflow_provider_xethub.hooks.xethub import XetHubConnection

pytestmark = [pytest.mark.airflow, pytest.mark.smoke]

INFO = get_provider_info()


def entry_points() -> importlib.metadata.EntryPoints:
    return importlib.metadata.entry_points(group="apache_airflow_provider")


def test_airflow_accepts_it():
    schema = json.loads((Path(airflow.__file__).parent / "provider_info.schema.json").read_text())
    jsonschema.validate(INFO, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**INFO, "connection-types": "none"}, schema)


def test_it_is_found_by_its_entry_point_and_names_its_distribution():
    (found,) = [each for each in entry_points() if each.value.startswith("airflow_provider_xethub.")]
    assert found.load() is get_provider_info
    assert INFO["package-name"] == found.dist.name == "airflow-provider-xethub"


def test_the_version_is_that_of_the_distribution():
    import airflow_provider_xethub

    assert airflow_provider_xethub.__version__ == importlib.metadata.version("airflow-provider-xethub")


@pytest.mark.parametrize("kind", ["hooks", "operators", "sensors", "triggers"])
def test_every_module_that_it_names_exists_and_none_is_forgotten(kind):
    named = {module for each in INFO[kind] for module in each["python-modules"]}
    for module in named:
        assert importlib.import_module(module).__name__ == module
    assert f"airflow_provider_xethub.{kind}.xethub" in named
    integrations = {each["integration-name"] for each in INFO["integrations"]}
    assert {each["integration-name"] for each in INFO[kind]} <= integrations


def test_no_kind_of_module_that_exists_is_missing():
    keys = {"triggers": "triggers", "links": "extra-links", "assets": "asset-uris", "fs": "filesystems"}
    for kind, key in keys.items():
        assert (importlib.util.find_spec(f"airflow_provider_xethub.{kind}") is None) == (key not in INFO)


def test_what_it_names_of_links_and_assets_is_there_and_airflow_finds_it():
    try:
        from airflow.sdk.providers_manager_runtime import ProvidersManagerTaskRuntime as Manager
    except ImportError:  # before 3.2
        from airflow.providers_manager import ProvidersManager as Manager

    from airflow_provider_xethub.assets import xethub as assets
    from airflow_provider_xethub.links.xethub import XetHubLink

    assert INFO["extra-links"] == [f"{XetHubLink.__module__}.{XetHubLink.__name__}"]
    found = Manager()
    assert found.asset_uri_handlers["hf"] is assets.sanitize_uri
    assert found.asset_factories["hf"] is assets.create_asset
    assert found.asset_to_openlineage_converters["hf"] is assets.convert_asset_to_openlineage


def test_the_filesystem_is_found_by_airflow_and_by_fsspec():
    modules = [importlib.import_module(each) for each in INFO["filesystems"]]
    assert [scheme for module in modules for scheme in module.schemes] == ["hf", "xethub"]
    named = {each.name: each.value for each in importlib.metadata.entry_points(group="fsspec.specs")}
    assert named["xethub"] == "airflow_provider_xethub.fs.xethub:XetHubFileSystem"


def test_the_decorator_is_found_by_its_name():
    from airflow.sdk import task

    from airflow_provider_xethub.decorators.xethub import xethub_task

    assert INFO["task-decorators"] == [
        {"name": "xethub", "class-name": "airflow_provider_xethub.decorators.xethub.xethub_task"}
    ]
    assert task.xethub is xethub_task


def test_the_connection_type_is_that_of_the_hook():
    (connection,) = INFO["connection-types"]
    module, _, name = connection["hook-class-name"].rpartition(".")
    hook = getattr(importlib.import_module(module), name)
    assert hook is XetHubConnection
    assert issubclass(hook, BaseHook)
    assert (hook.conn_type, hook.hook_name) == (connection["connection-type"], connection["hook-name"])
    assert (hook.conn_type, hook.conn_name_attr, hook.default_conn_name) == (
        "xethub",
        "xethub_conn_id",
        "xethub_default",
    )


def test_the_form_of_older_airflows_is_that_of_newer_ones():
    (connection,) = INFO["connection-types"]
    assert connection["conn-fields"] == CONNECTION_FIELDS
    assert connection["ui-field-behaviour"] == FIELD_BEHAVIOUR
    assert XetHubConnection.get_ui_field_behaviour() == {
        "hidden_fields": FIELD_BEHAVIOUR["hidden-fields"],
        "relabeling": FIELD_BEHAVIOUR["relabeling"],
        "placeholders": FIELD_BEHAVIOUR["placeholders"],
    }


@pytest.mark.skipif(
    importlib.util.find_spec("flask_babel") is None, reason="no flask_babel: this Airflow has no old form"
)
def test_the_widgets_of_older_airflows_are_the_same_fields():
    pytest.importorskip("wtforms")
    widgets = XetHubConnection.get_connection_form_widgets()
    assert list(widgets) == list(CONNECTION_FIELDS)
    for name, field in CONNECTION_FIELDS.items():
        is_password = widgets[name].field_class.__name__ == "PasswordField"
        assert is_password == (field["schema"].get("format") == "password")


def test_the_placeholders_and_labels_are_of_fields_that_are_shown():
    shown = {"host", "port", "password", "description", "extra", *CONNECTION_FIELDS}
    assert set(FIELD_BEHAVIOUR["relabeling"]) | set(FIELD_BEHAVIOUR["placeholders"]) <= shown
    assert not set(FIELD_BEHAVIOUR["hidden-fields"]) & shown


@pytest.mark.parametrize("name", sorted(CONNECTION_FIELDS))
def test_every_field_may_be_left_empty_and_says_what_it_is(name):
    field = CONNECTION_FIELDS[name]
    assert field["label"]
    assert field["description"].endswith(".")
    assert "null" in field["schema"]["type"]
    assert field["schema"]["default"] is None


@pytest.mark.parametrize("name", sorted(CONNECTION_FIELDS))
def test_what_may_hold_a_secret_is_masked_by_its_name_and_nothing_else_is(name):
    from airflow.providers.common.compat.sdk import redact

    looks_secret = CONNECTION_FIELDS[name]["schema"].get("format") == "password"
    is_masked = redact({name: "value-of-it"})[name] == "***"
    # Airflow 3.0 does not know the name proxy (docs/connection.md says what to do there).
    assert is_masked == (looks_secret and not (name == "proxy" and airflow.__version__.startswith("3.0.")))
    assert looks_secret == (name in ("secret_headers", "proxy"))


@pytest.mark.parametrize("name", ["fernet_key", "webhook_secret"])
def test_what_is_secret_in_the_configuration_is_sensitive(name):
    option = INFO["config"]["xethub"]["options"][name]
    assert option["sensitive"] is True
    assert option["default"] == ""


def test_it_is_plain_json_and_new_each_time():
    assert json.loads(json.dumps(INFO)) == INFO
    assert get_provider_info() is not get_provider_info()
