"""A client process of huggingface_hub and hf_xet that uploads and commits, and writes down what was acknowledged.

Its argument is JSON: the fields of :class:`Task`. Contents follow from a seed, so that a reader can make them again.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

_REFUSED_BECAUSE_OTHERS_WERE_FASTER = (409, 412)


@dataclass
class Task:
    """What to do.

    :param journal: file that gets one JSON line for each attempt, before and after.
    :param kind: ``commit``, or ``bucket``.
    :param commits: how many to make; 0 goes on until the file ``stop`` exists.
    :param with_parent: name the parent commit, as who must not overwrite others does, and try again where it moved.
    :param folder: where in the repository.
    """

    url: str
    token: str
    journal: str
    repository: str
    folder: str
    kind: str = "commit"
    commits: int = 0
    stop: str = ""
    with_parent: bool = False
    file_bytes: int = 400_000


@dataclass
class Attempt:
    """One commit, or one bucket batch: ``files`` are path, seed and size."""

    id: str
    repository: str
    kind: str
    files: list[tuple[str, int, int]] = field(default_factory=list)


def content(seed: int, size: int) -> bytes:
    """Return the content of a file. Half of it is the same for four seeds in a row, which deduplicates."""
    half = size // 2
    return random.Random(seed // 4).randbytes(half) + random.Random(-seed - 1).randbytes(size - half)


def read_journal(path: Path) -> tuple[list[Attempt], dict[str, str]]:
    """Return the attempts, and the commit (or the empty text) of those that were acknowledged."""
    attempts, acknowledged = [], {}
    for line in path.read_text().splitlines() if path.exists() else []:
        record = json.loads(line)
        if "begun" in record:
            attempts.append(Attempt(**{**record["begun"], "files": [tuple(file) for file in record["begun"]["files"]]}))
        elif "done" in record:
            acknowledged[record["done"]] = record["commit"]
    return attempts, acknowledged


def main() -> None:
    task = Task(**json.loads(sys.argv[1]))
    from huggingface_hub import HfApi
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()
    api = HfApi(endpoint=task.url, token=task.token)
    with Path(task.journal).open("a", buffering=1) as journal:
        for attempt in _attempts(task):
            journal.write(json.dumps({"begun": asdict(attempt)}) + "\n")
            try:
                commit = _upload(api, task, attempt)
            except Exception as error:  # a killed server shows in many ways
                journal.write(json.dumps({"failed": attempt.id, "error": repr(error)[:300]}) + "\n")
                if task.commits:
                    raise
            else:
                journal.write(json.dumps({"done": attempt.id, "commit": commit}) + "\n")
            if task.stop:
                time.sleep(random.random() / 10)


def _attempts(task: Task) -> Iterator[Attempt]:
    number = 0
    while number < task.commits or (task.stop and not Path(task.stop).exists()):
        name = f"{task.folder}/{number:04}"
        seed = random.Random(name).getrandbits(32)
        size = task.file_bytes + seed % task.file_bytes
        files = [(f"{name}/large.bin", seed, size), (f"{name}/other.bin", seed + 1, size // 3)]
        if task.kind == "commit":
            files.append((f"{name}/small.txt", seed + 2, 100))
        yield Attempt(name, task.repository, task.kind, files)
        number += 1


def _upload(api: Any, task: Task, attempt: Attempt) -> str:
    from huggingface_hub import CommitOperationAdd
    from huggingface_hub.errors import HfHubHTTPError

    if task.kind == "bucket":
        api.batch_bucket_files(task.repository, add=[(content(*made), path) for path, *made in attempt.files])
        return ""
    while True:
        try:
            parent = api.repo_info(task.repository, repo_type="dataset").sha if task.with_parent else None
            return api.create_commit(
                task.repository,
                [CommitOperationAdd(path, content(*made)) for path, *made in attempt.files],
                commit_message=attempt.id,
                repo_type="dataset",
                parent_commit=parent,
            ).oid
        except HfHubHTTPError as error:
            if error.response.status_code not in _REFUSED_BECAUSE_OTHERS_WERE_FASTER:
                raise
            time.sleep(random.random() / 10)


if __name__ == "__main__":
    main()
