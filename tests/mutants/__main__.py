"""Change the checked modules in every way that mutmut knows, and see whether their tests notice.

Exits with a status other than 0 if a mutant survives that ``tests/mutants/equivalent.toml`` does not list, or if that
file lists one that does not survive.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from pathlib import Path

from mutants import survivors
from mutants.modules import groups
from mutants.project import Project


def main() -> int:
    options = _options()
    if options.folder is not None:
        return _check(options, options.folder)
    # Not in the checkout: whatever walks through that would follow the links of the projects.
    with tempfile.TemporaryDirectory(prefix="xethub-mutants-") as folder:
        return _check(options, Path(folder))


def _check(options: argparse.Namespace, folder: Path) -> int:
    every = groups()
    total: Counter[str] = Counter()
    unlisted, outdated = [], []
    for name in options.groups or [name for name, group in every.items() if group.tests]:
        began = time.monotonic()
        project = Project(folder, name, every[name])
        project.lay_out()
        project.run(options.processes, options.sample, options.seed)
        counts, alive = project.results()
        total += counts
        unlisted += survivors.unlisted(alive)
        if not options.sample:
            outdated += survivors.outdated(alive, every[name].modules)
        print(f"{name}: {_counted(counts)} in {time.monotonic() - began:.0f} s", flush=True)
    for each in unlisted:
        print("", survivors.as_toml(each), sep="\n")
    for each in outdated:
        print("", "Listed, but it does not survive:", survivors.as_toml(each), sep="\n")
    print("", f"In all: {_counted(total)}; {len(unlisted)} survivors are not listed.", sep="\n")
    return 1 if unlisted or outdated else 0


def _counted(counts: Counter[str]) -> str:
    return f"{counts.total() - counts['not checked']} mutants: " + ", ".join(
        f"{number} {status}" for status, number in sorted(counts.items())
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make mutants", description=__doc__.splitlines()[0])
    parser.add_argument(
        "groups", nargs="*", choices=[[], *groups()], help="groups of modules.toml; default: all that have tests"
    )
    parser.add_argument("--processes", type=int, default=2, help="mutants at the same time; default: 2")
    parser.add_argument("--sample", type=int, help="only so many mutants of each group, chosen at random")
    parser.add_argument("--seed", type=int, default=1, help="chooses the sample; default: 1")
    parser.add_argument("--folder", type=Path, help="where the mutants stay; default: a temporary folder")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
