"""The floors of the dependencies and their advisories, and the table of them in the documentation.

``python -m support.advisories`` writes the table.
"""

from __future__ import annotations

import sys
from typing import Any

from support.documentation import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FILE = ROOT / "tests/unit/advisories.toml"
PAGE = ROOT / "docs/advisories.md"
START, END = "<!-- table -->\n", "<!-- end of the table -->\n"


def read() -> dict[str, Any]:
    """Return the content of ``advisories.toml``."""
    return tomllib.loads(FILE.read_text())


def projects() -> list[dict[str, Any]]:
    """Return the tables ``project`` of the three distributions."""
    files = ("pyproject.toml", "provider/local/pyproject.toml", "provider/token/pyproject.toml")
    return [tomllib.loads((ROOT / file).read_text())["project"] for file in files]


def with_table(page: str) -> str:
    """Return a page with the table of today's content."""
    found = read()
    before, _, rest = page.partition(START)
    after = rest.partition(END)[2]
    rows = [
        f"Looked up on {found['looked_up']}.\n\n",
        "| Dependency | Advisories | Fixed in | Why it does no harm here |\n",
    ]
    rows.append("|---|---|---|---|\n")
    for each in found["dependency"]:
        name = f"{each['name']} {each['floor']}"
        for advisory in each.get("advisory", ()):
            ids = ", ".join(alias.partition("/")[0] for alias in advisory["ids"])
            rows.append(f"| {name} | {ids} | {advisory['fixed']} | {advisory['reason']} |\n")
    return f"{before}{START}\n{''.join(rows)}\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text()))
