"""The files that asset events describe, all of them: from the event if it lists them all, otherwise from the Hub.

An event describes a commit in one of two ways. The event of a task (:class:`XetAssetEvent`) lists files, up to a limit.
That of a watcher or a webhook (:class:`XetCommit` with ``previous``) only names two commits.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

from airflow_provider_xethub.exceptions import (
    XetAirflowConnectionError,
    XetInputError,
    XetProtocolError,
    XetRevisionNotFoundError,
)
from airflow_provider_xethub.get_provider_info import DEFAULT_CONN_ID
from airflow_provider_xethub.xet import answers, manifest
from airflow_provider_xethub.xet.asset_uri import AssetPlace, parse
from airflow_provider_xethub.xet.hub.history import parents
from airflow_provider_xethub.xet.identifiers import COMMIT_ID
from airflow_provider_xethub.xet.manifest import is_manifest
from airflow_provider_xethub.xet.message_text import counted
from airflow_provider_xethub.xet.records import XetChanges, XetFile, pinned_record
from airflow_provider_xethub.xet.repo import Repo

if TYPE_CHECKING:
    from airflow_provider_xethub.hooks.xethub import XetHubConnection

log = logging.getLogger(__name__)

NO_COMMIT = "0" * 40
"""What git writes for the commit before the first one."""

_GITATTRIBUTES = ".gitattributes"


def files_of(events: Any, *, xethub_conn_id: str | None = DEFAULT_CONN_ID) -> list[XetFile]:
    """Return the records of all files that asset events describe, for ``XetDownloadOperator(files=…)`` and others.

    What an event lists completely is taken from it. The rest is read from the Hub, at the commits that the events
    describe. If several events describe the same path, the newest counts: it is returned once, and a file that a later
    event deletes is left out. Every record names its commit, so that later commits change nothing.

    Example::

        @task
        def published(triggering_asset_events=None):
            return files_of(triggering_asset_events)


        XetDownloadOperator(task_id="fetch", files=published(), destination="/data", on_empty="skip")

    :param events: an asset event, its extra or its payload, what ``XetRevisionSensor`` returned, or any number of
        these: a list, ``triggering_asset_events``, ``triggering_asset_events[asset]`` or ``inlet_events[asset]``.
    :param xethub_conn_id: the connection, for what the events do not list. ``None`` on a worker that has none.
    :returns: a list of :class:`~airflow_provider_xethub.xet.records.XetFile`, sorted by path; empty if there is no
        event, or nothing but deleted files.
    :raises XetInputError: an event does not describe a commit; or it does not list all files, and they cannot be read:
        a bucket has no history, or ``xethub_conn_id`` is ``None``.
    :raises XetAirflowConnectionError: files have to be read from the Hub, and Airflow did not return the connection.
    :raises XetNotFoundError: a commit no longer exists, for example because its history was squashed.
    :raises XetHubError: the Hub could not be read.
    """
    return changes_of(events, xethub_conn_id=xethub_conn_id)["files"]


def changes_of(events: Any, *, xethub_conn_id: str | None = DEFAULT_CONN_ID) -> XetChanges:
    """Return all files that asset events describe, as :func:`files_of` does, and the paths that they delete.

    :param events, xethub_conn_id: as for :func:`files_of`.
    :returns: ``files``, and as ``deleted`` the paths of files and, with a slash at the end, folders that the events
        delete and do not put back; remove these first. The operators accept the result as ``files``.
    """
    from airflow_provider_xethub.hooks.errors import fail_without_retry
    from airflow_provider_xethub.hooks.xethub import XetHubConnection

    with fail_without_retry():
        hook = XetHubConnection(xethub_conn_id)
        files: dict[tuple[str, str], XetFile] = {}
        deleted: dict[tuple[str, str], None] = {}
        for event in _joined(_in_order(_described(events))):
            changes = event.changes(hook)
            uri = event.repo.uri
            for path in changes["deleted"]:
                files.pop((uri, path), None)
                if path.endswith("/"):
                    for key in [each for each in files if each[0] == uri and each[1].startswith(path)]:
                        del files[key]
                deleted[uri, path] = None
            for file in changes["files"]:
                files[uri, file["path"]] = file
                deleted.pop((uri, file["path"]), None)
        return {"files": [files[key] for key in sorted(files)], "deleted": sorted({path for _, path in deleted})}


@dataclass(frozen=True)
class _Event:
    """What one event says.

    :param repo: the repository at the branch of the commit.
    :param oid: the commit, or the newest of several; empty for a bucket.
    :param path: the file or folder that the event is about; empty for all.
    :param timestamp: of the event, if it has one.
    :param since: the commit before, if it is known.
    """

    repo: Repo
    oid: str
    path: str
    timestamp: Any
    since: str | None

    def changes(self, hook: XetHubConnection) -> XetChanges:
        """Return all changes."""
        raise NotImplementedError

    @contextmanager
    def _reading(self, what: str) -> Iterator[None]:
        """Say what an error means for the consumer of the event."""
        try:
            yield
        except XetRevisionNotFoundError as error:
            raise XetRevisionNotFoundError(
                f"The commits of an event are gone from {self.repo}: its history was probably squashed. List the "
                f"repository instead (XetListOperator). {what}. {error}",
                status=error.status,
            ) from None
        except (XetAirflowConnectionError, XetInputError) as error:
            kind = XetAirflowConnectionError if isinstance(error, XetAirflowConnectionError) else XetInputError
            raise kind(f"{what}, and reading them from the Hub failed. {error}") from None


@dataclass(frozen=True)
class _Commits(_Event):
    """The commits after ``since``, up to ``oid``: the event of a watcher or a webhook."""

    def changes(self, hook: XetHubConnection) -> XetChanges:
        """Compare the two commits."""
        at = self.repo.at(self.oid)
        with self._reading(f"An event of {self.repo} does not list its files"):
            since = parents(hook.hub, at, [self.oid])[self.oid] if self.since is None else self.since
            return hook.get_changes(at, None if since == NO_COMMIT else since, self.path)


@dataclass(frozen=True)
class _Publication(_Event):
    """What a task published.

    :param listed: the changes that the event lists.
    :param file_count, deleted_count: how many there are.
    :param folder: contains all changes.
    :param commits: in their order.
    """

    listed: XetChanges
    file_count: int
    deleted_count: int
    folder: str
    commits: tuple[str, ...]

    def changes(self, hook: XetHubConnection) -> XetChanges:
        """Return what the event lists, if that is all, otherwise compare each commit with the one before it."""
        files, deleted = self.listed["files"], self.listed["deleted"]
        if (len(files), len(deleted)) == (self.file_count, self.deleted_count):
            return self.listed
        what = f"An event of {self.repo} lists {len(files)} of {counted(self.file_count, 'file')}"
        if len(deleted) < self.deleted_count:
            what += f" and {len(deleted)} of {counted(self.deleted_count, 'deleted path')}"
        if self.repo.is_bucket:
            raise XetInputError(
                f"{what}, and a bucket has no history to find the others in. List its folder {self.folder or '/'} "
                "instead (XetListOperator), or put fewer files at a time."
            )
        with self._reading(what):
            before = parents(hook.hub, self.repo.at(self.oid), self.commits)
            spans = [_Commits(self.repo, oid, self.folder, None, before[oid] or NO_COMMIT) for oid in self.commits]
            found = [
                hook.get_changes(self.repo.at(span.oid), None if span.since == NO_COMMIT else span.since, span.path)
                for span in _joined(spans)
            ]
        return self._checked({file["path"]: file for each in found for file in each["files"]}, found)

    def _checked(self, files: dict[str, XetFile], found: Sequence[XetChanges]) -> XetChanges:
        """Return the changes, if they are as many as the event counts.

        :raises XetProtocolError: files are missing.
        """
        if len(files) > self.file_count:
            # The Hub itself adds lines for large files, in the same commit (huggingface_hub issues 1472 and 2666).
            files.pop(_GITATTRIBUTES, None)
        if len(files) != self.file_count:
            text = f"{self.oid} of {self.repo} changes {counted(len(files), 'file')}, but its event counts"
            if len(files) < self.file_count:
                raise XetProtocolError(
                    f"Commit {text} {self.file_count}: someone else committed some of them at the same moment. List "
                    "the repository at this commit instead (XetListOperator)."
                )
            log.warning("Commit %s %d. All of them are returned.", text, self.file_count)
        return {"files": list(files.values()), "deleted": [path for each in found for path in each["deleted"]]}


def _in_order(events: Iterable[_Event]) -> list[_Event]:
    """Return each event once, oldest first. Of those of the same moment, the commits say which follows which."""
    found: list[_Event] = []
    found += (each for each in events if each not in found)
    if all(each.timestamp is not None for each in found):
        found.sort(key=lambda each: each.timestamp)
    return [each for _, same in groupby(found, key=lambda each: each.timestamp) for each in _linked(list(same))]


def _linked(rest: list[_Event]) -> Iterator[_Event]:
    while rest:
        ends = {(each.repo, each.oid) for each in rest}
        # A branch that moved back and forth has no first commit.
        event: _Event | None = next((each for each in rest if (each.repo, each.since) not in ends), rest[0])
        while event is not None:
            rest.remove(event)
            yield event
            event = next((each for each in rest if (each.repo, each.since) == (event.repo, event.oid)), None)


def _joined(events: Iterable[_Event]) -> list[_Event]:
    """Replace consecutive commits by one comparison of the first and the last."""
    joined: list[_Event] = []
    for event in events:
        last = next(
            (each for each in joined if (each.repo, each.path, each.oid) == (event.repo, event.path, event.since)), None
        )
        if isinstance(last, _Commits):
            joined.remove(last)
            event = replace(event, since=last.since)
        joined.append(event)
    return joined


# --- reading events --------------------------------------------------------------------------------------------------


def _described(value: Any) -> Iterator[_Event]:
    """Yield what events say.

    :raises XetInputError: one of them does not describe a commit, or it is not an event.
    """
    extra, asset = getattr(value, "extra", None), getattr(value, "asset", None)
    if isinstance(extra, Mapping) and asset is not None:
        yield _one(extra, str(getattr(asset, "uri", "")), getattr(value, "timestamp", None))
    elif isinstance(value, Mapping):
        if any(not isinstance(key, str) for key in value):  # triggering_asset_events or inlet_events
            for each in value.values():
                yield from _described(each)
        elif value:
            yield _one(value)
    elif isinstance(value, Iterable) and not isinstance(value, (str, bytes)):
        for each in value:
            yield from _described(each)
    else:
        raise XetInputError(f"events must be asset events, or their extra or payload, not {value!r:.80}.")


def _one(extra: Mapping[str, Any], uri: str = "", timestamp: Any = None) -> _Event:
    """Read the extra of one event.

    :param uri: of its asset.
    :raises XetInputError: it does not describe a commit, or not as this provider does.
    """
    payload = extra.get("payload")
    said = payload if isinstance(payload, Mapping) else extra
    about = f"An asset event{f' of {uri}' if uri else ''}"
    if "repo" not in said or "oid" not in said:
        raise XetInputError(
            f"{about} does not describe a commit, so its files are unknown. Let a Xet operator, a watcher or a webhook "
            'make it. An event made by hand needs the extra {"repo": "hf://…", "oid": "…"}.'
        )
    try:
        return _read(said, uri, timestamp)
    except (answers.WrongAnswerError, XetInputError) as error:
        raise XetInputError(f"{about} has wrong content: {error}") from None


def _read(said: Mapping[str, Any], uri: str, timestamp: Any) -> _Event:
    repo = Repo.from_uri(said["repo"])
    oid = said["oid"] if repo.is_bucket else answers.commit_id(said["oid"], "an oid")
    place = parse(uri) if uri.startswith("hf://") else AssetPlace(repo)
    path = place.path if place.repo.is_same_repo(repo) else ""
    if "files" not in said and "file_count" not in said:
        since = said.get("previous")
        return _Commits(repo, oid, path, timestamp, None if since is None else answers.commit_id(since, "a previous"))
    pinned = repo.at(oid).uri if oid else repo.uri
    unchanged: Any = said.get("unchanged") or ()  # the result of a commit has this
    if is_manifest(said.get("files")):
        # As many as the result of a commit has here are not read from XCom, but from the commit.
        published = manifest.check(said["files"])["file_count"]
        same = manifest.check(unchanged)["file_count"] if is_manifest(unchanged) else len(unchanged)
        said, unchanged = {"file_count": published - same, **said, "files": []}, ()
    unchanged = set(unchanged)
    records = [answers.xet_file(file) for file in answers.sequence(said.get("files", []), "files")]
    files = [pinned_record(file, pinned) for file in records if file["path"] not in unchanged]
    deleted = [answers.path(each) for each in answers.sequence(said.get("deleted", []), "deleted")]
    commits = [each["oid"] if isinstance(each, Mapping) else each for each in said.get("commits") or [oid]]
    return _Publication(
        repo,
        oid,
        path,
        timestamp,
        None,
        {"files": files, "deleted": deleted},
        answers.integer(said.get("file_count", len(files)), "a file_count"),
        answers.integer(said.get("deleted_count", len(deleted)), "a deleted_count"),
        str(said.get("path") or path),
        tuple(each for each in commits if COMMIT_ID.fullmatch(str(each))),
    )
