"""The ``.gitignore`` of an upload counts for this very upload, whichever way the files come."""

from __future__ import annotations

import pytest
from huggingface_hub import HfApi

from airflow_provider_xethub.operators.xethub import XetCommitOperator, XetUploadOperator
from airflow_provider_xethub.xet.publish.commit import CommitRequest
from support.builders import TEXT, binary, publish, write
from support.filesystem_places import name
from support.small_server import Answer, Asked, SmallServer
from xethub_local.cli.main import main

RULES = b".env\n__pycache__/\n*.log\n!keep.log\n"
LONG = b"# " + b"x" * 600 + b"\n" + RULES
FILES = {
    ".env": b"PASSWORD=hunter2\n",
    "__pycache__/m.pyc": binary(),
    "a.log": TEXT,
    "keep.log": TEXT,
    "m.py": b"x = 1\n",
    "deep/.env": b"PASSWORD=hunter3\n",
    "deep/data.bin": binary(5000, 1),
}
KEPT = [".gitignore", "deep/data.bin", "keep.log", "m.py"]


@pytest.fixture
def where(connection, repo):
    return {"repo_id": repo.repo_id, "repo_type": "dataset"}


@pytest.fixture(params=[RULES, LONG, b"\xef\xbb\xbf" + RULES], ids=["short", "long", "bom"])
def source(request, tmp_path):
    return write(tmp_path / "in", {**FILES, ".gitignore": request.param})


@pytest.fixture
def paths(hub):
    """Lists a repository as somebody else sees it."""

    def listed(repo, revision="main"):
        api = HfApi(endpoint=hub.url, token=hub.token("read"))
        files = api.list_repo_files(repo.repo_id, repo_type=repo.repo_type, revision=revision)
        return [path for path in files if path != ".gitattributes"]

    return listed


def test_the_first_upload_leaves_out_what_it_excludes(hub, where, repo, make_repo, source, run_task, paths, caplog):
    theirs = make_repo()
    HfApi(endpoint=hub.url, token=hub.token()).upload_folder(
        repo_id=theirs.repo_id, repo_type="dataset", folder_path=source
    )
    hub.log.clear()
    result = run_task(XetUploadOperator, source=str(source), **where).value
    assert [file["path"] for file in result["files"]] == paths(repo) == paths(theirs) == KEPT
    assert result["transfer"]["files"] == 1, "what is not published is not sent either"
    assert len(hub.log.requests("POST .*/preupload/.*")) == 1
    assert "4 of 8 files are left out" in caplog.text


def test_a_pull_request_leaves_it_out_too(where, repo, source, run_task, paths):
    result = run_task(XetUploadOperator, source=str(source), create_pr=True, **where).value
    assert result["pull_request"]
    assert (paths(repo), paths(repo, "refs/pr/1")) == ([], KEPT)


@pytest.mark.parametrize("stored", [False, True])
def test_files_that_other_tasks_uploaded_are_left_out_by_the_commit(where, repo, source, run_task, paths, stored):
    names = sorted(path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file())
    records = [
        run_task(
            XetUploadOperator,
            source=f"file://{source}/{each}" if stored else str(source / each),
            path_in_repo=each,
            commit=False,
            **where,
        ).value
        for each in names
    ]
    assert len(records) == 8
    run_task(XetCommitOperator, files=records, **where).value  # noqa: B018 - raises what failed
    assert paths(repo) == KEPT


def test_what_is_in_memory_is_left_out(hook, repo, source, paths):
    files = {path.relative_to(source).as_posix(): path.read_bytes() for path in source.rglob("*") if path.is_file()}
    hook.publish_contents(files, CommitRequest(repo, (), message="from memory"))
    assert paths(repo) == KEPT


def test_a_pull_request_from_memory_asks_for_one(connection, hook):
    def answer(asked: Asked) -> Answer:
        if "/preupload/" in asked.path:
            return Answer({"files": [{"path": "a.txt", "uploadMode": "regular", "shouldIgnore": False}]})
        return Answer({"commitOid": "1" * 40, "pullRequestUrl": "https://hub/acme/d/discussions/1"})

    with SmallServer(answer) as server:
        connection(host=server.url)
        request = CommitRequest(hook.repo("acme/d", "dataset"), (), message="from memory", create_pr=True)
        hook.publish_contents({"a.txt": TEXT}, request)
    assert [asked.target.partition("?")[2] for asked in server.asked] == ["create_pr=1", "create_pr=1"]


def test_the_filesystem_leaves_it_out(repo, fs, source, paths):
    fs.put(f"{source}/", name(repo), recursive=True)
    assert paths(repo) == KEPT


def test_the_command_line_leaves_it_out_and_says_so(source, tmp_path, capsys):
    end = ["--folder", str(tmp_path / "hub")]
    assert main(["create-repo", "dataset:acme/d", *end]) == 0
    assert main(["put", str(source), "dataset:acme/d", *end]) == 0
    printed = capsys.readouterr().out
    assert "excluded by .gitignore (4): .env, " in printed
    assert "Committed 4 files" in printed
    # The one that is there now counts too.
    assert main(["put", str(source / ".env"), "dataset:acme/d", *end]) == 0
    assert "Nothing to store: all files were left out." in capsys.readouterr().out
    assert main(["ls", "dataset:acme/d", *end]) == 0
    assert [line.split("\t")[-1] for line in capsys.readouterr().out.splitlines()] == [".gitattributes", *KEPT]


def test_a_bucket_has_no_use_for_it(connection, make_repo, source, run_task, hook):
    bucket = make_repo("bucket")
    run_task(XetUploadOperator, source=str(source), repo_id=bucket.repo_id, repo_type="bucket").value  # noqa: B018
    assert len(hook.list_files(bucket)) == 8


def test_an_empty_one_replaces_the_one_that_is_there(where, repo, tmp_path, run_task, paths):
    publish(repo, tmp_path, {".gitignore": b"*.env\n"})
    source = write(tmp_path / "new", {".gitignore": b"", "a.env": TEXT})
    run_task(XetUploadOperator, source=str(source), **where).value  # noqa: B018 - raises what failed
    assert paths(repo) == [".gitignore", "a.env"]


def test_one_that_is_not_utf_8_counts_all_the_same(where, repo, tmp_path, run_task, paths):
    source = write(tmp_path / "in", {**FILES, ".gitignore": b"# latin-\xe9\n" + RULES})
    run_task(XetUploadOperator, source=str(source), **where).value  # noqa: B018 - raises what failed
    assert paths(repo) == KEPT


def test_only_the_one_in_the_root_counts(where, repo, make_repo, hub, tmp_path, run_task, paths):
    source = write(tmp_path / "in", {**FILES, ".gitignore": RULES})
    theirs = make_repo()  # the Hub's own client does the same
    HfApi(endpoint=hub.url, token=hub.token()).upload_folder(
        repo_id=theirs.repo_id, repo_type="dataset", folder_path=source, path_in_repo="below"
    )
    run_task(XetUploadOperator, source=str(source), path_in_repo="below", **where).value  # noqa: B018
    assert paths(repo) == paths(theirs)
    assert len(paths(repo)) == 8
