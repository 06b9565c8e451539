"""What ``files_of`` finds for the events of tasks, watchers and webhooks: all files, and only those."""

from __future__ import annotations

import random
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace

import pytest
from airflow.sdk import Asset, AssetAlias

from airflow_provider_xethub import changes_of, files_of
from airflow_provider_xethub.assets import outlets
from airflow_provider_xethub.exceptions import (
    XetAirflowConnectionError,
    XetInputError,
    XetNotFoundError,
    XetProtocolError,
    XetRevisionNotFoundError,
)
from airflow_provider_xethub.operators.mirror import XetMirrorOperator
from airflow_provider_xethub.operators.xethub import (
    XetCommitOperator,
    XetCopyOperator,
    XetDownloadOperator,
    XetUploadOperator,
)
from airflow_provider_xethub.xet.hub import client as hub_client
from airflow_provider_xethub.xet.publish import commit as commit_module
from airflow_provider_xethub.xet.publish.request import CommitRequest
from airflow_provider_xethub.xet.repo import Repo
from support.airflow_runs import new_dag
from support.builders import TEXT, binary, names, sealed, write
from xethub_local.control.faults import Fault
from xethub_local.metadata.commits import DeleteFile, PutRegular

pytestmark = pytest.mark.airflow

START = datetime(2026, 11, 20, 1, tzinfo=timezone.utc)
MANY = {f"day/{n:03}.csv": f"{n}\n".encode() for n in range(150)}
REQUESTS = "(GET|POST) /api/(?!.*token).*"


def paths(files):
    return [file["path"] for file in files]


def event(extra, uri="", minutes=0):
    """An asset event as a task gets it, in all that ``files_of`` reads."""
    return SimpleNamespace(asset=SimpleNamespace(uri=uri), extra=extra, timestamp=START + timedelta(minutes=minutes))


@pytest.fixture
def where(repo):
    return {"repo_id": repo.repo_id, "repo_type": "dataset"}


@pytest.fixture
def publish(run_task, where, tmp_path, repo, connection):
    """Publishes files with an operator, and returns the extra of the asset's event."""
    number = 0

    def publish(files=None, *, delete=(), path="", **more):
        nonlocal number
        number += 1
        asset = Asset(f"hf://datasets/{repo.repo_id}{path and f'/{path}'}")
        options = {"outlets": [asset], **where, **more}
        if files is None:
            run = run_task(XetCommitOperator, delete=list(delete), **options)
        else:
            source = str(write(tmp_path / f"source{number}", files))
            run = run_task(XetUploadOperator, source=source, **options)
        assert run.state == "success", run.error
        return run.message.outlet_events[0]["extra"]

    return publish


@pytest.fixture
def commit(hub, repo):
    """Commits as somebody else does, and returns the payload of a watcher's event."""

    def commit(files, title="theirs"):
        put = [DeleteFile(path) if each is None else PutRegular(path, each) for path, each in files.items()]
        name = f"datasets/{repo.repo_id}"
        before = hub.repositories.resolve(name, "main").id
        made = hub.commits.commit(name, "main", put, title=title).commit.id
        return {"oid": made, "url": "", "repo": repo.uri, "title": title, "description": "", "previous": before}

    return commit


def of_watcher(payload):
    return {"from_trigger": True, "payload": payload}


# --- events of tasks --------------------------------------------------------------------------------------------------


def test_an_event_with_all_files_needs_no_request(hub, publish, hook, repo):
    extra = publish({"a.bin": binary(), "d/b.csv": TEXT})
    hub.log.clear()
    assert files_of(extra, xethub_conn_id=None) == extra["files"]
    assert not hub.log.requests(".*")
    assert paths(files_of(event(extra))) == ["a.bin", "d/b.csv"]


