"""The Dockerfile of the local Hub: its steps, carried out in an empty folder, and what a container of it would do.

No image is built. What only an engine does is not shown here: the layers, the user, the volume and the network.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
from huggingface_hub import HfApi

from support.distributions import FOLDERS, ROOT
from support.dockerfile import Image
from xethub_local.cli.main import DEFAULT_FOLDER

pytestmark = pytest.mark.long

UV = Path(sys.executable).parent / "uv"
FOLDER = FOLDERS["xethub-local"]
TOKEN = "hf_only_for_tests"


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """Carry out the steps with the programs of an environment that has what the package requires, and nothing else."""
    folder = tmp_path_factory.mktemp("image")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "AIRFLOW", "HF_"))}
    environment = {**kept, "PATH": f"{folder / 'venv/bin'}{os.pathsep}{kept['PATH']}"}
    python = folder / "venv/bin/python"
    required = ["--constraint", ROOT / "constraints.txt", "--requirement", FOLDER / "pyproject.toml", "hatchling"]
    for command in (
        [UV, "venv", "--quiet", "--seed", "--python", sys.executable, folder / "venv"],
        [UV, "pip", "install", "--quiet", "--python", python, *required],
    ):
        subprocess.run([*map(str, command)], env=environment, check=True, timeout=280)
    # pip takes what is there; for the user of the image it would fetch it.
    offline = {"PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    (folder / "root").mkdir()
    built = Image(FOLDER, folder / "root", {**environment, **offline})
    built.build()
    return built


@pytest.fixture
def container(image: Image) -> Iterator[subprocess.Popen[str]]:
    """Start what a container of the image would, on a free port."""
    command = image.within([*image.entrypoint, *image.command, "--port", "0"])
    environment = {**image.environment, "XETHUB_LOCAL_TOKEN": TOKEN}
    with subprocess.Popen(command, cwd=image.folder, env=environment, text=True, stdout=subprocess.PIPE) as process:
        try:
            deadline = time.monotonic() + 60
            while image.run(image.within(image.health)).returncode:
                assert time.monotonic() < deadline
                assert process.poll() is None
                time.sleep(0.1)
            yield process
        finally:
            process.terminate()
            process.communicate(timeout=30)


def test_the_image_is_that_of_a_supported_python_and_of_a_user_without_rights(image: Image) -> None:
    python = re.fullmatch(r"python:(3\.\d+)-slim", image.base)[1]
    assert f'"Programming Language :: Python :: {python}"' in (FOLDER / "pyproject.toml").read_text()
    assert int(image.user) > 0
    assert image.within(image.volumes) == [str(image.folder)], "the data folder is in the working directory"
    assert TOKEN not in (FOLDER / "Dockerfile").read_text()
    kept = {path.name for path in (image.root / "src").iterdir()}
    assert {"xethub_local", "pyproject.toml", "README.md", "LICENSE"} <= kept
    assert not list((image.root / "src").rglob("*.pyc"))


def test_a_job_beside_the_container_uploads_with_the_token_that_it_chose(
    image: Image, container: subprocess.Popen[str], tmp_path: Path
) -> None:
    data = image.folder / DEFAULT_FOLDER
    assert data.stat().st_mode & 0o777 == 0o700
    url = (data / "server.url").read_text().strip()
    api = HfApi(endpoint=url, token=TOKEN)
    api.create_repo("acme/corpus", repo_type="dataset")
    content = bytes(range(256)) * 1000
    api.upload_file(path_or_fileobj=content, path_in_repo="a.bin", repo_id="acme/corpus", repo_type="dataset")
    copy = api.hf_hub_download("acme/corpus", "a.bin", repo_type="dataset", local_dir=tmp_path)
    assert Path(copy).read_bytes() == content
    for name, status in (("hub", 200), ("hub.evil.example", 421)):
        headers = {"Host": f"{name}:{urlsplit(url).port}"}
        assert requests.get(url, headers=headers, timeout=20).status_code == status
    secrets = [path for path in data.rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()]
    assert secrets == []
    container.terminate()  # as docker stop does
    assert container.wait(timeout=10) == 0
    assert image.run(image.within(image.health)).returncode == 1
