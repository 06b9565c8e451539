"""A small world for looking at: repositories of every type, with a history, as real clients make them."""

from __future__ import annotations

import random
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.utils.tqdm import disable_progress_bars

from xethub_local.server import LocalHub

HOSTILE = '<script>alert("x")</script> & <b>bold</b>'
HOSTILE_PATH = "odd/<img src=x onerror=alert(1)> & 'more' #1 50%.txt"
MANY_FILES = 230

_NOTES = """# Penguins

Measurements of three species at Palmer Station, Antarctica.

* `observations.parquet`: one row for each bird
* `photos/`: one photo for each bird
"""
_TABLE = "species,island,bill_length_mm,body_mass_g\n" + "".join(
    f"{species},{island},{bill},{mass}\n"
    for species, island, bill, mass in [
        ("Adelie", "Torgersen", 39.1, 3750),
        ("Adelie", "Dream", 40.9, 3900),
        ("Chinstrap", "Dream", 49.2, 3950),
        ("Gentoo", "Biscoe", 46.1, 4500),
    ]
)


_HOUR = 3600
_AGES = (70 * 24 * _HOUR, 69 * 24 * _HOUR, 33 * 24 * _HOUR, 12 * 24 * _HOUR, 26 * _HOUR, 3 * _HOUR)


def fill(hub: LocalHub, *, with_odd_ones: bool = True) -> None:
    """Create everything through ``huggingface_hub`` and hf-xet.

    :param with_odd_ones: also names and texts that would be a page's undoing.
    """
    disable_progress_bars()
    api = HfApi(endpoint=hub.url, token=hub.add_user("ana", role="write", grants={"*": "write"}))
    _penguins(api)
    _classifier(api)
    api.create_repo("acme/dashboard", repo_type="space", space_sdk="static", exist_ok=True)
    _commit(api, "acme/dashboard", "space", "Show the map of the colonies", {"index.html": b"<h1>Colonies</h1>\n"})
    hub.create_repo("acme/raw", "bucket")
    api.batch_bucket_files("acme/raw", add=[(_bytes(7, 300_000), "2026/camera-1.raw"), (_bytes(8, 90_000), "log.bin")])
    hub.create_repo("acme/secret", "model", private=True)
    _commit(api, "acme/secret", "model", "First weights", {"weights.bin": _bytes(9, 120_000)})
    if with_odd_ones:
        _odd(api)
    _age(hub)


def _age(hub: LocalHub) -> None:
    """Date the commits back, as if they were the work of months."""
    now = hub.access.now()
    with hub.repositories.db.write() as connection:
        for repository in hub.repositories.find_all():
            if repository.kind == "buckets":
                continue
            history = [*reversed(hub.repositories.commits(repository.name, "main"))]
            for commit, age in zip(history, _AGES[-len(history) :], strict=True):
                connection.execute("UPDATE hub_commit SET created = ? WHERE id = ?", (now - age, commit.id))


def _penguins(api: HfApi) -> None:
    repo = "acme/penguins"
    api.create_repo(repo, repo_type="dataset")
    rows = _bytes(1, 6_000_000)
    photos = {f"photos/{name}.jpg": _bytes(seed, 400_000) for seed, name in enumerate(("adelie", "chinstrap"), 20)}
    first = {"README.md": _NOTES.encode(), "observations.parquet": rows, "species.csv": _TABLE.encode(), **photos}
    _commit(api, repo, "dataset", "Measurements of the first season", first)
    api.create_tag(repo, tag="v1", repo_type="dataset", tag_message="As published")
    more = rows[:3_000_000] + _bytes(2, 150_000) + rows[3_000_000:]
    changed = {
        "observations.parquet": more,
        "species.csv": _TABLE.replace("Dream,40.9,3900", "Dream,40.9,3950").encode() + b"Gentoo,Biscoe,50.0,5700\n",
        "photos/gentoo.jpg": _bytes(22, 400_000),
        "photos/gentoo-again.jpg": _bytes(22, 400_000),
    }
    _commit(api, repo, "dataset", "Second season, and a mass corrected", changed, "Row 2 had a typing error.")
    _commit(api, repo, "dataset", "Split for training and test", {"splits/train.parquet": more[:4_500_000],
                                                                  "splits/test.parquet": more[4_500_000:]})  # fmt: skip
    api.create_branch(repo, branch="season-3", repo_type="dataset")
    api.create_commit(
        repo,
        [CommitOperationAdd("README.md", (_NOTES + "\nThanks to all observers.\n").encode())],
        commit_message="Thank the observers",
        commit_description="They asked to be named.",
        repo_type="dataset",
        create_pr=True,
    )
    api.create_commit(
        repo,
        [CommitOperationDelete("photos/gentoo-again.jpg")],
        commit_message="Delete a photo that was there twice",
        repo_type="dataset",
    )


def _classifier(api: HfApi) -> None:
    api.create_repo("acme/penguin-classifier")
    weights = _bytes(3, 2_500_000)
    _commit(api, "acme/penguin-classifier", "model", "Train on the first season", {"model.safetensors": weights,
            "config.json": b'{\n  "classes": 3\n}\n'})  # fmt: skip
    tuned = weights[:2_000_000] + _bytes(4, 500_000)
    _commit(api, "acme/penguin-classifier", "model", "Fine-tune the last layers", {"model.safetensors": tuned})


def _odd(api: HfApi) -> None:
    """Names and texts that would be a page's undoing, and more files than fit on one page."""
    repo = "odd/names"
    api.create_repo(repo, repo_type="dataset")
    files = {HOSTILE_PATH: f"{HOSTILE}\n".encode(), "long/" + "n" * 200 + ".txt": b"long name\n"}
    files |= {f"many/{number:04}.txt": f"{number}\n".encode() for number in range(MANY_FILES)}
    _commit(api, repo, "dataset", HOSTILE, files, f"{HOSTILE}\n" + "w" * 300)
    api.create_branch(repo, branch="feature/<b>&-x", repo_type="dataset")
    api.create_discussion(repo, title=HOSTILE, description=HOSTILE, repo_type="dataset")
    api.create_commit(repo, [CommitOperationAdd(HOSTILE_PATH, b"<i>two</i>\n")], commit_message=f"{HOSTILE} again",
                      repo_type="dataset", create_pr=True)  # fmt: skip


def _commit(api: HfApi, repo: str, repo_type: str, title: str, files: dict[str, bytes], text: str = "") -> Any:
    added = [CommitOperationAdd(path, content) for path, content in files.items()]
    return api.create_commit(repo, added, commit_message=title, commit_description=text, repo_type=repo_type)


def _bytes(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)
