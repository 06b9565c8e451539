"""Ask the Hub how it wants to store files: through CAS, or inline in the commit."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from airflow_provider_xethub.exceptions import XetProtocolError
from airflow_provider_xethub.xet import answers
from airflow_provider_xethub.xet.hub.client import Hub
from airflow_provider_xethub.xet.process import threads
from airflow_provider_xethub.xet.records import XetFile
from airflow_provider_xethub.xet.repo import Repo

BATCH_SIZE = 256
"""Files in one preupload request; the Hub accepts no more."""

MAX_CONCURRENT_REQUESTS = 4
"""Preupload requests in flight: 5,000 files need 20 of them, and each takes a round trip to the Hub."""

MAX_INLINE_BYTES = 10 << 20
"""Size in bytes above which the Hub never stores a file inline."""

GITIGNORE = ".gitignore"
"""The file in the root of a repository that names what must not be published."""

SMALL_UPLOAD_BYTES = 32 << 20
"""Size of an upload in bytes below which requests to the Hub take much of the time."""


class HasContent(Protocol):
    """A file to upload."""

    @property
    def size(self) -> int:
        """Its size in bytes."""

    @property
    def sample(self) -> bytes:
        """Its first bytes."""


def should_prefetch_token(files: Collection[HasContent], *, are_sent: bool = False) -> bool:
    """Return whether an upload should fetch its token at the same time as the upload modes of its files.

    Only if a file certainly goes through CAS, because it is large or binary, and only for a small upload or a single
    file: for any other, if nothing has changed, the token request may turn out unnecessary.

    :param files: all files; of a large upload, no first bytes are read.
    :param are_sent: whether files are sent also if they have not changed.
    """
    is_small = are_sent or len(files) == 1 or sum(file.size for file in files) < SMALL_UPLOAD_BYTES
    return is_small and any(file.size > MAX_INLINE_BYTES or b"\0" in file.sample for file in files)


@dataclass(frozen=True)
class UploadMode:
    """Describe how the Hub wants to store a file.

    :param inline: whether the content travels in the commit instead of through CAS.
    :param current: hash of the content that is now at that path: sha256, or git blob sha1 for an inline file. ``None``:
        there is no such file.
    :param ignored: whether the repository's ``.gitignore`` excludes the file.
    """

    inline: bool
    current: str | None
    ignored: bool


def own_gitignore(
    files: Sequence[XetFile], contents_of: Callable[[Sequence[XetFile]], Mapping[str, bytes]]
) -> str | None:
    """Return the content of the ``.gitignore`` among the files to publish; ``None`` if there is none.

    As in git, a byte order mark at its beginning is not part of it.

    :param contents_of: returns the bytes of files, by path.
    :raises XetHubError: it cannot be read.
    """
    own = [file for file in files if file["path"] == GITIGNORE]
    return contents_of(own)[GITIGNORE].decode("utf-8-sig", "replace") if own else None


def upload_modes(
    hub: Hub, repo: Repo, files: Sequence[XetFile], *, create_pr: bool = False, gitignore: str | None = None
) -> dict[str, UploadMode]:
    """Ask the Hub how it wants to store each file (``POST …/preupload``), by path.

    :param files: records with ``path``, ``size`` and ``sample``.
    :param create_pr: whether the commit will open a pull request.
    :param gitignore: content of the ``.gitignore`` that is published with the files, from :func:`own_gitignore`.
        ``None``: the ``.gitignore`` of the repository applies.
    :raises XetHubError: see :meth:`airflow_provider_xethub.xet.hub.client.Hub.request`.
    """
    about = f"the preupload request for {repo}"

    def fetch(batch: Sequence[XetFile]) -> dict[str, UploadMode]:
        response = hub.json(
            "POST",
            f"{repo.api_path}/preupload/{repo.quoted_revision}",
            about=about,
            params={"create_pr": "1"} if create_pr else None,
            json={
                "files": [{"path": f["path"], "size": f["size"], "sample": f.get("sample", "")} for f in batch],
                **({} if gitignore is None else {"gitIgnore": gitignore}),
            },
        )
        with hub.reading(about):
            described = answers.sequence(answers.mapping(response, "JSON").get("files"), "files")
            modes = {}
            for file in [answers.mapping(each, "a file") for each in described]:
                # The Hub calls the modes "lfs" and "regular".
                is_inline = answers.identifier(file.get("uploadMode"), "an upload mode") == "regular"
                current = None if file.get("oid") is None else answers.blob_id(file["oid"])
                is_ignored = file.get("shouldIgnore") is True
                modes[answers.path(file.get("path"))] = UploadMode(is_inline, current, is_ignored)
            return modes

    batches = [files[start : start + BATCH_SIZE] for start in range(0, len(files), BATCH_SIZE)]
    fetched = threads.stoppable(lambda stopped: threads.each(fetch, batches, MAX_CONCURRENT_REQUESTS, stopped))
    modes = {path: mode for part in fetched for path, mode in part.items()}
    missing = [file["path"] for file in files if file["path"] not in modes]
    if missing:
        raise XetProtocolError(f"The Hub at {hub.endpoint} returned no upload mode for {missing[0]} to {about}.")
    for file in files:
        if file["size"] == 0:  # clients commit an empty file inline, because it has no pointer
            modes[file["path"]] = UploadMode(True, modes[file["path"]].current, modes[file["path"]].ignored)
    return modes
