"""What identifies a content, and how its digest is computed from blocks or from a temporary file."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from airflow_provider_xethub.exceptions import XetIntegrityError
from airflow_provider_xethub.xet import native_client
from airflow_provider_xethub.xet.files import xet_hash
from airflow_provider_xethub.xet.files.content_identity import Identity, content_digest, identity
from airflow_provider_xethub.xet.files.targets import Target
from airflow_provider_xethub.xet.publish.commit import git_blob_id
from support.builders import binary
from support.commit_builders import ANYWHERE, record

CONTENT = binary(300_000)
FILE = record(ANYWHERE, "a.bin", CONTENT)


def hash_of(content):
    state = native_client.XetHash()
    state.update(content)
    return state.hexdigest()


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({}, Identity(300_000, "sha256", FILE["sha256"])),
        ({"sha256": None, "blob_id": "12" * 20}, Identity(300_000, "git blob sha1", "12" * 20)),
        ({"sha256": None}, Identity(300_000, "Xet hash", "ab" * 32)),
        ({"sha256": None, "xet_hash": None}, None),
        ({"size": 0}, Identity(0, "size", "0")),
    ],
)
def test_a_content_is_known_by_the_best_digest_of_its_record(change, found):
    assert identity({**FILE, **change}) == found


@pytest.mark.parametrize(
    ("kind", "digest"),
    [
        ("sha256", hashlib.sha256(CONTENT).hexdigest()),
        ("git blob sha1", git_blob_id(CONTENT)),
        ("Xet hash", hash_of(CONTENT)),
        ("size", "300000"),
    ],
)
def test_each_digest_is_computed_from_blocks(kind, digest):
    assert content_digest(kind, 300_000, iter([CONTENT[:1000], CONTENT[1000:]])) == digest


def test_a_xet_hash_whose_blocks_end_with_an_error_leaves_no_thread(monkeypatch):
    closed = []
    close = native_client.XetHash.close
    monkeypatch.setattr(native_client.XetHash, "close", lambda state: closed.append(state) or close(state))

    def blocks():
        yield CONTENT
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        content_digest("Xet hash", 300_000, blocks())
    assert len(closed) == 1


@pytest.mark.parametrize("is_right", [True, False])
def test_a_file_of_which_only_the_xet_hash_is_known_is_verified_by_it(tmp_path, is_right):
    wanted = hash_of(CONTENT if is_right else CONTENT[::-1])
    part = tmp_path / "part"
    part.write_bytes(CONTENT)
    target = Target({**FILE, "sha256": None, "xet_hash": wanted}, tmp_path / "a.bin", part)
    read = []
    pieces = (read.append(piece) or piece for piece in (CONTENT[:7], CONTENT[7:]))
    if is_right:
        xet_hash.complete(target, pieces)
        assert Path(target.path).read_bytes() == CONTENT
    else:
        with pytest.raises(XetIntegrityError) as caught:
            xet_hash.complete(target, pieces)
        assert str(caught.value) == (
            f"a.bin of {ANYWHERE} arrived damaged. Let the task retry; what arrived was discarded: Xet hash is "
            f"{hash_of(CONTENT)} instead of {wanted}."
        )
        assert not target.path.exists()
    assert len(read) == 2, "the client writes until all of it was read"
