"""A seed becomes files, tasks and kills."""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

REPO_ID = "acme/chaos"
PARTS_TITLE = "all parts"

_MOST_SMALL, _MOST_LARGE = 1 << 21, 24 << 20
_LARGE_EVERY = 10


@dataclass(frozen=True)
class Item:
    """What one mapped task uploads: a folder with two files, one of which is stored in CAS and one in the commit.

    :param kind: ``item``: uploaded, committed, waited for and downloaded by four tasks. ``direct``: uploaded and
        committed by one task. ``part``: uploaded by one of several tasks of one token, all committed together.
    :param is_shared: whether it is downloaded to a folder that all workers share, instead of one on the worker.
    """

    kind: str
    number: int
    size: int
    is_shared: bool

    @property
    def name(self) -> str:
        """Its name, and the title of its commit."""
        return f"{self.kind}-{self.number:03}"

    @property
    def folder(self) -> str:
        """Its folder in the repository."""
        return f"{self.kind}s/{self.number:03}"

    @property
    def title(self) -> str:
        """The title of the commit that publishes it."""
        return PARTS_TITLE if self.kind == "part" else self.name

    def files(self, seed: int) -> dict[str, bytes]:
        """Return its contents by name."""
        chance = random.Random(f"{seed} {self.name}")
        text = "".join(f"{chance.randrange(1 << 32)},{self.name}\n" for _ in range(20))
        return {"data.bin": b"\0" + chance.randbytes(self.size), "table.csv": text.encode()}


def items(seed: int, tasks: int) -> list[Item]:
    """Return what is uploaded: ``tasks`` items, and a fifth as many of each of the other kinds.

    :param tasks: at least 1.
    """
    chance = random.Random(f"{seed} items")
    others = max(2, tasks // 5)
    kinds = ["item"] * tasks + ["direct"] * others + ["part"] * others
    made: list[Item] = []
    for kind in kinds:
        number = sum(each.kind == kind for each in made)
        large = number % _LARGE_EVERY == _LARGE_EVERY // 2
        size = chance.randrange(_MOST_LARGE // 3, _MOST_LARGE) if large else int(2 ** chance.uniform(11, 21))
        made.append(Item(kind, number, min(size, _MOST_LARGE if large else _MOST_SMALL), chance.random() < 0.5))
    return made


def digest(content: bytes) -> str:
    """Return what two contents are compared by."""
    return hashlib.sha256(content).hexdigest()


@dataclass(frozen=True)
class Kill:
    """A process that is ended.

    :param after: seconds after the kill before it.
    :param target: name of the server.
    :param how: ``SIGKILL``: the process and all that it started, as if its machine had lost power. ``SIGTERM``: it may
        end in good order for a few seconds, then the same. ``orphans``: SIGKILL of the process only, so that running
        tasks go on without it. ``task``: SIGKILL of one task, as the kernel does when memory runs out. ``disk lost``:
        SIGKILL, and all that it stored is gone.
    :param moment: a regular expression for a request to the Hub. The kill waits for the next one, some seconds at most.
    :param down: seconds until it is started again.
    """

    after: float
    target: str
    how: str
    moment: str = ""
    down: float = 0.0


TRANSFER = r"(GET|POST|PUT) /cas/"
COMMIT = r"POST /api/.*/commit/"


@dataclass(frozen=True)
class Blow:
    """One way to end a server.

    :param target, how, moment: as those of a :class:`Kill`.
    """

    target: str
    how: str
    moment: str = ""


def blows(workers: Sequence[str], others: Sequence[str]) -> list[Blow]:
    """Return every way to end each server.

    :param workers: names of the workers.
    :param others: names of the other servers. The one named ``hub`` is also killed during requests.
    """
    found = [Blow(worker, how) for worker in workers for how in ("SIGKILL", "SIGTERM", "orphans", "task")]
    found += [Blow(worker, "SIGKILL", TRANSFER) for worker in workers]
    found += [Blow(worker, "task", moment) for worker in workers for moment in (TRANSFER, COMMIT)]
    found += [Blow(other, how) for other in others for how in ("SIGKILL", "SIGTERM")]
    if "redis" in others:
        found.append(Blow("redis", "disk lost"))
    if "hub" in others:
        found += [Blow("hub", "SIGKILL", moment) for moment in (TRANSFER, COMMIT, COMMIT)]
    return found


def kills(
    seed: int, workers: Sequence[str], others: Sequence[str], gap: tuple[float, float] = (4.0, 14.0)
) -> Iterator[Kill]:
    """Yield kills without end. Each round has every way to end each server once, in another order.

    :param gap: the fewest and the most seconds from one kill to the next.
    """
    chance = random.Random(f"{seed} kills")
    all_blows = blows(workers, others)
    for _ in itertools.count():
        for blow in chance.sample(all_blows, len(all_blows)):
            down = 0.0 if blow.how == "task" else chance.uniform(0.5, 8.0)
            yield Kill(chance.uniform(*gap), blow.target, blow.how, blow.moment, down)


def clock_offset(seed: int) -> int:
    """Return by how many seconds the clock of one worker is ahead: up to a minute, at least a third of one."""
    chance = random.Random(f"{seed} clock")
    return chance.choice([-1, 1]) * chance.randrange(20, 60)


def conf(planned: Sequence[Item], sources: str, shared: str, private: str = "~/inbox") -> Mapping[str, object]:
    """Return the parameters of the DAG run.

    :param sources: folder with the folders to upload.
    :param shared: folder for downloads that all workers share.
    :param private: the same on each worker.
    """
    upload = {each: {"source": f"{sources}/{each.name}", "path_in_repo": each.folder} for each in planned}
    by_kind = {kind: [each for each in planned if each.kind == kind] for kind in ("item", "direct", "part")}
    return {
        "repo_id": REPO_ID,
        "published": [{**upload[each], "message": each.title} for each in by_kind["item"]],
        "fetched": [
            {
                "paths": [f"{each.folder}/{name}" for name in each.files(0)],
                "destination": f"{shared if each.is_shared else private}/{each.name}",
            }
            for each in by_kind["item"]
        ],
        "direct": [{**upload[each], "commit_message": each.title} for each in by_kind["direct"]],
        "parts": [upload[each] for each in by_kind["part"]],
    }
