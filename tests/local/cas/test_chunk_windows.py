"""What CAS tells a client that changes part of a file: which chunks to cut anew, and the hashes of the others."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import requests

from support.stored_content import Upload
from support.xet_client import bearer

if TYPE_CHECKING:
    from support.running_cas import RunningCas


def test_the_chunks_of_a_file_are_asked_for(cas: RunningCas) -> None:
    made = Upload([os.urandom(1000), os.urandom(2000)])
    cas.content.xorbs.add(made.xorb_hash, made.body)
    cas.content.add_shard(made.shard(), repository=cas.repository)

    def ask(xet_hash: str, repository: str = cas.repository, **headers: str) -> requests.Response:
        headers |= bearer(cas.token("read", repository))
        return requests.get(f"{cas.url}/v2/file-chunk-hashes/{xet_hash}", headers=headers, timeout=10)

    dirty: Any = {"X-Range-Dirty": "bytes=0-0"}
    answer = ask(made.xet_hash, **dirty).json()
    assert answer == {
        "totalChunks": 2,
        "fileSize": 3000,
        "windows": [{"dirtyByteRange": [0, 3000]}],
        "hashRanges": [None, None],
        "gapVerification": [],
    }
    assert ask(made.xet_hash).status_code == 400
    assert ask("0" * 64, **dirty).status_code == 400  # the empty file has no bytes
    assert ask("1" * 64, **dirty).status_code == 404
    assert ask(made.xet_hash, cas.other_repository, **dirty).status_code == 403
