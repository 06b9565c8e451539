"""The keys of commits, pinned: a retry after an upgrade must find the commit that the old version made."""

from __future__ import annotations

import re
from typing import Any

import pytest

from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.xet.hub.preupload import UploadMode
from airflow_provider_xethub.xet.publish import copies
from airflow_provider_xethub.xet.publish.parts import plan_work
from airflow_provider_xethub.xet.publish.request import CommitRequest, commit_key
from airflow_provider_xethub.xet.repo import Repo
from support.commit_builders import record
from xethub_local.server import LocalHub

BINARY, TEXT = bytes(range(256)) * 8, b"x,y\n1,2\n"
DATASET, BUCKET = Repo("acme/corpus", "dataset"), Repo("acme/store", "bucket")
SOURCE = Repo("acme/source", "model", "v1.0")
KEY = "dag/run/task"

TWO = (("b.csv", TEXT), ("a/data.bin", BINARY))


def key_of(request: CommitRequest, inline: tuple[str, ...] = (), ignored: tuple[str, ...] = ()) -> str:
    """The key that a commit of this request has, as far as the Hub decides how it stores the files."""
    contents = dict(TWO)
    modes = {file["path"]: UploadMode(file["path"] in inline, None, file["path"] in ignored) for file in request.files}
    work = plan_work(request, modes, lambda files: {file["path"]: contents[file["path"]] for file in files})
    return commit_key(request, work.key_files())


def request(repo: Repo = DATASET, paths: tuple[tuple[str, bytes], ...] = TWO, **options: Any) -> CommitRequest:
    values = {"message": "Nightly", "idempotency_key": KEY, **options}
    return CommitRequest(repo, [record(repo, path, content) for path, content in paths], **values)


@pytest.mark.parametrize(
    ("given", "options", "key"),
    [
        ({}, {}, "ad7f4b8372b2184c49dc5783add962ec"),
        ({}, {"inline": ("b.csv",)}, "ad7f4b8372b2184c49dc5783add962ec"),
        ({}, {"ignored": ("b.csv",)}, "e024a63ffa2c2c93e65e880f6da700e4"),
        ({"paths": TWO[::-1]}, {}, "ad7f4b8372b2184c49dc5783add962ec"),
        ({"paths": (), "delete": ["old/", "gone.txt"]}, {}, "6c2cc2f84a7faa15ac71aa1bfbfe6bdb"),
        ({"paths": (), "delete": ["gone.txt", "old/"]}, {}, "6c2cc2f84a7faa15ac71aa1bfbfe6bdb"),
        ({"delete": ["gone.txt"]}, {}, "c0734b10eb547f931b8710d5477bfae8"),
        ({"message": "Größe 😀", "description": "two\nlines"}, {}, "2f8ad3f88d8c54ac30e0f61e78c3cf8b"),
        ({"message": "Upload with airflow-provider-xethub"}, {}, "b56cebdbb2b5b10245b5e1691a50e5f3"),
        ({"description": "more"}, {}, "85a67546fac0932f8c7b2cbaae1984f4"),
        ({"parent_commit": "0" * 40}, {}, "44d0b0de8bb3014cd58fdd3c5e95f8c0"),
        ({"create_pr": True}, {}, "6a224434f6e6838d7513cd451ea74201"),
        ({"idempotency_key": "dag/run/other"}, {}, "cba4c40d75fff1d72a807e7fa939a57a"),
        ({"is_first_try": True}, {}, "ad7f4b8372b2184c49dc5783add962ec"),
        ({"repo": DATASET.at("feature/x")}, {}, "e7c4c7ca849108d3c06c058c1b363a7a"),
        ({"repo": DATASET.at("refs/pr/3"), "parent_commit": "ab" * 20}, {}, "10ee3488bfd50ad68747c6d515ef5ca6"),
        ({"repo": Repo("acme/corpus", "model")}, {}, "ba0d5ea42fcd8015863c996dd7a9ef44"),
        ({"repo": Repo("acme/corpus", "space")}, {}, "7da67d9547c3b2f0f1b5ceccaa18cd5a"),
        ({"repo": BUCKET}, {}, "1fa3e6c3f763e7826ecbc01c4ecbdc37"),
        ({"repo": BUCKET, "delete": ["gone.txt"]}, {}, "668e78e39d07f81359f5e4ced9c666c4"),
    ],
)
def test_the_key_of_a_commit_is_that_of_version_0_1_0(given, options, key):
    assert key_of(request(**given), **options) == key


@pytest.mark.parametrize(
    ("target", "key"),
    [
        (DATASET, "6c5492e716ee61fa48c9b37265192709"),
        (DATASET.at("dev"), "8cf0dec00b48dc03c7fc3e2a9f355937"),
        (BUCKET, "d307dca831ca34f1bd193999a965bf2b"),
    ],
)
def test_the_key_of_a_copy_is_that_of_version_0_1_0(target, key):
    originals = [
        record(SOURCE, "weights.bin", BINARY),
        {**record(SOURCE, "b.csv", TEXT), "sha256": None, "xet_hash": None, "blob_id": "1" * 40},
        {**record(SOURCE, "empty", b""), "xet_hash": None},
    ]
    base = CommitRequest(target, (), message="Copy", idempotency_key=KEY)
    copied = copies.plan_copies(SOURCE, originals, base, "from", single=False).request
    assert commit_key(copied, copied.files) == key


def test_the_keys_that_the_hook_writes_into_commits_are_those_of_version_0_1_0(connection, tmp_path):
    """The whole way: what is read, uploaded, stored inline and left out decides about the key."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "data.bin").write_bytes(BINARY)
    (tmp_path / "out" / "b.csv").write_bytes(TEXT)
    with LocalHub(tmp_path / "hub") as hub:
        connection(host=hub.url, password=hub.token())
        repo, other = hub.create_repo("pinned/keys", "dataset"), hub.create_repo("pinned/other", "model")
        hook = XetHubConnection()

        def key(title: str, target: Repo = repo) -> str:
            (found,) = [each for each in hook.hub.latest_commits(target, 20) if each["title"] == title]
            return re.fullmatch(r"(?:.*\n\n)?Xet-Commit-Key: (\w+)", found["description"])[1]

        def named(title: str, target: Repo = repo, **options: Any) -> CommitRequest:
            return CommitRequest(target, (), message=title, idempotency_key=KEY, **options)

        hook.publish(tmp_path / "out", named("folder", description="of two"))
        uploaded = hook.upload(tmp_path / "out", repo, path_in_repo="again")["files"]
        hook.commit(CommitRequest(repo, uploaded, ["b.csv"], "records", idempotency_key=KEY))
        hook.publish_contents({"made.csv": TEXT + TEXT, "made.bin": BINARY + BINARY}, named("contents"))
        hook.copy(hook.list_files(repo, "again"), named("copies", other), path_in_repo="copied")
        keys = [key("folder"), key("records"), key("contents"), key("copies", other)]
    assert keys == [
        "c4091050725024902152eed5f8049241",
        "65eb5c2278d4988688389b44d92b4e9d",
        "8d011c850622fdc4718dcfa5505383d0",
        "17b1c25446a430b23e75525c804abc91",
    ]
