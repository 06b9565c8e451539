"""Which Hub a connection means: host and port, as the form, a URI and JSON each write them."""

from __future__ import annotations

import pytest
from airflow.sdk import Connection

from airflow_provider_xethub.hooks.connection import endpoint


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
        # The endpoint is the more exact of the two.
        ("http://127.0.0.1:7777", 443, "http://127.0.0.1:7777"),
    ],
)
def test_the_port_may_be_in_the_endpoint_or_beside_it(host, port, url):
    assert endpoint(Connection(conn_id="hub", conn_type="xethub", host=host, port=port)) == url
