"""The records of files that are uploaded later."""

from __future__ import annotations

from types import SimpleNamespace

from airflow_provider_xethub.xet.publish.sources import SourceRecords
from support.commit_builders import ANYWHERE


def test_the_records_of_many_files_are_a_sequence():
    found = SimpleNamespace(sizes=lambda: iter([("a", 1), ("b", 2)]))
    files = SourceRecords(found, ANYWHERE.uri)
    assert [(file["path"], file["size"], file["repo"]) for file in files] == [
        ("a", 1, ANYWHERE.uri),
        ("b", 2, ANYWHERE.uri),
    ]
    assert files[1]["path"] == "b"
