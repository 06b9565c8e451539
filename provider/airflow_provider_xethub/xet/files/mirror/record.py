"""The record that a mirror keeps in its destination: which files it put there. Pure: no I/O.

A mirror removes a file only if the record names it and its content is the recorded one. Whoever can write to the
destination can also change the record, so nothing in it is trusted: paths cannot lead out of the destination, and a
file with other content stays.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_xethub.exceptions import XetInputError
from airflow_provider_xethub.xet import answers
from airflow_provider_xethub.xet.files.content_identity import KINDS, Identity
from airflow_provider_xethub.xet.files.source_rules import MIRROR_RECORD
from airflow_provider_xethub.xet.repo import Repo, check_path

VERSION = 1

MAX_BYTES = 128 << 20
"""Size of the largest record: enough for half a million files."""

_MAX_IDENTITIES = 2


@dataclass(frozen=True)
class MirrorRecord:
    """What mirrors put into a destination.

    :param repo: the repository that was mirrored, at the last revision.
    :param folder: the folder of the repository that was mirrored; empty for the root.
    :param files: the contents that a file may have, by its path below the destination: two of them while a mirror runs.
    """

    repo: Repo
    folder: str = ""
    files: Mapping[str, Sequence[Identity]] = field(default_factory=dict)

    def encoded(self) -> bytes:
        """Return the record as JSON.

        :raises XetInputError: it is larger than :data:`MAX_BYTES`.
        """
        value = {
            "xethub_mirror": VERSION,
            "repo": self.repo.uri,
            "path_in_repo": self.folder,
            "files": {path: [list(each) for each in known] for path, known in sorted(self.files.items())},
        }
        data = json.dumps(value, ensure_ascii=False).encode()
        if len(data) > MAX_BYTES:
            raise XetInputError(
                f"{len(self.files)} files are too many for the record of one mirror ({MAX_BYTES >> 20} MiB). Mirror "
                "folders of the repository to several destinations."
            )
        return data


def decode(data: bytes, where: str) -> MirrorRecord:
    """Read a record, and check all of it.

    :param where: the destination, for the message.
    :raises XetInputError: it is not a valid record.
    """
    try:
        value = answers.mapping(answers.parse(data), "JSON")
        if value.get("xethub_mirror") != VERSION:
            raise answers.WrongAnswerError("another version")
        repo = Repo.from_uri(answers.identifier(value.get("repo"), "'repo'"))
        folder = value.get("path_in_repo")
        if not isinstance(folder, str):
            raise answers.WrongAnswerError("'path_in_repo' that is not a string")
        if folder:
            check_path(folder)
        files = answers.mapping(value.get("files"), "'files'")
        return MirrorRecord(repo, folder, {_path(path): _identities(known) for path, known in files.items()})
    except (answers.WrongAnswerError, XetInputError) as error:
        raise XetInputError(
            f"{MIRROR_RECORD} in {where} is not a valid record of a mirror: {str(error).rstrip('.'):.200}. Nothing was "
            "changed. Remove it to start again; the files that earlier mirrors put there then stay."
        ) from None


def _path(path: str) -> str:
    check_path(path)
    if path == MIRROR_RECORD:
        raise answers.WrongAnswerError("itself among its files")
    return path


def _identities(value: Any) -> list[Identity]:
    known = answers.sequence(value, "contents")
    if not 1 <= len(known) <= _MAX_IDENTITIES:
        raise answers.WrongAnswerError(f"{len(known)} contents of one file")
    found = []
    for each in known:
        parts = answers.sequence(each, "a content")
        if len(parts) != 3 or parts[1] not in KINDS or not isinstance(parts[2], str):
            raise answers.WrongAnswerError("a content that is not a size and a digest")
        found.append(Identity(answers.integer(parts[0], "a size"), parts[1], parts[2]))
    return found