def test_of_a_large_publication_all_files_are_found_and_exactly_these(hub, publish, commit, hook, repo, tmp_path):
    publish({f"{n}/{m}.csv": TEXT for n in range(40) for m in range(2)} | {"day/same.csv": TEXT})
    extra = publish({**MANY, "day/same.csv": TEXT})
    assert (len(extra["files"]), extra["file_count"], extra["complete"]) == (100, 150, False)
    assert extra["path"] == "day"
    commit({"day/000.csv": b"newer\n", "day/001.csv": None, "day/150.csv": b"newer\n"})
    hub.log.clear()
    files = files_of(extra)
    assert paths(files) == sorted(MANY)
    assert {file["repo"] for file in files} == {repo.at(extra["oid"]).uri}
    assert len(hub.log.requests(REQUESTS)) <= 5
    hook.download(str(tmp_path / "out"), files)
    assert names(tmp_path / "out") == sorted(MANY)
    assert all((tmp_path / "out" / path).read_bytes() == content for path, content in MANY.items())


def test_of_a_publication_in_several_commits_all_files_are_found_without_those_of_others(
    hub, publish, commit, repo, monkeypatch
):
    monkeypatch.setattr(commit_module, "MAX_CHANGES", 40)
    post, made = commit_module._Publication._post, []

    def post_and_let_others_commit(self, part, title):
        done = post(self, part, title)
        made.append(done.commit["oid"])
        if len(made) == 2:
            commit({"day/theirs.csv": b"1\n", "day/000.csv": b"theirs\n"})
        return done

    monkeypatch.setattr(commit_module._Publication, "_post", post_and_let_others_commit)
    extra = publish(MANY)
    assert extra["commits"] == made
    assert len(made) == 4
    hub.log.clear()
    assert paths(files_of(extra)) == sorted(MANY)
    assert len(hub.log.requests(REQUESTS)) <= 12


def test_deleted_files_are_named_all_of_them(publish, hook):
    publish({**MANY, "other.csv": TEXT})
    extra = publish(delete=sorted(MANY))
    assert (len(extra["deleted"]), extra["deleted_count"], extra["complete"]) == (100, 150, False)
    assert changes_of(extra) == {"files": [], "deleted": sorted(MANY)}
    assert changes_of(publish(delete=["other.csv"])) == {"files": [], "deleted": ["other.csv"]}


def test_the_event_of_a_folder_is_about_that_folder(publish, hook):
    both = {**MANY, **{f"night/{n}.csv": TEXT for n in range(150)}}
    extra = publish(both, path="day")
    assert (extra["file_count"], extra["path"]) == (150, "day")
    assert paths(files_of(extra)) == sorted(MANY)


def test_a_copy_and_a_pull_request_are_described_as_well(publish, hook, run_task, where, repo):
    extra = publish(MANY)
    asset = Asset(f"hf://datasets/{repo.repo_id}")
    copied = run_task(XetCopyOperator, path="day", path_in_repo="copy", outlets=[asset], **where)
    (sent,) = copied.message.outlet_events
    assert paths(files_of(sent["extra"])) == sorted(f"copy/{path}" for path in MANY)
    extra = publish({f"pr/{path}": each for path, each in MANY.items()}, create_pr=True)
    assert extra["pull_request"]
    assert paths(files_of(extra)) == sorted(f"pr/{path}" for path in MANY)


def test_an_event_of_an_unchanged_publication_has_no_files(publish, hook):
    publish(MANY)
    assert changes_of(publish(MANY)) == {"files": [], "deleted": []}


def test_lines_that_the_hub_adds_to_gitattributes_are_not_what_the_task_published(hub, hook, repo, commit):
    made = commit({**MANY, ".gitattributes": b"*.big filter=lfs\n"})
    extra = {"oid": made["oid"], "repo": repo.uri, "files": [], "file_count": 150, "commits": [made["oid"]]}
    assert paths(files_of(extra)) == sorted(MANY)
    assert paths(files_of({**extra, "file_count": 151})) == [".gitattributes", *sorted(MANY)]


def test_the_first_commit_of_a_repository_has_all_files(hook, hub, repo):
    first = hook.get_latest_commit(repo)
    assert paths(files_of(first)) == [".gitattributes"]


def test_the_result_of_a_task_is_accepted_like_its_event(hook, repo, tmp_path):
    source = write(tmp_path / "in", {"a.csv": TEXT, "b.csv": TEXT})
    result = hook.publish(source, CommitRequest(repo, ()))
    again = hook.publish(write(source, {"c.csv": TEXT}), CommitRequest(repo, ()))
    assert (paths(files_of(result)), paths(files_of(again))) == (["a.csv", "b.csv"], ["c.csv"])


