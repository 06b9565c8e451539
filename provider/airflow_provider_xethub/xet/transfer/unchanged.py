"""Finds local files that need no upload because the repository already has them.

Reading a file and computing its digest is cheaper than asking CAS about each of its chunks, so a folder with few
changes is done in seconds. Objects in object storage would have to be fetched for that, so they are not compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from airflow_provider_xethub.exceptions import XetSourceError
from airflow_provider_xethub.xet import native_client
from airflow_provider_xethub.xet.files.digest_memory import DigestMemory
from airflow_provider_xethub.xet.files.found_files import LocalFile, SourceFile
from airflow_provider_xethub.xet.files.sources import check_unchanged
from airflow_provider_xethub.xet.files.targets import digest
from airflow_provider_xethub.xet.hub.client import Hub
from airflow_provider_xethub.xet.hub.preupload import UploadMode
from airflow_provider_xethub.xet.message_text import os_reason
from airflow_provider_xethub.xet.records import XetFile, xet_file_record
from airflow_provider_xethub.xet.repo import Repo
from airflow_provider_xethub.xet.transfer import digests, remembered
from airflow_provider_xethub.xet.transfer.remembered import digests_of

UNREAD_FROM = 16 << 20
"""Size in bytes from which a file that was written to or replaced since its last upload, as far as this machine
remembers that, or that is new, is not read before the next one. Reading 1 GiB takes 0.6 seconds of 2.8 if 1 % of it
changed. If it was only touched, or replaced by a copy, the upload reads it, and sends nothing."""


def in_repository(
    hub: Hub,
    repo: Repo,
    files: Sequence[SourceFile],
    modes: Mapping[str, UploadMode],
    memory: DigestMemory | None = None,
) -> tuple[dict[str, XetFile], dict[str, str]]:
    """Return the records of those files that the revision already has with the same content, by path.

    :param modes: the Hub's answer for each file; ``current`` is the sha256 of the file it has.
    :param memory: remembers digests of files that did not change; ``None``: all are read.
    :returns: the records, and the sha256 of all files that had to be read, including changed ones.
    :raises XetSourceError: a file changed meanwhile.
    """
    candidates = [file for file in files if isinstance(file, LocalFile) and modes[file.path_in_repo].current]
    found = digests_of(
        memory,
        "sha256",
        candidates,
        lambda numbers: digests.each(_digest, [candidates[number] for number in numbers]),
        UNREAD_FROM,
        [modes[file.path_in_repo].current for file in candidates],
    )
    known = {file.path_in_repo: sha256 for file, sha256 in zip(candidates, found.digests, strict=True)}
    equal = {
        file.path_in_repo: (file, known[file.path_in_repo])
        for file in candidates
        if known[file.path_in_repo] == modes[file.path_in_repo].current
    }
    there = hub.get_files(repo, list(equal)) if equal else []
    same = {each["path"]: each for each in there if each["sha256"] == known[each["path"]]}
    for number in [*found.recalled, *found.changed]:  # an upload gets only digests that were computed
        known.pop(candidates[number].path_in_repo)
    return _records(repo, same, equal), known


def recalled(files: Sequence[LocalFile], memory: DigestMemory) -> dict[str, str]:
    """Return the remembered sha256 of those files that have not changed since, by path; only a sample is read.

    :raises XetSourceError: a file of the sample cannot be read any more.
    """
    found = remembered.recalled(
        memory,
        "sha256",
        files,
        lambda numbers: digests.each(_digest, [files[number] for number in numbers]),
    )
    return {files[number].path_in_repo: sha256 for number, sha256 in found.items()}


def known_records(
    repo: Repo, files: Sequence[LocalFile], sha256s: Mapping[str, str], xet_hashes: Mapping[str, str]
) -> dict[str, XetFile]:
    """Return the records of files that the revision is known to have with the same content, by path.

    :param sha256s, xet_hashes: of these files, by path.
    :raises XetSourceError: a file changed meanwhile.
    """
    check_unchanged(files, [file.size for file in files])
    uri = repo.uri
    return {
        (path := file.path_in_repo): xet_file_record(
            path, file.size, uri, sha256=sha256s[path], xet_hash=xet_hashes[path]
        )
        for file in files
    }


def in_bucket(
    hub: Hub, bucket: Repo, files: Sequence[SourceFile], memory: DigestMemory | None = None
) -> dict[str, XetFile]:
    """Return the records of those files that the bucket already has with the same Xet hash and size, by path.

    :param memory: as for :func:`in_repository`.
    :raises XetSourceError: a file changed meanwhile.
    """
    by_path = {file.path_in_repo: file for file in files if isinstance(file, LocalFile)}
    there = {file["path"]: file for file in hub.get_files(bucket, list(by_path))}
    candidates = [file for path, file in by_path.items() if path in there and there[path]["size"] == file.size]
    hashes = digests_of(
        memory,
        "Xet hash",
        candidates,
        lambda numbers: _xet_hashes([candidates[number] for number in numbers]),
        UNREAD_FROM,
        [there[file.path_in_repo]["xet_hash"] for file in candidates],
    ).digests
    equal = {
        file.path_in_repo: (file, None)
        for file, xet_hash in zip(candidates, hashes, strict=True)
        if xet_hash == there[file.path_in_repo]["xet_hash"]
    }
    return _records(bucket, {path: there[path] for path in equal}, equal)


def _digest(file: LocalFile) -> str:
    try:
        return digest(file.path, "sha256", file.size)
    except OSError as error:
        reason = os_reason(error)
        raise XetSourceError(f"{file} cannot be read any more: {reason}. Nothing was published.") from error


def _xet_hashes(files: Sequence[LocalFile]) -> list[str]:
    if not files:
        return []
    try:
        return native_client.xet_hashes([file.path for file in files])
    except (OSError, RuntimeError) as error:  # it does not say which of them
        check_unchanged(files, [file.size for file in files])
        raise XetSourceError(
            f"One of {len(files)} files cannot be read any more: {error}. Nothing was published."
        ) from error


def _records(
    repo: Repo, there: Mapping[str, XetFile], equal: Mapping[str, tuple[LocalFile, str | None]]
) -> dict[str, XetFile]:
    files = [equal[path][0] for path in there]
    check_unchanged(files, [file.size for file in files])
    uri = repo.uri
    return {
        path: xet_file_record(path, file.size, uri, sha256=digest, xet_hash=there[path]["xet_hash"])
        for path, (file, digest) in ((path, equal[path]) for path in there)
    }
