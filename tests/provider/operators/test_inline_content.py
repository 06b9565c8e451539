"""A worker with a read token and nothing else downloads what the Hub stores inline: the listing brought its content."""

from __future__ import annotations

import json
import logging

import pytest
from airflow.sdk import task
from cryptography.fernet import Fernet

from airflow_provider_xethub.assets.events import event_extra
from airflow_provider_xethub.exceptions import (
    XetAirflowConnectionError,
    XetInputError,
    XetIntegrityError,
    XetSourceError,
    XetTokenExpiredError,
    XetTokenScopeError,
    XetTokenSealError,
    XetTokenTamperedError,
)
from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.operators.xethub import (
    XetCommitOperator,
    XetDownloadOperator,
    XetListOperator,
    XetTokenOperator,
    XetUploadOperator,
)
from airflow_provider_xethub.sensors.xethub import XetFileSensor
from airflow_provider_xethub.xet.publish.request import CommitRequest
from airflow_provider_xethub.xet.transfer import inline_content
from support.airflow_runs import new_dag, run_dag, run_one
from support.builders import CAS, binary, names, publish, sealed, write
from xethub_local.control.faults import Fault

pytestmark = [pytest.mark.airflow, pytest.mark.airflow_unchanged]

CONFIG = json.dumps({"hidden_size": 768, "note": "känguru"}).encode()
FILES = {
    "README.md": b"# A model\n" * 30,
    "config.json": CONFIG,
    "empty.txt": b"",
    "model.safetensors": binary(5000),
    "sub/odd näme #1?%20.json": b'{"odd": true}\n',
}
INLINE = ["README.md", "config.json", "sub/odd näme #1?%20.json"]
RESOLVE = "GET .*/resolve/.*"


@pytest.fixture
def model(make_repo, connection, tmp_path):
    repo = make_repo("model")
    publish(repo, tmp_path / "before", FILES)
    return repo


@pytest.fixture
def listed(model, run_task):
    """Records with content, by path."""
    run = run_task(XetListOperator, repo_id=model.repo_id, inline_content=True)
    return {file["path"]: file for file in run.value}


@pytest.fixture
def token(model):
    return sealed(model, "read")


@pytest.fixture
def token_only(hub, token, run_task, disconnect, tmp_path):
    """Runs a download on a worker that has a token and no connection; returns the task run."""
    missing = []

    def download(files, /, **options):
        if not missing:
            missing.append(disconnect())
        hub.log.clear()
        options = {"destination": str(tmp_path / "out"), "token": token, "xethub_conn_id": None, **options}
        return run_task(XetDownloadOperator, files=files, **options)

    return download


def contents(folder):
    return {name: (folder / name).read_bytes() for name in names(folder)}


def downstream_list(conn_id=None, **options):
    """A listing that a download without a connection takes, in a DAG."""
    with new_dag():
        look = XetListOperator(task_id="look", **options)
        XetDownloadOperator(task_id="get", files=look.output, destination="/nowhere", token={}, xethub_conn_id=conn_id)
    return look


def refused(run, error, folder, *texts):
    assert isinstance(run.error, error), run.error
    assert run.is_final
    for text in texts:
        assert text in run.text
    assert not folder.exists()


# --- the way there and back -------------------------------------------------------------------------------------------


@pytest.mark.smoke
def test_a_worker_with_a_token_alone_downloads_a_whole_model(hub, listed, token_only, tmp_path):
    run = token_only(list(listed.values()))
    assert contents(tmp_path / "out") | {".gitattributes": b""} == FILES | {".gitattributes": b""}
    assert not hub.log.requests(".* /api/.*")
    assert not hub.log.requests(RESOLVE)
    # The XCom of the download has no content a second time.
    assert not [file for file in run.value if "sealed_content" in file]
    assert run.xcoms["transfer"]["files"] == len(listed)
    # Again, with records of one mapped task each: everything is there.
    again = token_only([[file] for file in listed.values()])
    assert again.xcoms["transfer"]["skipped"] == len(listed)


