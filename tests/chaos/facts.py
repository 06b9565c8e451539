"""What is there at the end: task instances, commits, files, downloads, temporary files and credentials."""

from __future__ import annotations

import base64
import os
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from chaos.deployment import WORKERS, Fleet
from chaos.plan import REPO_ID, Item, digest
from chaos.verdict import Attempted, Commit, Download, Facts
from support import postgresql
from xethub_local.metadata.trees import Entry
from xethub_local.server import LocalHub

_NAME = f"datasets/{REPO_ID}"
_PROBE = "a known text"
_PLACES = "the metadata database", "workers/"
_TASKS = 7
"""Task instances that are not mapped."""


def wanted_tasks(items: Sequence[Item]) -> int:
    """Return how many task instances a run has."""
    return _TASKS + sum(4 if each.kind == "item" else 1 for each in items)


def gather(fleet: Fleet, seed: int, items: Sequence[Item], run_id: str, running: Sequence[str]) -> Facts:
    """Return all facts. The servers have ended, except the database."""
    contents = {each: each.files(seed) for each in items}
    digests = {each: {name: digest(data) for name, data in files.items()} for each, files in contents.items()}
    commits: dict[str, set[str]] = {}
    for each in items:
        commits.setdefault(each.title, set()).update(f"{each.folder}/{name}" for name in contents[each])
    with LocalHub(fleet.hub_folder) as hub:
        made, files = repository(hub)
        refs = [ref.ref for ref in hub.repositories.refs(_NAME) if ref.ref != "refs/heads/main"]
        pull_requests = [each.title for each in hub.commits.discussions.find_all(_NAME)]
        secrets = {"the Hub token": hub.token("write"), "the Hub token for reading": hub.token("read")}
        secrets |= {f"Xet token {number}": each for number, each in enumerate(hub.access.issued_xet_tokens())}
    tasks, last_worker = _tasks(fleet, run_id)
    downloaded = [each for each in items if each.kind == "item"]
    temporary, abandoned = temporary_files(
        fleet, {each.name: last_worker.get(("fetch.download", each.number), "") for each in downloaded}
    )
    # What certainly is in the database and in logs of tasks shows that the search reads them.
    found = places_of_credentials(searched(fleet), {**secrets, _PROBE: REPO_ID})
    known = [each for each in found if each.endswith(_PROBE)]
    return Facts(
        tasks=tasks,
        wanted_tasks=wanted_tasks(items),
        wanted_commits={title: frozenset(paths) for title, paths in commits.items()},
        commits=made,
        wanted_files={f"{each.folder}/{name}": found for each in items for name, found in digests[each].items()},
        files=files,
        wanted_downloads={
            each.name: {f"{each.folder}/{name}": found for name, found in digests[each].items()} for each in downloaded
        },
        downloads=list(downloads(fleet)),
        temporary=temporary,
        abandoned=abandoned,
        refs=refs,
        pull_requests=pull_requests,
        credentials=[each for each in found if not each.endswith(_PROBE)],
        unsearched=[place for place in _PLACES if not any(each.startswith(place) for each in known)],
        running=running,
    )


def states(fleet: Fleet, run_id: str) -> dict[str, int]:
    """Return how many task instances are in each state now."""
    query = "SELECT coalesce(state, 'none'), count(*) FROM task_instance WHERE run_id = %s GROUP BY 1"
    return dict(_rows(fleet, query, run_id))


def progress(fleet: Fleet, run_id: str) -> Any:
    """Return something that differs whenever a task instance was started or has another state."""
    query = (
        "SELECT coalesce(state, 'none'), count(*), sum(try_number) FROM task_instance WHERE run_id = %s "
        "GROUP BY 1 ORDER BY 1"
    )
    return _rows(fleet, query, run_id)


def run_state(fleet: Fleet, run_id: str) -> str:
    """Return the state of the DAG run."""
    return str(_rows(fleet, "SELECT state FROM dag_run WHERE run_id = %s", run_id)[0][0])


def unfinished(fleet: Fleet, run_id: str) -> list[str]:
    """Return what is known of each task instance that has not succeeded."""
    query = (
        "SELECT task_id, map_index, coalesce(state, 'none'), try_number, hostname FROM task_instance "
        "WHERE run_id = %s AND state IS DISTINCT FROM 'success' ORDER BY task_id, map_index"
    )
    return [" ".join(map(str, row)) for row in _rows(fleet, query, run_id)]


def _rows(fleet: Fleet, query: str, *arguments: object) -> list[Any]:
    import psycopg2  # only where the database is

    connection = psycopg2.connect(f"postgresql://{fleet.database}")
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(query, arguments)
            return list(cursor.fetchall())
    finally:
        connection.close()


