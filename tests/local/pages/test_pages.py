"""The pages, as plain HTTP."""

from __future__ import annotations

import asyncio
import html
import json
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
import requests

from xethub_local.app import build_app
from xethub_local.control.fault import Fault
from xethub_local.local_store import LocalStore
from xethub_local.metadata.buckets import BucketFile
from xethub_local.metadata.commits import Change, DeleteFile, PutRegular, PutXet
from xethub_local.server import LocalHub

DATASET = "datasets/acme/corpus"
HOSTILE = '<script>alert("x")</script>&amp;'
ESCAPED = "&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt;&amp;amp;"
ODD_NAME = "<img src=x onerror=alert(1)> #1?.txt"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalHub]:
    with LocalHub(tmp_path_factory.mktemp("hub")) as running:
        yield running


@pytest.fixture
def corpus(hub: LocalHub) -> Iterator[LocalHub]:
    """A new dataset for each test."""
    hub.create_repo("acme/corpus", "dataset")
    yield hub
    hub.repositories.delete(DATASET)
    hub.content.forget_repository(DATASET)


def commit(hub: LocalHub, *changes: Change, title: str = "a commit", name: str = DATASET, **options: object) -> str:
    return hub.commits.commit(name, "main", changes, title=title, **options).commit.id  # type: ignore[arg-type]


def in_cas(hub: LocalHub, path: str, content: bytes, name: str = DATASET) -> PutXet:
    stored = hub.content.add_plain(content, repository=name)
    return PutXet(path, stored.xet_hash, stored.sha256 or "", stored.size)


def shown(hub: LocalHub, path: str, status: int = 200) -> str:
    answer = requests.get(hub.url + path, headers={"Accept": "text/html"}, timeout=30)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'self'; img-src 'self';")
    assert "unsafe" not in policy
    assert "script" not in policy
    return answer.text


def rows(page: str) -> list[str]:
    """The rows of a page's tables, as the text that is in them."""
    found = re.findall(r'<tr role="row">(.*?)</tr>', page, re.DOTALL)
    return [" ".join(re.sub("<[^>]+>", " ", row).split()) for row in found]


def row(page: str, beginning: str) -> str:
    (found,) = [text for text in rows(page) if text.startswith(beginning)]
    return found


def test_the_first_page_lists_all_repositories(corpus: LocalHub) -> None:
    commit(corpus, PutRegular("a.txt", b"a" * 1500), title="Add <a>")
    page = shown(corpus, "/")
    assert re.fullmatch(r"acme/ corpus dataset 2 3\.\d\d kB Add &lt;a&gt; just now", row(page, "acme/ corpus"))
    assert 'href="/datasets/acme/corpus"' in page


def test_an_empty_hub_says_what_to_do_first(tmp_path: Path) -> None:
    with LocalHub(tmp_path) as empty:
        assert "xethub-local create-repo dataset:acme/corpus" in shown(empty, "/")


@pytest.mark.parametrize("kind", ["models", "datasets", "spaces", "buckets"])
@pytest.mark.parametrize("name", ["raw", "resolve", "tree", "blob"])
def test_a_repository_may_be_called_like_a_route(hub: LocalHub, kind: str, name: str) -> None:
    repository = hub.repositories.create(f"{kind}/odd/{name}")
    if kind == "buckets":
        stored = hub.content.add_plain(b"data", repository=repository.name)
        hub.bucket_files.put(repository.name, BucketFile("d/f.bin", 4, stored.xet_hash, 0, 0.0))
        paths = ["", "/tree/d", "/blob/d/f.bin"]
    else:
        commit(hub, PutRegular("d/f.bin", b"data"), name=repository.name)
        paths = ["", "/tree/main", "/tree/main/d", "/blob/main/d/f.bin", "/commits/main", "/refs", "/discussions"]
    for path in paths:
        assert f"odd/</span>{name}" in shown(hub, repository.web_path + path)


def test_a_folder_shows_its_folders_first_with_what_is_in_them(corpus: LocalHub) -> None:
    commit(corpus, PutRegular("d/e/one.txt", b"1" * 10), PutRegular("d/two.txt", b"2" * 5), PutRegular("z.txt", b"z"))
    top = rows(shown(corpus, "/datasets/acme/corpus"))
    assert [text.split()[0] for text in top[1:]] == ["d", ".gitattributes", "z.txt"]
    assert top[1].startswith("d 2 files 15 B")
    assert row(shown(corpus, "/datasets/acme/corpus/tree/main/d"), "e ").startswith("e 1 file 10 B")
    assert "d/nothing" in shown(corpus, "/datasets/acme/corpus/tree/main/d/nothing", 404)


