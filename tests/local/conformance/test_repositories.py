"""Repositories: made, described, renamed and deleted; their branches, tags and history."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable

import pytest

from support.hub_wire import Wire, error_of

ISO_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
COMMIT_ID = re.compile(r"[0-9a-f]{40}")


def fresh() -> str:
    return f"r{uuid.uuid4().hex[:12]}"


def test_creating_a_repository_returns_its_url(wire: Wire) -> None:
    name = fresh()
    answer = wire("POST", "/api/repos/create", json={"name": name, "organization": "local", "type": "dataset"})
    assert answer.status_code == 200
    assert answer.json()["url"] == f"{wire.hub.url}/datasets/local/{name}"
    assert re.fullmatch("[0-9a-f]{24}", answer.json()["id"])


def test_a_repository_without_a_type_is_a_model(wire: Wire) -> None:
    name = fresh()
    assert wire("POST", "/api/repos/create", json={"name": name, "organization": "local"}).json()["url"] == (
        f"{wire.hub.url}/local/{name}"
    )
    assert wire.get(f"/api/models/local/{name}")["id"] == f"local/{name}"


def test_a_repository_without_a_namespace_is_in_the_users_own(wire: Wire) -> None:
    name = fresh()
    answer = wire("POST", "/api/repos/create", json={"name": name, "organization": None, "type": "dataset"})
    assert answer.json()["url"] == f"{wire.hub.url}/datasets/local/{name}"


def test_creating_an_existing_repository_is_409_with_its_url(wire: Wire) -> None:
    namespace, name = wire.repo.repo_id.split("/")
    answer = wire("POST", "/api/repos/create", json={"name": name, "organization": namespace, "type": "dataset"})
    assert (answer.status_code, answer.json()["url"]) == (409, wire.hub.url + wire.web)


def test_the_visibility_of_a_new_repository_can_be_chosen(wire: Wire) -> None:
    for visibility, private in (("private", True), ("public", False)):
        name = fresh()
        body = {"name": name, "organization": "local", "type": "dataset", "visibility": visibility}
        assert wire("POST", "/api/repos/create", json=body).status_code == 200
        assert wire.get(f"/api/datasets/local/{name}")["private"] is private


def test_a_new_repository_has_gitattributes_and_an_initial_commit(wire: Wire) -> None:
    assert [one["path"] for one in wire.get("{one}/tree/main")] == [".gitattributes"]
    assert [one["title"] for one in wire.get("{one}/commits/main")] == ["initial commit"]
    rules = wire("GET", wire.web + "/raw/main/.gitattributes").text
    assert "*.bin filter=lfs diff=lfs merge=lfs -text" in rules.splitlines()


def test_a_repository_describes_itself(wire: Wire) -> None:
    wire.put("a.txt")
    found = wire.get("{one}")
    assert found["id"] == wire.repo.repo_id
    assert COMMIT_ID.fullmatch(found["sha"])
    assert re.fullmatch("[0-9a-f]{24}", found["_id"])
    assert ISO_TIME.fullmatch(found["lastModified"])
    assert ISO_TIME.fullmatch(found["createdAt"])
    assert (found["private"], found["gated"], found["disabled"]) == (False, False, False)
    assert {"rfilename": "a.txt"} in found["siblings"]


def test_files_have_details_with_blobs_only(wire: Wire, stored: object) -> None:
    wire.put("a.txt")
    plain = {one["rfilename"]: one for one in wire.get("{one}")["siblings"]}
    assert plain["d/a.bin"] == {"rfilename": "d/a.bin"}
    blobs = {one["rfilename"]: one for one in wire.get("{one}?blobs=true")["siblings"]}
    assert blobs["d/a.bin"]["lfs"].keys() == {"sha256", "size", "pointerSize"}
    assert "lfs" not in blobs["a.txt"]
    assert (blobs["a.txt"]["size"], len(blobs["a.txt"]["blobId"])) == (5, 40)


def test_a_repository_is_described_at_a_revision(wire: Wire) -> None:
    first = wire.put("a.txt")
    wire.put("b.txt")
    for revision in (first, first[:7]):
        found = wire.get(f"{{one}}/revision/{revision}")
        assert (found["sha"], len(found["siblings"])) == (first, 2)


def test_a_missing_repository_has_its_own_error_code(wire: Wire) -> None:
    error_of(wire("GET", "/api/datasets/local/nothing"), 404, "RepoNotFound")
    error_of(wire("GET", "/api/datasets/nothing"), 404, "RepoNotFound")


def test_a_missing_revision_has_its_own_error_code(wire: Wire) -> None:
    for path in ("/revision/nowhere", "/tree/nowhere", "/commits/nowhere", "/xet-read-token/nowhere"):
        assert "Invalid rev id" in error_of(wire("GET", "{one}" + path), 404, "RevisionNotFound")


def test_an_error_names_itself_in_header_and_body(wire: Wire) -> None:
    answer = wire("GET", "{one}/revision/nowhere")
    assert answer.headers["X-Error-Message"] == answer.json()["error"]


def test_a_request_has_an_id(wire: Wire) -> None:
    for path in ("{one}", "/api/datasets/local/nothing"):
        assert wire("GET", path).headers["X-Request-Id"]
    assert wire("GET", "{one}", headers={"X-Amzn-Trace-Id": "mine"}).headers["X-Request-Id"]


def test_deleting_a_repository_ends_it(wire: Wire) -> None:
    namespace, name = wire.repo.repo_id.split("/")
    body = {"name": name, "organization": namespace, "type": "dataset"}
    assert wire("DELETE", "/api/repos/delete", json=body).status_code == 200
    error_of(wire("GET", "{one}"), 404, "RepoNotFound")
    assert error_of(wire("DELETE", "/api/repos/delete", json=body), 404, "RepoNotFound") == "Repository not found"


def test_a_renamed_repository_is_found_under_both_names(wire: Wire) -> None:
    new = f"local/{fresh()}"
    body = {"fromRepo": wire.repo.repo_id, "toRepo": new, "type": "dataset"}
    assert wire("POST", "/api/repos/move", json=body).status_code == 200
    assert wire.get(f"/api/datasets/{new}")["id"] == new
    answer = wire("GET", "{one}")
    assert (answer.status_code, answer.headers["Location"]) == (307, f"/api/datasets/{new}")


def test_renaming_to_an_existing_name_is_refused(wire: Wire, of: Callable[..., Wire]) -> None:
    one, other = of("model"), of("model")
    body = {"fromRepo": one.repo.repo_id, "toRepo": other.repo.repo_id, "type": "model"}
    answer = wire("POST", "/api/repos/move", json=body)
    assert answer.status_code == 409
    assert re.search(r"A model repository called .* already exists", answer.text)


def test_names_of_repositories_ignore_case(wire: Wire) -> None:
    answer = wire("GET", f"/api/datasets/{wire.repo.repo_id.upper()}", allow_redirects=True)
    assert (answer.status_code, answer.json()["id"]) == (200, wire.repo.repo_id)


def test_settings_make_a_repository_private(wire: Wire) -> None:
    for body, private in (({"visibility": "private"}, True), ({"private": False}, False)):
        assert wire("PUT", "{one}/settings", json=body).status_code == 200
        assert wire.get("{one}")["private"] is private


def test_repositories_are_listed_with_a_link_to_the_next_page(wire: Wire, of: Callable[..., Wire]) -> None:
    of()
    answer = wire("GET", "/api/datasets?author=local&limit=1")
    assert len(answer.json()) == 1
    assert answer.links["next"]["url"].startswith(wire.hub.url + "/api/datasets?")
    following = wire("GET", answer.links["next"]["url"])
    assert following.json()[0]["id"] != answer.json()[0]["id"]


def test_an_unknown_expansion_is_400(wire: Wire) -> None:
    assert wire("GET", "{one}?expand=foo").status_code == 400
    assert wire.get("{one}?expand=author").keys() == {"_id", "id", "author"}


def test_a_card_is_checked_without_a_commit(wire: Wire) -> None:
    for content, errors in (("---\nlicense: mit\n---\n", 0), ("---\ntags: [a, [b\n---\n", 1)):
        answer = wire("POST", "/api/validate-yaml", json={"content": content, "repoType": "dataset"})
        assert len(answer.json()["errors"]) == errors
        assert isinstance(answer.json()["warnings"], list)


# --- branches, tags, history ------------------------------------------------------------------------------------------


def test_references_are_listed_by_kind(wire: Wire) -> None:
    head = wire.put("a.txt")
    wire("POST", "{one}/tag/main", json={"tag": "v1"})
    found = wire.get("{one}/refs")
    assert found["branches"] == [{"name": "main", "ref": "refs/heads/main", "targetCommit": head}]
    assert found["tags"] == [{"name": "v1", "ref": "refs/tags/v1", "targetCommit": head}]
    assert found["converts"] == []
    assert "pullRequests" not in found


def test_references_of_pull_requests_are_listed_on_request(wire: Wire) -> None:
    wire.put("a.txt", query="?create_pr=1")
    (found,) = wire.get("{one}/refs?include_prs=1")["pullRequests"]
    assert found["ref"] == "refs/pr/1"


def test_a_branch_starts_where_it_is_told(wire: Wire) -> None:
    first = wire.put("a.txt")
    head = wire.put("b.txt")
    assert wire("POST", "{one}/branch/new", json={}).status_code == 200
    assert wire("POST", "{one}/branch/old", json={"startingPoint": first}).status_code == 200
    found = {one["name"]: one["targetCommit"] for one in wire.get("{one}/refs")["branches"]}
    assert found == {"main": head, "new": head, "old": first}


def test_a_branch_that_exists_is_409(wire: Wire) -> None:
    for _ in range(2):
        answer = wire("POST", "{one}/branch/new", json={})
    assert "Reference refs/heads/new already exists" in error_of(answer, 409)


def test_a_branch_may_have_the_name_of_a_tag(wire: Wire) -> None:
    wire("POST", "{one}/tag/main", json={"tag": "same"})
    assert wire("POST", "{one}/branch/same", json={}).status_code == 200


def test_the_main_branch_is_not_deleted(wire: Wire) -> None:
    answer = wire("DELETE", "{one}/branch/main")
    assert answer.status_code >= 400
    assert "Cannot delete refs/heads/main" in answer.text


def test_deleting_a_missing_branch_is_an_invalid_revision(wire: Wire) -> None:
    wire("POST", "{one}/tag/main", json={"tag": "tag"})
    for name in ("nothing", "tag"):
        assert "Invalid rev id" in error_of(wire("DELETE", f"{{one}}/branch/{name}"), 404, "RevisionNotFound")


def test_a_branch_with_a_slash_is_one_escaped_segment(wire: Wire) -> None:
    assert wire("POST", "{one}/branch/dev%2Fx", json={}).status_code == 200
    commit = wire.put("a.txt", revision="dev%2Fx")
    assert wire.get("{one}/revision/dev%2Fx")["sha"] == commit


def test_a_tag_names_a_branch_a_commit_or_a_pull_request(wire: Wire) -> None:
    head = wire.put("a.txt")
    proposed = wire.put("b.txt", query="?create_pr=1")
    for name, revision, commit in (("a", "main", head), ("b", head[:7], head), ("c", "refs%2Fpr%2F1", proposed)):
        assert wire("POST", f"{{one}}/tag/{revision}", json={"tag": name}).status_code == 200
        assert wire.get(f"{{one}}/revision/{name}")["sha"] == commit


def test_a_tag_that_exists_is_409(wire: Wire) -> None:
    for _ in range(2):
        answer = wire("POST", "{one}/tag/main", json={"tag": "v1"})
    error_of(answer, 409)


def test_a_tag_of_a_missing_revision_is_refused(wire: Wire) -> None:
    error_of(wire("POST", "{one}/tag/foobar", json={"tag": "v1"}), 404, "RevisionNotFound")


def test_an_invalid_tag_is_refused(wire: Wire) -> None:
    assert 400 <= wire("POST", "{one}/tag/main", json={"tag": "invalid tag"}).status_code < 500


def test_deleting_a_missing_tag_is_an_invalid_revision(wire: Wire) -> None:
    error_of(wire("DELETE", "{one}/tag/v1"), 404, "RevisionNotFound")
    wire("POST", "{one}/tag/main", json={"tag": "v1"})
    assert wire("DELETE", "{one}/tag/v1").status_code == 200
    error_of(wire("GET", "{one}/revision/v1"), 404, "RevisionNotFound")


def test_history_is_newest_first(wire: Wire) -> None:
    head = wire.put("a.txt")
    answer = wire("GET", "{one}/commits/main")
    newest, oldest = answer.json()
    assert (newest["id"], oldest["title"]) == (head, "initial commit")
    assert newest.keys() >= {"id", "title", "message", "date", "authors"}
    assert newest["authors"][0]["user"] == "local"
    assert answer.headers["X-Total-Count"] == "2"


def test_history_is_paged(wire: Wire) -> None:
    head = wire.put("a.txt")
    answer = wire("GET", "{one}/commits/main?limit=1")
    assert [one["id"] for one in answer.json()] == [head]
    (last,) = wire("GET", answer.links["next"]["url"]).json()
    assert last["title"] == "initial commit"


def test_history_is_formatted_on_request(wire: Wire) -> None:
    assert "formatted" not in wire.get("{one}/commits/main")[0]
    (found,) = wire.get("{one}/commits/main?expand[]=formatted")
    assert found["formatted"].keys() == {"title", "message"}


@pytest.mark.parametrize("revision", ["main", "refs%2Fpr%2F1"])
def test_a_squashed_branch_has_one_commit(wire: Wire, revision: str) -> None:
    wire.put("a.txt")
    wire.put("b.txt", query="?create_pr=1")
    answer = wire("POST", f"{{one}}/super-squash/{revision}", json={"message": "All in one"})
    assert answer.status_code == 200
    assert [one["title"] for one in wire.get(f"{{one}}/commits/{revision}")] == ["All in one"]


def test_commits_of_other_branches_survive_a_squash(wire: Wire) -> None:
    wire.put("a.txt")
    wire("POST", "{one}/branch/v1", json={})
    wire("POST", "{one}/super-squash/main", json={"message": "m"})
    assert len(wire.get("{one}/commits/v1")) == 2
