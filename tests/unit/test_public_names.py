"""What DAG authors import from the package itself, and the module paths of 0.1.0 that still work."""

from __future__ import annotations

import subprocess
import sys
import warnings
from importlib import import_module

import pytest

import airflow_provider_xethub
from airflow_provider_xethub._moved import MOVED

NAMES = [
    "Card",
    "CommitRequest",
    "HubCache",
    "Repo",
    "SealedTokenDict",
    "XetAssetEvent",
    "XetChanges",
    "XetCleanup",
    "XetCommit",
    "XetCommitResult",
    "XetCopied",
    "XetCopyResult",
    "XetDeletion",
    "XetDownloadResult",
    "XetFile",
    "XetMirrorDownload",
    "XetMirrorPlan",
    "XetMirrorResult",
    "XetPublishResult",
    "XetPullRequest",
    "XetReceived",
    "XetRef",
    "XetRepo",
    "XetScanResult",
    "XetSquashResult",
    "XetStoredFile",
    "XetToken",
    "XetTransfer",
    "XetUploadResult",
    "changes_of",
    "files_of",
]
# What the documentation of 0.1.0 imported or named in each module that moved.
DOCUMENTED = {
    "commit": ["CommitRequest", "publish"],
    "records": ["XetFile", "XetCommitResult", "XetTransfer", "XetDownloadResult"],
    "repo": ["Repo"],
    "token": ["SealedTokenDict", "XetToken"],
    "local.fault": ["Fault"],
    "local.faults": ["Fault", "Faults"],
    "local.hub_of_one_test": ["HubOfOneTest"],
    "local.request_log": ["LoggedRequest", "RequestLog"],
    "local.transfers": ["Transfer"],
}


def run(code: str, *options: str) -> str:
    """What a new interpreter prints."""
    return subprocess.run(
        [sys.executable, *options, "-c", code], capture_output=True, text=True, check=True, timeout=60
    ).stdout.strip()


def test_the_list_of_public_names():
    assert sorted(airflow_provider_xethub.__all__) == NAMES
    for name in NAMES:
        assert getattr(airflow_provider_xethub, name).__name__ == name
        assert name in dir(airflow_provider_xethub)


def test_another_name_is_missing():
    with pytest.raises(AttributeError, match="no attribute 'Rep'"):
        airflow_provider_xethub.Rep  # noqa: B018


def test_nothing_is_loaded_before_it_is_asked_for():
    code = "import sys, airflow_provider_xethub as p; print([m for m in sys.modules if m.startswith(p.__name__ + '.')])"
    assert run(code) == "['airflow_provider_xethub._moved']"


def test_the_values_need_neither_airflow_nor_a_client():
    code = (
        "import sys; from airflow_provider_xethub import Repo, CommitRequest, XetFile, XetToken; "
        "print({'airflow', 'requests', 'hf_xet', 'huggingface_hub'} & set(sys.modules))"
    )
    assert run(code) == "set()"


@pytest.mark.parametrize("old", MOVED)
def test_an_old_path_gives_the_module_of_the_new_one_and_a_warning(old):
    code = (
        f"import warnings; warnings.simplefilter('error'); import airflow_provider_xethub.{MOVED[old]} as new; "
        f"warnings.simplefilter('always'); import airflow_provider_xethub.{old} as old; "
        "print(old is new, old.__spec__.name == new.__name__)"
    )
    assert run(code) == "True True"
    sys.modules.pop(f"airflow_provider_xethub.{old}", None)
    with pytest.warns(DeprecationWarning, match=f"{old} has moved to airflow_provider_xethub.{MOVED[old]}") as seen:
        module = import_module(f"airflow_provider_xethub.{old}")
    assert len(seen) == 1
    assert {name for name in DOCUMENTED[old] if not hasattr(module, name)} == set()


def test_the_warning_names_the_line_that_imports():
    assert run("from airflow_provider_xethub.repo import Repo; print(Repo('a/b'))", "-W", "ignore") == "hf://a/b@main"
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        sys.modules.pop("airflow_provider_xethub.repo", None)
        import airflow_provider_xethub.repo  # noqa: F401
    assert [each.filename for each in seen] == [__file__]
