"""The card that is published with files, in one commit."""

from __future__ import annotations

import pytest
from airflow.sdk import Asset

from airflow_provider_xethub import Card
from airflow_provider_xethub.exceptions import XetInputError
from airflow_provider_xethub.operators.xethub import XetCommitOperator, XetUploadOperator
from airflow_provider_xethub.xet.hub import client as hub_module
from airflow_provider_xethub.xet.hub.preupload import UploadMode
from airflow_provider_xethub.xet.publish.card import BEGIN, END, skeleton
from airflow_provider_xethub.xet.publish.card_work import CardWork
from support.builders import binary, commits, content, publish, write
from xethub_local.control.faults import Fault

pytestmark = [pytest.mark.airflow, pytest.mark.airflow_unchanged]

VALIDATE = "POST /api/validate-yaml"
COMMIT = "POST .*/commit/.*"
OWN = "---\nlicense: mit\n---\n\n# Mine\n\nMy text.\n"


@pytest.fixture
def where(connection, repo):
    return {"repo_id": repo.repo_id, "repo_type": "dataset"}


@pytest.fixture
def source(tmp_path):
    return str(write(tmp_path / "in", {"d/a.bin": binary(), "b.bin": binary(9, 1)}))


@pytest.fixture
def read(hub, repo, tmp_path):
    def read(revision="main"):
        return content(hub, repo.at(revision), "README.md", tmp_path / "read" / revision).decode()

    return read


def test_a_card_is_in_the_commit_of_the_files_and_says_where_they_come_from(hub, repo, where, run_task, source, read):
    card = Card(inputs=["s3://key:secret@bucket/raw?X-Amz-Signature=x"], facts={"Model": "{{ 'v' }}7"})
    inlets = [Asset("hf://datasets/acme/raw")]
    run = run_task(XetUploadOperator, source=source, card=card, inlets=inlets, **where)
    assert {file["path"] for file in run.value["files"]} == {"d/a.bin", "b.bin", "README.md"}
    assert commits(hub, repo) == 2
    text = read()
    for fact in (
        "| DAG | `test` |",
        "| Run | `manual__2026` |",
        "| Task | `task` |",
        "| Logical date | `2026-11-20T00:00:00+00:00` |",
        "| Model | `v7` |",
        "| Input | `s3://bucket/raw` |",
        "| Input | `hf://datasets/acme/raw` |",
        "| Files | `2 files, 5.0 kB` |",
        " deduplicated` |",
    ):
        assert fact in text, (fact, text)
    assert "secret" not in text
    assert hub.token() not in text
    assert len(hub.log.requests(VALIDATE)) == 1


@pytest.mark.parametrize("where_from", ["argument", "folder", "repository"])
def test_the_users_own_text_is_kept(hub, repo, where, run_task, source, read, tmp_path, where_from):
    if where_from == "repository":
        publish(repo, tmp_path, {"README.md": OWN.encode()})
    if where_from == "folder":
        write(tmp_path / "in", {"README.md": OWN.encode()})
    card = Card(text=OWN if where_from == "argument" else None, data={"pretty_name": "Mine"})
    run_task(XetUploadOperator, source=source, card=card, **where).value  # noqa: B018
    own = OWN.replace("license: mit\n", "license: mit\npretty_name: Mine\n")
    assert read().startswith(f"{own}\n{BEGIN}\n")
    assert read().endswith(f"{END}\n")


def test_only_the_block_is_replaced_and_a_night_without_changes_commits_nothing(
    hub, repo, where, run_task, source, read, tmp_path
):
    first = run_task(XetUploadOperator, source=source, card=Card(facts={"Night": "1"}), **where).value
    again = run_task(XetUploadOperator, source=source, card=Card(facts={"Night": "2"}), **where).value
    assert (again["created"], again["oid"]) == (False, first["oid"])
    edited = f"# Title of mine\n\n{read()}\nMy own end.\n"
    publish(repo, tmp_path / "edit", {"README.md": edited.encode()})
    assert not run_task(XetUploadOperator, source=source, card=Card(facts={"Night": "3"}), **where).value["created"]
    assert read() == edited
    write(tmp_path / "in", {"c.bin": binary(50, 2)})
    changed = run_task(XetUploadOperator, source=source, card=Card(facts={"Night": "4"}), **where).value
    assert changed["created"]
    assert sorted(changed["unchanged"]) == ["b.bin", "d/a.bin"]
    assert "| Night | `4` |" in read()
    assert skeleton(read()) == skeleton(edited)


def test_a_card_that_is_not_valid_is_refused_before_anything_is_sent(hub, repo, where, run_task, source):
    card = Card(text="---\nlicense: [1, 2]\n---\n# T\n")
    run = run_task(XetUploadOperator, source=source, card=card, **where)
    assert run.is_final
    assert isinstance(run.error, XetInputError)
    assert run.text.startswith(f'The card of {repo} is not valid: "license" must be a string')
    assert "Nothing was uploaded." in run.text
    assert not hub.log.requests("(PUT|POST) /cas/.*")
    assert not hub.log.requests(COMMIT)