def test_events_of_earlier_releases_are_read(publish, hook, repo):
    extra = publish(MANY)
    old = {key: each for key, each in extra.items() if key not in ("complete", "path", "commits")}
    old["files"] = [{**file, "repo": repo.uri} for file in extra["files"]]
    files = files_of(old)
    assert paths(files) == sorted(MANY)
    small = {**old, "files": old["files"][:2], "file_count": 2}
    assert {file["repo"] for file in files_of(small)} == {repo.at(extra["oid"]).uri}


def test_an_alias_event_without_lists_has_all_files(publish, hook, monkeypatch, run_task, where, tmp_path, repo):
    """Airflow 3.0 cannot store lists in the event of an alias."""
    from airflow.providers.common.compat import version_compat

    monkeypatch.setattr(version_compat, "AIRFLOW_V_3_1_PLUS", False)
    result = hook.publish(write(tmp_path / "in", {"a.csv": TEXT, "b.csv": TEXT}), CommitRequest(repo, ()))
    extra = outlets._extra_of_alias(result)
    assert (extra["complete"], "files" in extra, "commits" in extra) == (False, False, False)
    assert paths(files_of(extra)) == ["a.csv", "b.csv"]
    again = outlets._extra_of_alias(hook.publish(tmp_path / "in", CommitRequest(repo, ())))
    assert (again["complete"], files_of(again)) == (True, [])


def test_a_killed_task_that_is_run_again_describes_what_it_had_committed(
    publish, hook, hub, run_task, where, tmp_path, repo
):
    publish({"day/000.csv": MANY["day/000.csv"], "old.csv": TEXT})
    source, asset = str(write(tmp_path / "in", MANY)), Asset(f"hf://datasets/{repo.repo_id}")
    options = {"source": source, "outlets": [asset], **where}
    first = run_task(XetUploadOperator, task_id="publish", **options)
    again = run_task(XetUploadOperator, task_id="publish", try_number=2, **options)
    (one,), (two,) = first.message.outlet_events, again.message.outlet_events
    assert one["extra"] == two["extra"]
    assert paths(files_of(two["extra"])) == sorted(MANY.keys() - {"day/000.csv"})


# --- events of watchers and webhooks ----------------------------------------------------------------------------------


def test_the_event_of_a_watcher_has_what_its_commit_changed(hub, hook, repo, commit):
    commit({"a": b"1\n", "b": b"1\n", "c": b"1\n"})
    payload = commit({"a": b"2\n", "b": None, "d/e": b"1\n"})
    commit({"a": b"3\n", "d/e": None, "x": b"1\n"})
    for given in (payload, of_watcher(payload), event(of_watcher(payload)), [event(of_watcher(payload))]):
        found = changes_of(given)
        assert (paths(found["files"]), found["deleted"]) == (["a", "d/e"], ["b"])
        assert {file["repo"] for file in found["files"]} == {repo.at(payload["oid"]).uri}
    without = {key: each for key, each in payload.items() if key != "previous"}  # as XetRevisionSensor returns it
    assert changes_of(without) == changes_of(payload)
    assert changes_of({"repo": payload["repo"], "oid": payload["oid"]}) == changes_of(payload)


def test_consecutive_commits_are_one_comparison_and_the_newest_state_counts(hub, hook, repo, commit):
    start = commit({"a": b"1\n", "b": b"1\n"})
    payloads = [start, commit({"a": b"2\n", "c": b"1\n"}), commit({"c": None, "d": b"1\n"}), commit({"a": b"3\n"})]
    same_time = [event(of_watcher(payload)) for payload in payloads]
    hub.log.clear()
    found = changes_of(same_time)
    assert (paths(found["files"]), found["deleted"]) == (["a", "b", "d"], [])
    assert {file["repo"] for file in found["files"]} == {repo.at(payloads[-1]["oid"]).uri}
    assert len(hub.log.requests(REQUESTS)) == 2
    for seed in range(5):
        shuffled = random.Random(seed).sample([*same_time, *same_time], 2 * len(same_time))
        assert changes_of(shuffled) == found
    later = [event(of_watcher(payload), minutes=minute) for minute, payload in enumerate(payloads)]
    assert changes_of(reversed(later)) == found


