"""Apache Airflow provider for Hugging Face Xet storage.

The values that DAG authors write or receive are importable from here. Each is loaded when it is first used, because
Airflow imports this package in every component, also to parse DAGs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from airflow_provider_xethub import _moved

if TYPE_CHECKING:
    from airflow_provider_xethub.assets.changes import changes_of, files_of
    from airflow_provider_xethub.xet.files.cache.hub_cache import HubCache
    from airflow_provider_xethub.xet.publish.card import Card
    from airflow_provider_xethub.xet.publish.request import CommitRequest
    from airflow_provider_xethub.xet.records import (
        XetAssetEvent,
        XetChanges,
        XetCleanup,
        XetCommit,
        XetCommitResult,
        XetCopied,
        XetCopyResult,
        XetDeletion,
        XetDownloadResult,
        XetFile,
        XetManifest,
        XetMirrorDownload,
        XetMirrorPlan,
        XetMirrorResult,
        XetPublishResult,
        XetPullRequest,
        XetReceived,
        XetRef,
        XetRepo,
        XetScanResult,
        XetSquashResult,
        XetStoredFile,
        XetTransfer,
        XetUploadResult,
    )
    from airflow_provider_xethub.xet.repo import Repo
    from airflow_provider_xethub.xet.token import SealedTokenDict, XetToken

__version__ = "0.2.0"

__all__ = [
    "Repo",
    "Card",
    "CommitRequest",
    "HubCache",
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

_MODULES = {
    "Card": "xet.publish.card",
    "CommitRequest": "xet.publish.request",
    "HubCache": "xet.files.cache.hub_cache",
    "Repo": "xet.repo",
    "SealedTokenDict": "xet.token",
    "XetToken": "xet.token",
    "changes_of": "assets.changes",
    "files_of": "assets.changes",
}

_moved.install()


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES.get(name, 'xet.records')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
