"""What somebody sees first: the README, in the repository and on a package index, and what services read beside it."""

from __future__ import annotations

import ast
import json
import re
import subprocess
from importlib.metadata import metadata
from pathlib import Path

import pytest

import airflow_provider_xethub
from benchmarks import front_door
from compat.run import VERSIONS
from support.distributions import FOLDERS
from support.documentation import DOCS, PAGES, ROOT, snippets, table

README = ROOT / "README.md"
TEXT = README.read_text()
VERSION = airflow_provider_xethub.__version__
ADDRESS = dict(each.split(", ") for each in metadata("airflow-provider-xethub").get_all("Project-URL", []))[
    "Repository"
]
LINK = re.compile(r"!?\[[^]]*\]\(([^)\s]+)\)")
_NAMED = re.compile(r"(?<![\w./])(?:airflow-provider-xethub|xethub-local|xethub-token)(?![\w./]|-\*| @ )")
"""One of our distributions, by its name and not as a part of a path or an address."""


def anchors(page: Path) -> set[str]:
    """The headings of a page as links name them."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"(?ms)^```.*?^```", "", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


# --- the page ---------------------------------------------------------------------------------------------------------


def test_it_is_a_screen_and_a_half():
    assert len(TEXT.splitlines()) <= 100


def test_its_figures_are_those_of_the_last_benchmark():
    """After ``make bench``, ``make bench-docs`` writes them."""
    figures = TEXT.partition(f"{front_door.BEGIN}\n")[2].partition(f"\n{front_door.END}")[0]
    assert figures.splitlines() == front_door.lines(json.loads((DOCS / "benchmarks.json").read_text()))


def test_its_links_and_pictures_lead_to_files_and_headings():
    found = LINK.findall(TEXT)
    assert len(found) > 10
    for target in found:
        path, _, anchor = target.partition("#")
        assert (ROOT / path).is_file(), target
        assert not anchor or anchor in anchors(ROOT / path), target


def test_its_picture_is_small_and_says_what_it_shows():
    ((description, path),) = re.findall(r"!\[([^]]*)\]\(([^)]+)\)", TEXT)
    assert len(description) > 40
    assert (ROOT / path).stat().st_size < 150_000


def test_its_dag_has_ten_lines():
    """``test_snippets.py`` runs it."""
    (dag,) = [block.body for block in snippets("python") if block.page == README.name]
    assert len([line for line in dag.splitlines() if line.strip()]) <= 10
    assert isinstance(ast.parse(dag).body[-1], ast.With)


def test_its_versions_are_those_that_are_tested_and_declared():
    cells = dict(re.findall(r"^\| (Airflow|Python) \| (.*) \|$", TEXT, re.MULTILINE))
    tested, _, beta = cells["Airflow"].partition("; ")
    shown = re.findall(r"\d+\.\d+", tested)
    releases = [each.airflow for each in VERSIONS if "b" not in each.airflow]
    assert shown == list(dict.fromkeys(re.match(r"\d+\.\d+", each)[0] for each in releases))
    assert re.findall(r"3\S+", beta) == [each.airflow for each in VERSIONS if "b" in each.airflow]
    classifiers = re.findall(
        r"Python :: (3\.\d+)", "\n".join(metadata("airflow-provider-xethub").get_all("Classifier", []))
    )
    assert re.findall(r"3\.\d+", cells["Python"]) == classifiers


def test_every_page_can_be_found_from_the_first_one():
    assert "docs/index.md" in LINK.findall(TEXT)
    rows = [row[1] for row in table("index.md", "You want to", "Where to read")]
    listed = {target for row in rows for target in LINK.findall(row)}
    assert {page.name for page in PAGES if page.parent == DOCS} - {"index.md"} == listed
    trees = re.findall(r"```\{toctree\}\n(?::.*\n)*\n((?:[\w-]+\n)+)```", (DOCS / "index.md").read_text())
    assert {f"{name}.md" for tree in trees for name in tree.split()} == listed


# --- addresses and versions -------------------------------------------------------------------------------------------


def texts() -> dict[str, str]:
    """All files in which an address or a version may stand."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    paths = [Path(name) for name in listed.split("\0") if name]
    wanted = [
        path for path in paths if path.suffix in (".md", ".toml", ".yaml", ".yml", ".py") and path.parts[0] != "tests"
    ]
    return {path.as_posix(): (ROOT / path).read_text() for path in wanted if (ROOT / path).exists()}


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="git knows what belongs to the project")
def test_the_project_has_one_address():
    """Change the one in ``pyproject.toml``; the places that have another one are those that this names."""
    found = {
        (name, address)
        for name, text in texts().items()
        for address in re.findall(r"https://[\w./-]*airflow-provider-xethub[\w./-]*", text)
    }
    assert len({name for name, _ in found}) > 3
    others = [
        (name, address) for name, address in found if address != ADDRESS and not address.startswith(f"{ADDRESS}/")
    ]
    assert others == []


@pytest.mark.parametrize("name", FOLDERS)
def test_each_distribution_leads_to_its_pages(name):
    urls = dict(each.split(", ") for each in metadata(name).get_all("Project-URL", []))
    assert set(urls) == {"Repository", "Documentation", "Changelog", "Issues"}
    assert urls["Repository"] == ADDRESS
    for url in (urls["Documentation"], urls["Changelog"]):
        assert (ROOT / url.removeprefix(f"{ADDRESS}/blob/main/")).is_file(), url


def test_releases_that_pages_name_are_the_current_one():
    wheel = re.compile(r"(\S*/)?(?:airflow_provider_xethub|xethub_local|xethub_token)-(\d\S*?)-py3-none-any\.whl")
    wheels = [(page.name, *found) for page in PAGES for found in wheel.findall(page.read_text())]
    assert {page for page, _, _ in wheels} >= {"README.md", "installation.md"}
    for page, folder, version in wheels:
        assert version == VERSION, page
        if folder.startswith("http"):
            assert folder == f"{ADDRESS}/releases/download/v{VERSION}/", page


def test_pip_never_fetches_our_distributions_by_their_names_alone():
    """They are on no index: whoever registers a name there would decide what is installed."""
    found = []
    for page in [*PAGES, *(folder / "README.md" for folder in FOLDERS.values())]:
        for line in page.read_text().splitlines():
            if re.match(r"(?:\$ )?(?:uv )?pip install\b", line) and "--no-index" not in line and _NAMED.search(line):
                found.append(f"{page.name}: {line}")
    assert found == []


@pytest.mark.parametrize(
    ("line", "is_named"),
    [
        ("pip install airflow-provider-xethub", True),
        ('pip install "airflow-provider-xethub[local]"', True),
        ("pip install --force-reinstall --no-deps xethub-local", True),
        ("pip install xethub-token==0.2.0", True),
        ('pip install "airflow-provider-xethub @ git+https://example.com"', False),
        ("pip install git+https://airflow-provider-xethub.example", False),
        ("pip install ./airflow_provider_xethub-*.whl ./xethub_local-*.whl", False),
        ("pip install ./provider/local", False),
    ],
)
def test_a_name_alone_is_found(line, is_named):
    assert bool(_NAMED.search(line)) == is_named