def test_the_event_of_a_webhook_for_a_whole_push_has_all_of_it(hook, repo, commit):
    first, last = commit({"a": b"1\n"}), commit({"b": b"1\n"})
    whole = {**last, "previous": first["previous"], "title": ""}
    assert paths(files_of(of_watcher(whole))) == ["a", "b"]


def test_a_branch_that_moved_back_has_nothing_new(hook, repo, commit):
    one = commit({"a": b"1\n"})
    two = {**one, "oid": one["previous"], "previous": one["oid"]}
    assert changes_of([event(of_watcher(one)), event(of_watcher(two), minutes=1)]) == {"files": [], "deleted": []}


def test_a_watcher_on_the_asset_of_a_folder_is_about_that_folder(hook, repo, commit):
    payload = of_watcher(commit({"day/a": b"1\n", "night/a": b"1\n"}))
    assert paths(files_of(event(payload, f"hf://datasets/{repo.repo_id}/day"))) == ["day/a"]
    assert paths(files_of(event(payload, f"hf://datasets/{repo.repo_id}"))) == ["day/a", "night/a"]
    assert paths(files_of(event(payload, "corpus"))) == ["day/a", "night/a"]


# --- several events ---------------------------------------------------------------------------------------------------


def test_of_several_events_the_newest_record_of_a_path_counts_and_deleted_paths_vanish(publish, hook, repo, tmp_path):
    extras = [
        publish({"a.csv": b"1\n", "b.csv": b"1\n", "d/c.csv": b"1\n", "d/e.csv": b"1\n", "k.bin": binary()}),
        publish({"a.csv": b"2\n", "n.csv": b"1\n"}),
        publish(delete=["b.csv", "d/", "n.csv"]),
        publish({"d/e.csv": b"2\n", "n.csv": b"2\n"}),
    ]
    found = changes_of([event(extra, minutes=minute) for minute, extra in enumerate(extras)])
    assert paths(found["files"]) == ["a.csv", "d/e.csv", "k.bin", "n.csv"]
    assert found["deleted"] == ["b.csv", "d/"]
    assert changes_of(extras) == found
    assert [file["repo"].rpartition("@")[2] for file in found["files"]] == [
        extras[number]["oid"] for number in (1, 3, 0, 3)
    ]
    mixed = [event(extra, minutes=-minute) for minute, extra in enumerate(reversed(extras))]
    assert changes_of(mixed) == found


def test_files_of_several_commits_are_downloaded_by_one_task(
    publish, commit, run_task, where, tmp_path, repo, disconnect
):
    extras = [publish({"a.csv": b"1\n", "b.bin": binary(seed=1)}), publish({"c.csv": b"1\n", "d.bin": binary(seed=2)})]
    commit({"a.csv": b"theirs\n", "b.bin": b"theirs\n", "c.csv": None, "d.bin": None})
    files = files_of(extras)
    for number, more in enumerate(({}, where, {"token": sealed(repo)})):
        out = tmp_path / f"out{number}"
        run = run_task(XetDownloadOperator, files=files, destination=str(out), **more)
        assert paths(run.value) == ["a.csv", "b.bin", "c.csv", "d.bin"]
        assert [(out / path).read_bytes() for path in ("a.csv", "c.csv", "d.bin")] == [b"1\n", b"1\n", binary(seed=2)]
    token = sealed(repo)
    disconnect()
    in_cas = [file for file in files if file["xet_hash"]]
    run = run_task(
        XetDownloadOperator, files=in_cas, destination=str(tmp_path / "keyless"), token=token, xethub_conn_id=None
    )
    assert names(tmp_path / "keyless") == ["b.bin", "d.bin"]
    assert run.state == "success"


def test_events_of_several_repositories_are_kept_apart(publish, commit, hook, make_repo, tmp_path):
    mine, other = publish({"a.csv": TEXT}), make_repo()
    result = hook.publish(write(tmp_path / "other", {"a.csv": b"other\n"}), CommitRequest(other, ()))
    assert paths(files_of([mine, result])) == ["a.csv", "a.csv"]
    assert len({file["repo"] for file in files_of([mine, result])}) == 2


