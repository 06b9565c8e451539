"""``XetMirrorOperator``: a folder of a repository becomes equal to a source, and a destination to a folder."""

from __future__ import annotations

from functools import partial

import pytest

from airflow_provider_xethub.exceptions import (
    XetInputError,
)
from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.operators.xethub import XetMirrorOperator
from support.builders import TEXT, binary, write
from support.commit_builders import titles
from support.repository_trees import read_tree
from xethub_local.control.fault import Fault

AT_ONCE = {"Retry-After": "0"}
COMMIT = "POST /api/datasets/.*/commit/.*"


@pytest.fixture
def source(tmp_path):
    """A folder to mirror."""
    return write(tmp_path / "source", {"a.bin": binary(), "b.csv": TEXT, "d/c.bin": binary(seed="c")})


@pytest.fixture
def mirror(connection, repo, run_task):
    """Runs a mirror of the test's repository."""

    def run(**options):
        given = {"repo_id": repo.repo_id, "repo_type": repo.repo_type, **options}
        return run_task(XetMirrorOperator, **given)

    return run


@pytest.fixture
def there(hub):
    """Returns what a repository has, by path, without what every repository begins with."""
    return partial(read_tree, hub)


def content(folder) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "give either source or destination"),
        ({"source": "/a", "destination": "/b"}, "give either source or destination"),
        ({"source": "{{ none }}"}, "source is empty"),
        ({"source": ""}, "source is empty"),
        ({"source": "['a', 'b']"}, "source is a list that a template turned into a string"),
        ({"source": ["a", "b"]}, "needs one folder as source"),
        ({"source": __file__}, "is not a folder"),
        ({"source": "/tmp", "protect": []}, "protect is empty"),
        ({"source": "/tmp", "patterns": ""}, "patterns is empty"),
        ({"source": "/tmp", "path_in_repo": "a/../b"}, "is not valid"),
        ({"source": "/tmp", "path_in_repo": ""}, "path_in_repo is empty"),
        ({"source": "/tmp", "max_delete_share": 50}, "max_delete_share must be a number from 0 to 1"),
        ({"source": "/tmp", "max_delete_share": "{{ none }}"}, "max_delete_share must be a number from 0 to 1"),
        ({"source": "/tmp", "dry_run": "False"}, "dry_run must be True or False"),
        ({"source": "/tmp", "allow_empty": "False"}, "allow_empty must be True or False"),
        ({"destination": "/tmp/x", "create_pr": True}, "create_pr, create_repo and parent_commit need a source"),
        ({"destination": "", "source": None}, "destination is empty"),
    ],
)
def test_wrong_arguments_are_refused_before_any_request(hub, mirror, options, said):
    run = mirror(**options)
    assert run.is_final
    assert isinstance(run.error, XetInputError)
    assert said in run.text
    assert not hub.log.requests("(POST|PUT) .*")


def test_a_dry_run_predicts_the_mirror_and_touches_nothing(hub, repo, mirror, source, there, capsys):
    mirror(source=str(source))
    (source / "a.bin").write_bytes(binary(seed="new"))
    (source / "b.csv").unlink()
    write(source, {"new.csv": TEXT})
    before = there(repo)
    hub.log.clear()
    capsys.readouterr()
    plan = mirror(source=str(source), dry_run=True).value
    assert there(repo) == before
    assert not hub.log.requests("(PUT|DELETE) .*")
    assert {request.path.rpartition("/")[0].rpartition("/")[2] for request in hub.log.requests("POST .*")} <= {
        "paths-info"
    }
    text = capsys.readouterr().out
    assert "1 added, 1 changed, 1 removed, 1 unchanged" in text
    assert "at most 5.0 kB to send" in text
    assert all(line in text for line in ("added    new.csv", "changed  a.bin", "removed  b.csv"))
    assert mirror(source=str(source)).value["plan"] == plan


def test_a_retry_reports_the_commit_whose_answer_was_lost(hub, repo, mirror, source, monkeypatch):
    mirror(source=str(source))
    (source / "b.csv").unlink()
    write(source, {"new.csv": TEXT, "a.bin": binary(seed="new")})
    _lose_the_commit(hub, monkeypatch)
    assert mirror(source=str(source)).state == "up_for_retry"
    hub.faults.clear()
    result = mirror(source=str(source), try_number=2).value
    assert len(titles(hub, repo)) == 2
    assert (result["created"], result["deleted"]) == (True, ["b.csv"])
    assert [file["path"] for file in result["files"]] == ["a.bin", "new.csv"]
    plan = result["plan"]
    assert (plan["added"], plan["changed"], plan["removed"]) == (["new.csv"], ["a.bin"], ["b.csv"])


def test_a_task_that_is_cleared_mirrors_what_is_in_the_source_now(hub, repo, mirror, source, there):
    mirror(source=str(source))
    write(source, {"later.csv": TEXT})
    result = mirror(source=str(source), try_number=2).value
    assert result["plan"]["added"] == ["later.csv"]
    assert there(repo) == content(source)


def _lose_the_commit(hub, monkeypatch):
    """Lets the commit succeed, and all requests after it fail."""
    from airflow_provider_xethub.xet.hub import client

    monkeypatch.setattr(client, "MAX_TRIES", 1)
    hub.faults.add(Fault(COMMIT, lose_answer=True, status=503))
    hub.faults.add(Fault("GET /api/datasets/.*/commits/.*", skip=1, status=503))


def test_in_xcom_a_long_plan_names_the_first_paths_and_counts_all(mirror, tmp_path, monkeypatch):
    monkeypatch.setenv("AIRFLOW__XETHUB__MANIFEST_FILES", "110")
    source = write(tmp_path / "many", {f"{n:03}.bin": b"\0%d" % n for n in range(111)})
    plan = mirror(source=str(source), dry_run=True).value
    assert (len(plan["added"]), plan["added_count"], plan["removed"]) == (100, 111, [])
    assert "removed_count" not in plan
    published = mirror(source=str(source)).value
    assert published["plan"] == {**plan, "oid": published["plan"]["oid"]}
    assert published["files"]["file_count"] == 111
    monkeypatch.setenv("AIRFLOW__XETHUB__MANIFEST_STORAGE", f"file://{tmp_path / 'manifests'}")
    received = mirror(destination=str(tmp_path / "copy")).value
    assert received["plan"]["added_count"] == 112, "with .gitattributes"
    assert received["files"]["manifest"] == "storage"
    places = [file["local_path"] for file in XetHubConnection().read_files(received["files"])]
    assert f"{tmp_path / 'copy'}/110.bin" in places