def test_a_folder_of_a_bucket_shows_neither_its_neighbours_nor_a_file_of_its_name(hub: LocalHub) -> None:
    name = hub.repositories.create("buckets/acme/raw").name
    stored = hub.content.add_plain(b"data", repository=name)
    for path in ("logs", "logs/a.txt", "logs.json", "logs_old/b.txt", "x"):
        hub.bucket_files.put(name, BucketFile(path, 4, stored.xet_hash, 0, 0.0))
    base = "/buckets/acme/raw"
    assert [text.split()[0] for text in rows(shown(hub, base))[1:]] == ["logs", "logs_old", "logs", "logs.json", "x"]
    assert [text.split()[0] for text in rows(shown(hub, f"{base}/tree/logs"))[1:]] == ["a.txt"]
    assert "Xet hash" in shown(hub, f"{base}/blob/logs")
    assert "Xet hash" in shown(hub, f"{base}/tree/x")
    assert "does not exist" in shown(hub, f"{base}/tree/log", 404)


def test_every_address_that_clients_are_given_is_a_page(corpus: LocalHub) -> None:
    made = commit(corpus, PutRegular("a.txt", b"a"))
    opened = corpus.commits.commit(DATASET, "main", [PutRegular("b.txt", b"b")], title="A PR", create_pr=True)
    base = "/datasets/acme/corpus"
    assert "a commit" in shown(corpus, f"{base}/commit/{made}")
    assert "A PR" in shown(corpus, f"{base}/discussions/{opened.pull_request}")
    assert "b.txt" in shown(corpus, f"{base}/tree/refs%2Fpr%2F{opened.pull_request}")
    assert "a.txt" in shown(corpus, f"{base}/blob/main/a.txt")
    assert "a commit" in shown(corpus, f"{base}/commits/main")


def test_dedup_is_shown_for_files_and_for_the_repository(corpus: LocalHub) -> None:
    # 256 chunks of 64 KiB are one xorb where plain bytes are stored.
    xorb = [bytes([seed]) * 65536 * 256 for seed in (1, 2, 3)]
    commit(
        corpus,
        in_cas(corpus, "one.bin", xorb[0] + xorb[1]),
        in_cas(corpus, "two.bin", xorb[1] + xorb[2]),
        in_cas(corpus, "three.bin", b"x" * 1000),
    )
    page = shown(corpus, "/datasets/acme/corpus")
    assert "50%" in row(page, "one.bin")
    assert "50%" in row(page, "two.bin")
    assert "0%" in row(page, "three.bin")
    assert f'<data value="{3 * len(xorb[0]) + 1000}"' in page
    assert f'<data value="{len(xorb[0])}"' in page  # saved
    file = shown(corpus, "/datasets/acme/corpus/blob/main/one.bin")
    assert row(file, "two.bin").startswith("two.bin 16.8 MB")
    assert "Consists of" in file


def test_an_earlier_version_counts_as_another_use(corpus: LocalHub) -> None:
    first = bytes([4]) * 65536 * 256
    commit(corpus, in_cas(corpus, "data.bin", first))
    assert "0%" in row(shown(corpus, "/datasets/acme/corpus"), "data.bin")
    commit(corpus, in_cas(corpus, "data.bin", first + b"more"))
    assert ">99%" in row(shown(corpus, "/datasets/acme/corpus"), "data.bin").replace("&gt;", ">")
    assert "an earlier version" in shown(corpus, "/datasets/acme/corpus/blob/main/data.bin")


def test_a_commit_shows_what_it_changed(corpus: LocalHub) -> None:
    commit(corpus, PutRegular("keep", b"k"), PutRegular("gone", b"g\n"), PutRegular("text", b"one\ntwo\nthree\n"))
    made = commit(
        corpus,
        DeleteFile("gone"),
        PutRegular("keep", b"k"),
        PutRegular("text", b"one\n2 < 3\nthree\n"),
        PutRegular("new\u00e9", b"n"),
        in_cas(corpus, "big.bin", b"\0" * 2000),
        title="Change things",
        message="At length.",
    )
    page = shown(corpus, f"/datasets/acme/corpus/commit/{made}")
    assert rows(page)[1:] == [
        "big.bin added none 2.00 kB",
        "gone deleted 2 B none",
        "new\u00e9 added none 1 B",
        "text changed 14 B 16 B",
    ]
    assert '<span class="deleted">-two\n</span><span class="added">+2 &lt; 3\n</span>' in page
    assert "At length." in page
    assert "big.bin</code></summary>" not in page
    assert "The parent" not in page


