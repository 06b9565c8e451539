"""Which files differ between two commits, and how few requests that takes."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_xethub.exceptions import XetInputError, XetRevisionNotFoundError
from airflow_provider_xethub.xet.hub import changes as changes_module
from airflow_provider_xethub.xet.hub.changes import changes
from airflow_provider_xethub.xet.hub.client import Hub
from airflow_provider_xethub.xet.hub.history import parents
from xethub_local.metadata.commits import DeleteFile, PutRegular, PutXet


def name_of(repo):
    return f"{repo.repo_type}s/{repo.repo_id}"


@pytest.fixture
def client(hub):
    return Hub(hub.url, hub.token("read"))


@pytest.fixture
def commit(hub, repo):
    """Commits files by path, ``None`` to delete one; returns the commit's id."""

    def commit(files, title="a commit"):
        made = [
            DeleteFile(path) if content is None else PutRegular(path, content.encode())
            for path, content in files.items()
        ]
        return hub.commits.commit(name_of(repo), "main", made, title=title).commit.id

    return commit


def paths(found):
    return [file["path"] for file in found["files"]]


def test_a_comparison_has_new_changed_and_deleted_files_and_nothing_else(hub, client, repo, commit):
    one = commit({"same": "1", "changed": "1", "gone": "1", "d/same": "1", "e/gone": "1", "f/x": "1"})
    stored = hub.content.add_plain(b"\0" * 500, repository=name_of(repo))
    two = commit({"changed": "2", "gone": None, "new": "1", "d/e/new": "1", "e/gone": None, "f/x": None, "f": "a file"})
    hub.commits.commit(name_of(repo), "main", [PutXet("big", stored.xet_hash, stored.sha256, stored.size)], title="3")
    found = changes(client, repo.at(two), one)
    assert paths(found) == ["changed", "d/e/new", "f", "new"]
    assert found["deleted"] == ["e/gone", "f/x", "gone"]
    assert {file["repo"] for file in found["files"]} == {repo.at(two).uri}
    assert all(file["blob_id"] for file in found["files"])
    three = client.latest_commits(repo)[0]["oid"]
    (big,) = changes(client, repo.at(three), two)["files"]
    assert (big["sha256"], big["xet_hash"], big["size"]) == (stored.sha256, stored.xet_hash, 500)
    assert changes(client, repo.at(three), three) == {"files": [], "deleted": []}
    everything = changes(client, repo.at(three), None)
    assert paths(everything) == [file["path"] for file in client.list_files(repo)]
    back = changes(client, repo.at(one), three)
    assert (paths(back), back["deleted"]) == (
        ["changed", "e/gone", "f/x", "gone"],
        ["big", "d/e/new", "f", "new"],
    )


@pytest.mark.parametrize(
    ("path", "changed", "deleted"),
    [
        ("d", ["d/a"], ["d/e/b"]),
        ("d/", ["d/a"], ["d/e/b"]),
        ("d/a", ["d/a"], []),
        ("d/e/b", [], ["d/e/b"]),
        ("n", ["n/x/y"], []),
        ("elsewhere", [], []),
        ("other", ["other"], []),
    ],
)
def test_a_comparison_can_be_of_one_folder_or_file(client, repo, commit, path, changed, deleted):
    one = commit({"d/a": "1", "d/e/b": "1", "other": "1", "da": "1"})
    two = commit({"d/a": "2", "d/e/b": None, "other": "2", "da": "2", "n/x/y": "1"})
    found = changes(client, repo.at(two), one, path)
    assert (paths(found), found["deleted"]) == (changed, deleted)


def test_folders_without_a_change_are_not_listed(hub, client, repo, commit):
    one = commit({f"d{n}/e{n}/{m}": "1" for n in range(30) for m in range(3)})
    two = commit({"d7/e7/1": "2"})
    hub.log.clear()
    assert paths(changes(client, repo.at(two), one)) == ["d7/e7/1"]
    assert len(hub.log.requests(".*/tree/.*")) == 6


def test_many_changed_folders_are_listed_together(hub, client, repo, commit):
    one = commit({f"all/d{n}/x": "1" for n in range(300)} | {"all/gone/x": "1", "all/same/x": "1"})
    two = commit({f"all/d{n}/x": "2" for n in range(299)} | {"all/gone/x": None, "all/new/x": "1"})
    hub.log.clear()
    found = changes(client, repo.at(two), one)
    assert paths(found) == sorted([f"all/d{n}/x" for n in range(299)] + ["all/new/x"])
    assert found["deleted"] == ["all/gone/x"]
    assert len(hub.log.requests(".*/tree/.*")) == 6


def test_a_commit_that_does_not_exist_is_an_error_and_so_is_a_bucket(client, repo, commit, make_repo):
    one = commit({"a": "1"})
    for after, before in (("e" * 40, one), (one, "e" * 40)):
        for path in ("", "a"):
            with pytest.raises(XetRevisionNotFoundError):
                changes(client, repo.at(after), before, path)
    with pytest.raises(XetInputError, match="is a bucket: it has no commits to compare"):
        changes(client, make_repo("bucket"), None)


NAMES = st.sampled_from(["a", "b", "c/a", "c/b", "c/d/a", "c/d/e/f", "g/a", "g/h/a", "i/j/k/l", "m", "c-d/a", "ü/ö#?"])
TREES = st.dictionaries(NAMES, st.sampled_from(["1", "2"]), min_size=1)


@settings(max_examples=60)
@given(TREES, TREES, st.sampled_from(["", "c", "c/d", "g", "m", "ü"]), st.sampled_from([1, 2, 16]))
def test_a_comparison_agrees_with_two_listings(running_hub, before, after, path, most):
    hub = running_hub
    repo = hub.create_repo(f"local/r{uuid.uuid4().hex[:12]}", "dataset")
    client = Hub(hub.url, hub.token("read"))
    put = [PutRegular(each, content.encode()) for each, content in before.items()]
    one = hub.commits.commit(name_of(repo), "main", put, title="1").commit.id
    put = [DeleteFile(each) for each in before.keys() - after.keys()]
    put += [PutRegular(each, content.encode()) for each, content in after.items()]
    two = hub.commits.commit(name_of(repo), "main", put, title="2").commit.id
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(changes_module, "MAX_FOLDERS", most)
        found = changes(client, repo.at(two), one, path)
    inside = [each for each in before.keys() | after.keys() if not path or each == path or each.startswith(f"{path}/")]
    assert paths(found) == sorted(each for each in inside if each in after and after[each] != before.get(each))
    assert found["deleted"] == sorted(each for each in inside if each not in after)


# --- which commit comes before ----------------------------------------------------------------------------------------


def test_the_commit_before_another_is_found_in_the_history(hub, client, repo, commit):
    first = client.latest_commits(repo)[0]["oid"]
    made = [commit({"a": str(n)}) for n in range(5)]
    assert parents(client, repo.at(made[3]), [made[3]]) == {made[3]: made[2]}
    assert parents(client, repo.at(made[4]), [made[0], made[3], made[4]]) == {
        made[0]: first,
        made[3]: made[2],
        made[4]: made[3],
    }
    assert parents(client, repo.at(first), [first]) == {first: None}
    for missing in ("e" * 40, made[4]):
        with pytest.raises(XetRevisionNotFoundError):
            parents(client, repo.at(made[2]), [missing])