def _tasks(fleet: Fleet, run_id: str) -> tuple[list[Attempted], dict[tuple[str, int], str]]:
    query = (
        "SELECT task_id, map_index, coalesce(state, 'none'), try_number, coalesce(unixname, '') FROM task_instance "
        "WHERE run_id = %s ORDER BY task_id, map_index"
    )
    rows = _rows(fleet, query, run_id)
    tasks = [Attempted(task, index, state, tries) for task, index, state, tries, _ in rows]
    return tasks, {(task, index): worker for task, index, _, _, worker in rows}


def repository(hub: LocalHub) -> tuple[list[Commit], dict[str, str]]:
    """Return the commits after the first one, oldest first, and the digest of each file."""
    oldest_first = list(reversed(hub.repositories.commits(_NAME, "main")))
    trees = [
        {entry.path: entry for entry in hub.repositories.entries(_NAME, commit) if entry.kind != "directory"}
        for commit in oldest_first
    ]
    commits = []
    for before, after, commit in zip(trees, trees[1:], oldest_first[1:], strict=False):
        paths = {path for path in {*before, *after} if _oid(before.get(path)) != _oid(after.get(path))}
        commits.append(Commit(commit.title, frozenset(paths)))
    files = {}
    for path, entry in trees[-1].items():
        if path != ".gitattributes":
            data = (
                b"".join(hub.content.read_file(entry.xet_hash)) if entry.xet_hash else hub.repositories.blob(entry.oid)
            )
            files[path] = digest(data)
    return commits, files


def _oid(entry: Entry | None) -> str | None:
    return entry.oid if entry else None


def _folders(fleet: Fleet) -> dict[str, Path]:
    """Return where downloads are, by place."""
    return {"shared": fleet.shared, **{worker: fleet.home(worker) / "inbox" for worker in WORKERS}}


def downloads(fleet: Fleet) -> Iterator[Download]:
    """Yield every folder that a task downloaded to."""
    for place, folder in _folders(fleet).items():
        for item in sorted(folder.glob("*")):
            found = {
                path.relative_to(item).as_posix(): digest(path.read_bytes())
                for path in sorted(item.rglob("*"))
                if path.is_file() and not path.name.startswith(".")
            }
            yield Download(item.name, place, found)


def temporary_files(fleet: Fleet, last_worker: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """Return temporary files where the last attempt should have removed them, and those on other workers.

    :param last_worker: where the last attempt of the download of each item ran.
    """
    temporary: list[str] = []
    abandoned: list[str] = []
    for place, folder in _folders(fleet).items():
        for item in folder.glob("*"):
            found = [path for path in item.rglob(".*") if path.is_file()]
            names = [f"{place}: {path.relative_to(folder)}" for path in found]
            (temporary if place == "shared" or last_worker.get(item.name) == place else abandoned).extend(names)
    return temporary, abandoned


def places_of_credentials(places: Iterable[tuple[str, bytes]], secrets: Mapping[str, str]) -> list[str]:
    """Return where credentials are, as ``place: name of the credential``.

    :param places: names and contents.
    :param secrets: by name.
    """
    spellings = {each: name for name, secret in secrets.items() for each in _spellings(secret)}
    # Only what begins as a credential does is looked up in the list, which may be long.
    beginnings = {each[:12] for each in spellings}
    pattern = re.compile(b"|".join(re.escape(each) for each in sorted(beginnings)))
    found = []
    for place, data in places:
        hits = {
            spellings[each]
            for match in pattern.finditer(data)
            for each in spellings
            if data.startswith(each, match.start())
        }
        found += [f"{place}: {name}" for name in sorted(hits)]
    return found


def _spellings(secret: str) -> Iterable[bytes]:
    """Return how a credential may be written: plain, URL-encoded, and in base64 at each offset."""
    yield secret.encode()
    yield quote(secret, safe="").encode()
    for offset in range(3):
        encoded = base64.b64encode(b"\0" * offset + secret.encode())
        yield encoded[4 if offset else 0 : -4]


def searched(fleet: Fleet) -> Iterator[tuple[str, bytes]]:
    """Yield the database, and all that was written but the files themselves and what the Hub has."""
    yield "the metadata database", dump(fleet)
    skipped = {fleet.hub_folder, fleet.sources, fleet.shared, *_folders(fleet).values(), fleet.folder / "edge3"}
    for folder, folders, names in os.walk(fleet.folder):
        folders[:] = [each for each in folders if Path(folder, each) not in skipped]
        for name in names:
            path = Path(folder, name)
            if path != fleet.requests_of_hub and path.is_file():
                yield str(path.relative_to(fleet.folder)), path.read_bytes()


def dump(fleet: Fleet) -> bytes:
    """Return the metadata database as SQL."""
    programs = postgresql.programs()
    assert programs is not None
    command: list[str | Path] = [programs / "pg_dump", "--dbname", f"postgresql://{fleet.database}"]
    return subprocess.run(command, check=True, capture_output=True).stdout