def test_a_worker_with_a_token_alone_writes_to_object_storage(hub, listed, token_only, tmp_path):
    run = token_only(list(listed.values()), destination=f"file://{tmp_path}/stored")
    assert run.value[0]["storage_uri"].startswith("file://")
    assert {name: data for name, data in contents(tmp_path / "stored").items() if name in FILES} == FILES


@pytest.mark.parametrize("repo_type", ["dataset", "space"])
@pytest.mark.parametrize("revision", ["refs/pr/1", "dev/x", "commit"])
def test_every_kind_of_repository_and_revision_works(
    hub, connection, make_repo, hook, run_task, disconnect, tmp_path, repo_type, revision
):
    repo = make_repo(repo_type)
    name = f"{repo_type}s/{repo.repo_id}"
    hub.repositories.create_branch(name, "dev/x")
    at = repo.at("dev/x" if revision == "dev/x" else "main")
    request = CommitRequest(at, (), message="new", create_pr=revision == "refs/pr/1")
    made = hook.publish_contents({"config.json": CONFIG}, request)
    where = {"repo_id": repo.repo_id, "repo_type": repo_type, "revision": revision.replace("commit", made["oid"])}
    files = run_task(XetListOperator, inline_content=True, path="config.json", **where).value
    token = run_task(XetTokenOperator, **where).value
    disconnect()
    options = {"token": token, "xethub_conn_id": None, "destination": str(tmp_path / "out")}
    assert run_task(XetDownloadOperator, files=files, **where, **options).value
    assert (tmp_path / "out/config.json").read_bytes() == CONFIG


def test_a_worker_that_names_a_connection_that_it_does_not_have_uses_the_content_too(listed, token_only, tmp_path):
    assert token_only(list(listed.values()), xethub_conn_id="xethub_default").value
    assert (tmp_path / "out/config.json").read_bytes() == CONFIG


def test_with_the_connection_the_hub_is_asked_and_the_content_is_ignored(hub, listed, run_task, tmp_path):
    hub.log.clear()
    spoiled = {**listed["config.json"], "sealed_content": "nonsense"}
    assert run_task(XetDownloadOperator, files=[spoiled], destination=str(tmp_path / "out")).value
    assert (tmp_path / "out/config.json").read_bytes() == CONFIG
    assert len(hub.log.requests(RESOLVE)) == 1


def test_in_a_dag_no_argument_is_needed_whatever_is_mapped(airflow_db, model, tmp_path):
    with new_dag() as dag:
        where = {"repo_id": model.repo_id}
        token = XetTokenOperator(task_id="token", **where)
        look = XetListOperator(task_id="look", **where, patterns="[!.]*")
        with_token = {"token": token.output, "xethub_conn_id": None}

        @task
        def halves(files):
            return [files[:2], files[2:]]

        download = XetDownloadOperator.partial(task_id="download", destination=str(tmp_path / "mapped"), **with_token)
        token >> download.expand(files=halves(look.output))

        mapped = XetListOperator.partial(task_id="mapped", **where).expand(patterns=["*.md", "*.json"])
        XetDownloadOperator(task_id="get", files=mapped.output, destination=str(tmp_path / "listed"), **with_token)

        @task.xethub(read_only=True, **where, **with_token)
        def sizes(files):
            return [json.loads(file.read_text()).get("hidden_size") for file in files if file.suffix == ".json"]

        sizes(files=look.output)
    run = run_dag(dag)
    assert run.state == "success", run.states
    assert contents(tmp_path / "mapped") == FILES
    assert set(contents(tmp_path / "listed")) == set(INLINE)
    assert run.xcoms("sizes") == [[768, None]]
    assert "hidden_size" not in json.dumps([run.rendered("download"), run.xcoms("look"), run.xcoms("mapped")])


# --- what the listing does --------------------------------------------------------------------------------------------


