"""Sources of uploads: files, folders, globs and lists, local or in object storage, with their paths in the repository.

Everything is examined before anything is sent, so that one error names all missing files.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from airflow_provider_xethub.exceptions import XetEmptySourceError, XetHubError, XetInputError, XetSourceError
from airflow_provider_xethub.xet.arguments import refuse_rendered_list, selection
from airflow_provider_xethub.xet.files import object_sources, path_kinds
from airflow_provider_xethub.xet.files.digest_memory import FileState
from airflow_provider_xethub.xet.files.found_files import (
    FoundFiles,
    SourceFile,
    check_no_folder,
    open_local,
)
from airflow_provider_xethub.xet.files.object_sources import StoredFile
from airflow_provider_xethub.xet.files.object_storage import AT_A_TIME, Location, Storage, location
from airflow_provider_xethub.xet.files.source_rules import FOLDER_LINK, MOST_NAMED, Findings, shown
from airflow_provider_xethub.xet.files.source_scan import Scan
from airflow_provider_xethub.xet.files.storage_entries import Entry
from airflow_provider_xethub.xet.message_text import counted, os_reason, shortened
from airflow_provider_xethub.xet.path_patterns import Glob, Selection, has_wildcard
from airflow_provider_xethub.xet.process import threads
from airflow_provider_xethub.xet.repo import check_path

log = logging.getLogger(__name__)


def each_source(source: Any) -> list[Any]:
    """Return the sources that an argument names: itself, or the items of a list.

    :raises XetInputError: a source is not a path, is empty, or is a list that became a string.
    """
    if source is None or isinstance(source, (bytes, Mapping, Iterator)):
        raise XetInputError(
            f"source must be a path, a URI, an ObjectStoragePath or a list of these, not {source!r:.80}."
        )
    one = isinstance(source, (str, os.PathLike)) or hasattr(source, "protocol")
    try:
        sources = [source] if one else list(source)
    except TypeError:
        raise XetInputError(f"source must be paths, URIs or ObjectStoragePaths, not {source!r:.80}.") from None
    if not sources:
        raise XetInputError("source is an empty list, so there is nothing to upload.")
    for each in sources:
        if not isinstance(each, (str, os.PathLike)) and not hasattr(each, "protocol"):
            raise XetInputError(f"source must be paths, URIs or ObjectStoragePaths, not {each!r:.80}.")
        if isinstance(each, os.PathLike) and isinstance(os.fspath(each), bytes):
            raise XetInputError(f"source must be paths as strings, not bytes: {each!r:.80}.")
    texts = [str(each) for each in sources]
    for text in texts:
        if not os.path.lexists(text):
            refuse_rendered_list("source", text)
        try:
            text.encode()
        except UnicodeEncodeError:
            raise XetInputError(
                f"source {text!r} is not valid UTF-8, which the Hub and Airflow require. Rename it."
            ) from None
    selection("source", texts, remedy="to upload the working folder, write '.'")
    return sources


def collect(
    source: Any,
    path_in_repo: str | None = None,
    patterns: str | Sequence[str] | None = None,
    open_storage: Callable[[Location], Storage] | None = None,
    *,
    exclude: str | Sequence[str] | None = None,
    follow_links: bool = False,
) -> FoundFiles:
    """Find all files of ``source``.

    :mod:`airflow_provider_xethub.xet.files.source_rules` says what is left out or refused, and what links mean.

    :param source: a file, a folder, a glob pattern (``**`` matches folders), or a list of these. Below a folder, paths
        in the repository are relative to it; for a glob, to its part before the first wildcard. The same in object
        storage, as ``ObjectStoragePath`` or as its URI ``scheme://conn_id@path``, where a trailing slash means a
        folder.
    :param path_in_repo: for a single file its path in the repository, or, with a trailing slash, its folder. For
        all other sources the folder to put them into. Default: the root.
    :param patterns: upload only files whose path below ``source`` matches one of these (``*`` also matches ``/``, and
        ``dir/`` matches all content of ``dir``). Default: all.
    :param open_storage: opens the filesystem of a location in object storage.
    :param exclude: leave out files whose path matches one of these.
    :param follow_links: whether to follow links to folders, and links that lead out of the source.
    :raises XetSourceError: files are missing or unreadable; the message names them.
    :raises XetEmptySourceError: everything is readable, but there is no file, or none that matches.
    :raises XetInputError: an argument is empty, a link leads out of the source, a path is not valid in a repository, or
        two files would get the same path.
    """
    sources = each_source(source)
    chosen = Selection(patterns, exclude)
    single = len(sources) == 1
    findings = Findings()
    found = FoundFiles()
    problems: dict[str, str] = {}
    invalid: list[XetInputError] = []

    def take(item: str | StoredFile, relative: str, *, exact: bool) -> None:
        target = _target(relative, path_in_repo, exact=exact)
        try:
            check_path(target)
        except XetInputError as error:
            invalid.append(error)
            return
        if isinstance(item, StoredFile):
            item.path_in_repo = target
            found.add(item)
            return
        try:
            file = open_local(item, target)
        except XetSourceError as error:
            problems[target] = str(error)
        except OSError as error:
            problems[target] = f"{item}: {os_reason(error)}"
        else:
            found.add(file)

    stored = _find_stored(sources, open_storage, chosen, findings, follow_links=follow_links)
    for number, each in enumerate(sources):
        if number in stored:
            listing, entries = stored[number]
            for entry, relative in entries:
                take(StoredFile(entry, "", listing), relative, exact=single and listing.kind == "file")
        elif location(each) is None:
            text = os.path.expanduser(str(each))  # noqa: PTH111 - pathlib raises over an unknown user
            try:
                is_file = path_kinds.is_there(text) and not path_kinds.is_folder(text)
                for path, relative in _expand(text, chosen, findings, follow_links=follow_links):
                    take(path, relative, exact=single and is_file)
            except XetHubError:
                raise
            except OSError as refused:
                findings.problems.append(f"{text}: {os_reason(refused)}")
    findings.check()
    for error in invalid:
        raise error
    check_no_folder(found)
    unreadable = [*findings.problems, *(problem for _, problem in sorted(problems.items()))]
    if not unreadable and not found:
        text = (
            "; ".join(findings.empty[:MOST_NAMED]) or f"{', '.join(map(str, sources))}: {_why_empty(chosen, findings)}"
        )
        check = "source and patterns" if chosen.is_limited else "source"
        raise XetEmptySourceError(
            f"Nothing was uploaded: no file found on this worker. Check {check}, or set on_empty='skip': {shown(text)}"
        )
    unreadable += findings.empty
    if unreadable:
        raise XetSourceError(
            f"{counted(len(unreadable), 'source')} cannot be read on this worker. Check source. Nothing was uploaded: "
            + shortened([shown(problem) for problem in unreadable], MOST_NAMED, "; ")
        )
    _log(findings, chosen)
    return found


def collect_folder(
    source: Any,
    path_in_repo: str | None,
    patterns: str | Sequence[str] | None,
    open_storage: Callable[[Location], Storage],
    *,
    exclude: str | Sequence[str] | None = None,
    follow_links: bool = False,
    allow_empty: bool = False,
) -> FoundFiles:
    """Find all files of one folder, for a mirror: a folder that is missing is not an empty one.

    :param allow_empty: return no files where the folder has no file, or none that matches.
    :raises XetInputError: the source is not one folder.
    :raises XetSourceError: it does not exist. Other arguments and errors are those of :func:`collect`.
    """
    sources = each_source(source)
    if len(sources) != 1 or not (isinstance(source, (str, os.PathLike)) or hasattr(source, "protocol")):
        raise XetInputError(f"A mirror needs one folder as source, not {source!r:.80}. Nothing was changed.")
    where = location(sources[0])
    if where is None:
        path = Path(os.path.expanduser(str(sources[0])))  # noqa: PTH111 - pathlib raises over an unknown user
        try:
            is_there, is_folder = path_kinds.is_there(path), path_kinds.is_folder(path)
        except OSError as error:
            raise XetSourceError(
                f"The source {path} cannot be read on this worker: {os_reason(error)}. Nothing was changed."
            ) from error
    else:
        storage = open_storage(where)
        found = "folder" if where.path.endswith("/") else storage.stat(storage.plain(where.path))
        is_there, is_folder = found is not None, found == "folder"
    if not is_there:
        raise XetSourceError(f"The source {where or path} does not exist on this worker. Nothing was changed.")
    if not is_folder:
        raise XetInputError(
            f"The source {where or path} is not a folder, so it cannot be mirrored. Nothing was changed."
        )
    try:
        return collect(source, path_in_repo, patterns, open_storage, exclude=exclude, follow_links=follow_links)
    except XetEmptySourceError as error:
        if allow_empty:
            return FoundFiles()
        raise XetEmptySourceError(
            f"The source has no file to mirror: {error} To remove everything that it replaces, set allow_empty=True."
        ) from error


def _why_empty(chosen: Selection, findings: Findings) -> str:
    """Explain why there is no file."""
    text = "no file found"
    if chosen.patterns:
        text += f" that matches {', '.join(map(repr, chosen.patterns))}"
    if chosen.exclude:
        text += f", without {', '.join(map(repr, chosen.exclude))}"
    left_out = findings.left_out_text()
    return f"{text} (left out: {left_out})" if left_out else text


def _log(findings: Findings, chosen: Selection) -> None:
    """Log what is not uploaded."""
    if text := findings.left_out_text():
        hint = " Set follow_links=True to follow links." if FOLDER_LINK in findings.left_out else ""
        log.info("Left out of the upload: %s.%s", text, hint)
    if unused := chosen.unused():
        log.warning("No file of the source matches %s.", ", ".join(map(repr, unused)))


def _find_stored(
    sources: Sequence[Any],
    open_storage: Callable[[Location], Storage] | None,
    chosen: Selection,
    findings: Findings,
    *,
    follow_links: bool,
) -> dict[int, tuple[object_sources.Listing, list[tuple[Entry, str]]]]:
    """Return the files in object storage, by the number of their source."""
    places = [(number, where) for number, each in enumerate(sources) if (where := location(each))]
    if places and open_storage is None:
        raise XetInputError(f"{places[0][1]} is in object storage, which this operation cannot open.")
    found: dict[int, tuple[object_sources.Listing, list[tuple[Entry, str]]]] = {}
    errors: dict[int, XetSourceError] = {}

    def find(place: tuple[int, Location, Storage]) -> None:
        number, where, storage = place
        try:
            found[number] = object_sources.find(where, storage, chosen, findings, follow_links=follow_links)
        except XetSourceError as error:
            errors[number] = error

    # Sequentially: two threads would open the same storage twice.
    opened = [(number, where, open_storage(where)) for number, where in places] if open_storage else []
    threads.each(find, opened, AT_A_TIME, threading.Event())
    for _, error in sorted(errors.items()):
        (findings.empty if isinstance(error, XetEmptySourceError) else findings.problems).append(str(error).rstrip("."))
    return found


def _expand(source: str, chosen: Selection, findings: Findings, *, follow_links: bool) -> Iterable[tuple[str, str]]:
    """Return the files of one source, each with its path below the source."""
    path = Path(source)
    if path_kinds.is_folder(path):
        return Scan(str(path), chosen, findings, follow_links=follow_links).files()
    if path_kinds.is_there(path):
        return [(str(path), path.name)] if chosen.takes(path.name) else []
    if not has_wildcard(source):
        findings.problems.append(f"{source}: does not exist")
        return []
    base = _glob_base(path)
    glob = Glob(path.relative_to(base).as_posix())
    before = len(findings.problems), len(findings.leaving)
    files: list[tuple[str, str]] = []
    if path_kinds.is_folder(base):
        files = list(Scan(str(base), chosen, findings, glob=glob, follow_links=follow_links).files())
    if not files and not chosen.is_limited and before == (len(findings.problems), len(findings.leaving)):
        left_out = findings.left_out_text()
        findings.empty.append(f"{source}: matches no file" + (f" (left out: {left_out})" if left_out else ""))
    return files


def _glob_base(pattern: Path) -> Path:
    """Return the part of a glob pattern before its first wildcard: the folder that paths are relative to."""
    parts: list[str] = []
    for part in pattern.parts[:-1]:
        if has_wildcard(part):
            break
        parts.append(part)
    return Path(*parts)


def _target(relative: str, path_in_repo: str | None, *, exact: bool) -> str:
    """Return the path in the repository of a file at ``relative`` below its source."""
    if not path_in_repo:
        return relative
    if exact and not path_in_repo.endswith("/"):
        return path_in_repo
    return f"{path_in_repo.rstrip('/')}/{relative}"


def check_unchanged(files: Sequence[SourceFile], sent: Sequence[int], stopped: threading.Event | None = None) -> None:
    """Make sure that the files did not change while they were read.

    :param sent: the number of bytes read of each file, in the same order.
    :param stopped: when set, the check ends.
    :raises XetSourceError: files changed, so that a mixture was read; the message names them.
    """
    changed = [str(file) for file, size in zip(files, sent, strict=True) if size != file.size or _is_changed(file)]
    stored = [file for file in files if isinstance(file, StoredFile)]
    if stored:
        changed += [uri for uri in object_sources.changed(stored, stopped or threading.Event()) if uri not in changed]
    if changed:
        raise XetSourceError(
            f"{', '.join(changed[:MOST_NAMED])} changed while being uploaded. Nothing was published. Upload when the "
            "writer is done."
        )


def _is_changed(file: SourceFile) -> bool:
    if isinstance(file, StoredFile):
        return False
    try:
        # Not the inode: some file systems (FUSE) give an unchanged file another one.
        return FileState.at(file).content != file.state.content
    except OSError:
        return True


def read_unchanged(files: Sequence[SourceFile], stopped: threading.Event) -> list[bytes]:
    """Return the content of small files, if they have not changed since they were found.

    :param stopped: when set, reading ends.
    :raises XetSourceError: a file changed, or can no longer be read.
    """
    contents = threads.each(_read, files, AT_A_TIME, stopped)
    # All together: for object storage, each source is listed again.
    check_unchanged(files, [len(content) for content in contents], stopped)
    return contents


def _read(file: SourceFile) -> bytes:
    try:
        return b"".join(file.blocks()) if isinstance(file, StoredFile) else file.path.read_bytes()
    except XetSourceError:
        raise
    except OSError as error:
        raise XetSourceError(f"{file} can no longer be read: {os_reason(error)}.") from error
