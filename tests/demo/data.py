"""The demonstration's files: two real tables, and a binary of 64 MiB in two versions that share most bytes."""

from __future__ import annotations

import importlib.util
import random
import shutil
from pathlib import Path

MIB = 1 << 20


def make(folder: Path) -> list[Path]:
    """Write the folders ``version-1`` and ``version-2``, and return them."""
    spec = importlib.util.find_spec("palmerpenguins")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("The package palmerpenguins is missing: run make setup.")
    tables = sorted(Path(spec.submodule_search_locations[0], "data").glob("*.csv"))
    generator = random.Random(20261121)
    first = generator.randbytes(64 * MIB)
    # As a retrained model differs: a piece is put in, a piece is replaced, the rest stays.
    second = b"".join(
        [
            first[: 20 * MIB],
            generator.randbytes(MIB),
            first[20 * MIB : 45 * MIB],
            generator.randbytes(2 * MIB),
            first[47 * MIB :],
        ]
    )
    versions = []
    for name, binary in (("version-1", first), ("version-2", second)):
        version = folder / name
        version.mkdir(parents=True)
        for table in tables:
            shutil.copy(table, version)
        (version / "features.bin").write_bytes(binary)
        versions.append(version)
    return versions
