"""One of the processes that run cells, with a local Hub of its own. It is a fork, so that Airflow is imported once."""

from __future__ import annotations

import importlib
import logging
import os
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from faults.columns import Duration
from faults.lab import Lab, impatient
from faults.matrix import CellKey
from faults.results import Result, Undisturbed
from faults.rows import ROWS
from faults.steps import Step
from xethub_local.server import LocalHub


def start(folder: str) -> None:
    """Prepare this process: send all that it prints and logs to a file, which is searched for credentials."""
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    log = _log(folder)
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, force=True)
    # Importing it takes longer than a request may.
    importlib.import_module("huggingface_hub.hf_api")
    importlib.import_module("hf_xet")
    for name in ("xethub_local", "uvicorn"):
        logging.getLogger(name).setLevel(logging.ERROR)  # the local Hub issues credentials


def undisturbed(folder: str, row: str) -> Undisturbed:
    """Run a row without faults."""
    with tempfile.TemporaryDirectory(dir=folder) as place, LocalHub(f"{place}/hub") as hub, impatient():
        return Lab(hub, Path(place), _log(folder)).undisturbed(ROWS[row])


def cells(folder: str, normal: Undisturbed, keys: Sequence[CellKey]) -> list[Result]:
    """Run cells of a row. Their Hub is a new one, which stays small."""
    with tempfile.TemporaryDirectory(dir=folder) as place, LocalHub(f"{place}/hub") as hub, impatient():
        lab = Lab(hub, Path(place), _log(folder))
        return [lab.cell(ROWS[row], Step.parse(step), *_parsed(fault), normal) for row, step, fault in keys]


def _parsed(fault: str) -> tuple[str, Duration]:
    column, _, duration = fault.rpartition(" ")
    return column, "once" if duration == "once" else "lasting"


def _end_with(parent: int) -> None:
    """End this process with its parent, also if that is killed."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _log(folder: str) -> Path:
    return Path(folder) / f"log-{os.getpid()}"
