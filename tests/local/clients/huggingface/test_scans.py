"""``huggingface_hub`` reads what the local Hub reports about scans."""

from __future__ import annotations

import requests
from huggingface_hub import HfApi

from support.hub_calls import upload
from xethub_local.server import LocalHub


def test_the_scan_of_each_file_is_in_its_details(hub: LocalHub, api: HfApi, repo: str) -> None:
    upload(api, repo, "a.txt", b"1")
    upload(api, repo, "d/b.pkl", b"\0pickle")

    def found(expand: bool = True) -> list:
        return api.get_paths_info(repo, ["a.txt", "d", "d/b.pkl"], expand=expand, repo_type="dataset")

    assert [getattr(each, "security", None) for each in found(expand=False)] == [None] * 3
    assert [each.security.safe for each in found() if each.path != "d"] == [True, True]
    hub.scans.set("unsafe", "*.pkl", scanner="pickleImportScan")
    security = found()[2].security
    assert (security.safe, security.status, security.pickle_import_scan) == (False, "unsafe", {"status": "unsafe"})
    listed = api.list_repo_tree(repo, recursive=True, expand=True, repo_type="dataset")
    assert {each.path: each.security.status for each in listed if hasattr(each, "security")} == {
        ".gitattributes": "safe",
        "a.txt": "safe",
        "d/b.pkl": "unsafe",
    }
    hub.scans.set("none")
    assert [getattr(each, "security", None) for each in found()] == [None] * 3


def test_a_model_has_a_summary_of_its_scans(hub: LocalHub, api: HfApi) -> None:
    model = hub.create_repo("acme/scanned", "model").repo_id
    assert api.model_info(model).security_repo_status is None
    hub.scans.set("caution", ".gitattributes")
    assert api.model_info(model, securityStatus=True).security_repo_status == {
        "scansDone": True,
        "filesWithIssues": [{"path": ".gitattributes", "level": "caution"}],
    }


def test_the_control_api_says_what_is_reported(hub: LocalHub) -> None:
    url, headers = f"{hub.url}/_local/scans", {"Authorization": f"Bearer {hub.token()}"}
    rule = {"status": "queued", "path": "*.bin", "delay": 5}
    added = requests.post(url, json=rule, headers=headers, timeout=10)
    assert (added.status_code, added.json()["scanner"]) == (201, "avScan")
    assert requests.post(url, json={"status": "?"}, headers=headers, timeout=10).status_code == 400
    assert [each["path"] for each in requests.get(url, headers=headers, timeout=10).json()["scans"]] == ["*.bin"]
    assert requests.delete(url, headers=headers, timeout=10).status_code == 204
    assert hub.scans.rules() == []
