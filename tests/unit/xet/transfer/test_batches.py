"""Downloads in batches: what the error of a batch says about those before it."""

from __future__ import annotations

import pytest

from airflow_provider_xethub.exceptions import XetInputError, XetSourceError
from airflow_provider_xethub.xet.manifests import files as manifest_files
from airflow_provider_xethub.xet.records import xet_file_record
from airflow_provider_xethub.xet.transfer import batches

FILES = [xet_file_record(f"{number}.bin", 3, "hf://datasets/acme/d@main") for number in range(3)]


def receiving(number, error, *, skipped=0):
    """Return what receives the files before the one with this number, some of them because they are there already."""

    def receive(some, *, names_checked):
        assert names_checked
        [file] = some
        if file == FILES[number]:
            raise error
        is_there = FILES.index(file) < skipped
        figures = {
            "files": int(not is_there),
            "skipped": int(is_there),
            "bytes": 3,
            "bytes_received": 3,
            "seconds": 0.1,
        }
        return {"files": some, "transfer": figures}

    return receive


@pytest.mark.parametrize(
    ("number", "skipped", "said"),
    [(0, 0, "Nothing was"), (1, 0, "Nothing more was"), (2, 1, "Nothing more was"), (2, 2, "Nothing was")],
)
def test_only_where_no_file_was_downloaded_the_error_says_so(monkeypatch, number, skipped, said):
    monkeypatch.setattr(manifest_files, "BATCH", 1)
    error = XetSourceError("a.bin changed since it was listed. Nothing was downloaded. List the files again.")
    with pytest.raises(XetSourceError) as caught:
        batches.download(FILES, receiving(number, error, skipped=skipped))
    assert str(caught.value) == f"a.bin changed since it was listed. {said} downloaded. List the files again."


def test_an_error_that_says_nothing_about_it_stays_as_it_is(monkeypatch):
    monkeypatch.setattr(manifest_files, "BATCH", 1)
    with pytest.raises(XetInputError, match=r"^It is wrong\.$"):
        batches.download(FILES, receiving(1, XetInputError("It is wrong.")))
