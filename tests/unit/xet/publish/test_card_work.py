"""The card that a repository has, at the moment at which it is read."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from airflow_provider_xethub.exceptions import XetInputError, XetNotFoundError
from airflow_provider_xethub.xet.hub.preupload import UploadMode
from airflow_provider_xethub.xet.publish.card import Card
from airflow_provider_xethub.xet.publish.card_work import CardWork
from airflow_provider_xethub.xet.redaction import Secrets
from support.commit_builders import ANYWHERE


def hub(card=None):
    def read_inline(repo, path):
        assert (repo, path) == (ANYWHERE, "README.md")
        if card is None:
            raise XetNotFoundError("It was deleted.", status=404)
        return card

    def request(*_, **__):
        raise XetNotFoundError("There is no such route.", status=404)

    return SimpleNamespace(
        read_inline=read_inline, request=request, secrets=Secrets(None), endpoint="https://hub.example"
    )


def content(current, exists=True):
    work = CardWork(hub(current), ANYWHERE, Card(), None, 1, 7)
    work.prepare(UploadMode(True, "ab" * 20 if exists else None, False))
    return work.content(is_alone=False).decode()


def test_the_text_of_the_card_that_is_there_stays():
    assert content(b"# Ours\n").startswith("# Ours\n")


@pytest.mark.parametrize(("current", "exists"), [(None, True), (b"# Ours\n", False)], ids=["deleted", "new"])
def test_without_a_card_only_the_block_is_written(current, exists):
    text = content(current, exists)
    assert "Ours" not in text
    assert "1 file, 7 B" in text


@pytest.mark.parametrize(
    ("mode", "why"),
    [
        (UploadMode(True, None, True), r"The \.gitignore of .* excludes README\.md, so there can be no card"),
        (UploadMode(False, None, False), r"The \.gitattributes of .* stores README\.md in CAS"),
    ],
)
def test_a_card_that_the_hub_would_not_read_is_refused(mode, why):
    with pytest.raises(XetInputError, match=why):
        CardWork(hub(), ANYWHERE, Card(), None, 1, 7).prepare(mode)
