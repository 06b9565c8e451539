"""Whatever is uploaded comes back identical, by every route and with every setting of the real transfer client."""

from __future__ import annotations

import hashlib
import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from support.any_bytes import file_sets, ranges
from support.examples import at_length, examples
from support.upload_settings import DOWNLOADS, REPO, UPLOADS, commit, downloading, operation, uploading
from support.xet_client import download, upload
from xethub_local.server import LocalHub


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalHub]:
    with LocalHub(tmp_path_factory.mktemp("hub")) as running:
        running.create_repo("acme/corpus", "dataset")
        yield running


_numbers = itertools.count()


def check(hub: LocalHub, contents: list[bytes], upload_with: int, download_with: int, data: st.DataObject) -> None:
    """Upload and commit contents, and compare what each way of reading them returns."""
    infos = upload(uploading(upload_with), operation(hub, "write"), *contents)
    assert [(info.file_size, info.sha256) for info in infos] == [
        (len(raw), hashlib.sha256(raw).hexdigest()) for raw in contents
    ]
    session = downloading(download_with)
    with tempfile.TemporaryDirectory() as folder:
        assert download(session, operation(hub, "read"), Path(folder), *infos) == contents

    streams = session.new_download_stream_group(**operation(hub, "read"))
    files = {f"{next(_numbers)}.bin": (info, raw) for info, raw in zip(infos, contents, strict=True)}
    commit(hub, {path: info for path, (info, _) in files.items()})
    for path, (info, raw) in files.items():
        url = f"{hub.url}/{REPO}/resolve/main/{path}"
        assert requests.get(url, timeout=30).content == raw
        if not raw:
            continue
        assert b"".join(streams.download_stream(info)) == raw
        pieces = sorted(streams.download_unordered_stream(info))
        assert b"".join(piece for _, piece in pieces) == raw
        start, end = data.draw(ranges(len(raw)))
        assert b"".join(streams.download_stream(info, start=start, end=end)) == raw[start:end]
        unordered = sorted(streams.download_unordered_stream(info, start=start, end=end))
        assert b"".join(piece for _, piece in unordered) == raw[start:end]
        answer = requests.get(url, headers={"Range": f"bytes={start}-{end - 1}"}, timeout=30)
        assert (answer.status_code, answer.content) == (206, raw[start:end])


# The same examples each time, so that a new one never fails somebody else's change, and no search for a smaller one
# that would take minutes: the long test does both.
@settings(
    max_examples=examples(20),
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(file_sets, st.integers(0, len(UPLOADS) - 1), st.integers(0, len(DOWNLOADS) - 1), st.data())
def test_any_files_come_back(
    hub: LocalHub, contents: list[bytes], upload_with: int, download_with: int, data: st.DataObject
) -> None:
    check(hub, contents, upload_with, download_with, data)


@pytest.mark.long
@pytest.mark.exhaustive
@pytest.mark.timeout(1200)
@settings(max_examples=at_length(150, 3000), suppress_health_check=list(HealthCheck))
@given(file_sets, st.integers(0, len(UPLOADS) - 1), st.integers(0, len(DOWNLOADS) - 1), st.data())
def test_many_more_files_come_back(
    hub: LocalHub, contents: list[bytes], upload_with: int, download_with: int, data: st.DataObject
) -> None:
    check(hub, contents, upload_with, download_with, data)
