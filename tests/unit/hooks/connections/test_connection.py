"""Which Hub a connection means: host and port, as the form, a URI and JSON each write them."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from airflow.sdk import Connection
from airflow.secrets.environment_variables import EnvironmentVariablesBackend

from airflow_provider_xethub.exceptions import XetInputError
from airflow_provider_xethub.hooks.connections.connection import endpoint


@pytest.mark.parametrize(
    ("host", "port", "url"),
    [
        (None, None, "https://huggingface.co"),
        (None, 443, "https://huggingface.co"),
        ("https://huggingface.co", 443, "https://huggingface.co"),
        ("huggingface.co", 443, "https://huggingface.co"),
        ("https://hub.acme.example/", 8443, "https://hub.acme.example:8443"),
        ("http://127.0.0.1", 7777, "http://127.0.0.1:7777"),
        ("http://127.0.0.1:7777", None, "http://127.0.0.1:7777"),
        ("http://127.0.0.1:7777", 7777, "http://127.0.0.1:7777"),
        ("http://hub.acme.example", 80, "http://hub.acme.example"),
        ("http://hub.acme.example", 443, "http://hub.acme.example:443"),
        ("127.0.0.1:7777", 7777, "https://127.0.0.1:7777"),
        ("http://127.0.0.1:7777", "7777", "http://127.0.0.1:7777"),
        ("http://127.0.0.1", "7777", "http://127.0.0.1:7777"),
        ("http://[::1]", 7777, "http://[::1]:7777"),
        ("http://[::1]:7777", 7777, "http://[::1]:7777"),
        ("https://acme.example/api/hub", 8443, "https://acme.example:8443/api/hub"),
        ("https://acme.example:8443/api/hub/", 8443, "https://acme.example:8443/api/hub"),
        ("HTTPS://acme.example", 443, "HTTPS://acme.example"),
    ],
)
def test_the_port_may_be_in_the_endpoint_or_beside_it(host, port, url):
    assert endpoint(Connection(conn_id="hub", conn_type="xethub", host=host, port=port)) == url


@pytest.mark.parametrize(
    ("value", "url"),
    [
        ("xethub://:hf_x@h.example:8080", "https://h.example:8080"),
        ("xethub://:hf_x@h.example:8080/http", "http://h.example:8080"),
        ("xethub://:hf_x@h.example/http", "http://h.example"),
        ("xethub://:hf_x@http%3A%2F%2Fh.example%3A8080", "http://h.example:8080"),
        ("xethub://:hf_x@http%3A%2F%2Fh.example:8080", "http://h.example:8080"),
        ("xethub://:hf_x@http%3A%2F%2Fh.example%3A8080:8080", "http://h.example:8080"),
        ('{"conn_type": "xethub", "host": "http://h.example", "port": "8080"}', "http://h.example:8080"),
        ('{"conn_type": "xethub", "host": "http://h.example:8080"}', "http://h.example:8080"),
    ],
)
def test_a_variable_of_the_environment_may_write_the_port_in_each_way(monkeypatch, value, url):
    monkeypatch.setenv("AIRFLOW_CONN_HUB", value)
    assert endpoint(EnvironmentVariablesBackend().get_connection("hub")) == url


@pytest.mark.parametrize(
    ("host", "port", "says"),
    [
        ("https://h.example:8080", 9090, "has port 9090, but its host says 8080. Leave the port empty."),
        ("h.example:8080", 443, "has port 443, but its host says 8080. Leave the port empty."),
        ("", 8080, "has port 8080 but no host. Set the host"),
        ("https://h.example", 70000, "must be a number from 1 to 65535"),
        ("https://h.example", "many", "must be a number from 1 to 65535"),
        ("http", 8080, "is not the URL of a Hub. Write it like https://huggingface.co"),
        ("https:", None, "is not the URL of a Hub"),
        ("http//h.example", None, "is not the URL of a Hub"),
        ("ftp://h.example", None, "is not the URL of a Hub"),
        ("https://h.example:port", None, "is not the URL of a Hub"),
        ("https://user@h.example", None, "is not the URL of a Hub"),
    ],
)
def test_a_port_that_contradicts_the_host_and_what_is_no_host_are_refused_by_name(host, port, says):
    with pytest.raises(XetInputError, match=says) as caught:
        endpoint(SimpleNamespace(conn_id="hub", host=host, port=port, schema=None))
    assert "'hub'" in str(caught.value)
