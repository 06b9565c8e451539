"""The distributions of this repository, built from its folders."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).parents[2]
FOLDERS = {
    "airflow-provider-xethub": ROOT,
    "xethub-local": ROOT / "provider/local",
    "xethub-token": ROOT / "provider/token",
}
PACKAGES = {
    "airflow-provider-xethub": ROOT / "provider/airflow_provider_xethub",
    "xethub-local": ROOT / "provider/local/xethub_local",
    "xethub-token": ROOT / "provider/token/xethub_token",
}
"""The import package of each distribution."""


def build(source: Path, kind: Literal["wheel", "sdist"], into: Path) -> Path:
    """Build the wheel or the sdist of the project in a folder, as pip does, without a network."""
    builder = {"wheel": WheelBuilder, "sdist": SdistBuilder}[kind](str(source))
    (built,) = builder.build(directory=str(into))
    return Path(built)


def build_all(kind: Literal["wheel", "sdist"], into: Path) -> dict[str, Path]:
    """Build all three; the paths by the name of the distribution."""
    return {name: build(folder, kind, into) for name, folder in FOLDERS.items()}
