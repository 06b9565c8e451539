"""The card that a repository has, at the moment at which it is read, and what the Hub says about the new one."""

from __future__ import annotations

import hashlib
import json
from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from airflow_provider_xethub.exceptions import XetInputError, XetNotFoundError
from airflow_provider_xethub.xet import answers
from airflow_provider_xethub.xet.hub.preupload import UploadMode
from airflow_provider_xethub.xet.publish.card import BEGIN, END, Card, block, with_block
from airflow_provider_xethub.xet.publish.card_work import CardWork
from airflow_provider_xethub.xet.records import no_transfer
from airflow_provider_xethub.xet.redaction import Secrets
from support.commit_builders import ANYWHERE

TOKEN = "hf_secret_of_the_connection"
INLINE = UploadMode(True, None, False)
EXISTS = UploadMode(True, "ab" * 20, False)
FILES = ("Files", "2 files, 7 B")


class Hub:
    """A Hub that has this card, and whose answer about another one is given; it may not know the route."""

    endpoint = "https://hub.example"
    secrets = Secrets(TOKEN)

    def __init__(self, card=None, answer=None, status=200):
        self.card, self.answer, self.status, self.sent = card, answer, status, []

    def read_inline(self, repo, path):
        assert (repo, path) == (ANYWHERE, "README.md")
        if self.card is None:
            raise XetNotFoundError("It was deleted.", status=404)
        return self.card

    def request(self, method, path, **options):
        self.sent.append((method, path, options))
        if self.answer is None:
            raise XetNotFoundError("There is no such route.", status=404)
        return SimpleNamespace(content=json.dumps(self.answer).encode(), status_code=self.status)

    def reading(self, about):
        assert about == f"the validation of the card of {ANYWHERE}"
        return nullcontext()

    def shown(self, text):
        return f"<{text}>"


def work(hub, mode=EXISTS, given=None, **card):
    made = CardWork(hub, ANYWHERE, Card(**card), given, 2, 7)
    made.prepare(mode)
    return made


def content(*args, **options):
    return work(*args, **options).content(is_alone=False).decode()


def test_the_text_of_the_card_that_is_there_stays():
    assert content(Hub(b"# Ours \xff\n")) == with_block("# Ours \ufffd\n", block([FILES]))


@pytest.mark.parametrize(("current", "mode"), [(None, EXISTS), (b"# Ours\n", INLINE)], ids=["deleted", "new"])
def test_without_a_card_only_the_block_is_written(current, mode):
    assert content(Hub(current), mode) == with_block("", block([FILES]))


def test_the_text_of_the_task_comes_before_that_of_the_files_and_that_of_the_repository():
    hub = Hub(b"# Theirs\n")
    assert content(hub, given=b"# Given \xff\n").startswith("# Given \ufffd\n")
    assert content(hub, given=b"").startswith(BEGIN)
    assert content(hub, given=b"# Given\n", text="# Ours\n").startswith("# Ours\n")


def test_the_block_has_all_facts_and_no_secret():
    made = work(
        Hub(b""),
        facts={"Run": 5, "Token": TOKEN},
        inputs=["s3://a", "s3://b", "s3://a"],
        data={"license": "mit"},
    )
    made.transfer = {**no_transfer(), "bytes": 9000, "bytes_sent": 2000, "bytes_deduplicated": 7000}
    facts = [("Run", "5"), ("Token", "***"), ("Input", "s3://a"), ("Input", "s3://b"), FILES]
    facts.append(("Transfer", "2.0 kB sent, 7.0 kB deduplicated"))
    text = made.content(is_alone=False).decode()
    assert text == with_block("---\nlicense: mit\n---\n\n", block(facts))
    made.transfer = no_transfer()
    assert "Transfer" not in made.content(is_alone=False).decode()


def test_a_card_of_which_only_the_block_would_change_stays_if_nothing_else_is_committed():
    before = with_block("# Ours\n", block([("Files", "1 file, 1 B")])).encode()
    made = work(Hub(before))
    assert made.content(is_alone=True) == before
    assert made.content(is_alone=False) == with_block("# Ours\n", block([FILES])).encode()
    assert work(Hub(before), text="# New\n").content(is_alone=True).startswith(b"# New\n")
    assert b"2 files" in work(Hub(b"# Ours\n")).content(is_alone=True)
    assert b"2 files" in work(Hub(), INLINE).content(is_alone=True)


def test_the_records_of_a_card_have_what_their_use_needs():
    made = work(Hub(b""))
    text = with_block("# Ours ä\n", block([FILES]))
    uri = ANYWHERE.uri
    empty = {"sha256": None, "xet_hash": None, "repo": uri}
    assert made.placeholder() == {"path": "README.md", "size": 1, **empty, "sample": "Iw=="}
    assert made.record(text.encode()) == {"path": "README.md", "size": len(text) + 1, **empty}
    digest = hashlib.sha256(f"# Ours ä\n\n{BEGIN}{END}\n".encode()).hexdigest()
    assert made.key_record(text.encode()) == {"path": "README.md", "size": 0, **empty, "sha256": digest}


# --- what the Hub says ------------------------------------------------------------------------------------------------


def test_the_new_card_is_validated(caplog):
    hub = Hub(b"# Ours\n", {"errors": [], "warnings": [{"message": "no license"}, "odd"]})
    text = content(hub)
    assert hub.sent == [
        (
            "POST",
            "/api/validate-yaml",
            {
                "about": f"the validation of the card of {ANYWHERE}",
                "json": {"content": text, "repoType": "dataset"},
                "accept": (400,),
                "repo": ANYWHERE,
            },
        )
    ]
    assert caplog.messages == [
        f"The Hub warns about the card of {ANYWHERE}: <{remark}>" for remark in ("no license", "odd")
    ]


def test_a_hub_that_cannot_validate_cards_accepts_each(caplog):
    content(Hub(b"# Ours\n"))
    assert caplog.messages == ["The Hub at https://hub.example cannot validate cards, so README.md was not checked."]


@pytest.mark.parametrize(
    ("answer", "status", "said"),
    [
        ({"errors": [{"message": "bad license"}, "odd"], "warnings": ["w"]}, 200, "<bad license>; <odd>"),
        ({"errors": [{"message": "bad license"}]}, 400, "<bad license>"),
        ({"error": "not YAML"}, 400, "<not YAML>"),
        ({"errors": None}, 400, "<no reason given>"),
    ],
)
def test_a_card_that_the_hub_rejects_is_not_published(answer, status, said, caplog):
    with pytest.raises(XetInputError) as caught:
        content(Hub(b"", answer, status))
    assert str(caught.value) == (
        f"The card of {ANYWHERE} is not valid: {said}. Nothing was uploaded. Correct README.md."
    )
    assert not caplog.messages


def test_an_answer_that_is_no_object_is_unexpected():
    with pytest.raises(answers.WrongAnswerError, match=r"^JSON that is not an object"):
        content(Hub(b"", []))


@pytest.mark.parametrize(
    ("mode", "why"),
    [
        (
            UploadMode(True, None, True),
            f"The .gitignore of {ANYWHERE} excludes README.md, so there can be no card. Correct it.",
        ),
        (
            UploadMode(False, None, False),
            f"The .gitattributes of {ANYWHERE} stores README.md in CAS, where the Hub does not read it. Correct it.",
        ),
    ],
)
def test_a_card_that_the_hub_would_not_read_is_refused(mode, why):
    with pytest.raises(XetInputError) as caught:
        work(Hub(), mode)
    assert str(caught.value) == why
