"""Draws a plan from a seed: repositories, and the steps of several actors with the faults of each. No I/O.

A plan is plain JSON. Steps do not depend on each other: a step chooses paths by their place in what exists by then
(``"which": 0.4``), so that a plan still makes sense when :mod:`shrink` takes steps or faults out of it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from simulation.contents import ContentSpec

Step = dict[str, Any]
Plan = dict[str, Any]

FORMAT = 1
MAX_STEPS = 7

FOLDERS = ("", "data/", "data/deep/", "with space/", "ünï/")
MIRRORED = ("mirror0/", "mirror1/")
NAMES = ("a.bin", "b.csv", "c d.bin", "é.bin", "#1.csv", "100%25.bin", "z.tar.gz", "notes.md")

ROUTES = {
    "any": "[A-Z]+ .*",
    "hub": "[A-Z]+ /api/.*",
    "token": "GET /api/.*/xet-(read|write)-token.*",
    "preupload": "POST /api/.*/preupload/.*",
    "commit": "POST /api/.*/(commit|batch).*",
    "listing": "GET /api/.*/tree.*",
    "paths": "POST /api/.*/paths-info.*",
    "inline": "GET .*/resolve/.*",
    "duplicate": "POST /api/.*/lfs-files/duplicate",
    "cas": "[A-Z]+ /cas/.*",
    "xorb": "POST /cas/.*/v1/xorb.*",
    "shard": "POST /cas/.*/shards",
    "reconstruction": "GET /cas/.*/reconstructions/.*",
    "data": "GET /cas/.*/data/.*",
}
"""The steps of the protocol that a fault can hit."""

READS = ("any", "hub", "token", "listing", "paths", "inline", "cas", "reconstruction", "data")
WRITES = ("any", "hub", "token", "preupload", "paths", "commit", "commit", "cas", "xorb", "shard")
_MET_BY = {
    "upload": WRITES,
    "fan_out": WRITES,
    "several": WRITES,
    "mirror": (*WRITES, "listing"),
    "delete": ("any", "hub", "commit"),
    "copy": ("any", "hub", "commit", "duplicate", "paths", "listing", "inline"),
    "filesystem": (*READS, *WRITES),
    "list": ("any", "hub", "listing"),
    "sensor": ("any", "hub", "paths"),
}
"""Routes that the requests of a step go to; those of all other steps are reads."""

TRANSIENT = (408, 425, 429, 500, 502, 503, 504)
PERMANENT = (400, 401, 403, 404, 409, 410, 412, 413, 416, 422)


def plan(seed: int) -> Plan:
    """Return the plan of a seed, always the same."""
    rng = random.Random(f"xethub simulation {seed}")
    kinds = [rng.choice(("dataset", "model")), *rng.sample(("dataset", "model", "bucket"), k=rng.randint(1, 2))]
    repositories = [{"name": f"local/s{seed}-{number}", "type": kind} for number, kind in enumerate(kinds)]
    steps: list[Step] = [_with_faults(rng, _upload(rng, repositories, 0))]
    for _ in range(rng.randint(2, MAX_STEPS - 1)):
        make = rng.choices([make for make, _ in _STEPS], [weight for _, weight in _STEPS])[0]
        steps.append(_with_faults(rng, make(rng, repositories, rng.randrange(len(repositories)))))
    return {"format": FORMAT, "seed": seed, "repositories": repositories, "steps": steps}


# --- steps ------------------------------------------------------------------------------------------------------------


def _files(rng: random.Random, most: int = 6) -> dict[str, ContentSpec]:
    """Return contents by path; few seeds, so that contents repeat within and between repositories."""
    found: dict[str, ContentSpec] = {}
    for _ in range(rng.randint(1, most)):
        name = rng.choice(NAMES)
        is_text = name.endswith((".csv", ".md"))
        size = rng.choice((0, 1, 40, 700) if is_text else (1, 513, 5_000, 70_000, 300_000))
        found[rng.choice(FOLDERS) + name] = {"size": size, "seed": rng.randrange(6), "text": is_text}
    return found


def _upload(rng: random.Random, _: Sequence[Any], repo: int) -> Step:
    return {"do": "upload", "repo": repo, "path_in_repo": rng.choice((None, "up", "up/there")), "files": _files(rng)}


def _fan_out(rng: random.Random, _: Sequence[Any], repo: int) -> Step:
    parts = [
        {"path_in_repo": f"part{number}", "files": _files(rng, 3), "keyless": rng.random() < 0.5}
        for number in range(rng.randint(1, 3))
    ]
    return {"do": "fan_out", "repo": repo, "parts": parts}


def _several(rng: random.Random, _: Sequence[Any], repo: int) -> Step:
    return {"do": "several", "repo": repo, "actors": [_files(rng, 3) for _ in range(rng.randint(2, 3))]}


def _delete(rng: random.Random, _: Sequence[Any], repo: int) -> Step:
    return {"do": "delete", "repo": repo, "which": [round(rng.random(), 3) for _ in range(rng.randint(1, 2))]}


def _mirror(rng: random.Random, _: Sequence[Any], repo: int) -> Step:
    return {"do": "mirror", "repo": repo, "path_in_repo": rng.choice(MIRRORED).rstrip("/"), "files": _files(rng)}


def _mirror_download(rng: random.Random, _: Sequence[Any], repo: int) -> Step:
    return {"do": "mirror_download", "repo": repo, "path_in_repo": rng.choice((None, "mirror0", "up"))}


def _copy(rng: random.Random, repositories: Sequence[Any], repo: int) -> Step:
    # The Hub copies nothing from a bucket to a repository.
    sources = [
        number
        for number, each in enumerate(repositories)
        if number != repo and (each["type"] != "bucket" or repositories[repo]["type"] == "bucket")
    ]
    return {
        "do": "copy",
        "repo": repo,
        "source": rng.choice(sources or [repo]),
        "path_in_repo": f"copy{rng.randrange(2)}",
    }


def _download(rng: random.Random, _: Sequence[Any], repo: int) -> Step:
    return {"do": "download", "repo": repo, "into": rng.choice(("new", "same")), "token": rng.random() < 0.3}


def _list(_: random.Random, __: Sequence[Any], repo: int) -> Step:
    return {"do": "list", "repo": repo}


def _sensor(rng: random.Random, _: Sequence[Any], repo: int) -> Step:
    return {"do": "sensor", "repo": repo, "which": round(rng.random(), 3)}


def _filesystem(rng: random.Random, _: Sequence[Any], repo: int) -> Step:
    return {"do": "filesystem", "repo": repo, "files": {f"fs/{path}": each for path, each in _files(rng, 2).items()}}


_STEPS: tuple[tuple[Callable[[random.Random, Sequence[Any], int], Step], int], ...] = (
    (_upload, 4),
    (_fan_out, 3),
    (_several, 2),
    (_delete, 2),
    (_mirror, 3),
    (_mirror_download, 2),
    (_copy, 2),
    (_download, 4),
    (_list, 1),
    (_sensor, 1),
    (_filesystem, 2),
)


# --- faults -----------------------------------------------------------------------------------------------------------


def _with_faults(rng: random.Random, step: Step) -> Step:
    """Add up to three faults, and whether everybody gives up after the last try that has faults."""
    tasks = len(step["parts"]) + 3 if step["do"] == "fan_out" else 1
    faults: list[dict[str, Any]] = []
    for _ in range(rng.choice((0, 1, 1, 1, 2, 2, 3))):
        make = _wire_fault if rng.random() < 0.75 else _event
        faults.append({"task": rng.randrange(tasks), **make(rng, step)})
    return {**step, "faults": faults, "gives_up": rng.random() < 0.1}


def _wire_fault(rng: random.Random, step: Step) -> dict[str, Any]:
    route = rng.choice(_MET_BY.get(step["do"], READS))
    # A task sends about ten requests in all, but few to one route.
    skip = rng.choice((0, 0, 1, 2, 3, 4, 6)) if route in ("any", "hub", "cas") else rng.choice((0, 0, 0, 0, 1, 2))
    fault: dict[str, Any] = {"route": ROUTES[route], "skip": skip}
    if (times := rng.choice((1, 1, 1, 2, 3, None))) is not None:
        fault["times"] = times
    way = rng.choices([way for way, _ in _WAYS], [weight for _, weight in _WAYS])[0]
    return {"wire": {**fault, **way(rng)}}


_WAYS: tuple[tuple[Callable[[random.Random], dict[str, Any]], int], ...] = (
    (lambda rng: {"status": rng.choice(TRANSIENT), "headers": {"Retry-After": "0"}}, 5),
    (lambda rng: {"status": rng.choice(TRANSIENT)}, 2),
    (lambda rng: {"status": rng.choice(PERMANENT)}, 4),
    (lambda _: {"drop": True}, 3),
    (lambda _: {"drop": "middle"}, 3),
    (lambda _: {"lose_answer": True}, 4),
    (lambda _: {"lose_answer": True, "drop": True}, 4),
    (lambda _: {"lose_answer": True, "status": 504}, 1),
    (lambda rng: {"delay": rng.choice((0.05, 0.3))}, 1),
    (lambda _: {"corrupt": True}, 3),
    (lambda rng: {"truncate": rng.choice((0, 1, 100, 3000))}, 3),
    (lambda rng: {"endless": rng.choice((True, "trickle"))}, 1),
    (lambda rng: {"bandwidth": rng.choice((200_000, 1_000_000))}, 1),
    (lambda _: {"token_life": 1}, 1),
    (lambda _: {"data_url_life": -1}, 2),
    (lambda rng: {"clock_offset": rng.choice((-3600, -45, 45, 3600))}, 2),
    (lambda _: {"status": 200, "body": "<html>Sign in</html>", "headers": {"Content-Type": "text/html"}}, 1),
)


def _event(rng: random.Random, step: Step) -> dict[str, Any]:
    """Return what happens when the Hub has received so many requests of the task."""
    kinds = ["restart", "commit", "clock", "SIGTERM", "SIGKILL", "SIGKILL"]
    if step["do"] in ("upload", "mirror", "fan_out", "several"):
        kinds += ["change_source", "remove_source"]
    event: dict[str, Any] = {"event": rng.choice(kinds), "at": rng.choice((1, 2, 2, 3, 3, 4, 5, 6, 7))}
    if event["event"] == "clock":
        event["offset"] = rng.choice((-7200, -60, 60, 7200))
    if event["event"] in ("commit", "change_source"):
        event["seed"] = rng.randrange(100, 200)
    return event
