"""The steps of a Dockerfile, carried out in an empty folder instead of an image.

The folder is the root of the file system for what the steps name: ``COPY`` copies there, ``WORKDIR`` is there, and
absolute paths of the words that are given are below it. ``RUN`` and the commands run on this machine, with the programs
of an environment that stands for the image.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Image:
    """What the steps left: a folder, and how its process is started.

    :param context: the folder with the Dockerfile, from which it copies.
    :param root: an empty folder.
    :param environment: variables for the steps; ``PATH`` begins with the programs of the image.
    """

    context: Path
    root: Path
    environment: Mapping[str, str]
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)
    base: str = ""
    user: str = ""
    ports: list[str] = field(default_factory=list)
    volumes: list[str] = field(default_factory=list)
    folder: Path = field(init=False)

    def __post_init__(self) -> None:
        self.folder = self.root

    def build(self) -> None:
        """Carry out all steps.

        :raises AssertionError: a step fails, or is of a kind that is not known here.
        """
        for word, arguments in instructions((self.context / "Dockerfile").read_text()):
            step = getattr(self, f"_{word.lower()}", None)
            assert step, f"{word} is not known here"
            step(arguments)

    def within(self, words: list[str]) -> list[str]:
        """Return words with absolute paths below the root."""
        return [f"{self.root}{word}" if word.startswith("/") else word for word in words]

    def run(self, words: list[str]) -> subprocess.CompletedProcess[str]:
        """Run a command as in the image."""
        return subprocess.run(
            words, cwd=self.folder, env=dict(self.environment), text=True, capture_output=True, timeout=280, check=False
        )

    def _from(self, arguments: str) -> None:
        self.base = arguments

    def _workdir(self, arguments: str) -> None:
        (folder,) = self.within([arguments])
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)

    def _copy(self, arguments: str) -> None:
        *sources, target = arguments.split()
        ignored = shutil.ignore_patterns(
            *(line.removeprefix("**/") for line in (self.context / ".dockerignore").read_text().split())
        )
        for source in sources:
            found = self.context / source
            if found.is_dir():  # the content of a folder is copied, not the folder
                shutil.copytree(found, self.folder / target, ignore=ignored, dirs_exist_ok=True)
            else:
                shutil.copy(found, self.folder / target)

    def _run(self, arguments: str) -> None:
        words = self.within(shlex.split(arguments))
        if os.geteuid() and "-o" in words:  # only root may create folders of other users
            at = words.index("-o")
            del words[at : at + 2]
        done = self.run(words)
        assert done.returncode == 0, f"RUN {arguments}\n{done.stdout}{done.stderr}"

    def _user(self, arguments: str) -> None:
        self.user = arguments

    def _volume(self, arguments: str) -> None:
        self.volumes.append(arguments)

    def _expose(self, arguments: str) -> None:
        self.ports.append(arguments)

    def _healthcheck(self, arguments: str) -> None:
        _, _, command = arguments.partition("CMD ")
        self.health = json.loads(command)

    def _entrypoint(self, arguments: str) -> None:
        self.entrypoint = json.loads(arguments)

    def _cmd(self, arguments: str) -> None:
        self.command = json.loads(arguments)


def instructions(text: str) -> list[tuple[str, str]]:
    """Return the instructions of a Dockerfile, each with its arguments; lines that end in a backslash continue."""
    lines = [line for line in text.replace("\\\n", " ").splitlines() if line.strip() and not line.startswith("#")]
    found = [line.split(maxsplit=1) for line in lines]
    return [(word, arguments) for word, arguments in found]
