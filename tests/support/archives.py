"""Archives that tests unpack."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a tar archive; its entries cannot reach out of the folder where this Python can see to that.

    Early releases of Python 3.10 and 3.11, such as Debian's, have no filters.
    """
    if hasattr(tarfile, "data_filter"):
        shutil.unpack_archive(archive, folder, filter="data")
    else:
        shutil.unpack_archive(archive, folder)
