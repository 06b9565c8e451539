"""One transfer of the real client, in a process of its own: what ``local_hub.py`` starts and measures.

Reads what to do as JSON from standard input and writes the seconds that the transfer took to standard output.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import hf_xet


def upload(folder: Path, operation: dict[str, Any]) -> list[dict[str, Any]]:
    """Upload every file of a folder in one commit; return what to ask for to get them back."""
    paths = sorted(folder.iterdir())
    with hf_xet.XetSession().new_upload_commit(**operation) as commit:
        handles = [commit.start_upload_file(str(path), sha256=hf_xet.COMPUTE_SHA256) for path in paths]
    found = [(path, handle.result().xet_info) for path, handle in zip(paths, handles, strict=True)]
    return [{"name": path.name, "hash": info.hash, "size": info.file_size} for path, info in found]


def download(folder: Path, operation: dict[str, Any], files: list[dict[str, Any]]) -> None:
    """Download files into a folder."""
    with hf_xet.XetSession().new_file_download_group(**operation) as group:
        for file in files:
            group.start_download_file(hf_xet.XetFileInfo(file["hash"], file["size"]), str(folder / file["name"]))


def main() -> None:
    task = json.load(sys.stdin)
    folder, operation = Path(task["folder"]), task["operation"]
    began = time.perf_counter()
    if task["files"] is None:
        files = upload(folder, operation)
    else:
        files = task["files"]
        download(folder, operation, files)
    json.dump({"seconds": time.perf_counter() - began, "files": files}, sys.stdout)


if __name__ == "__main__":
    main()
