"""Small builders: files, repositories with files in them, sealed tokens."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_xethub.xet.publish.commit import CommitRequest
from airflow_provider_xethub.xet.repo import Repo

if TYPE_CHECKING:
    from airflow_provider_xethub.xet.records import XetFile
    from airflow_provider_xethub.xet.token import SealedTokenDict
    from xethub_local.server import LocalHub

TEXT = b"a,b\n1,2\n"
"""What the Hub stores inline."""

CAS = "/cas/.*"
"""Beginning of every CAS route."""


def binary(size: int = 5000, seed: object = 0) -> bytes:
    """Content that the Hub stores in CAS, and that does not compress."""
    return random.Random(f"{seed}").randbytes(size)


def noise(size: int) -> bytes:
    """Random bytes, which are in no CAS yet: a keystream of AES, four times as fast as the system's random bytes."""
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    return Cipher(algorithms.AES(os.urandom(32)), modes.CTR(bytes(16))).encryptor().update(bytes(size))


def write(folder: Path, files: dict[str, bytes]) -> Path:
    """Write files below ``folder``, and return it."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def publish(repo: Repo, folder: Path, files: dict[str, bytes]) -> list[XetFile]:
    """Put files into a repository, and return their records; needs the connection."""
    from airflow_provider_xethub.hooks.xethub import XetHubConnection

    source = write(folder / "published", files)
    return XetHubConnection().publish(source, CommitRequest(repo, (), message="before the test"))["files"]


def sealed(repo: Repo, scope: Any = "read") -> SealedTokenDict:
    """Return the XCom value of a token for ``repo``; needs the connection."""
    from airflow_provider_xethub.hooks.xethub import XetHubConnection

    hook = XetHubConnection()
    return hook.seal_token(hook.get_token(repo, scope))


def commits(hub: LocalHub, repo: Repo) -> int:
    """Count the commits of a repository's branch."""
    from airflow_provider_xethub.xet.hub.client import Hub

    return len(Hub(hub.url, hub.token("read")).latest_commits(repo, 50))


def content(hub: LocalHub, repo: Repo, path: str, folder: Path) -> bytes:
    """Return what a repository has under ``path``, as ``huggingface_hub`` downloads it."""
    from huggingface_hub import HfApi

    return Path(
        HfApi(endpoint=hub.url, token=hub.token("read")).hf_hub_download(
            repo.repo_id, path, repo_type=repo.repo_type, revision=repo.revision, local_dir=folder / "huggingface_hub"
        )
    ).read_bytes()


def names(folder: Path) -> list[str]:
    """List all files below a folder, hidden ones too."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
