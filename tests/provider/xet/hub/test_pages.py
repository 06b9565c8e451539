"""Addresses of pages: those that the Hub's own client makes, and that the local Hub really has."""

from __future__ import annotations

import requests

from airflow_provider_xethub.xet.hub.pages import HubPage, page_of_commit, page_of_files
from airflow_provider_xethub.xet.repo import Repo
from support.builders import TEXT, binary, publish


def test_the_local_hub_has_each_page(hub, connection, make_repo, hook, tmp_path):
    from airflow_provider_xethub.xet.publish.commit import CommitRequest

    files = {"photos/a b.bin": binary(seed="page"), "photos/c#d.csv": TEXT}
    pages = []
    for kind in ("model", "dataset", "bucket"):
        repo = make_repo(kind)
        records = publish(repo, tmp_path / kind, files)
        pages += [HubPage(repo), HubPage(repo, "folder", "photos")]
        pages += [page_of_files(repo, [each]) for each in records]
        if kind != "bucket":
            request = CommitRequest(repo, (), message="pull", create_pr=True)
            (tmp_path / "new.csv").write_bytes(TEXT)
            result = hook.publish(tmp_path / "new.csv", request)
            pages.append(page_of_commit(hook.get_latest_commit(repo)))
            pages.append(page_of_commit(result, (), result["pull_request"]))
            pages.append(HubPage(Repo.from_uri(result["repo"]), "file", "new.csv"))
            assert f"{hub.url}{pages[-2].path}" == result["pull_request"]
    assert len(pages) == 18
    for page in pages:
        answer = requests.get(hub.url + page.path, headers={"Accept": "text/html"}, timeout=30)
        assert answer.status_code == 200, page.path
        assert answer.headers["Content-Type"].startswith("text/html")
        if page.kind == "file":
            assert page.name.rpartition("/")[2].replace("&", "&amp;") in answer.text
    assert requests.get(hub.url + pages[0].path + "/nowhere", timeout=30).status_code == 404