def test_a_retry_finds_the_commit_though_the_figures_of_its_transfer_differ(
    hub, repo, where, run_task, source, read, monkeypatch
):
    hub.faults.add(Fault(COMMIT, lose_answer=True))
    arguments = {"source": source, "card": Card(data={"license": "mit"}), **where}
    hub.faults.add(Fault("GET .*/commits/.*", status=503))
    monkeypatch.setattr(hub_module, "MAX_TRIES", 1)
    first = run_task(XetUploadOperator, **arguments)
    assert first.state == "up_for_retry"
    hub.faults.clear()
    written = read()
    assert " sent, " in written
    retried = run_task(XetUploadOperator, try_number=2, **arguments).value
    assert (commits(hub, repo), read()) == (2, written)
    assert retried["created"]
    other = run_task(XetUploadOperator, try_number=2, **{**arguments, "card": Card(data={"license": "cc0-1.0"})}).value
    assert other["created"]
    assert commits(hub, repo) == 3


def test_a_retry_describes_the_card_that_the_first_attempt_wrote(
    hub, repo, where, run_task, source, hook, tmp_path, monkeypatch
):
    monkeypatch.setattr(hub_module, "MAX_TRIES", 1)
    hub.faults.add(Fault(COMMIT, lose_answer=True))
    hub.faults.add(Fault("GET .*/commits/.*", status=503))
    hub.faults.add(Fault("GET .*/refs", status=503))
    write(tmp_path / "in", {"new.bin": binary(70, str(tmp_path))})  # sent by the first attempt only
    arguments = {"source": source, "card": Card(), "create_pr": True, **where}
    assert run_task(XetUploadOperator, **arguments).state == "up_for_retry"
    hub.faults.clear()
    retried = run_task(XetUploadOperator, try_number=2, **arguments).value
    assert retried["pull_request_number"] == 1
    (listed,) = hook.get_files(repo.at("refs/pr/1"), ["README.md"])
    (card,) = [file for file in retried["files"] if file["path"] == "README.md"]
    assert (card["size"], card["blob_id"]) == (listed["size"], listed["blob_id"])


def test_the_files_of_other_tasks_are_published_with_a_card_as_a_pull_request(hub, repo, where, run_task, source, read):
    files = run_task(XetUploadOperator, source=source, commit=False, **where).value
    result = run_task(XetCommitOperator, files=files, card=Card(), create_pr=True, **where).value
    assert result["pull_request_number"] == 1
    text = read("refs/pr/1")
    assert "| Files | `2 files, 5.0 kB` |" in text
    assert "Transfer" not in text


def test_a_readme_that_another_task_uploaded_is_kept(hub, repo, where, run_task, source, read, tmp_path):
    write(tmp_path / "in", {"README.md": OWN.encode()})
    files = run_task(XetUploadOperator, source=source, commit=False, **where).value
    run_task(XetCommitOperator, files=files, card=Card(), **where).value  # noqa: B018
    assert read().startswith(OWN)


def test_what_a_user_writes_while_files_are_uploaded_is_kept(repo, hook, tmp_path):
    publish(repo, tmp_path, {"README.md": OWN.encode()})
    work = CardWork(hook.hub, repo, Card(), None, 0, 0)
    work.prepare(UploadMode(inline=True, current="0" * 40, ignored=False))
    publish(repo, tmp_path / "edit", {"README.md": OWN.replace("Mine", "Yours").encode()})
    assert "# Yours" in work.content(is_alone=False).decode()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"commit": False}, "card needs a commit"),
        ({"repo_type": "bucket"}, "is a bucket: it has no card"),
        ({"card": True}, "card must be a Card, not True"),
        ({"card": "# Text"}, "card must be a Card"),
        ({"card": Card(inputs="s3://a")}, "card.inputs must be a list"),
    ],
)
def test_a_wrong_card_is_refused(hub, where, run_task, source, arguments, message):
    run = run_task(XetUploadOperator, source=source, **{**where, "card": Card(), **arguments})
    assert isinstance(run.error, XetInputError)
    assert message in run.text
    assert not hub.log.requests()


def test_a_repository_that_keeps_its_readme_in_cas_or_ignores_it_has_no_card(
    hub, repo, where, run_task, source, tmp_path
):
    publish(repo, tmp_path / "1", {".gitattributes": b"*.md filter=lfs diff=lfs merge=lfs -text\n"})
    run = run_task(XetUploadOperator, source=source, card=Card(), **where)
    assert "stores README.md in CAS, where the Hub does not read it" in run.text
    publish(repo, tmp_path / "2", {".gitignore": b"README.md\n"})
    assert "excludes README.md" in run_task(XetUploadOperator, source=source, card=Card(), **where).text


def test_a_hub_that_cannot_validate_cards_still_gets_one(hub, where, run_task, source):
    hub.faults.add(Fault(VALIDATE, status=404))
    assert run_task(XetUploadOperator, source=source, card=Card(), **where).value["created"]
