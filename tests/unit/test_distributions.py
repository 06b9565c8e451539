"""Three distributions from one repository: each owns one import package, and all have the same version."""

from __future__ import annotations

import re
from email import message_from_string
from email.message import Message
from importlib.metadata import version
from itertools import combinations
from pathlib import Path
from zipfile import ZipFile

import pytest

import airflow_provider_xethub
import xethub_local
import xethub_token
from support.archives import unpack
from support.distributions import FOLDERS, PACKAGES, build, build_all

PROVIDER, LOCAL, TOKEN = FOLDERS
MODULES = {PROVIDER: airflow_provider_xethub, LOCAL: xethub_local, TOKEN: xethub_token}


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return build_all("wheel", tmp_path_factory.mktemp("wheels"))


@pytest.fixture(scope="module")
def sdists(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return build_all("sdist", tmp_path_factory.mktemp("sdists"))


def files(wheel: Path) -> set[str]:
    """The files that it installs, with its scripts."""
    with ZipFile(wheel) as archive:
        names = set(archive.namelist())
        points = next((name for name in names if name.endswith("entry_points.txt")), None)
        text = archive.read(points).decode() if points else ""
    scripts = text.partition("[console_scripts]\n")[2].partition("\n[")[0]
    return names | {f"bin/{name}" for name in re.findall(r"^(\S+) =", scripts, re.MULTILINE)}


def metadata(wheel: Path) -> Message:
    with ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("dist-info/METADATA"))
        return message_from_string(archive.read(name).decode())


def required(wheel: Path) -> dict[str, str]:
    """What it requires: each requirement with its marker."""
    found = [text.partition(";") for text in metadata(wheel).get_all("Requires-Dist", [])]
    return {name.strip(): marker.strip() for name, _, marker in found}


def test_all_have_the_same_version(wheels):
    versions = {name: (MODULES[name].__version__, version(name), metadata(wheels[name])["Version"]) for name in FOLDERS}
    assert len({each for one in versions.values() for each in one}) == 1, versions


def test_the_extra_installs_the_local_hub_of_the_same_version(wheels):
    assert required(wheels[PROVIDER])[f"{LOCAL}=={airflow_provider_xethub.__version__}"] == "extra == 'local'"


def test_no_file_belongs_to_two(wheels):
    for one, other in combinations(FOLDERS, 2):
        assert files(wheels[one]) & files(wheels[other]) == set()
    assert "bin/xethub-local" in files(wheels[LOCAL])
    assert "bin/xethub-token" in files(wheels[TOKEN])


@pytest.mark.parametrize("name", FOLDERS)
def test_each_owns_its_import_package_and_all_of_it(wheels, name):
    package = PACKAGES[name]
    own = {
        path.relative_to(package.parent).as_posix()
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert f"{package.name}/py.typed" in own
    information = re.compile(rf"{package.name}-[\d.]+\.dist-info/|bin/")
    assert {path for path in files(wheels[name]) if not information.match(path)} == own


def test_what_runs_without_airflow_requires_neither_airflow_nor_the_provider(wheels):
    for name in (LOCAL, TOKEN):
        assert not [text for text in required(wheels[name]) if re.match("apache-airflow|airflow|xethub", text)]
    assert not [text for text, marker in required(wheels[PROVIDER]).items() if "xethub" in text and not marker]
    assert [re.match(r"[\w-]+", text)[0] for text in required(wheels[TOKEN])] == ["joserfc"]


@pytest.mark.parametrize("name", FOLDERS)
def test_an_sdist_builds_the_same_wheel(wheels, sdists, name, tmp_path):
    unpack(sdists[name], tmp_path)
    (unpacked,) = tmp_path.iterdir()
    rebuilt = build(unpacked, "wheel", tmp_path)
    assert files(rebuilt) == files(wheels[name])
    assert metadata(rebuilt).items() == metadata(wheels[name]).items()
    others = [package.name for other, package in PACKAGES.items() if other != name]
    assert not [path for path in unpacked.rglob("*") if path.is_dir() and path.name in others]


def test_the_links_of_the_description_lead_to_files_of_this_version(wheels):
    """A package index shows it, where links between files lead nowhere."""
    about = metadata(wheels[PROVIDER])
    address = dict(each.split(", ") for each in about.get_all("Project-URL", []))["Repository"]
    shown = re.findall(r"(!?)\[[^]]*\]\(([^)]+)\)", about.get_payload())
    written = re.findall(r"(!?)\[[^]]*\]\(([^)]+)\)", (FOLDERS[PROVIDER] / "README.md").read_text())
    kinds = {"!": "raw", "": "blob"}
    version = about["Version"]
    assert shown == [(image, f"{address}/{kinds[image]}/v{version}/{path}") for image, path in written]
    assert about["Description-Content-Type"] == "text/markdown"


def test_each_has_the_licence_and_a_description(wheels):
    texts = {folder.joinpath("LICENSE").read_bytes() for folder in FOLDERS.values()}
    assert len(texts) == 1
    for name, wheel in wheels.items():
        assert [path for path in files(wheel) if path.endswith("licenses/LICENSE")]
        assert metadata(wheel)["License-Expression"] == "Apache-2.0"
        assert metadata(wheel).get_payload().startswith(f"# {name}\n")
