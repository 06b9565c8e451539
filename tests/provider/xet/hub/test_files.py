"""Files and commits as the Hub tells them."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from airflow_provider_xethub.exceptions import (
    XetConnectionError,
    XetInputError,
    XetNotFoundError,
    XetProtocolError,
)
from airflow_provider_xethub.xet.hub import client as hub_module
from airflow_provider_xethub.xet.hub.client import Hub
from airflow_provider_xethub.xet.network import bounded_answers
from airflow_provider_xethub.xet.publish.commit import git_blob_id
from airflow_provider_xethub.xet.repo import Repo
from support.small_server import Answer, Asked, SmallServer
from support.spans import recording
from xethub_local.metadata.commits import PutRegular, PutXet

REPO = Repo("acme/corpus", "dataset")


def client(hub) -> Hub:
    return Hub(hub.url, hub.token())


def name_of(repo: Repo) -> str:
    return f"{repo.repo_type}s/{repo.repo_id}"


def commit(hub, repo: Repo, *changes, title="a commit", **options):
    return hub.commits.commit(name_of(repo), repo.revision, changes, title=title, **options).commit


def put_xet(hub, repo: Repo, path: str, content: bytes) -> PutXet:
    stored = hub.content.add_plain(content, repository=name_of(repo))
    return PutXet(path, stored.xet_hash, stored.sha256, stored.size)


def entry(path: str, **fields) -> dict:
    return {"type": "file", "path": path, "size": 1, "oid": "0" * 40, **fields}


def in_pages(*pages: list) -> SmallServer:
    """A server that lists these pages, each with a link to the next."""

    def answer(asked: Asked) -> Answer:
        number = int(asked.query.get("page", ["0"])[0])
        is_last = number + 1 == len(pages)
        return Answer(pages[number], headers={} if is_last else {"Link": f'<?page={number + 1}>; rel="next"'})

    return SmallServer(answer)


def assert_unlike_a_hub(error: BaseException, url: str, kind: str, about: str) -> None:
    assert str(error).startswith(f"{url} did not answer like a Hub")
    assert f" with {kind}." in str(error)
    assert str(error).endswith(f"This was the answer to {about}.")


# --- listing


def test_a_listing_has_records_in_the_order_of_paths(hub, repo):
    change = put_xet(hub, repo, "b/data.bin", b"\x00" * 500)
    commit(hub, repo, change, PutRegular("a.txt", b"hello"), PutRegular("b/z/deep.txt", b""))
    listed = client(hub).list_files(repo)
    assert [file["path"] for file in listed] == [".gitattributes", "a.txt", "b/data.bin", "b/z/deep.txt"]
    assert listed[1] == {
        "path": "a.txt",
        "size": 5,
        "sha256": None,
        "xet_hash": None,
        "repo": repo.uri,
        "blob_id": git_blob_id(b"hello"),
    }
    assert listed[2] == {
        "path": "b/data.bin",
        "size": 500,
        "sha256": change.sha256,
        "xet_hash": change.xet_hash,
        "repo": repo.uri,
    }


def test_a_folder_is_listed_with_what_lies_below_it(hub, repo):
    commit(hub, repo, PutRegular("a b/ü.txt", b"1"), PutRegular("a b/c/d.txt", b"1"), PutRegular("other.txt", b"1"))
    assert [file["path"] for file in client(hub).list_files(repo, "a b")] == ["a b/c/d.txt", "a b/ü.txt"]


def test_a_listing_is_of_the_revision_asked_for(hub, repo):
    first = commit(hub, repo, PutRegular("old.txt", b"1"))
    commit(hub, repo, PutRegular("new.txt", b"1"))
    hub.repositories.create_branch(name_of(repo), "feature/ü", first.id)
    branch = repo.at("feature/ü")
    listed = client(hub).list_files(branch)
    assert [file["path"] for file in listed] == [".gitattributes", "old.txt"]
    assert {file["repo"] for file in listed} == {branch.uri}


def test_more_files_than_fit_on_a_page_are_all_listed_once(hub, repo):
    commit(hub, repo, *(PutRegular(f"many/{number:04}.txt", b"1") for number in range(2345)))
    listed = client(hub).list_files(repo)
    assert [file["path"] for file in listed][1:] == [f"many/{number:04}.txt" for number in range(2345)]
    assert len(hub.log.requests("GET .*/tree/main")) == 3


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("nowhere", "Path not found .*the listing of nowhere in hf://"),
        (None, "the listing of all files"),
    ],
)
def test_a_listing_of_what_is_not_there_fails(hub, repo, path, text):
    missing = repo if path else Repo("local/nowhere", "dataset")
    with pytest.raises(XetNotFoundError, match=text):
        client(hub).list_files(missing, path)


@pytest.mark.parametrize("link", ["{url}/api/x?cursor=2", "/api/x?cursor=2", "?cursor=2"])
def test_the_next_page_may_be_named_in_every_form_of_url(link):
    def answer(asked: Asked) -> Answer:
        if "cursor" in asked.query:
            return Answer([entry("b")])
        assert asked.query == {"recursive": ["true"]}
        return Answer([entry("a")], headers={"Link": f'<{link.format(url=server.url)}>; rel="next"'})

    with SmallServer(answer) as server:
        assert [file["path"] for file in Hub(server.url).list_files(REPO)] == ["a", "b"]
    assert len(server.asked) == 2


@pytest.mark.parametrize("with_scheme", [True, False])
def test_a_next_page_on_another_origin_is_refused(with_scheme):
    with SmallServer(Answer([])) as elsewhere:
        to = elsewhere.url if with_scheme else elsewhere.url.removeprefix("http:")
        page = Answer([entry("a")], headers={"Link": f'<{to}/x>; rel="next"'})
        with SmallServer(page) as server, pytest.raises(XetProtocolError) as caught:
            Hub(server.url, "hf_x").list_files(REPO)
    assert elsewhere.asked == []
    kind = f"a next page on another server ({elsewhere.url})"
    assert_unlike_a_hub(caught.value, server.url, kind, f"the listing of all files in {REPO}")


def test_pages_in_a_circle_end():
    page = Answer([entry("a")], headers={"Link": '</again>; rel="next"'})
    with SmallServer(page) as server, pytest.raises(XetProtocolError) as caught:
        Hub(server.url).list_files(REPO)
    assert len(server.asked) == 2
    about = f"the listing of all files in {REPO}"
    assert_unlike_a_hub(caught.value, server.url, "pages that link in a circle", about)


def test_empty_pages_end_only_where_there_are_too_many_in_a_row(monkeypatch):
    monkeypatch.setattr(bounded_answers, "MAX_EMPTY_PAGES", 3)
    with in_pages([], [], [entry("a")], [], [], [entry("b")]) as server:
        assert [file["path"] for file in Hub(server.url).list_files(REPO)] == ["a", "b"]
    with in_pages([entry("a")], [], [], [], [entry("b")]) as server, pytest.raises(XetProtocolError) as caught:
        Hub(server.url).list_files(REPO)
    assert len(server.asked) == 4
    assert_unlike_a_hub(caught.value, server.url, "too many pages", f"the listing of all files in {REPO}")


def test_a_listing_stops_at_the_page_with_enough_entries():
    with in_pages([entry("a"), entry("b")], [entry("c")]) as server:
        assert Hub(server.url).tree(REPO, recursive=True, enough=2) == [entry("a"), entry("b")]
        assert len(server.asked) == 1
        assert len(Hub(server.url).tree(REPO, recursive=True, enough=3)) == 3


def test_the_whole_listing_of_a_commit_is_kept_and_no_part_of_one():
    at_commit = REPO.at("1" * 40)
    with in_pages([entry("a")], [entry("b")]) as server:
        hub = Hub(server.url)
        hub.tree(at_commit, recursive=True, enough=2)
        assert hub.listed_tree(at_commit) is None
        assert hub.tree(at_commit, recursive=True) == hub.listed_tree(at_commit) == [entry("a"), entry("b")]


def test_a_listing_is_traced_with_its_repository():
    with in_pages([entry("a")]) as server, recording() as spans:
        Hub(server.url).list_files(REPO)
    (span,) = spans
    assert (span.name, span.attributes["xethub.repository"]) == ("xethub.listing", "acme/corpus")


def test_a_folder_of_a_bucket_is_not_what_begins_with_its_name():
    with in_pages([entry("logs.json"), entry("logs/a"), entry("logs_old/b")]) as server:
        assert Hub(server.url).tree(Repo("acme/b", "bucket"), "logs", recursive=True) == [entry("logs/a")]


# --- single files


def test_files_are_told_in_the_order_asked_for_and_missing_ones_left_out(hub, repo):
    commit(hub, repo, *(PutRegular(path, b"1") for path in ("a.txt", "b/c.txt", "d ü.txt")))
    asked = ["d ü.txt", "nowhere.txt", "b", "b/c.txt", "a.txt"]
    assert [file["path"] for file in client(hub).get_files(repo, asked)] == ["d ü.txt", "b/c.txt", "a.txt"]
    assert client(hub).get_files(repo, []) == []


def test_the_order_is_the_callers_whatever_the_hubs_is():
    with SmallServer(Answer([entry("b"), entry("a"), entry("c")])) as server:
        assert [file["path"] for file in Hub(server.url).get_files(REPO, ["c", "b", "a"])] == ["c", "b", "a"]


def test_existing_paths_are_files_and_folders(hub, repo):
    commit(hub, repo, PutRegular("b/c.txt", b"1"))
    assert client(hub).existing_paths(repo, ["b", "b/c.txt", "nowhere"]) == {"b/", "b/c.txt"}


def test_many_paths_are_asked_for_in_batches(hub, repo, monkeypatch):
    monkeypatch.setattr(hub_module, "MAX_PATHS", 2)
    commit(hub, repo, *(PutRegular(f"{number}", b"1") for number in range(5)))
    found = client(hub).get_files(repo, [str(number) for number in range(5)])
    assert [file["path"] for file in found] == ["0", "1", "2", "3", "4"]
    assert len(hub.log.requests("POST .*/paths-info/main")) == 3


@pytest.mark.parametrize(
    ("repo", "path"),
    [
        (REPO.at("a/b"), "/api/datasets/acme/corpus/paths-info/a%2Fb"),
        (Repo("acme/b", "bucket"), "/api/buckets/acme/b/paths-info"),
    ],
    ids=str,
)
def test_the_last_change_of_a_path_is_asked_for_only_where_it_is_wanted(repo, path):
    with SmallServer(Answer([])) as server:
        Hub(server.url).paths_info(repo, ["a"])
        Hub(server.url).paths_info(repo, ["a"], expand=True)
    assert [asked.path for asked in server.asked] == [path, path]
    assert [asked.lines for asked in server.asked] == [[{"paths": ["a"], "expand": each}] for each in (False, True)]


def test_a_message_names_at_most_three_of_the_paths(hub):
    with pytest.raises(
        XetNotFoundError, match=r"the metadata request for 1, 2, 3 … in hf://datasets/local/nowhere@main"
    ):
        client(hub).get_files(Repo("local/nowhere", "dataset"), ["1", "2", "3", "4"])


def test_an_inline_file_is_read_from_the_repository(hub, make_repo):
    for repo_type in ("model", "dataset", "space"):
        repo = make_repo(repo_type)
        commit(hub, repo, PutRegular("a b/ü#?.txt", "grüße\n".encode()))
        assert client(hub).read_inline(repo, "a b/ü#?.txt") == "grüße\n".encode()
    with pytest.raises(XetNotFoundError, match=r"Path not found .*the download of nowhere from "):
        client(hub).read_inline(repo, "nowhere")


def test_a_bucket_is_listed_without_a_revision(hub, make_repo):
    bucket = make_repo("bucket")
    assert client(hub).list_files(bucket) == []
    assert [asked.path for asked in hub.log.requests(f".* {bucket.api_path}.*")] == [
        f"/api/buckets/{bucket.repo_id}/tree"
    ]


# --- commits


def test_the_newest_commits_come_first(hub, repo):
    made = [commit(hub, repo, PutRegular("a", b"%d" % n), title=f"no {n}", message=f"text {n}") for n in range(3)]
    newest = client(hub).latest_commits(repo, 2)
    assert [each["title"] for each in newest] == ["no 2", "no 1"]
    assert newest[0] == {
        "oid": made[2].id,
        "url": f"{hub.url}/datasets/{repo.repo_id}/commit/{made[2].id}",
        "repo": repo.uri,
        "title": "no 2",
        "description": "text 2",
    }
    assert len(client(hub).latest_commits(repo)) == 1


def test_a_bucket_has_no_commits():
    with pytest.raises(XetInputError, match="hf://buckets/acme/b is a bucket: it has no commits"):
        Hub("http://127.0.0.1:1").latest_commits(Repo("acme/b", "bucket"))


def test_a_hub_that_ignores_the_limit_is_cut_short():
    with SmallServer(Answer([{"id": "1" * 40}, {"id": "2" * 40}])) as server:
        (only,) = Hub(server.url).latest_commits(REPO)
    assert (only["oid"], only["title"], only["description"]) == ("1" * 40, "", "")
    assert server.asked[0].query == {"limit": ["1"]}


# --- answers of the wrong shape


WRONG_ENTRIES: list[Any] = [
    {},
    None,
    "x",
    5,
    [],
    {"path": "a", "size": 1},
    {"type": "file", "size": 1},
    {"type": "file", "path": "a"},
    {"type": "file", "path": 5, "size": 1},
    {"type": "file", "path": "a", "size": None},
    {"type": "file", "path": "a", "size": "1"},
    {"type": "file", "path": "a", "size": 1, "lfs": "x"},
]


@pytest.mark.parametrize("wrong", [*({"entries": [each]} for each in WRONG_ENTRIES), {"entries": {}}, {"entries": "x"}])
def test_wrong_entries_are_a_protocol_error(wrong):
    with SmallServer(Answer(wrong["entries"])) as server:
        for ask in (lambda hub: hub.list_files(REPO), lambda hub: hub.get_files(REPO, ["a"])):
            with pytest.raises(XetProtocolError, match="Check that the host of the connection is a Hub"):
                ask(Hub(server.url))


@pytest.mark.parametrize(
    ("ask", "answer", "kind", "about"),
    [
        (lambda hub: hub.list_files(REPO, "d"), {}, "JSON that is not a list", f"the listing of d in {REPO}"),
        (lambda hub: hub.list_files(REPO, "d"), [5], "an entry that is not an object", f"the listing of d in {REPO}"),
        (
            lambda hub: hub.get_files(REPO, ["a"]),
            {},
            "JSON that is not a list",
            f"the metadata request for a in {REPO}",
        ),
        (
            lambda hub: hub.get_files(REPO, ["a", "b", "c"]),
            [5],
            "an entry that is not an object",
            f"the metadata request for a, b, c in {REPO}",
        ),
        (
            lambda hub: hub.existing_paths(REPO, ["a"]),
            [5],
            "an entry that is not an object",
            f"the metadata request for a in {REPO}",
        ),
        (lambda hub: hub.latest_commits(REPO), b"<html>", "an HTML page", f"the commits of {REPO}"),
        (lambda hub: hub.latest_commits(REPO), {}, "commits that is not a list", f"the commits of {REPO}"),
        (lambda hub: hub.latest_commits(REPO), [5], "a commit that is not an object", f"the commits of {REPO}"),
    ],
)
def test_a_wrong_answer_is_named_with_what_was_asked(ask, answer, kind, about):
    with SmallServer(Answer(answer)) as server, pytest.raises(XetProtocolError) as caught:
        ask(Hub(server.url))
    assert_unlike_a_hub(caught.value, server.url, kind, about)


@pytest.mark.parametrize("wrong", [{}, "x", None, [5], [{}], [None], [["id"]]])
def test_wrong_commits_are_a_protocol_error(wrong):
    with SmallServer(Answer(wrong)) as server, pytest.raises(XetProtocolError, match="the commits of hf://datasets"):
        Hub(server.url).latest_commits(REPO)


def test_an_entry_of_an_unknown_kind_is_no_file():
    with SmallServer(Answer([{"type": "submodule"}, {"type": "directory", "path": "d"}, entry("a")])) as server:
        assert [file["path"] for file in Hub(server.url).list_files(REPO)] == ["a"]


def test_random_bytes_are_a_damaged_response(monkeypatch):
    monkeypatch.setattr(hub_module, "MAX_TRIES", 1)
    noise = base64.b85decode("0" * 50) + b"\xff\xfe"
    with SmallServer(Answer(noise)) as server, pytest.raises(XetConnectionError, match="damaged or cut off"):
        Hub(server.url).list_files(REPO)