def test_a_listing_costs_nothing_more_unless_a_later_task_has_no_connection(hub, model):
    for look in (downstream_list("xethub_default", repo_id=model.repo_id), XetListOperator):
        hub.log.clear()
        if look is XetListOperator:
            with new_dag():
                look = XetListOperator(task_id="alone", repo_id=model.repo_id)
        assert not [file for file in run_one(look).value if "sealed_content" in file]
        assert len(hub.log.requests()) == 1


def test_a_listing_takes_one_request_more_and_one_for_each_inline_file(hub, model):
    look = downstream_list(repo_id=model.repo_id)
    hub.log.clear()
    files = run_one(look).value
    with_content = [file["path"] for file in files if "sealed_content" in file]
    assert with_content == [".gitattributes", *INLINE]
    assert {file["repo"] for file in files} == {model.uri}
    assert len(hub.log.requests(RESOLVE)) == len(with_content)
    assert len(hub.log.requests()) == 2 + len(with_content)
    assert "hidden_size" not in json.dumps(files)
    # Told not to, it does not.
    assert not [
        f for f in run_one(downstream_list(repo_id=model.repo_id, inline_content=False)).value if "sealed_content" in f
    ]


def test_what_is_read_is_what_was_listed_whatever_is_committed_meanwhile(hub, model, hook, monkeypatch):
    original = inline_content.add

    def late(*args, **options):
        hook.publish_contents({"config.json": b"{}\n"}, CommitRequest(model, (), message="meanwhile"))
        return original(*args, **options)

    monkeypatch.setattr(inline_content, "add", late)
    [file] = XetHubConnection().list_files(model, "config.json", inline_content=True)
    monkeypatch.undo()
    assert inline_content.sealed_content.read(file, model, fernets()) == CONFIG
    assert len(hook.list_files(model, "config.json")) == 1


def fernets():
    from airflow_provider_xethub.hooks.tokens import sealing

    return sealing.fernets()


def test_a_damaged_response_is_read_once_more_and_never_sealed(hub, model, run_task):
    hub.faults.add(Fault("GET .*/config.json", corrupt=True, times=1))
    options = {"repo_id": model.repo_id, "path": "config.json", "inline_content": True}
    assert "sealed_content" in run_task(XetListOperator, **options).value[0]
    hub.faults.add(Fault("GET .*/config.json", corrupt=True))
    run = run_task(XetListOperator, **options)
    assert isinstance(run.error, XetIntegrityError)
    assert "config.json of hf://" in run.text
    assert not run.is_final
    assert "hidden_size" not in run.text


@pytest.mark.parametrize("limit", [("MAX_FILES", 2), ("MAX_BYTES", 60), ("MAX_FILE_BYTES", 60)], ids=str)
def test_more_than_records_can_carry_is_refused_or_left_out(hub, model, run_task, monkeypatch, caplog, limit):
    monkeypatch.setattr(inline_content, *limit)
    hub.log.clear()
    options = {"repo_id": model.repo_id, "patterns": ["*.md", "*.json"]}
    run = run_task(XetListOperator, inline_content=True, **options)
    assert isinstance(run.error, XetInputError)
    assert run.is_final
    assert run.text.startswith("3 inline files are too much for records: list less with path or patterns, or give")
    assert "Without content: README.md" in run.text
    assert not hub.log.requests(RESOLVE)
    with caplog.at_level(logging.WARNING):
        files = run_one(downstream_list(**options)).value
    assert "Without content: README.md" in caplog.text
    # The smallest files have theirs.
    found = {file["path"] for file in files if "sealed_content" in file}
    assert found in ({"config.json", "sub/odd näme #1?%20.json"}, {"sub/odd näme #1?%20.json"})


