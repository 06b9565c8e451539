"""What pages show of terminals, done as their readers do it."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.documentation import BIN, SNIPPETS, Block, included, run, run_as_file, table


@contextmanager
def serving(arguments: list[str], folder: Path, commands: Path = BIN) -> Iterator[str]:
    """Run ``xethub-local serve`` until the block ends; gives what it prints."""
    command = [str(commands / "xethub-local"), "serve", *arguments]
    process = subprocess.Popen(command, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert process.stdout
    try:
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith("Stop with"):
                break
        yield "".join(lines)
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
    assert process.returncode == 0


def looks_like(printed: str, shown: str) -> bool:
    """Whether the output is what the page shows, where ``…`` stands for anything."""
    parts = [re.escape(part) for part in shown.strip().split("…")]
    return re.fullmatch("(?:.|\n)*?".join(parts), printed.strip()) is not None


def sessions(block: Block) -> list[tuple[list[str], str]]:
    """The commands of a console block, each with the output shown for it."""
    found = re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block.body, re.MULTILINE)
    return [(shlex.split(command), shown) for command, shown in found]


def follow_the_quick_start(commands: Path, folder: Path) -> None:
    """Do all of it but the installation, as a new user in two terminals.

    :param commands: the folder with the commands of the environment in which the provider is installed.
    :param folder: the user's home, which is empty.
    """
    blocks = [block for block in SNIPPETS if block.page == "quickstart.md"]
    kept = {name: os.environ[name] for name in ("NO_PROXY", "no_proxy", "LANG") if name in os.environ}
    environment = kept | {"HOME": str(folder), "PATH": f"{commands}:/usr/bin:/bin"}
    serve, *later = [session for block in blocks if block.info == "console" for session in sessions(block)]
    with serving([*serve[0][2:], "--port", "0"], folder, commands) as printed:
        url, token = re.search(r"http://\S+", printed)[0], re.search(r"write +(hf_\w+)", printed)[1]
        lines = [line for block in blocks if block.info == "bash" for line in block.body.splitlines()]
        installing = ("python3 -m venv ", "source ", "pip ")
        lines = [line for line in lines if not line.startswith((*installing, "airflow standalone"))]
        script = "\n".join(["set -eu", *lines])
        for shown, real in {
            "http://127.0.0.1:7777": url,
            "hf_…": token,
            "/tmp/penguins": f"{folder}/penguins",
        }.items():
            script = script.replace(shown, real)
        dag = folder / "dags_example/xethub_quickstart.py"
        dag.parent.mkdir()
        dag.write_text(included("quickstart.md").read_text().replace("/tmp/penguins", f"{folder}/penguins"))
        output = run("bash", "-c", script, cwd=folder, env=environment)
        tasks = [row[0].strip("`") for row in table("quickstart.md", "Task")]
        assert sorted(tasks) == sorted(_task_ids(dag))
        assert re.search(r"state[=:'\" ]+success", output), output[-3000:]
        copies = {path.name for path in Path(f"{folder}/penguins-copy").iterdir()}
        assert copies == {"penguins.csv", "photos.bin", "summary.csv"}
        for command, shown in later:
            assert looks_like(run(*command, cwd=folder, env=environment), shown)


def _task_ids(dag_file: Path) -> set[str]:
    return {task.task_id for dag in run_as_file(dag_file.read_text(), dag_file.name) for task in dag.tasks}
