"""The plugin serves the endpoint only where there is a strong secret."""

from __future__ import annotations

import os

import pytest

from airflow_provider_xethub.plugins.xethub import XetHubPlugin

pytestmark = pytest.mark.airflow

SETTING = "AIRFLOW__XETHUB__WEBHOOK_SECRET"


def test_it_is_off_unless_there_is_a_secret(monkeypatch):
    assert XetHubPlugin().fastapi_apps == []
    for empty in ("", "  ", " , "):
        monkeypatch.setenv(SETTING, empty)
        assert XetHubPlugin().fastapi_apps == []


@pytest.mark.parametrize("weak", ["short", "has a blank in the middle", "x" * 16 + ",short"])
def test_it_stays_off_with_a_secret_that_cannot_protect(monkeypatch, caplog, weak):
    monkeypatch.setenv(SETTING, weak)
    assert XetHubPlugin().fastapi_apps == []
    assert "The endpoint for webhooks is disabled: a webhook secret must have at least 16" in caplog.text
    assert weak not in caplog.text


def test_it_is_a_plugin_that_airflow_finds():
    from importlib.metadata import distribution

    (found,) = [
        each for each in distribution("airflow-provider-xethub").entry_points if each.group == "airflow.plugins"
    ]
    assert found.load() is XetHubPlugin
    assert os.environ.get(SETTING) is None