def test_what_airflow_passes_to_a_task_is_accepted(publish, commit, repo, hook):
    from airflow.sdk.api.datamodels._generated import AssetEventDagRunReference
    from airflow.sdk.execution_time.comms import AssetEventDagRunReferenceResult
    from airflow.sdk.execution_time.context import TriggeringAssetEventsAccessor

    asset = Asset(f"hf://datasets/{repo.repo_id}")
    extras = [publish({"a.csv": TEXT}), of_watcher(commit({"b.csv": b"1\n"}))]
    received = [
        AssetEventDagRunReferenceResult.from_asset_event_dag_run_reference(
            AssetEventDagRunReference.model_validate(
                {
                    "asset": {"name": asset.name, "uri": asset.uri, "extra": {}},
                    "extra": extra,
                    "source_task_id": None,
                    "source_dag_id": None,
                    "source_run_id": None,
                    "source_map_index": None,
                    "source_aliases": [{"name": "corpus"}],
                    "timestamp": START + timedelta(minutes=number),
                }
            )
        )
        for number, extra in enumerate(extras)
    ]
    accessor = TriggeringAssetEventsAccessor.build(received)
    for given in (accessor, accessor[asset], accessor[AssetAlias("corpus")], accessor.get(asset, [])):
        assert paths(files_of(given)) == ["a.csv", "b.csv"]
    assert files_of(TriggeringAssetEventsAccessor.build([])) == []
    assert files_of([]) == files_of(()) == files_of({}) == []


def test_a_task_can_ask_for_the_events_of_its_inlets(connection, repo, where, run_dag, tmp_path):
    from airflow.sdk import task

    asset = Asset(f"hf://datasets/{repo.repo_id}")
    source = str(write(tmp_path / "in", {"a.csv": TEXT, "b.csv": TEXT}))
    with new_dag() as dag:
        upload = XetUploadOperator(task_id="upload", source=source, outlets=[asset], **where)

        @task(inlets=[asset])
        def read(inlet_events=None):
            given = [inlet_events, inlet_events[asset], inlet_events[asset][-1]]
            return [paths(files_of(each)) for each in given]

        upload >> read()
    run = run_dag(dag)
    assert run.xcoms("read") == [[["a.csv", "b.csv"]] * 3]


def test_a_mirror_is_described_as_well(connection, repo, where, run_task, tmp_path):
    asset, source = Asset(f"hf://datasets/{repo.repo_id}"), write(tmp_path / "in", {**MANY, "old.csv": TEXT})
    options = {"source": str(source), "outlets": [asset], "on_unchanged": "skip", **where}
    (sent,) = run_task(XetMirrorOperator, **options).message.outlet_events
    assert paths(files_of(sent["extra"])) == sorted([*MANY, "old.csv"])
    assert run_task(XetMirrorOperator, task_id="again", **options).state == "skipped"
    (source / "old.csv").unlink()
    write(source, {"day/000.csv": b"new\n"})
    (sent,) = run_task(XetMirrorOperator, task_id="third", **options).message.outlet_events
    found = changes_of(sent["extra"], xethub_conn_id=None)
    assert (paths(found["files"]), found["deleted"]) == (["day/000.csv"], ["old.csv"])


# --- what cannot be complete ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [None, "hf://datasets/acme/corpus", 7, [None], b""])
def test_what_is_not_an_event_is_refused(given):
    with pytest.raises(XetInputError, match="events must be asset events, or their extra or payload, not"):
        files_of(given)


def test_an_event_that_describes_no_commit_is_refused_and_the_error_says_what_is_missing():
    for extra in ({"from_rest_api": True}, {}, {"oid": "1" * 40}, {"payload": None}):
        with pytest.raises(XetInputError, match="of hf://datasets/acme/corpus does not describe a commit") as raised:
            files_of([event(extra, "hf://datasets/acme/corpus")])
        assert 'needs the extra {"repo": "hf://…", "oid": "…"}' in str(raised.value)


