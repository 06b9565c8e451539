"""The pages of the documentation as tests read them: blocks, snippets, tables, and what snippets expect to be there."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, BaseOperator
from airflow.sdk.definitions._internal.contextmanager import DagContext

from airflow_provider_xethub import exceptions
from support.airflow_runs import new_dag

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
BIN = Path(sys.executable).parent
PAGES = [*sorted(DOCS.glob("*.md")), ROOT / "README.md"]

_FENCE = re.compile(r"^(?P<fence>`{3,}|:{3,})(?P<info>\S.*)\n(?P<body>(?:.*\n)*?)(?P=fence)\s*$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page, and the line it begins at."""

    page: str
    line: int
    info: str
    body: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}:{self.info.split()[0]}"

    @property
    def is_test(self) -> bool:
        return self.info == "python" and ("def test_" in self.body or "@pytest.fixture" in self.body)


def read_blocks(page: Path) -> list[Block]:
    text = page.read_text()
    found = list(_FENCE.finditer(text))
    assert len(re.findall(r"^\s*(?:`{3,}|~{3,}|:{3,})", text, re.MULTILINE)) == 2 * len(found), f"unread in {page.name}"
    return [
        Block(page.name, text[: match.start()].count("\n") + 1, match["info"].strip(), match["body"]) for match in found
    ]


BLOCKS = [block for page in PAGES for block in read_blocks(page)]
SNIPPETS = [block for block in BLOCKS if not block.info.startswith("{")]


def snippets(*languages: str) -> list[Block]:
    return [block for block in SNIPPETS if block.info in languages]


def run_as_file(source: str, name: str) -> list[DAG]:
    """Run Python source as Airflow runs a DAG file; give its DAGs, and the one around for tasks outside of any."""
    namespace: dict[str, Any] = {}
    DagContext.current_autoregister_module_name = __name__
    try:
        with new_dag() as around:
            exec(compile(source, name, "exec"), namespace)  # noqa: S102 - our own pages
        # As Airflow does, find those that no variable holds.
        entered = sorted((dag for dag, _ in DagContext.autoregistered_dags), key=lambda dag: dag.dag_id)
    finally:
        DagContext.current_autoregister_module_name = None
        DagContext.autoregistered_dags.clear()
    dags = {id(value): value for value in namespace.values() if isinstance(value, DAG)}
    dags |= {id(value.dag): value.dag for value in namespace.values() if isinstance(value, BaseOperator)}
    dags |= {id(dag): dag for dag in entered}
    return list(({id(around): around} | dags).values())


def run(*command: str, cwd: Path, **options: Any) -> str:
    environment = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": ""}
    options.setdefault("env", environment)
    done = subprocess.run(command, cwd=cwd, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=250,
                          **options)  # fmt: skip
    assert done.returncode == 0, f"{shlex.join(command)}:\n{done.stdout[-5000:]}"
    return done.stdout


def included(page: str, block: Block | None = None) -> Path:
    """Return the file that a block includes. Default: the only such block of the page."""
    if block is None:
        (block,) = [block for block in BLOCKS if block.page == page and block.info.startswith("{literalinclude}")]
    return (DOCS / block.info.split()[1]).resolve()


def table(page: str, first: str, section: str | None = None) -> list[list[str]]:
    """The rows of the table whose first heading is ``first``, in a page or one of its sections."""
    text = (DOCS / page).read_text()
    if section:
        text = text.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    lines = iter(text.splitlines())
    for line in lines:
        if line.startswith((f"| {first} |", f"| `{first}")):
            assert set(next(lines)) <= set("|-")
            rows: list[list[str]] = []
            for row in lines:
                if not row.startswith("|"):
                    return rows
                rows.append([cell.strip() for cell in row[1:-1].split("|")])
            return rows
    return []


def all_errors() -> dict[str, type[exceptions.XetHubError]]:
    """Return the errors of the provider by name, in the order of the code."""
    kinds = (value for value in vars(exceptions).values() if isinstance(value, type))
    return {kind.__name__: kind for kind in kinds if issubclass(kind, exceptions.XetHubError)}
