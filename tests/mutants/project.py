"""The project in which mutmut works: links to the package and to the tests, and settings for one group.

mutmut wants the import package in the folder of the project, where this repository has provider/.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from mutants.modules import PACKAGE, ROOT, Group
from mutants.survivors import Change, change

_SETTINGS = """
[tool.mutmut]
source_paths = ["{package}"]
only_mutate = {modules}
pytest_add_cli_args = ["-p", "no:cacheprovider", "-p", "no:xdist", "--hypothesis-profile", "mutants", "-m", "not long"]
pytest_add_cli_args_test_selection = {tests}
timeout_constant = 2.0
timeout_multiplier = 5.0
use_git_change_detection = false
# Each mutant in a process forked from one that has imported the tests, and run none.
process_isolation = "forkserver"
"""


_NOT_RUN = 255
"""Exit code of a mutant whose tests could not be started. mutmut counts it as a timeout, and so as killed."""


class Project:
    """One group of modules, with its mutants.

    :param folder: of all such projects.
    """

    def __init__(self, folder: Path, name: str, group: Group) -> None:
        self.folder = folder / name
        self._group = group

    def lay_out(self) -> None:
        """Create the folder; nothing of an earlier run is left."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        (self.folder / PACKAGE).symlink_to(ROOT / "provider" / PACKAGE)
        (self.folder / "tests").symlink_to(ROOT / "tests")
        settings = _SETTINGS.format(
            package=PACKAGE,
            modules=json.dumps([f"{PACKAGE}/{module}" for module in self._group.modules]),
            tests=json.dumps([f"tests/{test}" for test in self._group.tests]),
        )
        (self.folder / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text() + settings)

    def run(self, processes: int, sample: int | None, seed: int) -> None:
        """Run the tests against the mutants, or against a sample of them."""
        chosen = self._sample(sample, seed) if sample else []
        command = [sys.executable, "-m", "mutmut", "run", "--max-children", str(processes), *chosen]
        # Without a terminal: mutmut draws its counter again for each mutant.
        done = subprocess.run(command, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            raise SystemExit(f"mutmut failed in {self.folder}:\n{done.stdout[-4000:]}")

    def _sample(self, count: int, seed: int) -> list[str]:
        names = sorted(self._names())
        return random.Random(seed).sample(names, min(count, len(names)))

    def _names(self) -> Iterator[str]:
        from mutmut.mutation.file_mutation import mutate_file_contents
        from mutmut.utils.format_utils import get_mutant_name

        os.chdir(self.folder)  # where mutmut looks for its settings
        for module in self._group.modules:
            path = Path(PACKAGE, module)
            for name in mutate_file_contents(str(path), path.read_text()).mutant_names:
                yield get_mutant_name(path, name)

    def results(self) -> tuple[Counter[str], list[Change]]:
        """Return how many mutants ended how, and which survived, or were not reached by any test."""
        from mutmut.mutation.diff_apply import get_diff_for_mutant
        from mutmut.stats import status_by_exit_code
        from mutmut.utils.format_utils import orig_function_and_class_names_from_key

        os.chdir(self.folder)
        counts: Counter[str] = Counter()
        survivors = []
        for module in self._group.modules:
            path = Path(PACKAGE, module)
            ended = json.loads(Path("mutants", f"{path}.meta").read_text())["exit_code_by_key"]
            for name, exit_code in ended.items():
                status = "not run" if exit_code == _NOT_RUN else status_by_exit_code[exit_code]
                counts[status] += 1
                if status in ("survived", "no tests", "suspicious", "not run"):
                    function, in_class = orig_function_and_class_names_from_key(name)
                    where = f"{module}:{in_class}.{function}" if in_class else f"{module}:{function}"
                    survivors.append(change(where, get_diff_for_mutant(name, path=path)))
        return counts, survivors
