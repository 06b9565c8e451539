"""The content of inline files in XCom: it opens only for what it was sealed for, with that key, for a day."""

from __future__ import annotations

import base64
import hashlib
import json
import zlib

import pytest
from cryptography.fernet import Fernet
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_xethub.exceptions import (
    XetTokenExpiredError,
    XetTokenScopeError,
    XetTokenSealError,
    XetTokenTamperedError,
)
from airflow_provider_xethub.xet import answers, samples
from airflow_provider_xethub.xet.files import sealed_content
from airflow_provider_xethub.xet.repo import Repo

KEY, OTHER = Fernet(Fernet.generate_key()), Fernet(Fernet.generate_key())
MODEL = Repo("acme/m")
NOW = 1_800_000_000.0
COMMIT, LATER = "c" * 40, "d" * 40
CONFIG = b'{"hidden_size": 768}\n'


def record(content, path="config.json", repo=MODEL):
    blob_id = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    size = len(content)
    return {"path": path, "size": size, "sha256": None, "xet_hash": None, "repo": repo.uri, "blob_id": blob_id}


def sealed(content=CONFIG, path="config.json", repo=MODEL, **options):
    return sealed_content.seal(
        record(content, path, repo), content, **{"commit": COMMIT, "fernet": KEY, "now": NOW} | options
    )


def refused(files, error, repo=MODEL, keys=(KEY,), now=NOW):
    with pytest.raises(error) as raised:
        sealed_content.check(files, repo, keys, now)
    assert type(raised.value) is error
    for file in files if len(files) == 1 else ():
        with pytest.raises(error):
            sealed_content.read(file, repo, keys, now)
        assert file["path"] in str(raised.value)[:100]
    assert "hidden_size" not in str(raised.value)
    return str(raised.value)


@given(st.binary(min_size=1, max_size=2000) | st.text(min_size=1, max_size=2000).map(str.encode))
def test_sealed_content_comes_back_and_shows_nothing(content):
    file = sealed(content)
    assert sealed_content.is_inline(file)
    assert answers.xet_file(json.loads(json.dumps(file))) == file
    sealed_content.check([file], MODEL, [OTHER, KEY], NOW)
    assert sealed_content.read(file, MODEL, [OTHER, KEY], NOW) == content
    if len(content) > 6:
        opened = base64.urlsafe_b64decode(file["sealed_content"])
        assert content not in opened
        assert zlib.compress(content) not in opened


def test_what_is_in_cas_in_lfs_or_empty_is_not_inline():
    file = record(CONFIG)
    assert sealed_content.is_inline(file)
    assert sealed_content.is_inline({**file, "sha256": "a" * 64})  # an upload knows both
    in_lfs = {**file, "sha256": "a" * 64}
    del in_lfs["blob_id"]
    assert not sealed_content.is_inline(in_lfs)
    assert not sealed_content.is_inline({**file, "xet_hash": "a" * 64})
    assert not sealed_content.is_inline(record(b""))


@pytest.mark.parametrize("name", ["path", "size", "blob_id", "sha256", "xet_hash"])
def test_a_changed_record_is_refused(name):
    other = record(b"{}\n", "other.json") | {"sha256": "a" * 64, "xet_hash": "a" * 64}
    changed = {**sealed(), name: other[name]}
    text = refused([changed], XetTokenTamperedError)
    assert text.startswith(f"{changed['path']} refused: sealed for another file or version. Find out who edits XComs")


def test_content_and_digest_that_were_replaced_together_are_refused():
    evil = b'{"auto_map": "evil.py"}'
    forged = {**record(evil), "sealed_content": sealed()["sealed_content"]}
    refused([forged], XetTokenTamperedError)
    refused([{**sealed(), "size": 0, "blob_id": None}], XetTokenTamperedError)
    by_another_key = {**record(evil), "sealed_content": sealed(evil, fernet=OTHER)["sealed_content"]}
    text = refused([by_another_key], XetTokenSealError)
    assert text.startswith("config.json refused: its content does not open here. Give all workers the same Fernet key.")


def test_the_content_of_an_older_version_in_the_record_of_a_newer_one_is_refused():
    older = sealed(b'{"hidden_size": 512}\n')
    refused([{**sealed(commit=LATER), "sealed_content": older["sealed_content"]}], XetTokenTamperedError)


