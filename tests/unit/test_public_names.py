"""What DAG authors import from the package itself, and the module paths of 0.1.0 that still work."""

from __future__ import annotations

import subprocess
import sys
import warnings
from importlib import import_module
from pathlib import Path

import pytest

import airflow_provider_xethub
import xethub_local
from airflow_provider_xethub._moved import MOVED

LOCAL = Path(xethub_local.__file__).parent

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
    "XetManifest",
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
    "local": ["__version__"],
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
        f"import warnings; warnings.simplefilter('error'); import {MOVED[old]} as new; "
        f"warnings.simplefilter('always'); import airflow_provider_xethub.{old} as old; "
        "print(old is new, old.__spec__.name == new.__name__)"
    )
    assert run(code) == "True True"
    sys.modules.pop(f"airflow_provider_xethub.{old}", None)
    with pytest.warns(DeprecationWarning, match=rf"\.{old} has moved to {MOVED[old]}\.") as seen:
        module = import_module(f"airflow_provider_xethub.{old}")
    assert len(seen) <= 1 + old.count("."), "one for each module, the package of the old path included"
    assert {name for name in DOCUMENTED[old] if not hasattr(module, name)} == set()


def test_the_warning_names_the_line_that_imports():
    assert run("from airflow_provider_xethub.repo import Repo; print(Repo('a/b'))", "-W", "ignore") == "hf://a/b@main"
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        sys.modules.pop("airflow_provider_xethub.repo", None)
        import airflow_provider_xethub.repo  # noqa: F401
    assert [each.filename for each in seen] == [__file__]


@pytest.mark.parametrize(
    "path",
    [path.relative_to(LOCAL).with_suffix("").as_posix().replace("/", ".") for path in sorted(LOCAL.rglob("*.py"))],
)
def test_every_module_of_the_local_hub_has_its_old_path_too(path):
    name = "" if path == "__init__" else f".{path.removesuffix('.__init__')}"
    if name.endswith("__main__"):
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        old = import_module(f"airflow_provider_xethub.local{name}")
    assert old is import_module(f"xethub_local{name}")
    assert old.__name__ == f"xethub_local{name}"


def test_names_from_the_old_package_of_the_local_hub():
    code = (
        "from airflow_provider_xethub.local.server import LocalHub; from airflow_provider_xethub.local import testing; "
        "import airflow_provider_xethub.local.control.fault as old; import xethub_local; "
        "print(LocalHub is xethub_local.server.LocalHub, testing is xethub_local.testing, old.__name__)"
    )
    assert run(code, "-W", "ignore") == "True True xethub_local.control.fault"


@pytest.mark.parametrize("name", ["local.none", "local.control.none", "localx", "none"])
def test_what_never_was_is_missing(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        with pytest.raises(ModuleNotFoundError, match=name.rpartition(".")[2]):
            import_module(f"airflow_provider_xethub.{name}")


def test_the_old_path_names_the_distribution_that_is_not_installed():
    code = "import sys; sys.modules['xethub_local'] = None; import airflow_provider_xethub.local.server"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stderr.splitlines()[-1] == (
        "ModuleNotFoundError: airflow_provider_xethub.local has moved to xethub_local, which is not installed. "
        "Install xethub-local."
    )
