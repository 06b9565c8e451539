"""Single requests that once broke the server, each found by fuzzing: an answer must come, and it must be a 4xx."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import requests

from xethub_local.server import LocalHub


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalHub]:
    with LocalHub(tmp_path_factory.mktemp("hub")) as running:
        running.create_repo("acme/corpus", "dataset")
        yield running


def test_a_control_character_in_a_path_is_answered_although_no_header_can_hold_it(hub: LocalHub) -> None:
    answer = requests.get(f"{hub.url}/api/datasets/acme/corpus/revision/a%06b", timeout=10, headers=_authorization(hub))
    assert answer.status_code == 404
    assert "a\x06b" in answer.json()["error"]
    assert "a\\x06b" in answer.headers["X-Error-Message"]


def _authorization(hub: LocalHub) -> dict[str, str]:
    return {"Authorization": f"Bearer {hub.token('write')}"}