@pytest.mark.parametrize(
    "wrong",
    [
        {"oid": "main"},
        {"oid": 7},
        {"repo": "acme/corpus"},
        {"repo": 7},
        {"files": "a.csv"},
        {"files": [{"path": "a.csv"}]},
        {"deleted": [7]},
        {"file_count": -1},
        {"file_count": "all"},
        {"previous": "main", "file_count": None},
    ],
)
def test_an_edited_event_is_refused(wrong):
    extra = {"repo": "hf://datasets/acme/corpus@main", "oid": "1" * 40, "files": [], "file_count": 0, **wrong}
    if wrong.get("file_count", 0) is None:
        del extra["file_count"], extra["files"]
    with pytest.raises(XetInputError, match="An asset event has wrong content"):
        files_of(extra)


def test_without_the_connection_the_error_says_how_many_files_the_event_lists(publish, disconnect, repo):
    extra, watched = publish(MANY), {"repo": repo.uri, "oid": "1" * 40, "previous": "2" * 40}
    text = f"An event of {repo.uri} lists 100 of 150 files, and reading them from the Hub failed."
    with pytest.raises(XetInputError, match="xethub_conn_id is None") as raised:
        files_of(extra, xethub_conn_id=None)
    assert str(raised.value).startswith(text)
    disconnect()
    with pytest.raises(XetAirflowConnectionError, match="found no connection 'xethub_default'") as missing:
        files_of(extra)
    assert str(missing.value).startswith(text)
    with pytest.raises(
        XetAirflowConnectionError, match="does not list its files, and reading them from the Hub failed"
    ):
        files_of(watched)
    assert len(files_of({**extra, "files": extra["files"][:1], "file_count": 1})) == 1


def test_after_the_history_was_squashed_away_the_error_says_so(publish, hook, repo, commit, hub):
    extra, payload = publish(MANY), commit({"a": b"1\n"})
    text = f"The commits of an event are gone from {repo.uri}: its history was probably squashed. List the repository"
    for given in (extra, payload, [payload, extra]):
        hub.faults.add(
            Fault(
                "(GET|POST) .*/(commits|tree|paths-info)/.*",
                times=1,
                status=404,
                headers={"X-Error-Code": "RevisionNotFound"},
            )
        )
        with pytest.raises(XetRevisionNotFoundError) as raised:
            files_of(given)
        assert str(raised.value).startswith(text)
        assert str(raised.value).count("are gone") == 1
        hub.faults.clear()
    gone = {**payload, "previous": "e" * 40}
    with pytest.raises(XetRevisionNotFoundError, match="are gone"):
        files_of(gone)


def test_a_squashed_history_that_the_hub_still_has_changes_nothing(publish, hook, repo):
    extra = publish(MANY)
    before = hook.get_latest_commit(repo)["oid"]
    hook.api.super_squash_history(repo.repo_id, repo_type="dataset")
    assert paths(files_of(extra)) == sorted(MANY)
    after = hook.get_latest_commit(repo)
    assert changes_of({**after, "previous": before}) == {"files": [], "deleted": []}


def test_a_repository_that_is_gone_is_not_called_squashed(publish, hook, repo, hub):
    extra = publish(MANY)
    hook.api.delete_repo(repo.repo_id, repo_type="dataset")
    with pytest.raises(XetNotFoundError) as raised:
        files_of(extra)
    assert "squashed" not in str(raised.value)


def test_a_bucket_has_no_history_to_find_the_other_files_in(make_repo, hook, run_task, tmp_path):
    bucket = make_repo("bucket")
    asset = Asset(f"hf://buckets/{bucket.repo_id}")
    options = {"outlets": [asset], "repo_id": bucket.repo_id, "repo_type": "bucket"}
    few = run_task(XetUploadOperator, source=str(write(tmp_path / "few", {"a.bin": binary()})), **options)
    (file,) = files_of(few.message.outlet_events[0]["extra"], xethub_conn_id=None)
    assert file["repo"] == bucket.uri
    many = run_task(XetUploadOperator, source=str(write(tmp_path / "many", MANY)), **options)
    text = f"An event of {bucket.uri} lists 100 of 150 files, and a bucket has no history to find the others in"
    with pytest.raises(XetInputError, match=text):
        files_of(many.message.outlet_events[0]["extra"])


