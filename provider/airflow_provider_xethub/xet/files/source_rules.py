"""Which files belong to a source: one rule for local folders, globs, lists and object storage.

* Left out at any level: ``.git`` (folder or file), ``.cache/huggingface``, temporary files and mirror records of this
  provider, and unfinished downloads of ``huggingface_hub``.
* A link to a file inside the source is uploaded as that file.
* A link to a folder inside the source is left out, as in ``huggingface_hub``: the files are found in the folder itself.
* A link that leads out of the source is refused. The files of a snapshot in a Hugging Face cache may link to the
  ``blobs`` of their own repository, and to those that the repositories of the cache share.
* With ``follow_links`` all links are followed, except those that lead back to a folder above them.

The rule applies to what is found below a source, not to the source itself, which may also be a link.

``xethub-local put`` has the same rule, in code of its own. Pure: no I/O.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from airflow_provider_xethub.exceptions import XetInputError
from airflow_provider_xethub.xet.identifiers import SHA256
from airflow_provider_xethub.xet.message_text import shortened
from airflow_provider_xethub.xet.process import temporary_names

MOST_NAMED = 20
"""Maximum number of names in an error."""

FOLLOW_THEM = "To upload the targets of such links, set follow_links=True; otherwise exclude the links."

_MOST_LEFT_OUT_NAMED = 5

GIT = "git's own"
CLIENT = "notes of huggingface_hub"
UNFINISHED = "unfinished downloads"
RECORD = "records of mirrors"
MARKER = "empty objects that stand for folders"
FOLDER_LINK = "links to folders"
LOOP = "links back to a folder that they are in"

MIRROR_RECORD = ".xethub-mirror.json"
"""The file in which a mirror records what it put into a folder."""

_UNFINISHED = re.compile(r"(?:.+\.)?[0-9a-f]{40,64}(?:\.[0-9a-f]{8})?\.incomplete")
_REPO_IN_CACHE = re.compile(r"(?:models|datasets|spaces)--.+")


def left_out(name: str, folder: str) -> str | None:
    """Return why a file or folder is left out; ``None`` where it is not.

    :param folder: the name of the folder that contains it.
    """
    if name == "huggingface":
        return CLIENT if folder == ".cache" else None
    if name.startswith("."):
        if name.lower() == ".git":
            return GIT
        if name.endswith(temporary_names.SUFFIX):
            return UNFINISHED
        if name == MIRROR_RECORD:
            return RECORD
    if folder == ".locks" and _REPO_IN_CACHE.fullmatch(name):
        return CLIENT
    return UNFINISHED if name.endswith(".incomplete") and _UNFINISHED.fullmatch(name) else None


def cached_repo(folder: str) -> str | None:
    """Return the repository folder that a snapshot in a Hugging Face cache belongs to.

    :param folder: the real path of a folder: ``…/models--acme--m/snapshots/<revision>``, or one below it.
    :returns: ``…/models--acme--m``; ``None`` if the folder is not part of a snapshot.
    """
    parts = folder.split("/")
    for number in range(len(parts) - 2, 0, -1):
        if parts[number] == "snapshots" and _REPO_IN_CACHE.fullmatch(parts[number - 1]):
            return "/".join(parts[:number])
    return None


def is_blob(path: str, repo: str | None) -> bool:
    """Return whether a file is content of a repository in a Hugging Face cache.

    :param path: its real path: ``blobs/<id>`` of the repository itself, or ``blobs/9c/9c26…`` of the cache, where
        ``huggingface_hub`` keeps shared content by Xet hash.
    :param repo: from :func:`cached_repo`.
    """
    if repo is None:
        return False
    folder, _, name = path.rpartition("/")
    shared = f"{repo.rpartition('/')[0]}/blobs/{name[:2]}"
    return folder == f"{repo}/blobs" or (folder == shared and SHA256.fullmatch(name) is not None)


def is_inside(path: str, folder: str) -> bool:
    """Return whether a real path is that of a folder, or of an entry below it."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")


@dataclass
class Findings:
    """Findings of the search for files, for all sources of one upload.

    :ivar problems: unreadable entries, with the reason; a retry may succeed.
    :ivar empty: sources without a file.
    :ivar left_out: names of entries that were left out, by reason.
    :ivar leaving: links that lead out of their source.
    :ivar refused: entries that a repository cannot have, with the reason.
    """

    problems: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    left_out: dict[str, list[str]] = field(default_factory=dict)
    leaving: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    def leave_out(self, reason: str, name: str) -> None:
        """Record that an entry was left out."""
        self.left_out.setdefault(reason, []).append(name)

    def left_out_text(self) -> str:
        """Describe what was left out, by count and name; empty where nothing was."""
        return "; ".join(
            f"{reason} ({len(names)}): {_shortened(names, _MOST_LEFT_OUT_NAMED)}"
            for reason, names in sorted(self.left_out.items())
        )

    def check(self, remedy: str = FOLLOW_THEM) -> None:
        """Refuse entries that a retry cannot fix.

        :param remedy: the advice about links that lead out of the source.
        :raises XetInputError: there are such entries; the message names them.
        """
        if self.leaving:
            many = len(self.leaving) > 1
            raise XetInputError(
                f"{len(self.leaving)} link{'s' if many else ''} in the source lead{'' if many else 's'} out of it: "
                f"{_shortened(sorted(self.leaving), MOST_NAMED)}. Nothing was uploaded. {remedy}"
            )
        if self.refused:
            raise XetInputError(
                f"{len(self.refused)} source{'s' if len(self.refused) > 1 else ''} cannot be stored in a repository: "
                f"{_shortened(sorted(self.refused), MOST_NAMED)}. Nothing was uploaded. Rename or exclude them."
            )


def shown(name: str) -> str:
    """Return a name for a log or message: with bytes that are not UTF-8 and control characters escaped."""
    return name if name.isprintable() else ascii(name)


def _shortened(names: list[str], most: int) -> str:
    return shortened([shown(name) for name in names], most)
