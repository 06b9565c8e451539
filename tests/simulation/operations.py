"""The steps of a plan as tasks: what each runs, what it may change, and what must be true once it has succeeded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, BaseOperator
from airflow.sdk.io import attach

from airflow_provider_xethub.operators.xethub import (
    XetCommitOperator,
    XetCopyOperator,
    XetDownloadOperator,
    XetForgetTokenOperator,
    XetListOperator,
    XetMirrorOperator,
    XetTokenOperator,
    XetUploadOperator,
)
from airflow_provider_xethub.sensors.xethub import XetFileSensor
from airflow_provider_xethub.xet.repo import Repo
from simulation.contents import contents
from simulation.generator import Step
from simulation.model import Change, Tree, difference
from simulation.world import World, files_below
from support.builders import write
from support.commit_builders import name_of
from support.filesystem_places import at
from support.object_stores import forget_filesystems

MOST_SECONDS = 60
"""Until Airflow ends a task: far more than any fault here may cost."""

MIRROR_RECORD = ".xethub-mirror.json"

Results = Mapping[str, Any]
"""Return values by task ID."""

Sources = Mapping[str, Tree]
"""The files that tasks upload, by task ID and path."""


@dataclass
class Work:
    """One step, ready to run.

    :param build: returns the tasks in their order, made anew for each attempt as Airflow does.
    :param changes: returns what each task changes, each in one commit, given the content of the sources, by task ID;
        the other tasks only read.
    :param may_write: names of the repositories for which the step needs more than to read.
    :param sources: the folder that a task uploads, by task ID.
    :param folder: where files appear on the worker.
    :param readable: returns what a file below ``folder`` may contain, by path: every version since the step began.
    :param check: returns what is wrong after all tasks have succeeded.
    :param at_once: whether all tasks run at the same time.
    """

    build: Callable[[], Sequence[Any]]
    changes: dict[str, Callable[[Sources], list[Change]]] = field(default_factory=dict)
    may_write: frozenset[str] = frozenset()
    sources: dict[str, Path] = field(default_factory=dict)
    folder: Path | None = None
    readable: Callable[[], Sequence[Tree]] = list
    check: Callable[[Results], list[str]] = lambda _: []
    at_once: bool = False


def work_of(world: World, step: Step, number: int) -> Work | None:
    """Return what a step does in a world; ``None`` where it needs something that does not exist (yet)."""
    repo = world.repos[step["repo"]]
    return _OPERATIONS[step["do"]](world, step, repo, world.folder / f"step{number}")


def _dag(build: Callable[[], object]) -> Callable[[], Sequence[Any]]:
    def tasks() -> Sequence[Any]:
        limits = {"retries": 10, "execution_timeout": timedelta(seconds=MOST_SECONDS)}
        with DAG(
            "simulation", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=timezone.utc), default_args=limits
        ) as dag:
            build()
        return list(dag.tasks)

    return tasks


def _at(repo: Repo) -> dict[str, Any]:
    return {"repo_id": repo.repo_id, "repo_type": repo.repo_type}


def _below(folder: str | None, files: Mapping[str, bytes]) -> dict[str, bytes]:
    return {f"{folder}/{path}" if folder else path: each for path, each in files.items()}


def _upload(world: World, step: Step, repo: Repo, folder: Path) -> Work:
    files = contents(step["files"])
    source = write(folder / "source", files)
    place = step["path_in_repo"]
    return Work(
        _dag(lambda: XetUploadOperator(task_id="upload", source=str(source), path_in_repo=place, **_at(repo))),
        {"upload": lambda sources: [Change(name_of(repo), _below(place, sources["upload"]))]},
        frozenset([name_of(repo)]),
        {"upload": source},
    )


def _fan_out(world: World, step: Step, repo: Repo, folder: Path) -> Work:
    parts = [
        (f"upload{number}", part, write(folder / f"source{number}", contents(part["files"])))
        for number, part in enumerate(step["parts"])
    ]

    def commit_of(sources: Sources) -> list[Change]:
        every: dict[str, bytes] = {}
        for task_id, part, _ in parts:
            every |= _below(part["path_in_repo"], sources[task_id])
        return [Change(name_of(repo), every)]

    def build() -> None:
        token = XetTokenOperator(task_id="token", scope="write", **_at(repo))
        uploads = [
            XetUploadOperator(
                task_id=task_id,
                source=str(source),
                path_in_repo=part["path_in_repo"],
                commit=False,
                token=token.output,
                xethub_conn_id=None if part["keyless"] else "xethub_default",
            )
            for task_id, part, source in parts
        ]
        commit = XetCommitOperator(task_id="commit", files=[each.output for each in uploads], **_at(repo))
        commit >> XetForgetTokenOperator(task_id="forget", token_task_ids="token")

    return Work(
        _dag(build),
        {"commit": commit_of},
        frozenset([name_of(repo)]),
        {task_id: source for task_id, _, source in parts},
    )


def _several(_: World, step: Step, repo: Repo, folder: Path) -> Work:
    """Uploads of several actors to one branch, each to a folder of its own, at the same time."""
    name = name_of(repo)
    sources = {
        f"actor{number}": write(folder / f"actor{number}", contents(files))
        for number, files in enumerate(step["actors"])
    }

    def build() -> None:
        for task_id, source in sources.items():
            XetUploadOperator(task_id=task_id, source=str(source), path_in_repo=task_id, **_at(repo))

    def change_of(task_id: str) -> Callable[[Sources], list[Change]]:
        return lambda given: [Change(name, _below(task_id, given[task_id]))]

    return Work(
        _dag(build),
        {task_id: change_of(task_id) for task_id in sources},
        frozenset([name]),
        sources,
        at_once=True,
    )


def _chosen(world: World, repo: Repo, shares: Sequence[float]) -> list[str]:
    """Return the paths at these places of the sorted list of all paths."""
    paths = sorted(world.model.trees[name_of(repo)])
    return sorted({paths[int(share * len(paths))] for share in shares}) if paths else []


def _delete(world: World, step: Step, repo: Repo, _: Path) -> Work | None:
    paths = _chosen(world, repo, step["which"])
    if not paths:
        return None
    return Work(
        _dag(lambda: XetCommitOperator(task_id="delete", delete=paths, **_at(repo))),
        {"delete": lambda _: [Change(name_of(repo), deletes=frozenset(paths))]},
        frozenset([name_of(repo)]),
    )


def _mirror(world: World, step: Step, repo: Repo, folder: Path) -> Work:
    files = contents(step["files"])
    source = write(folder / "source", files)
    place = step["path_in_repo"]
    return Work(
        _dag(
            lambda: XetMirrorOperator(
                task_id="mirror", source=str(source), path_in_repo=place, max_delete_share=1, **_at(repo)
            )
        ),
        {"mirror": lambda sources: [Change(name_of(repo), _below(place, sources["mirror"]), mirrored=f"{place}/")]},
        frozenset([name_of(repo)]),
        {"mirror": source},
    )


def _copy(world: World, step: Step, repo: Repo, _: Path) -> Work | None:
    source = world.repos[step["source"]]
    files = world.model.trees[name_of(source)]
    if source == repo or not files:
        return None
    place = step["path_in_repo"]
    return Work(
        _dag(
            lambda: XetCopyOperator(
                task_id="copy",
                source_repo_id=source.repo_id,
                source_repo_type=source.repo_type,
                patterns=None if source.is_bucket else "[!.]*",  # not .gitattributes
                path_in_repo=place,
                **_at(repo),
            )
        ),
        {"copy": lambda _: [Change(name_of(repo), _below(place, files))]},
        frozenset([name_of(repo)]),
    )


def _visible(tree: Tree) -> dict[str, bytes]:
    """Return a tree or folder without what the Hub and mirrors keep there for themselves."""
    return {path: each for path, each in tree.items() if path not in (".gitattributes", MIRROR_RECORD)}


def _is_one_of(found: Tree, versions: Sequence[Tree]) -> list[str]:
    if any(_visible(found) == dict(version) for version in versions):
        return []
    return [difference(versions[-1], _visible(found))]


def _download(world: World, step: Step, repo: Repo, folder: Path) -> Work | None:
    name = name_of(repo)
    if not world.model.trees[name]:
        return None
    into = folder / "destination" if step["into"] == "new" else world.folder / f"same{step['repo']}"

    def build() -> None:
        token = XetTokenOperator(task_id="token", **_at(repo)) if step["token"] else None
        download = XetDownloadOperator(
            task_id="download", destination=str(into), token=token and token.output, **_at(repo)
        )
        if token is not None:
            token >> download

    def check(_: Results) -> list[str]:
        found = files_below(into)
        if step["into"] == "same":  # files of earlier downloads stay
            wanted = [{**found, **version} for version in world.model.versions[name]]
            return _is_one_of(found, [_visible(each) for each in wanted])
        return _is_one_of(found, world.model.versions[name])

    return Work(_dag(build), folder=into, readable=lambda: world.model.versions[name], check=check)


def _mirror_download(world: World, step: Step, repo: Repo, _: Path) -> Work | None:
    name, place = name_of(repo), step["path_in_repo"]
    prefix = f"{place}/" if place else ""
    into = world.folder / f"mirror{step['repo']}-{place}"

    def versions() -> list[Tree]:
        return [
            {path[len(prefix) :]: each for path, each in tree.items() if path.startswith(prefix)}
            for tree in world.model.versions[name]
        ]

    if not world.model.trees[name] or not [path for path in world.model.trees[name] if path.startswith(prefix)]:
        return None
    return Work(
        _dag(
            lambda: XetMirrorOperator(
                task_id="mirror", destination=str(into), path_in_repo=place, max_delete_share=1, **_at(repo)
            )
        ),
        folder=into,
        readable=versions,
        check=lambda _: _is_one_of(files_below(into), versions()),
    )


def _list(world: World, step: Step, repo: Repo, _: Path) -> Work:
    def check(results: Results) -> list[str]:
        found = {file["path"]: file["size"] for file in results["list"] if file["path"] != ".gitattributes"}
        sizes = [{path: len(each) for path, each in tree.items()} for tree in world.model.versions[name_of(repo)]]
        return [] if found in sizes else [f"the listing has {sorted(found)}, not {sorted(sizes[-1])}"]

    return Work(_dag(lambda: XetListOperator(task_id="list", **_at(repo))), check=check)


def _sensor(world: World, step: Step, repo: Repo, _: Path) -> Work | None:
    paths = _chosen(world, repo, [step["which"]])
    if not paths:
        return None

    def check(results: Results) -> list[str]:
        record = results["sensor"]
        sizes = [len(tree[paths[0]]) for tree in world.model.versions[name_of(repo)] if paths[0] in tree]
        return [] if (record["path"], record["size"] in sizes) == (paths[0], True) else [f"the sensor found {record}"]

    return Work(
        _dag(lambda: XetFileSensor(task_id="sensor", path=paths[0], poke_interval=0.1, timeout=20, **_at(repo))),
        check=check,
    )


class WriteAndRead(BaseOperator):
    """Writes files through the filesystem, and reads each back."""

    def __init__(self, *, repo: Repo, files: Mapping[str, bytes], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.repo = repo
        self.contents_by_path = files

    def execute(self, context: Any) -> list[str]:
        """Return the paths of files that read differently from what was written."""
        # As in a process of its own, in which Airflow knows the filesystems of its providers.
        forget_filesystems()
        attach("hf", "xethub_default")
        wrong = []
        for path, content in self.contents_by_path.items():
            place = at(self.repo, path)
            with place.open("wb") as file:  # type: ignore[no-untyped-call]  # under hf://, Airflow has no write_bytes
                file.write(content)
            if place.read_bytes() != content:
                wrong.append(path)
        return wrong


def _filesystem(world: World, step: Step, repo: Repo, _: Path) -> Work:
    files = contents(step["files"])
    return Work(
        _dag(lambda: WriteAndRead(task_id="write", repo=repo, files=files)),
        {"write": lambda _: [Change(name_of(repo), {path: each}) for path, each in files.items()]},
        frozenset([name_of(repo)]),
        check=lambda results: [f"read something else than was written: {path}" for path in results["write"]],
    )


_OPERATIONS: dict[str, Callable[[World, Step, Repo, Path], Work | None]] = {
    "upload": _upload,
    "fan_out": _fan_out,
    "several": _several,
    "delete": _delete,
    "mirror": _mirror,
    "mirror_download": _mirror_download,
    "copy": _copy,
    "download": _download,
    "list": _list,
    "sensor": _sensor,
    "filesystem": _filesystem,
}