def test_a_commit_with_fewer_files_than_the_event_counts_is_an_error(publish, hook):
    extra = publish(MANY)
    with pytest.raises(XetProtocolError, match=r"changes 150 files, but its event counts 151: someone else committed"):
        files_of({**extra, "file_count": 151})


def test_an_outage_is_not_taken_for_an_empty_event(publish, hook, hub, monkeypatch):
    monkeypatch.setattr(hub_client, "MAX_TRIES", 1)
    extra = publish(MANY)
    hub.faults.add(Fault("POST .*/paths-info/.*", status=503))
    with pytest.raises(Exception, match="503"):
        files_of(extra)


# --- records of a commit in other operators ---------------------------------------------------------------------------


def test_records_of_a_commit_are_not_a_place_to_commit_to(publish, run_task, where, repo, hub):
    files = publish({"a.bin": binary()})["files"]
    failed = run_task(XetCommitOperator, files=files, **where)
    assert "name the revision to commit to, such as revision='main'" in failed.text
    assert failed.is_final
    done = run_task(XetCommitOperator, files=files, revision="main", **where)
    assert done.value["created"] is False
    copied = run_task(XetCopyOperator, files=files, path_in_repo="copy", **where)
    assert copied.value["repo"] == repo.uri


def test_files_of_several_commits_are_copied_by_one_task(publish, run_task, where, hook, commit, make_repo):
    extras = [publish({"a.csv": b"1\n", "b.bin": binary(seed=1)}), publish({"c.csv": b"1\n"})]
    commit({"a.csv": b"theirs\n", "c.csv": None})
    target = make_repo()
    run = run_task(XetCopyOperator, files=files_of(extras), repo_id=target.repo_id, repo_type="dataset")
    assert paths(run.value["files"]) == ["a.csv", "b.bin", "c.csv"]
    assert paths(hook.list_files(target)) == [".gitattributes", "a.csv", "b.bin", "c.csv"]


def test_a_function_on_files_of_a_commit_writes_to_the_repository_that_it_names(publish, where, repo, make_repo):
    from support.decorated import run

    def upper(file, output):
        (output / file.name).write_bytes(file.read_bytes().upper())

    def size(file):
        return file.stat().st_size

    (record,) = publish({"a.csv": TEXT})["files"]
    assert "name the revision to commit to" in run(upper, files=[record], **where).text
    assert run(upper, files=[record], revision="main", path_in_repo="upper", **where).value["created"]
    other = Repo(make_repo().repo_id, "dataset")
    done = run(upper, files=[record], repo_id=other.repo_id, repo_type="dataset")
    assert done.value["repo"] == other.uri
    assert run(size, files=[record], read_only=True).value == len(TEXT)
    assert run(size, files=[record], read_only=True, token=sealed(repo)).value == len(TEXT)


def test_a_mapped_task_takes_one_file_of_an_event_each(publish, run_dag, where, tmp_path):
    from airflow.sdk import task

    extra = publish({"a.csv": TEXT, "b.csv": TEXT})
    with new_dag() as dag:

        @task
        def published():
            return files_of(extra)

        XetDownloadOperator.partial(task_id="fetch", destination=str(tmp_path / "out")).expand(files=published())
    assert set(run_dag(dag).states.values()) == {"success"}
    assert names(tmp_path / "out") == ["a.csv", "b.csv"]


def test_the_result_of_a_commit_whose_files_are_a_manifest_is_read_from_the_commit(
    run_task, where, connection, tmp_path, monkeypatch
):
    monkeypatch.setenv("AIRFLOW__XETHUB__MANIFEST_FILES", "3")
    source = tmp_path / "published"
    write(source, {f"{n}.csv": f"{n}\n".encode() for n in range(5)})
    run_task(XetUploadOperator, source=str(source), **where)
    write(source, {f"{n}.csv": f"new {n}\n".encode() for n in range(1, 6)})
    result = run_task(XetUploadOperator, source=str(source), **where).value
    assert result["files"]["file_count"] == 6
    assert paths(files_of(result)) == [f"{n}.csv" for n in range(1, 6)]