def test_without_a_key_there_is_no_content(hub, model, run_task, monkeypatch, fernet_cache, caplog):
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", "")
    run = run_task(XetListOperator, repo_id=model.repo_id, inline_content=True)
    assert isinstance(run.error, XetTokenSealError)
    assert run.is_final
    assert run.text.startswith(
        "No Fernet key to seal inline content with: set [core] fernet_key or [xethub] fernet_key"
    )
    hub.log.clear()
    with caplog.at_level(logging.WARNING):
        files = run_one(downstream_list(repo_id=model.repo_id)).value
    assert not [file for file in files if "sealed_content" in file]
    assert "the records of 4 inline files of hf://" in caplog.text
    assert not hub.log.requests(RESOLVE)


def test_a_bucket_has_no_inline_files(hub, make_repo, connection, run_task, tmp_path):
    bucket = make_repo("bucket")
    publish(bucket, tmp_path / "before", {"a.txt": b"text\n"})
    run = run_task(XetListOperator, repo_id=bucket.repo_id, repo_type="bucket", inline_content=True)
    assert [(file["path"], "sealed_content" in file) for file in run.value] == [("a.txt", False)]


def test_a_sensor_brings_the_content_too(hub, model, token_only, tmp_path, run_task):
    for deferrable in (False, True):
        found = run_task(
            XetFileSensor, repo_id=model.repo_id, path="config.json", inline_content=True, deferrable=deferrable
        )
        assert "hidden_size" not in json.dumps(found.value)
    assert token_only([found.value]).value
    assert (tmp_path / "out/config.json").read_bytes() == CONFIG


def test_records_of_a_commit_get_their_content_from_the_hook(hub, model, hook, run_task, token_only, tmp_path):
    source = write(tmp_path / "new", {"config.json": b'{"new": 1}\n', "b.bin": binary(900)})
    published = run_task(XetUploadOperator, source=str(source), repo_id=model.repo_id).value
    assert published["files"][1]["sha256"]
    files = hook.add_inline_content(published["files"])
    assert run_task(XetUploadOperator, source=str(write(source, {"config.json": b"{}\n"})), repo_id=model.repo_id).value
    with pytest.raises(XetSourceError, match=r"config\.json of hf://.* changed since it was listed"):
        hook.add_inline_content(published["files"])
    assert token_only(files).value
    assert (tmp_path / "out/config.json").read_bytes() == b'{"new": 1}\n'
    assert (tmp_path / "out/b.bin").read_bytes() == binary(900)


def test_files_of_an_event_come_with_a_token_for_its_commit(hub, model, hook, token, token_only, tmp_path):
    made = hook.publish_contents({"config.json": b'{"new": 1}\n'}, CommitRequest(model, (), message="new"))
    hook.publish_contents({"config.json": b'{"newest": 1}\n'}, CommitRequest(model, (), message="newest"))
    event = event_extra(made)
    files = hook.add_inline_content(event["files"])
    pinned = sealed(model.at(event["oid"]), "read")
    refused(token_only(files), XetTokenScopeError, tmp_path / "out", "config.json refused: ", "with the same repo_id")
    assert token_only(files, token=pinned).value
    assert (tmp_path / "out/config.json").read_bytes() == b'{"new": 1}\n'


def test_published_records_have_no_content(hub, listed, make_repo, run_task):
    other = make_repo("model")
    files = [listed["model.safetensors"] | {"sealed_content": listed["config.json"]["sealed_content"]}]
    run = run_task(XetCommitOperator, files=files, repo_id=other.repo_id)
    assert run.error or not [file for file in run.value["files"] if "sealed_content" in file]


# --- what is refused --------------------------------------------------------------------------------------------------