def test_hostile_names_and_texts_stay_text(corpus: LocalHub) -> None:
    commit(corpus, PutRegular(ODD_NAME, HOSTILE.encode()), title=HOSTILE, message=HOSTILE)
    corpus.repositories.create_branch(DATASET, "b<i>x")
    opened = corpus.commits.commit(
        DATASET, "main", [PutRegular(ODD_NAME, b"2")], title=HOSTILE, message=HOSTILE, create_pr=True
    )
    base = "/datasets/acme/corpus"
    paths = ["", "/commit/main", "/commits/main", "/refs", "/discussions", f"/discussions/{opened.pull_request}"]
    paths += [f"/blob/main/{quote(ODD_NAME)}", "/tree/b%3Ci%3Ex"]
    pages = [shown(corpus, base + path) for path in paths]
    pages.append(shown(corpus, "/"))
    for path, page in zip([*paths, "/"], pages, strict=True):
        assert not re.search(r"<script|<img|<i>", page), path
    assert ESCAPED in pages[1]
    assert f'href="{base}/blob/main/{quote(ODD_NAME)}"' in pages[0]
    assert shown(corpus, f"/{quote(HOSTILE, safe='')}", 404).count("&lt;script") == 0


def test_many_files_and_commits_take_several_pages(corpus: LocalHub) -> None:
    commit(corpus, *(PutRegular(f"{number:04}", b"x") for number in range(250)))
    names = []
    for page in (1, 2, 3):
        names += [text.split()[0] for text in rows(shown(corpus, f"/datasets/acme/corpus?page={page}"))[1:]]
    assert names == [".gitattributes", *(f"{number:04}" for number in range(250))]
    last = shown(corpus, "/datasets/acme/corpus?page=99999999999999999999")
    assert "Page 1 of 3" in last
    assert "Page 3 of 3" in shown(corpus, "/datasets/acme/corpus?page=99")
    assert "page=2" in shown(corpus, "/datasets/acme/corpus?page=-1")


def test_a_pull_request_shows_only_what_is_its_own(corpus: LocalHub) -> None:
    opened = corpus.commits.commit(DATASET, "main", [PutRegular("mine", b"1")], title="Mine", create_pr=True)
    commit(corpus, PutRegular("theirs", b"2"), title="Theirs")
    path = f"/datasets/acme/corpus/discussions/{opened.pull_request}"
    page = shown(corpus, path)
    assert "mine added none 1 B" in rows(page)
    assert "theirs" not in page
    assert "initial commit" not in page
    assert ".gitattributes" not in page
    assert ">open<" in page
    corpus.commits.merge(DATASET, opened.pull_request or 0, "ana")
    assert "mine added none 1 B" in rows(shown(corpus, path))
    assert ">merged<" in shown(corpus, path)


def test_discussions_are_shown_with_their_comments(corpus: LocalHub) -> None:
    opened = corpus.commits.discussions.open(DATASET, "Why?", "Because <b>", "ana")
    hidden = corpus.commits.discussions.comment(DATASET, opened.number, "bob", "unkind words")
    corpus.commits.discussions.change_comment(DATASET, opened.number, hidden.id, hidden=True)
    page = shown(corpus, f"/datasets/acme/corpus/discussions/{opened.number}")
    assert "Because &lt;b&gt;" in page
    assert "unkind" not in page
    assert "This comment is hidden." in page
    for number in ("99", "x", "-1"):
        shown(corpus, f"/datasets/acme/corpus/discussions/{number}", 404)


def test_activity_counts_by_route_and_client_and_shows_faults(corpus: LocalHub) -> None:
    corpus.log.clear()
    corpus.faults.add(Fault("GET /api/<b>/.*", status=503, times=3))
    for _ in range(3):
        requests.get(f"{corpus.url}/api/datasets/acme/none", headers={"User-Agent": "hf_xet/1.8.0"}, timeout=30)
    page = shown(corpus, "/_local/activity")
    assert any(re.match(r"GET /api/\{kind\}\S* hf_xet/1.8.0 3 3 0 B", text) for text in rows(page)), rows(page)
    (fault,) = [text for text in rows(page) if "&lt;b&gt;" in text]
    assert "status=503" in fault
    assert 'http-equiv="refresh"' in page
    assert 'http-equiv="refresh"' not in shown(corpus, "/_local/activity?paused=1")
    assert corpus.token() not in page
    corpus.faults.clear()


