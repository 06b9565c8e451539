"""Bodies of webhooks, as the Hub documents them."""

from __future__ import annotations

from typing import Any

from airflow_provider_xethub.xet.repo import Repo

ZERO, ONE, TWO, THREE = "0" * 40, "1" * 40, "2" * 40, "3" * 40


def pushed(
    repo: Repo, before: object, after: object, /, *, ref: str = "refs/heads/main", **changes: Any
) -> dict[str, Any]:
    """The body that tells of a new commit; ``changes`` replace whole fields of it."""
    web = f"https://huggingface.co{repo.web_path}"
    return {
        "event": {"action": "update", "scope": "repo.content"},
        "repo": {
            "type": repo.repo_type,
            "name": repo.repo_id,
            "id": "6366c000a2abcdf2fd69a080",
            "private": False,
            "url": {"web": web, "api": f"https://huggingface.co{repo.api_path}"},
            "headSha": after,
            "tags": ["license:other"],
            "owner": {"id": "61d2000c3c2083e1c08af22d"},
        },
        "updatedRefs": [{"ref": ref, "oldSha": before, "newSha": after}],
        "webhook": {"id": "6390e855e30d9209411de93b", "version": 3},
        **changes,
    }