def test_all_files_without_content_are_named_with_both_ways_out(hub, model, listed, hook, token_only, tmp_path):
    files = hook.list_files(model)
    more = [{**files[1], "path": f"{number:02}.md"} for number in range(9)]
    run = token_only([*files, *more])
    first = "13 inline files without content: "
    refused(run, XetInputError, tmp_path / "out", first + "list with inline_content=True, or set xethub_conn_id.")
    assert "README.md, config.json, sub/odd" in run.text
    assert " and 3 more, not CAS" in run.text
    assert not hub.log.requests()
    in_lfs = {**files[1], "path": "old.bin", "sha256": "a" * 64}
    del in_lfs["blob_id"]
    run = token_only([in_lfs, listed["README.md"]])
    refused(
        run, XetInputError, tmp_path / "out", "1 inline file without content", "If old.bin is in LFS but not in CAS"
    )


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda listed: {"blob_id": listed["README.md"]["blob_id"], "size": listed["README.md"]["size"]}, "tampered"),
        (lambda listed: {"sealed_content": listed["README.md"]["sealed_content"]}, "tampered"),
        (lambda _: {"path": "generation_config.json"}, "tampered"),
        (lambda listed: {"sealed_content": listed["config.json"]["sealed_content"][:-60]}, "unopened"),
        (
            lambda _: {"sealed_content": Fernet(Fernet.generate_key()).encrypt(b"xethub content 1\n").decode()},
            "unopened",
        ),
    ],
    ids=["digest", "content of another file", "path", "truncated", "another key"],
)
def test_a_changed_record_is_refused_by_name_before_anything_is_written(listed, token_only, tmp_path, change, error):
    changed = {**listed["config.json"], **change(listed)}
    run = token_only([listed["README.md"], listed["model.safetensors"], changed])
    kind = {"tampered": XetTokenTamperedError, "unopened": XetTokenSealError}[error]
    refused(run, kind, tmp_path / "out", f"{changed['path']} refused: ")


def test_content_of_another_repository_is_refused_also_for_files_that_exist(
    hub, model, listed, make_repo, hook, token_only, tmp_path
):
    other = make_repo("model")
    hook.publish_contents({"config.json": b'{"evil": 1}\n'}, CommitRequest(other, (), message="other"))
    [foreign] = hook.list_files(other, "config.json", inline_content=True)
    run = token_only([listed["README.md"], {**foreign, "repo": model.uri}])
    refused(run, XetTokenScopeError, tmp_path / "out", "config.json refused: sealed for another repository or revision")
    write(tmp_path / "there", {"config.json": b'{"evil": 1}\n'})
    run = token_only([{**foreign, "repo": model.uri}], destination=str(tmp_path / "there"))
    assert isinstance(run.error, XetTokenScopeError)


def test_an_older_version_is_refused_beside_newer_ones_and_where_the_task_names_the_commit(
    hub, model, listed, hook, token_only, tmp_path
):
    hook.publish_contents({"config.json": b'{"fixed": 1}\n'}, CommitRequest(model, (), message="newer"))
    now = hook.list_files(model, inline_content=True)
    mixed = [listed["config.json"] if file["path"] == "config.json" else file for file in now]
    commit = hook.get_latest_commit(model)["oid"]
    pinned = sealed(model.at(commit), "read")
    run = token_only(mixed)
    refused(run, XetTokenTamperedError, tmp_path / "out", "refused: sealed at several commits", "config.json")
    run = token_only([listed["config.json"]], token=pinned)
    refused(run, XetTokenScopeError, tmp_path / "out", "config.json refused: ")
    # Those of the branch are of that commit.
    assert token_only(now, token=pinned).value
    assert (tmp_path / "out/config.json").read_bytes() == b'{"fixed": 1}\n'


def test_no_token_and_an_expired_one_are_refused_though_no_byte_comes_from_cas(
    hub, model, listed, token_only, tmp_path
):
    hub.access.token_life = 29
    stale = sealed(model, "read")
    hub.access.token_life = 900
    files = [listed["config.json"]]
    run = token_only(files, token=None)
    assert isinstance(run.error, (XetInputError, XetAirflowConnectionError))
    assert not (tmp_path / "out").exists()
    refused(token_only(files, token=stale), XetTokenExpiredError, tmp_path / "out")
    assert not hub.log.requests(CAS)
