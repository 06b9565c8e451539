"""The world of one cell: an empty local Hub, folders, a connection, and what is at the Hub and on the worker then."""

from __future__ import annotations

import os
import random
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from airflow_provider_xethub.xet.repo import Repo, RepoType
from faults.results import Effects
from simulation.world import files_below
from support.commit_builders import name_of
from support.object_stores import forget_filesystems
from support.repository_trees import read_tree, set_tree
from support.secret_values import HEADER
from xethub_local.metadata import large_files
from xethub_local.metadata.buckets import BucketFile
from xethub_local.server import LocalHub

TEXT = b"species,count\nAdelie,3\n"
"""What the Hub stores inline."""

_HEX = re.compile(r"[0-9a-f]{32,64}")
_BLOBS = re.compile(r"blobs/[0-9a-f]{2}/")


class World:
    """One cell has it for itself. Its repositories have the same names in all cells, and its files other contents.

    The contents differ so that CAS has none of them from an earlier cell.

    :param hub: it is running.
    :param folder: everything on the worker; it does not exist yet.
    :param seed: what the contents of files are drawn from.
    :param connection: the value of the Airflow connection.
    """

    def __init__(self, hub: LocalHub, folder: Path, seed: str, connection: str) -> None:
        self.hub = hub
        self.folder = folder
        self.out = folder / "out"
        self._seed = seed
        self._labels: dict[bytes, str] = {TEXT: "text"}
        self._temporary = folder / "temporary"
        self._environment = {
            "AIRFLOW_CONN_XETHUB_DEFAULT": connection,
            "TMPDIR": str(self._temporary),
            # One cell must not find what another one made the client record.
            "HF_XET_CACHE": str(folder / "cache"),
        }

    def __enter__(self) -> World:
        self.hub.reset(data=True)
        self._temporary.mkdir(parents=True)
        self._before = {name: os.environ.get(name) for name in self._environment}
        os.environ.update(self._environment)
        self._tempdir, tempfile.tempdir = tempfile.tempdir, str(self._temporary)
        self._earlier_tokens = set(self.hub.access.issued_xet_tokens())
        self._xorbs = self._count_xorbs()
        forget_filesystems()
        return self

    def __exit__(self, *_: object) -> None:
        tempfile.tempdir = self._tempdir
        for name, value in self._before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        self.hub.faults.clear()
        shutil.rmtree(self.folder, ignore_errors=True)

    def binary(self, label: str, size: int = 3000) -> bytes:
        """Return content that goes through CAS; ``label`` stands for it in the effects."""
        content = b"\0" + random.Random(f"{self._seed} {label}").randbytes(size - 1)
        self._labels[content] = label
        return content

    def text(self, label: str) -> bytes:
        """Return content that the Hub stores inline."""
        content = f"{label},{self._seed}\n".encode()
        self._labels[content] = label
        return content

    def repo(self, name: str, repo_type: RepoType = "dataset", files: Mapping[str, bytes] | None = None) -> Repo:
        """Return a new repository with these files, put there without any client."""
        made = self.hub.create_repo(f"local/{name}", repo_type)
        repo = Repo(made.repo_id, made.repo_type)
        if files:
            self.put(repo, files)
        return repo

    def put(self, repo: Repo, files: Mapping[str, bytes]) -> None:
        """Add files, as somebody else."""
        if not repo.is_bucket:
            set_tree(self.hub, repo, {**read_tree(self.hub, repo), **files})
            return
        name = name_of(repo)
        for path, content in files.items():
            stored = self.hub.content.add_plain(content, repository=name)
            now = self.hub.access.now()
            self.hub.bucket_files.put(name, BucketFile(path, stored.size, stored.xet_hash, int(now * 1000), now))

    def source(self, files: Mapping[str, bytes]) -> str:
        """Return a folder on the worker with these files."""
        for path, content in files.items():
            file = self.folder / "source" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        return str(self.folder / "source")

    def secrets(self) -> set[str]:
        """Return every credential that exists in this world."""
        return {self.hub.token("write"), HEADER, *self.hub.access.issued_xet_tokens()} - self._earlier_tokens

    def effects(self) -> Effects:
        """Return what there is at the Hub and on the worker."""
        found: Effects = {}
        for repository in self.hub.repositories.find_all():
            name = repository.name
            found[name] = "private" if repository.private else "public"
            repo = Repo(repository.repo_id, repository.kind[:-1])  # type: ignore[arg-type]
            refs = ["main"] if repo.is_bucket else [ref.ref for ref in self.hub.repositories.refs(name)]
            for ref in refs:
                if not repo.is_bucket:
                    found[f"{name} {ref} commits"] = str(len(self.hub.repositories.commits(name, ref)))
                for path, content in read_tree(self.hub, repo, ref).items():
                    found[f"{name} {ref} {path}"] = self._label(content)
            if not repo.is_bucket:
                found |= self._discussions(name)
                found[f"stored {name}"] = str(self._count_stored(name))
        found["new xorbs"] = str(self._count_xorbs() - self._xorbs)
        for path, content in files_below(self.out).items() if self.out.exists() else ():
            label = self._label(content)
            # Blobs of a cache are named by a digest of their content, which differs from run to run.
            name = _BLOBS.sub("blobs/", _HEX.sub("HASH", path)).replace("blobs/HASH", f"blobs/({label})")
            found[f"out {name}"] = label
        for number, path in enumerate(files_below(self._temporary)):
            found[f"temporary {number}"] = path
        return found

    def _discussions(self, name: str) -> Effects:
        found: Effects = {}
        discussions = self.hub.commits.discussions
        for each in discussions.find_all(name):
            comments = [event for event in discussions.events(name, each.number) if event.type == "comment"]
            found[f"{name} discussion {each.number}"] = f"{each.status}, {len(comments)} comments"
        return found

    def _count_stored(self, name: str) -> int:
        """Return how many files in CAS the Hub would list as stored."""
        files = large_files.find(self.hub.repositories, name)
        hashes = [file.entry.xet_hash for file in files if file.entry.xet_hash]
        return sum(self.hub.content.is_readable(name, each) for each in hashes)

    def _label(self, content: bytes) -> str:
        if content in self._labels:
            return self._labels[content]
        return "commit" if _HEX.fullmatch(content.decode("latin-1")) else "other"

    def _count_xorbs(self) -> int:
        return sum(1 for path in (self.hub.folder / "xorbs").rglob("*") if path.is_file())

    def normalise(self, text: str) -> str:
        """Return a text without what differs from run to run: addresses, folders, hashes, durations."""
        text = text.replace(self.hub.url, "http://hub").replace(str(self.folder), "/work")
        text = text.replace(self.hub.url.removeprefix("http://"), "hub")
        for pattern, replacement in _VARYING:
            text = pattern.sub(replacement, text)
        return text


_VARYING: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"/cas/[0-9a-f]{16}"), "/cas/ID"),
    (_HEX, "HASH"),
    (re.compile(r"@[0-9a-f]{12}\b"), "@COMMIT"),
    (re.compile(r"(?<![\w./])(\.gitattributes|README\.md|a\.bin|d/b\.bin|old\.bin|table\.csv)(?![\w./])"), "FILE"),
    (re.compile(r"\b\d+(\.\d+)? (s|ms|min|seconds)\b"), "N s"),
    (re.compile(r"\b\d{4}-\d\d-\d\d[T ][\d:.]+(Z|\+00:00)?"), "DATE"),
    (re.compile(r"\b(\d+(\.\d+)?) (of \d+(\.\d+)? )?(B|kB|MB|bytes)\b"), "N bytes"),
)
