"""What a mirror refuses before it compares anything. Whole mirrors: tests/provider/hooks/test_mirror.py."""

from __future__ import annotations

import pytest

from airflow_provider_xethub.exceptions import XetEmptySourceError, XetNotFoundError
from airflow_provider_xethub.xet.files.found_files import FoundFiles
from airflow_provider_xethub.xet.files.mirror.plan import rules
from airflow_provider_xethub.xet.hub.client import Hub
from airflow_provider_xethub.xet.publish.mirror import Mirror
from airflow_provider_xethub.xet.publish.request import CommitRequest
from support.commit_builders import ANYWHERE, client, publish, tree
from support.small_server import Answer, SmallServer


def sent_nothing(*_):
    raise AssertionError("it publishes")


def test_without_a_file_nothing_is_removed(hub, repo):
    publish(hub, repo, {"a.txt": b"1\n"})
    mirror = Mirror(client(hub), FoundFiles(), CommitRequest(repo, ()), rules(max_delete_share=1.0), sent_nothing)
    with pytest.raises(XetEmptySourceError, match=r"The source has no file.* Nothing was changed\."):
        mirror.run()
    assert tree(hub, repo) == {"a.txt"}


def test_a_branch_without_a_commit_is_not_mirrored_to():
    with SmallServer(Answer([])) as server:
        mirror = Mirror(
            Hub(server.url), FoundFiles(), CommitRequest(ANYWHERE, ()), rules(allow_empty=True), sent_nothing
        )
        with pytest.raises(XetNotFoundError, match=r"hf://datasets/acme/corpus@main has no commits yet\."):
            mirror.run()
