"""Asking the Hub how it wants to store files: through CAS, or inline in the commit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_provider_xethub.exceptions import XetProtocolError
from airflow_provider_xethub.xet import answers
from airflow_provider_xethub.xet import threads as workers
from airflow_provider_xethub.xet.hub.client import Hub
from airflow_provider_xethub.xet.records import XetFile
from airflow_provider_xethub.xet.repo import Repo

BATCH_SIZE = 256
"""Files in one preupload request; the Hub takes no more."""

MAX_CONCURRENT_REQUESTS = 4
"""Such requests at the same time: 5,000 files are 20 of them, and each waits for the way to the Hub and back."""


MAX_INLINE_BYTES = 10 << 20
"""Bytes above which the Hub never stores a file inline."""

GITIGNORE = ".gitignore"
"""The file in the root of a repository that says what is not to be published."""

SMALL_UPLOAD_BYTES = 32 << 20
"""Bytes of an upload below which waiting for the Hub takes a good part of the time."""


def should_prefetch_token(files: Sequence[tuple[int, bytes]]) -> bool:
    """Whether an upload should fetch its token while the Hub is asked how it wants to store the files.

    Only a small one that is surely to go through CAS, because a file of it is large or binary: for others the token
    would be one request too many, as it is where nothing has changed.

    :param files: size and first bytes of each.
    """
    uses_cas = any(size > MAX_INLINE_BYTES or b"\0" in sample for size, sample in files)
    return uses_cas and sum(size for size, _ in files) < SMALL_UPLOAD_BYTES


@dataclass(frozen=True)
class UploadMode:
    """What the Hub wants done with a file.

    :param inline: whether its content travels in the commit instead of through CAS.
    :param current: id of the content now at that path: sha256, or git blob sha1 for inline files; ``None`` if new.
    :param ignored: whether the repository's ``.gitignore`` excludes it.
    """

    inline: bool
    current: str | None
    ignored: bool


def own_gitignore(
    files: Sequence[XetFile], contents_of: Callable[[Sequence[XetFile]], Mapping[str, bytes]]
) -> str | None:
    """Return the ``.gitignore`` that is among the files to be published; ``None`` where there is none.

    Like git, it takes a byte order mark at its beginning for no part of it.

    :param contents_of: returns the bytes of files, by path.
    :raises XetHubError: it cannot be read.
    """
    own = [file for file in files if file["path"] == GITIGNORE]
    return contents_of(own)[GITIGNORE].decode("utf-8-sig", "replace") if own else None


def upload_modes(
    hub: Hub, repo: Repo, files: Sequence[XetFile], *, create_pr: bool = False, gitignore: str | None = None
) -> dict[str, UploadMode]:
    """Ask the Hub what to do with each file (``POST …/preupload``), by path.

    :param files: with ``path``, ``size`` and ``sample``.
    :param gitignore: the rules of the ``.gitignore`` that is published with them, from :func:`own_gitignore`; where
        ``None``, those of the one that the repository has count.
    :raises XetHubError: see :meth:`airflow_provider_xethub.xet.hub.client.Hub.request`.
    """
    about = f"the preupload request for {repo}"

    def ask(batch: Sequence[XetFile]) -> dict[str, UploadMode]:
        answer = hub.json(
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
            described = answers.sequence(answers.mapping(answer, "JSON").get("files"), "files")
            return dict(_mode(answers.mapping(each, "a file")) for each in described)

    batches = [files[start : start + BATCH_SIZE] for start in range(0, len(files), BATCH_SIZE)]
    asked = workers.stoppable(lambda stopped: workers.each(ask, batches, MAX_CONCURRENT_REQUESTS, stopped))
    modes = {path: mode for answer in asked for path, mode in answer.items()}
    missing = [file["path"] for file in files if file["path"] not in modes]
    if missing:
        raise XetProtocolError(f"The Hub at {hub.endpoint} did not answer {about} for {missing[0]}.")
    for file in files:
        if file["size"] == 0:
            modes[file["path"]] = UploadMode(True, modes[file["path"]].current, modes[file["path"]].ignored)
    return modes


def _mode(file: Mapping[str, Any]) -> tuple[str, UploadMode]:
    mode = answers.identifier(file.get("uploadMode"), "an upload mode")
    current = file.get("oid")
    # The Hub speaks of "lfs" and "regular"; an empty file has no pointer, clients commit it inline.
    return answers.path(file.get("path")), UploadMode(
        mode == "regular", None if current is None else answers.blob_id(current), file.get("shouldIgnore") is True
    )
