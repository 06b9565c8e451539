"""The tasks: the rows of the matrix. Each operator, sensor and trigger has at least one.

A row prepares a world, and returns how to make the task in it. Repositories are filled at the server, so that all
requests of a cell are those of its task.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airflow.sdk import task as task_decorator
from airflow.triggers.base import BaseTrigger

from airflow_provider_xethub import HubCache
from airflow_provider_xethub.decorators.xethub import XetDecoratedOperator
from airflow_provider_xethub.operators import pull_requests, refs, repositories
from airflow_provider_xethub.operators import xethub as operators
from airflow_provider_xethub.sensors.pull_requests import XetPullRequestSensor
from airflow_provider_xethub.sensors.scans import XetScanSensor
from airflow_provider_xethub.sensors.xethub import XetFileSensor, XetRevisionSensor
from airflow_provider_xethub.triggers.pull_requests import XetPullRequestTrigger
from airflow_provider_xethub.triggers.scans import XetScanTrigger
from airflow_provider_xethub.triggers.xethub import XetFileTrigger, XetRevisionTrigger
from airflow_provider_xethub.xet.repo import Repo
from faults.world import World
from support.builders import sealed
from support.commit_builders import in_cas, name_of
from support.repository_trees import set_tree
from xethub_local.metadata.commits import PutXet

_POKE: dict[str, Any] = {"poke_interval": 0.05, "timeout": 4.0}


@dataclass(frozen=True)
class Case:
    """A row in one world.

    :param task: adds the operator or sensor, with the task ID ``it``, to the DAG that is being made.
    :param trigger: makes the trigger instead.
    :param xcoms: return values of other tasks, by task ID.
    :param meanwhile: what others do after the first request that matches ``polls``.
    """

    task: Callable[[], object] | None = None
    trigger: Callable[[], BaseTrigger] | None = None
    xcoms: Mapping[str, Any] = field(default_factory=dict)
    meanwhile: Callable[[], object] | None = None
    polls: str = ".*"


@dataclass(frozen=True)
class Row:
    """A task.

    :param name: as the table shows it.
    :param kind: the operator, sensor or trigger.
    :param prepare: makes everything that the task needs.
    :param waits: whether it polls, so that the number of its requests depends on time.
    """

    name: str
    kind: type
    prepare: Callable[[World], Case]
    waits: bool = False


def _at(repo: Repo, prefix: str = "") -> dict[str, Any]:
    return {f"{prefix}repo_id": repo.repo_id, f"{prefix}repo_type": repo.repo_type}


def _task(kind: Callable[..., object], **arguments: Any) -> Case:
    return Case(lambda: kind(task_id="it", **arguments))


# --- tokens, uploads, commits, downloads ------------------------------------------------------------------------------


def _new_files(world: World) -> dict[str, bytes]:
    return {"a.bin": world.binary("new a"), "d/b.bin": world.binary("new b"), "table.csv": world.text("new table")}


def _old_files(world: World) -> dict[str, bytes]:
    return {"a.bin": world.binary("old a"), "old.bin": world.binary("old"), "table.csv": world.text("old table")}


def _token(scope: str) -> Callable[[World], Case]:
    return lambda world: _task(operators.XetTokenOperator, scope=scope, **_at(world.repo("corpus")))


def _forget(world: World) -> Case:
    repo = world.repo("corpus")

    def make() -> None:
        token = operators.XetTokenOperator(task_id="token", **_at(repo))
        token >> operators.XetForgetTokenOperator(task_id="it", token_task_ids="token")

    return Case(make, xcoms={"token": sealed(repo)})


def _upload(repo_type: Any = "dataset", **arguments: Any) -> Callable[[World], Case]:
    def prepare(world: World) -> Case:
        repo = world.repo("corpus", repo_type, _old_files(world))
        source = world.source(_new_files(world))
        return _task(operators.XetUploadOperator, source=source, **arguments, **_at(repo))

    return prepare


def _upload_part(world: World) -> Case:
    repo = world.repo("corpus")
    token = sealed(repo, "write")
    source = world.source(_new_files(world))
    return _task(operators.XetUploadOperator, source=source, commit=False, token=token, xethub_conn_id=None)


def _commit(repo_type: Any = "dataset", **arguments: Any) -> Callable[[World], Case]:
    def prepare(world: World) -> Case:
        repo = world.repo("corpus", repo_type, _old_files(world))
        new = {"a.bin": world.binary("new a"), "d/b.bin": world.binary("new b")}
        files = in_cas(world.hub, repo, new)
        return _task(operators.XetCommitOperator, files=files, delete=["old.bin"], **arguments, **_at(repo))

    return prepare


def _download(repo_type: Any = "dataset", **arguments: Any) -> Callable[[World], Case]:
    def prepare(world: World) -> Case:
        repo = world.repo("corpus", repo_type, _old_files(world))
        return _task(operators.XetDownloadOperator, destination=str(world.out), **arguments, **_at(repo))

    return prepare


def _download_part(world: World) -> Case:
    content = {"a.bin": world.binary("old a"), "d/b.bin": world.binary("old b")}
    repo = world.repo("corpus", "dataset", content)
    token, files = sealed(repo), in_cas(world.hub, repo, content)
    return _task(
        operators.XetDownloadOperator, destination=str(world.out), token=token, files=files, xethub_conn_id=None
    )


def _download_to_cache(world: World) -> Case:
    repo = world.repo("model", "model", _old_files(world))
    return _task(operators.XetDownloadOperator, destination=HubCache(str(world.out)), **_at(repo))


# --- lists, copies, mirrors, functions --------------------------------------------------------------------------------


def _list(repo_type: Any = "dataset") -> Callable[[World], Case]:
    return lambda world: _task(operators.XetListOperator, **_at(world.repo("corpus", repo_type, _old_files(world))))


def _copy(source_type: Any, repo_type: Any) -> Callable[[World], Case]:
    def prepare(world: World) -> Case:
        files = {"a.bin": world.binary("a"), "d/b.bin": world.binary("b"), "table.csv": world.text("table")}
        source = world.repo("source", source_type, files)
        patterns = None if source.is_bucket else "[!.]*"  # not .gitattributes
        copy = world.repo("copy", repo_type)
        return _task(operators.XetCopyOperator, patterns=patterns, **_at(source, "source_"), **_at(copy))

    return prepare


def _mirror_upload(world: World) -> Case:
    repo = world.repo("corpus", "dataset", _old_files(world))
    source = world.source(_new_files(world))
    return _task(operators.XetMirrorOperator, source=source, max_delete_share=1, **_at(repo))


def _mirror_download(world: World) -> Case:
    repo = world.repo("corpus", "dataset", _old_files(world))
    world.out.mkdir()
    (world.out / "extra.bin").write_bytes(world.binary("extra"))
    return _task(operators.XetMirrorOperator, destination=str(world.out), max_delete_share=1, **_at(repo))


def _function(world: World) -> Case:
    repo = world.repo("corpus", "dataset", _old_files(world))
    result = world.binary("result")

    def transform(files: Sequence[Path], output: Path) -> None:
        (output / "result.bin").write_bytes(result if files else b"")

    def make() -> None:
        decorate: Any = task_decorator
        decorate.xethub(task_id="it", patterns="*.bin", path_in_repo="results", **_at(repo))(transform)()

    return Case(make)


# --- repositories, branches and tags ----------------------------------------------------------------------------------


def _create_repo(world: World) -> Case:
    del world
    where = {"repo_id": "local/new", "repo_type": "dataset"}
    return _task(repositories.XetCreateRepoOperator, license="mit", **where)


def _delete_repo(world: World) -> Case:
    repo = world.repo("corpus", "dataset", _old_files(world))
    return _task(repositories.XetDeleteRepoOperator, confirm=repo.repo_id, **_at(repo))


def _update_repo(world: World) -> Case:
    repo = world.repo("corpus")
    return _task(repositories.XetUpdateRepoOperator, visibility="private", gated="auto", **_at(repo))


def _delete_unreferenced(world: World) -> Case:
    repo = world.repo("corpus", "dataset", _old_files(world))
    set_tree(world.hub, repo, {"a.bin": world.binary("new a")})
    world.hub.repositories.squash(name_of(repo), "main", "Squash", "local")
    return _task(repositories.XetDeleteUnreferencedFilesOperator, dry_run=False, min_age=0, **_at(repo))


def _ref(kind: type, **arguments: Any) -> Callable[[World], Case]:
    def prepare(world: World) -> Case:
        repo = world.repo("corpus", "dataset", _old_files(world))
        name = name_of(repo)
        if kind is refs.XetDeleteBranchOperator:
            world.hub.repositories.create_branch(name, "dev")
        elif kind is refs.XetDeleteTagOperator:
            world.hub.repositories.create_tag(name, "v1")
        return _task(kind, **arguments, **_at(repo))

    return prepare


# --- pull requests ----------------------------------------------------------------------------------------------------


def _open_pull_request(world: World) -> Repo:
    repo = world.repo("corpus", "dataset", _old_files(world))
    name = name_of(repo)
    stored = world.hub.content.add_plain(world.binary("new a"), repository=name)
    put = PutXet("a.bin", stored.xet_hash, stored.sha256 or "", stored.size)
    made = world.hub.commits.open_pull_request(name, "Proposed", "", "local")
    world.hub.commits.commit(name, made.ref, [put], title="Proposed", author="local")
    world.hub.commits.discussions.set_status(name, made.number, "local", "open")
    return repo


def _pull_request(kind: type, **arguments: Any) -> Callable[[World], Case]:
    def prepare(world: World) -> Case:
        return _task(kind, pull_request=1, **arguments, **_at(_open_pull_request(world)))

    return prepare


# --- waiting ----------------------------------------------------------------------------------------------------------


def _file_sensor(world: World) -> Case:
    repo = world.repo("corpus", "dataset", _old_files(world))
    return _task(XetFileSensor, path="a.bin", **_POKE, **_at(repo))


def _late_file_sensor(world: World) -> Case:
    repo = world.repo("corpus", "dataset", _old_files(world))
    content = world.binary("new")
    return Case(
        lambda: XetFileSensor(task_id="it", path="new.bin", **_POKE, **_at(repo)),
        meanwhile=lambda: world.put(repo, {"new.bin": content}),
    )


def _revision_sensor(world: World) -> Case:
    repo = world.repo("corpus", "dataset", _old_files(world))
    content = world.binary("new")
    newest = world.hub.repositories.commits(name_of(repo), "main")[0].id
    return Case(
        lambda: XetRevisionSensor(task_id="it", newer_than=newest, **_POKE, **_at(repo)),
        meanwhile=lambda: world.put(repo, {"new.bin": content}),
    )


def _merge(world: World, repo: Repo) -> None:
    world.hub.commits.merge(name_of(repo), 1, "local")


def _pull_request_sensor(world: World) -> Case:
    repo = _open_pull_request(world)
    return Case(
        lambda: XetPullRequestSensor(task_id="it", pull_request=1, **_POKE, **_at(repo)),
        meanwhile=lambda: _merge(world, repo),
    )


def _scan_sensor(world: World) -> Case:
    repo = world.repo("corpus", "dataset", _old_files(world))
    world.hub.scans.set("queued", "*.bin")
    return Case(
        lambda: XetScanSensor(task_id="it", **_POKE, **_at(repo)),
        meanwhile=world.hub.scans.clear,
        polls="POST .*/paths-info/.*",
    )


def _file_trigger(repo_type: Any) -> Callable[[World], Case]:
    def prepare(world: World) -> Case:
        repo = world.repo("corpus", repo_type, _old_files(world))
        content = world.binary("new")
        return Case(
            trigger=lambda: XetFileTrigger(paths=["new.bin"], poke_interval=0.05, **_at(repo)),
            meanwhile=lambda: world.put(repo, {"new.bin": content}),
            polls="POST .*/paths-info.*",
        )

    return prepare


def _revision_trigger(once: bool) -> Callable[[World], Case]:
    def prepare(world: World) -> Case:
        repo = world.repo("corpus", "dataset", _old_files(world))
        content = world.binary("new")
        newest = world.hub.repositories.commits(name_of(repo), "main")[0].id
        return Case(
            trigger=lambda: XetRevisionTrigger(newer_than=newest, once=once, poke_interval=0.05, **_at(repo)),
            meanwhile=lambda: world.put(repo, {"new.bin": content}),
        )

    return prepare


def _pull_request_trigger(world: World) -> Case:
    repo = _open_pull_request(world)
    return Case(
        trigger=lambda: XetPullRequestTrigger(revision="refs/pr/1", poke_interval=0.05, **_at(repo)),
        meanwhile=lambda: _merge(world, repo),
    )


def _scan_trigger(world: World) -> Case:
    repo = world.repo("corpus", "dataset", _old_files(world))
    world.hub.scans.set("queued", "*.bin")
    return Case(
        trigger=lambda: XetScanTrigger(poke_interval=0.05, **_at(repo)),
        meanwhile=world.hub.scans.clear,
        polls="POST .*/paths-info/.*",
    )


ROWS: dict[str, Row] = {
    row.name: row
    for row in (
        Row("token to read", operators.XetTokenOperator, _token("read")),
        Row("token to write", operators.XetTokenOperator, _token("write")),
        Row("forget a token", operators.XetForgetTokenOperator, _forget),
        Row("upload", operators.XetUploadOperator, _upload()),
        Row("upload to a bucket", operators.XetUploadOperator, _upload("bucket")),
        Row("upload as a pull request", operators.XetUploadOperator, _upload(create_pr=True)),
        Row("upload without a connection", operators.XetUploadOperator, _upload_part),
        Row("commit", operators.XetCommitOperator, _commit()),
        Row("commit to a bucket", operators.XetCommitOperator, _commit("bucket")),
        Row("download", operators.XetDownloadOperator, _download()),
        Row("download from a bucket", operators.XetDownloadOperator, _download("bucket")),
        Row("download without a connection", operators.XetDownloadOperator, _download_part),
        Row("download to the Hugging Face cache", operators.XetDownloadOperator, _download_to_cache),
        Row("list", operators.XetListOperator, _list()),
        Row("list a bucket", operators.XetListOperator, _list("bucket")),
        Row("copy", operators.XetCopyOperator, _copy("dataset", "model")),
        Row("copy to a bucket", operators.XetCopyOperator, _copy("dataset", "bucket")),
        Row("copy between buckets", operators.XetCopyOperator, _copy("bucket", "bucket")),
        Row("mirror to the Hub", operators.XetMirrorOperator, _mirror_upload),
        Row("mirror from the Hub", operators.XetMirrorOperator, _mirror_download),
        Row("decorated function", XetDecoratedOperator, _function),
        Row("create a repository", repositories.XetCreateRepoOperator, _create_repo),
        Row("delete a repository", repositories.XetDeleteRepoOperator, _delete_repo),
        Row("update a repository", repositories.XetUpdateRepoOperator, _update_repo),
        Row("delete unreferenced files", repositories.XetDeleteUnreferencedFilesOperator, _delete_unreferenced),
        Row("create a branch", refs.XetCreateBranchOperator, _ref(refs.XetCreateBranchOperator, branch="dev")),
        Row("delete a branch", refs.XetDeleteBranchOperator, _ref(refs.XetDeleteBranchOperator, branch="dev")),
        Row("create a tag", refs.XetCreateTagOperator, _ref(refs.XetCreateTagOperator, tag="v1")),
        Row("delete a tag", refs.XetDeleteTagOperator, _ref(refs.XetDeleteTagOperator, tag="v1")),
        Row("squash the history", refs.XetSquashHistoryOperator, _ref(refs.XetSquashHistoryOperator)),
        Row(
            "merge a pull request",
            pull_requests.XetMergePullRequestOperator,
            _pull_request(pull_requests.XetMergePullRequestOperator),
        ),
        Row(
            "close a pull request",
            pull_requests.XetClosePullRequestOperator,
            _pull_request(pull_requests.XetClosePullRequestOperator),
        ),
        Row(
            "comment on a pull request",
            pull_requests.XetCommentPullRequestOperator,
            _pull_request(pull_requests.XetCommentPullRequestOperator, comment="Checked."),
        ),
        Row("wait for a file that exists", XetFileSensor, _file_sensor, waits=True),
        Row("wait for a file", XetFileSensor, _late_file_sensor, waits=True),
        Row("wait for a commit", XetRevisionSensor, _revision_sensor, waits=True),
        Row("wait for a merge", XetPullRequestSensor, _pull_request_sensor, waits=True),
        Row("wait for a scan", XetScanSensor, _scan_sensor, waits=True),
        Row("trigger: file", XetFileTrigger, _file_trigger("dataset"), waits=True),
        Row("trigger: file in a bucket", XetFileTrigger, _file_trigger("bucket"), waits=True),
        Row("trigger: commit", XetRevisionTrigger, _revision_trigger(once=True), waits=True),
        Row("trigger: every commit", XetRevisionTrigger, _revision_trigger(once=False), waits=True),
        Row("trigger: merge", XetPullRequestTrigger, _pull_request_trigger, waits=True),
        Row("trigger: scan", XetScanTrigger, _scan_trigger, waits=True),
    )
}


def kinds_of_the_provider() -> set[type]:
    """Return every operator, sensor and trigger that the provider names to Airflow, without their bases."""
    from importlib import import_module

    from airflow_provider_xethub.get_provider_info import get_provider_info

    info = get_provider_info()
    parts = [each for part in ("operators", "sensors", "triggers") for each in info[part]]
    modules = [module for part in parts for module in part["python-modules"]]
    modules += [each["class-name"].rpartition(".")[0] for each in info["task-decorators"]]
    found: set[type] = set()
    for name in modules:
        module = import_module(name)
        own = [each for each in vars(module).values() if isinstance(each, type)]
        found |= {each for each in own if each.__module__.startswith("airflow_provider_xethub.") and _is_concrete(each)}
    return found


def _is_concrete(kind: type) -> bool:
    """Return whether Airflow runs instances of a class: it says itself what they do."""
    from airflow.providers.common.compat.sdk import BaseOperator

    if not issubclass(kind, (BaseOperator, BaseTrigger)):
        return False
    own = [vars(kind)[name] for name in ("work", "run", "_poll", "execute") if name in vars(kind)]
    is_base = any("NotImplementedError" in method.__code__.co_names for method in own)
    return bool(own) and not is_base and not kind.__name__.startswith("_")
