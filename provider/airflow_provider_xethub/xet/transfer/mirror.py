"""Mirrors a repository to a folder or object storage: compare, download the difference, and remove what has gone.

Only what an earlier mirror put there is removed, and only after everything else was downloaded and verified. The one
exception is a file in the place of a new folder, or the other way round: it is removed before its successor is
downloaded, but after all other files.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from airflow_provider_xethub.exceptions import XetEmptySourceError, XetInputError
from airflow_provider_xethub.xet.cas.session import WithCasAccess
from airflow_provider_xethub.xet.files import object_targets
from airflow_provider_xethub.xet.files import targets as local_targets
from airflow_provider_xethub.xet.files.content_identity import Identity, identity
from airflow_provider_xethub.xet.files.mirror import plan as mirror_plan
from airflow_provider_xethub.xet.files.mirror.places import LocalPlace, Place, StoredPlace
from airflow_provider_xethub.xet.files.mirror.plan import Plan, Rules
from airflow_provider_xethub.xet.files.mirror.record import MirrorRecord
from airflow_provider_xethub.xet.files.object_storage import Location, Storage
from airflow_provider_xethub.xet.files.object_targets import StoredTarget
from airflow_provider_xethub.xet.files.source_rules import MIRROR_RECORD
from airflow_provider_xethub.xet.files.targets import Target
from airflow_provider_xethub.xet.hub.client import Hub
from airflow_provider_xethub.xet.message_text import shortened
from airflow_provider_xethub.xet.process import threads
from airflow_provider_xethub.xet.process.temporary_names import Attempt
from airflow_provider_xethub.xet.records import (
    XetDownloadResult,
    XetFile,
    XetMirrorDownload,
    XetMirrorPlan,
    XetReceived,
)
from airflow_provider_xethub.xet.repo import Repo, folders_above
from airflow_provider_xethub.xet.task_state import TaskState
from airflow_provider_xethub.xet.transfer import digests
from airflow_provider_xethub.xet.transfer.download import download, download_to_storage

log = logging.getLogger(__name__)

_MAX_NAMED = 10


@dataclass(frozen=True)
class _Comparison:
    """Both sides at one moment.

    :param recorded: the contents of all files that earlier mirrors put there.
    :param there: the paths of these and of the wanted files that exist.
    """

    plan: Plan
    recorded: Mapping[str, Sequence[Identity]]
    there: Collection[str]


class MirrorDownload:
    """A folder of a repository, and the destination that becomes equal to it.

    :param repo: the repository at a commit, so that nothing changes meanwhile; a bucket has no commits.
    :param files: all files of the folder.
    :param rules: what may be touched.
    :param destination: where they go.
    """

    def __init__(self, repo: Repo, files: Sequence[XetFile], rules: Rules, destination: Destination) -> None:
        self._repo = repo
        self._rules = rules
        self._destination = destination
        self._place = destination.place
        self._wanted = {
            rules.relative(file["path"]): file
            for file in files
            if rules.selects(file["path"]) and rules.relative(file["path"]) != MIRROR_RECORD
        }

    def plan(self) -> XetMirrorPlan:
        """Return what the mirror would change now. Nothing is downloaded and nothing is changed.

        :raises XetHubError: as for :meth:`run`.
        """
        return self._as_record(self._compare().plan)

    def run(self) -> XetMirrorDownload:
        """Make the destination equal to the folder, as far as its files are from mirrors.

        :raises XetEmptySourceError: the folder has no file, and ``allow_empty`` is not set.
        :raises XetInputError: more would be removed than ``max_delete_share`` allows, a file that stays is in the way
            of another one, or the record of earlier mirrors is not valid or of another repository. Nothing was changed.
        :raises XetHubError: a download failed. Damaged files were not kept, and nothing was removed.
        """
        found = self._compare()
        plan, rules = found.plan, self._rules
        new = {path: self._wanted[path] for path in map(rules.relative, (*plan.added, *plan.changed))}
        gone = {path: found.recorded[path] for path in map(rules.relative, plan.removed)}
        last = _in_the_place_of(new, gone)
        self._destination.check(new)
        # A killed attempt, too, leaves a record of what it may have put there.
        both = {
            path: _contents(found.recorded.get(path, ()), self._wanted.get(path))
            for path in (*found.recorded, *self._wanted)
        }
        self._keep(both, found.recorded)
        received = self._destination.fetch({path: file for path, file in new.items() if path not in last})
        removed = set(self._place.remove(gone))
        if last:
            received = _together(received, self._destination.fetch({path: new[path] for path in last}))
        if kept := sorted(gone.keys() - removed):
            plan = replace(
                plan,
                removed=[rules.full(path) for path in sorted(removed)],
                kept=sorted({*plan.kept, *map(rules.full, kept)}),
            )
        stay = {path: found.recorded[path] for path in found.recorded if path in found.there and path not in removed}
        self._keep({**stay, **{path: _contents((), file) for path, file in self._wanted.items()}}, both)
        return {"files": received["files"], "transfer": received["transfer"], "plan": self._as_record(plan)}

    def _compare(self) -> _Comparison:
        rules, place = self._rules, self._place
        record = place.record()
        if record and (not record.repo.is_same_repo(self._repo) or record.folder != rules.folder):
            raise XetInputError(
                f"{place} is the mirror of {record.folder or 'all files'} of {record.repo}, not of "
                f"{rules.folder or 'all files'} of {self._repo}. Nothing was changed. Use another destination, or "
                f"remove {MIRROR_RECORD} from it."
            )
        if not self._wanted and not rules.allow_empty:
            raise XetEmptySourceError(
                f"{rules.folder or 'The root'} of {self._repo} has no file that is selected: the mirror would "
                f"remove everything from {place}. Nothing was changed. If this is meant, set allow_empty=True."
            )
        digests.check(list(self._wanted.values()))
        recorded = record.files if record else {}
        there = place.present({*recorded, *self._wanted}) | place.in_the_way(self._wanted)
        equal = place.holding({path: _contents((), self._wanted[path]) for path in self._wanted.keys() & there})
        stray = {path: recorded[path] for path in there - self._wanted.keys() if path in recorded}
        removable = place.holding({path: known for path, known in stray.items() if rules.selects(rules.full(path))})
        edited = sorted(path for path in stray if rules.selects(rules.full(path)) and path not in removable)
        if edited:
            log.warning(
                "Kept in %s, because they were changed since a mirror put them there: %s",
                place,
                shortened(edited, _MAX_NAMED),
            )
        plan = mirror_plan.compare(
            {rules.full(path): file["size"] for path, file in self._wanted.items()},
            {rules.full(path) for path in there},
            {rules.full(path) for path in equal},
            rules,
            {rules.full(path) for path in there - removable},
        )
        mirror_plan.check(
            plan,
            {rules.full(path) for path in self._wanted},
            {rules.full(path) for path in there},
            rules,
            str(place),
            has_folders=place.has_folders,
        )
        return _Comparison(plan, recorded, there)

    def _keep(self, files: Mapping[str, Sequence[Identity]], before: Mapping[str, Sequence[Identity]]) -> None:
        if files != before:
            self._place.keep(MirrorRecord(self._repo, self._rules.folder, files))

    def _as_record(self, plan: Plan) -> XetMirrorPlan:
        return plan.as_record(self._repo.uri, "" if self._repo.is_bucket else self._repo.revision)


def _in_the_place_of(new: Mapping[str, XetFile], gone: Mapping[str, object]) -> set[str]:
    """Return which new files need a folder where a file goes, or are where a folder goes."""
    folders = {folder for path in gone for folder in folders_above(path)}
    return {path for path in new if path in folders or any(folder in gone for folder in folders_above(path))}


def _contents(earlier: Sequence[Identity], file: XetFile | None) -> list[Identity]:
    """Return the contents that a file may have: the one that comes, and the last one before it."""
    known = [identity(file)] if file else []
    return [each for each in dict.fromkeys((*known, *earlier[:1])) if each is not None]


def _together(one: XetDownloadResult, other: XetDownloadResult) -> XetDownloadResult:
    first, second = one["transfer"], other["transfer"]
    transfer: XetReceived = {
        "files": first["files"] + second["files"],
        "bytes": first["bytes"] + second["bytes"],
        "bytes_received": first["bytes_received"] + second["bytes_received"],
        "skipped": first["skipped"] + second["skipped"],
        "seconds": round(first["seconds"] + second["seconds"], 3),
    }
    return {"files": [*one["files"], *other["files"]], "transfer": transfer}


class Destination(Protocol):
    """A destination, and how files get there."""

    place: Place

    def check(self, files: Mapping[str, XetFile]) -> None:
        """Refuse files that cannot be written there, by their paths below the destination.

        :raises XetInputError: a path leads out of the destination, or two files would become one.
        """

    def fetch(self, files: Mapping[str, XetFile]) -> XetDownloadResult:
        """Download and verify files, by their paths below the destination."""


class LocalDestination:
    """A folder on this worker.

    :param destination: the folder.
    :param with_cas_access, hub, attempt: as for :func:`airflow_provider_xethub.xet.transfer.download.download`.
    """

    def __init__(
        self, destination: object, with_cas_access: WithCasAccess, hub: Callable[[], Hub], attempt: Attempt
    ) -> None:
        self._destination = str(destination)
        self._with_cas_access = with_cas_access
        self._hub = hub
        self._attempt = attempt
        self.place: Place = LocalPlace(local_targets.root_of(self._destination), attempt)

    def check(self, files: Mapping[str, XetFile]) -> None:
        """Choose the targets."""
        self._targets(files)

    def _targets(self, files: Mapping[str, XetFile]) -> list[Target]:
        records = _at_destination(files)
        targets = local_targets.local_targets(records, self._destination, single=False, attempt=self._attempt)
        return [replace(target, file=file) for target, file in zip(targets, files.values(), strict=True)]

    def fetch(self, files: Mapping[str, XetFile]) -> XetDownloadResult:
        """Download to temporary names beside the final ones."""
        return download(self._targets(files), self._with_cas_access, self._hub, self._attempt)


class StoredDestination:
    """A folder in object storage.

    :param where: its location.
    :param storage: its filesystem.
    :param with_cas_access, hub, state: as for
        :func:`airflow_provider_xethub.xet.transfer.download.download_to_storage`.
    """

    def __init__(
        self,
        where: Location,
        storage: Storage,
        with_cas_access: WithCasAccess,
        hub: Callable[[], Hub],
        state: TaskState,
    ) -> None:
        self._where = where
        self._storage = storage
        self._with_cas_access = with_cas_access
        self._hub = hub
        self._state = state
        self.place: Place = StoredPlace(storage, storage.plain(where.path))

    def check(self, files: Mapping[str, XetFile]) -> None:
        """Choose the targets."""
        self._targets(files)

    def _targets(self, files: Mapping[str, XetFile]) -> list[StoredTarget]:
        records = _at_destination(files)
        targets = threads.stoppable(
            lambda _: object_targets.stored_targets(records, self._where, self._storage, single=False)
        )
        return [replace(target, file=file) for target, file in zip(targets, files.values(), strict=True)]

    def fetch(self, files: Mapping[str, XetFile]) -> XetDownloadResult:
        """Stream the files into the storage."""
        return download_to_storage(self._targets(files), self._with_cas_access, self._hub, self._state)


def _at_destination(files: Mapping[str, XetFile]) -> list[XetFile]:
    """Return the records with their paths below the destination, by which the targets are chosen."""
    return [{**file, "path": path} for path, file in files.items()]
