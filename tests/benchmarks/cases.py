"""The cases of the benchmark: which files, which steps, which links, who takes part."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks import sizes
from benchmarks.profiles import CROWDED, FAR, FAST, LOSSY, NEAR, SLOW, Profile
from benchmarks.servers import BUCKET
from benchmarks.sizes import Sizes
from benchmarks.tasks import BARE, FEW, FORGETFUL, HUB, IMPORTED, LEAN, OPERATORS, TUNED
from benchmarks.turn import AGAIN, ALL, FROM_DISK, SOME, Turn, check_equal, leave_to_disk, size_of, together


@dataclass(frozen=True)
class Case:
    """One comparison.

    :param title: what is moved, in a heading.
    :param make: writes its files into a folder.
    :param run: what each contender does, and measures.
    :param contenders: who takes part, this provider first.
    :param repetitions: how often at most; ``None``: as often as all others.
    :param is_stored: whether its files are in object storage.
    """

    title: str
    make: Callable[[Path, Sizes], None]
    run: Callable[[Turn], None]
    contenders: tuple[str, ...] = (OPERATORS, HUB, TUNED, BARE)
    profiles: tuple[Profile, ...] = (NEAR, FAR)
    repetitions: int | None = None
    is_stored: bool = False


def _large(turn: Turn) -> None:
    new, changed = turn.sources / "new", turn.sources / "changed"
    turn.upload("upload, new", new)
    turn.upload("upload, the same again", new, same_cache=True)
    uploaded = turn.upload("upload, 1 % changed", changed, same_cache=True)
    turn.download("download", changed, uploaded)


def _one(turn: Turn) -> None:
    new = turn.sources / "new"
    turn.download("download", new, turn.upload("upload", new))


def _folder(turn: Turn) -> None:
    turn.download("download", turn.sources, turn.upload("upload", turn.sources))


def _variants(turn: Turn) -> None:
    turn.upload("upload of all", turn.sources)


def _edited(turn: Turn) -> None:
    # A worker of its own each time: only CAS knows what it has.
    turn.upload(None, turn.sources / "new")
    turn.upload("upload, 1 MB changed", turn.sources / "changed")


def _unchanged(turn: Turn) -> None:
    # Without a memory, the first upload is the same work.
    turn.upload(None if turn.contender == FORGETFUL else "first upload", turn.sources)
    turn.upload(AGAIN, turn.sources, same_cache=True)
    leave_to_disk(turn.sources)
    turn.upload(FROM_DISK, turn.sources, same_cache=True)


def _start(turn: Turn) -> None:
    for each in sorted(turn.sources.iterdir()):
        turn.upload("upload", each)


def _s3(turn: Turn) -> None:
    client, size = turn.s3.client(), size_of(turn.sources)
    if turn.is_ours:
        turn.once("S3 to Hub", "upload", {"source": f"s3://aws_default@{BUCKET}/in/"}, size)
        turn.once("Hub to S3", "download", {"destination": f"s3://aws_default@{BUCKET}/out/"}, size)
    else:
        write = {"operation": turn.hub.operation("write")} if turn.is_bare else {}
        uploaded = turn.once("S3 to Hub", "s3_to_hub", {"prefix": "in/", **write}, size)
        read = {"operation": turn.hub.operation("read"), "files": uploaded} if turn.is_bare else {}
        turn.once("Hub to S3", "hub_to_s3", {"prefix": "out/", **read}, size)
    back = turn.folder / "from-s3"
    back.mkdir()
    for path in turn.sources.iterdir():
        client.download_file(BUCKET, f"out/{path.name}", str(back / path.name))
        client.delete_object(Bucket=BUCKET, Key=f"out/{path.name}")
    check_equal(turn.sources, back)
    shutil.rmtree(back)


def _mapped(turn: Turn) -> None:
    for number in turn.sizes.mapped:
        files = sorted((turn.sources / f"{number:03}").iterdir())
        size, step = sum(each.stat().st_size for each in files), f"{number} task{'s' if number > 1 else ''}"
        if turn.is_bare:
            operation = turn.hub.operation("write")
            turn.tasks(step, [("upload", {"source": str(each), "operation": operation}) for each in files], size)
        elif turn.contender == HUB:
            arguments = [{"source": str(each), "path_in_repo": f"{number}/{each.name}.bin"} for each in files]
            turn.tasks(step, [("upload_file", each) for each in arguments], size)
        else:
            _fan_out(turn, step, number, files, size)


def _fan_out(turn: Turn, step: str, number: int, files: list[Path], size: int) -> None:
    """Fetch a token, upload with mapped tasks, commit once: three tasks of a DAG, measured as one."""
    before = len(turn.measured)
    token = turn.once("token", "token", {}, 0)
    options = {"commit": False, "token": token, "xethub_conn_id": None}
    uploads = [{"source": str(each), "path_in_repo": f"{number}/{each.name}.bin", **options} for each in files]
    records = turn.tasks("uploads", [("upload", each) for each in uploads], size)
    turn.once("commit", "commit", {"files": records}, 0)
    turn.measured[before:] = [together(turn.measured[before:], step)]


def _crowded(turn: Turn) -> None:
    # The default client crawls to its end with a part of the files. Uploads go before the link.
    if turn.contender != OPERATORS:
        uploaded = turn.upload(None, turn.sources / "some")
        turn.hub.crowd()
        turn.download(SOME, turn.sources / "some", uploaded)
    if turn.contender != HUB:
        turn.hub.uncrowd()
        uploaded = turn.upload(None, turn.sources / "all")
        turn.hub.crowd()
        turn.download(ALL, turn.sources / "all", uploaded)


def _whole(turn: Turn) -> None:
    turn.whole(sorted(turn.sources.iterdir())[turn.repetition % turn.sizes.whole[0]])


CASES: dict[str, Case] = {
    "large": Case("one large file", sizes.large, _large),
    "medium": Case("medium files", sizes.of_shape(lambda sizes: sizes.medium), _folder),
    "small": Case("small files", sizes.of_shape(lambda sizes: sizes.small), _folder),
    "start": Case(
        "what is not transfer: one file of 100 kB",
        sizes.of_shape(lambda sizes: sizes.starts),
        _start,
        (OPERATORS, HUB, TUNED, BARE, IMPORTED),
    ),
    "s3": Case("object storage", sizes.of_shape(lambda sizes: sizes.stored), _s3, is_stored=True),
    "object": Case(
        "one large object in object storage",
        sizes.one(lambda sizes: sizes.large_object),
        _s3,
        contenders=(OPERATORS, HUB, LEAN),
        profiles=(NEAR,),
        is_stored=True,
    ),
    "mapped": Case("mapped tasks of one file each", sizes.mapped, _mapped),
    "edited": Case("one megabyte changed in a large file", sizes.edited, _edited, profiles=(NEAR,)),
    "variants": Case("variants of one model, of which half is the same", sizes.variants, _variants, profiles=(NEAR,)),
    "unchanged": Case(
        "an unchanged folder",
        sizes.settled,
        _unchanged,
        contenders=(OPERATORS, HUB, FORGETFUL),
        profiles=(NEAR,),
    ),
    "memory": Case(
        "one large file, with a memory limit and with the default",
        sizes.one(lambda sizes: sizes.limited),
        _one,
        contenders=(OPERATORS, HUB, LEAN),
        profiles=(NEAR,),
    ),
    "fast": Case("a fast link", sizes.one(lambda sizes: sizes.fast), _one, profiles=(FAST,)),
    "slow": Case("a slow link", sizes.one(lambda sizes: sizes.slow), _one, profiles=(SLOW,)),
    "whole": Case(
        "whole tasks in a real scheduler",
        sizes.of_shape(lambda sizes: sizes.whole),
        _whole,
        contenders=(OPERATORS, HUB),
        profiles=(NEAR,),
    ),
    "lossy": Case(
        "a link that loses connections", sizes.of_shape(lambda sizes: sizes.lossy), _folder, profiles=(LOSSY,)
    ),
    "crawl": Case(
        "a link that collapses under many requests",
        sizes.crowded,
        _crowded,
        contenders=(OPERATORS, HUB, FEW),
        profiles=(CROWDED,),
        repetitions=1,
    ),
}


def order(contenders: tuple[str, ...], repetition: int) -> list[str]:
    """Return who is when: this provider between those whom it is compared with, and every second time the other way."""
    ours, first, *others = contenders
    turns = [first, ours, *others]
    return turns if repetition % 2 == 0 else turns[::-1]