def test_a_whole_record_of_an_older_listing_is_refused():
    older, newer = sealed(b'{"hidden_size": 512}\n'), sealed(b"# m\n", "README.md", commit=LATER)
    text = refused([older, newer], XetTokenTamperedError)
    assert text.startswith("config.json and 1 more refused: sealed at several commits. List all files in one task")
    assert "Refused content of hf://acme/m@main: config.json, README.md." in text
    # Alone, by its commit where the task names that, otherwise by its age.
    refused([older], XetTokenScopeError, MODEL.at(LATER))
    sealed_content.check([older], MODEL.at(COMMIT), [KEY], NOW)
    sealed_content.check([older], MODEL, [KEY], NOW + sealed_content.LIFE)
    text = refused([older], XetTokenExpiredError, now=NOW + sealed_content.LIFE + 1)
    assert text.startswith("config.json refused: sealed more than 24 hours ago. Clear the task that listed it")


@pytest.mark.parametrize(
    "other", [Repo("acme/other"), Repo("acme/m", "dataset"), MODEL.at("dev"), MODEL.at("refs/pr/1")], ids=str
)
def test_content_of_another_repository_or_revision_is_refused(other):
    foreign = sealed(repo=other)
    for claimed in (foreign, {**foreign, "repo": MODEL.uri}):
        text = refused([claimed], XetTokenScopeError)
        assert text.startswith("config.json refused: sealed for another repository or revision. List and fetch")
    sealed_content.check([foreign], other, [KEY], NOW)


@pytest.mark.parametrize("cut", [4, 10, 40, 200])
def test_a_truncated_or_broken_seal_is_refused(cut):
    file = sealed()
    whole = file["sealed_content"]
    flipped = whole[:-cut] + ("B" if whole[-cut] == "A" else "A") + whole[len(whole) - cut + 1 :]
    for broken in (whole[:-cut], whole[cut:], flipped, "", "é", "A" * 50_000_000):
        refused([{**file, "sealed_content": broken}], XetTokenSealError)


def test_what_else_was_sealed_with_the_key_is_refused():
    sample = samples.seal([{**record(CONFIG), "sample": base64.b64encode(CONFIG).decode()}], KEY)[0]["sealed_sample"]
    prefix = sealed_content._PREFIX
    whole = json.loads(KEY.decrypt(sealed()["sealed_content"].encode()).removeprefix(prefix).partition(b"\n")[0])
    forged = [
        b"",
        b"{}",
        CONFIG,
        prefix,
        prefix + b"[]\n",
        prefix + b"[" * 100_000,
        prefix + b'{"path": "config.json"}\n' + zlib.compress(CONFIG),
        prefix + json.dumps({**whole, "more": 1}).encode() + b"\n" + zlib.compress(CONFIG),
        prefix + json.dumps({**whole, "repo": 1}).encode() + b"\n" + zlib.compress(CONFIG),
        prefix + json.dumps({**whole, "sealed_at": "now"}).encode() + b"\n" + zlib.compress(CONFIG),
        prefix + json.dumps(whole).encode() + b"\n" + CONFIG,
        prefix + json.dumps(whole).encode() + b"\n" + zlib.compress(CONFIG)[:-8],
        prefix + json.dumps(whole).encode() + b"\n" + zlib.compress(b"\0" * (200 << 20)),
    ]
    for content in [sample, *(KEY.encrypt(each).decode() for each in forged)]:
        for use in (sealed_content.read, lambda file, *rest: sealed_content.check([file], *rest)):
            with pytest.raises((XetTokenSealError, XetTokenScopeError, XetTokenExpiredError)):
                use({**sealed(), "sealed_content": content}, MODEL, [KEY], NOW)


def test_all_refused_files_are_named_up_to_a_limit():
    files = [{**sealed(path=f"{number:02}.json"), "size": 1} for number in range(13)]
    text = refused(files, XetTokenTamperedError)
    assert text.startswith("00.json and 12 more refused: ")
    assert "09.json and 3 more." in text
    assert "10.json" not in text


def test_a_worker_without_a_key_opens_nothing():
    refused([sealed()], XetTokenSealError, keys=())
