"""The libraries of the clouds: a missing one, and what of their messages is shown."""

from __future__ import annotations

import subprocess
import sys

import pytest

from airflow_provider_xethub.exceptions import XetIdentityError
from airflow_provider_xethub.xet.identity import libraries
from airflow_provider_xethub.xet.identity.aws import AwsIdentity
from airflow_provider_xethub.xet.identity.azure import AzureIdentity
from airflow_provider_xethub.xet.identity.google import GoogleIdentity


@pytest.mark.parametrize(
    ("identity", "module", "package"),
    [
        (GoogleIdentity(), "google.auth.compute_engine", "google-auth"),
        (AzureIdentity(), "azure.identity", "azure-identity"),
        (AwsIdentity(), "botocore.session", "botocore"),
    ],
)
def test_a_missing_library_is_named_with_its_extra(monkeypatch, identity, module, package):
    monkeypatch.setitem(sys.modules, module, None)
    extra = identity.name
    message = rf"^Identity {extra} needs {package}, .*: install airflow-provider-xethub\[{extra}\]"
    with pytest.raises(XetIdentityError, match=message) as caught:
        identity.id_token("https://huggingface.co")
    assert not caught.value.retryable


def test_no_library_is_imported_before_it_is_needed():
    names = ", ".join(f"airflow_provider_xethub.xet.identity.{name}" for name in ("aws", "azure", "google"))
    libraries = ["botocore", "azure.identity", "google.auth", "requests"]
    script = f"import sys, {names}; print([each for each in {libraries} if each in sys.modules])"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_what_looks_like_a_token_is_not_shown():
    assert libraries.shown("bad\n eyJhbGciOiJub25lIn0.e30.AAAA: no") == "bad ***: no"
    assert len(libraries.shown("x" * 1000)) <= 301