def test_publishers_are_shown_with_their_claims(corpus: LocalHub) -> None:
    assert "xethub-local publishers add" in shown(corpus, "/_local/trusted-publishers")
    corpus.add_user("ana", role="read")
    own = corpus.publisher(DATASET, sub=HOSTILE, attempt=1)
    corpus.publisher("ana", "https://gitlab.com", sub="x")
    page = shown(corpus, "/_local/trusted-publishers")
    assert HOSTILE not in page
    assert html.unescape(row(page, "datasets/acme/corpus")) == (
        f"datasets/acme/corpus {corpus.issuer} attempt=1 sub={json.dumps(HOSTILE)} write never {own.id}"
    )
    assert row(page, "ana").startswith("ana https://gitlab.com sub=&quot;x&quot; read never ")
    assert f'href="/{DATASET}"' in page
    assert f"The issuer of this Hub is <code>{corpus.issuer}</code>" in page


def test_what_does_not_exist_is_a_page_for_browsers_and_json_for_programs(corpus: LocalHub) -> None:
    for path in ("/nothing", "/datasets/acme/none", "/datasets/acme/corpus/tree/none", "/a/b/c/d", "/_local/nothing"):
        assert "See all repositories" in shown(corpus, path, 404)
    answer = requests.get(f"{corpus.url}/nothing", timeout=30)
    assert (answer.status_code, list(answer.json())) == (404, ["error"])
    api = requests.get(f"{corpus.url}/api/nothing/x", headers={"Accept": "text/html"}, timeout=30)
    assert api.headers["content-type"] == "application/json"


def test_the_style_sheet_and_icon_are_served(hub: LocalHub) -> None:
    page = shown(hub, "/")
    for path, kind in (("/_local/page.css", "text/css; charset=utf-8"), ("/_local/icon.svg", "image/svg+xml")):
        assert f'href="{path}"' in page
        answer = requests.get(hub.url + path, timeout=30)
        assert (answer.status_code, answer.headers["content-type"]) == (200, kind)


def test_others_see_neither_private_and_gated_repositories_nor_the_activity(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    for name, private in (("models/acme/open", False), ("models/acme/secret", True), ("models/acme/gated", False)):
        store.repositories.create(name, private=private)
    store.repositories.gates.set_mode("models/acme/gated", "manual")
    app = build_app(store, hosts=["hub"])
    token = {"Authorization": f"Bearer {store.tokens['read']}"}

    async def statuses(address: str, headers: dict[str, str]) -> dict[str, int]:
        transport = httpx.ASGITransport(app, client=(address, 50000))  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://hub") as client:
            paths = ["/acme/open", "/acme/secret", "/acme/secret/commits/main", "/acme/gated", "/_local/activity"]
            paths.append("/_local/trusted-publishers")
            found = {path: (await client.get(path, headers=headers)).status_code for path in paths}
            found["listed"] = "secret" in (await client.get("/", headers=headers)).text
            return found

    here = asyncio.run(statuses("127.0.0.1", {}))
    assert set(here.values()) == {200, True}
    elsewhere = asyncio.run(statuses("203.0.113.5", {}))
    assert elsewhere == {
        "/acme/open": 200,
        "/acme/secret": 404,
        "/acme/secret/commits/main": 404,
        "/acme/gated": 401,
        "/_local/activity": 403,
        "/_local/trusted-publishers": 403,
        "listed": False,
    }
    with_token = asyncio.run(statuses("203.0.113.5", token))
    assert (with_token["/acme/secret"], with_token["listed"]) == (200, True)
    store.close()


def test_a_private_file_offers_no_download_that_a_browser_cannot_have(hub: LocalHub) -> None:
    hub.create_repo("acme/hidden", "model", private=True)
    commit(hub, PutRegular("a.txt", b"a"), name="models/acme/hidden")
    page = shown(hub, "/acme/hidden/blob/main/a.txt")
    assert "/resolve/" not in page
    assert "xethub-local get model:acme/hidden@main:a.txt" in page


def test_the_pictures_of_the_documentation_are_small() -> None:
    for scheme in ("light", "dark"):
        picture = (Path(__file__).parents[3] / f"docs/_static/local-hub-{scheme}.png").read_bytes()
        assert picture.startswith(b"\x89PNG")
        assert int.from_bytes(picture[16:20], "big") == 1200
        assert len(picture) < 200_000
