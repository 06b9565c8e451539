"""The views that a mirror has of the files of its source."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_provider_xethub.xet.files.found_files import FoundFiles, LocalFile
from airflow_provider_xethub.xet.publish.mirror import _OnDisk


def test_a_path_that_the_source_does_not_have_is_an_error():
    found = FoundFiles()
    file = LocalFile(Path("/data/a.bin"), "a.bin", 1, 0, 0, 1, 1, b"")
    found.add(file)
    files = _OnDisk(found)
    assert files["a.bin"] == file
    with pytest.raises(KeyError, match=r"b\.bin"):
        files["b.bin"]
