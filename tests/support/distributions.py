"""The distributions of this repository, built from its folders."""

from __future__ import annotations

import sys
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


def build_all(kind: Literal["wheel", "sdist"], into: Path, root: Path = ROOT) -> dict[str, Path]:
    """Build all three from a checkout; the paths by the name of the distribution."""
    return {name: build(root / folder.relative_to(ROOT), kind, into) for name, folder in FOLDERS.items()}


def main() -> None:
    """Build the wheels and sdists of a checkout into a folder: ``python -m support.distributions CHECKOUT FOLDER``."""
    root, into = map(Path, sys.argv[1:])
    for kind in ("wheel", "sdist"):
        for path in build_all(kind, into.resolve(), root.resolve()).values():
            print(path)


if __name__ == "__main__":
    main()
