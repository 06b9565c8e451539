"""Task loops of Airflow 3.4: iterations share DAG, run, task and map index, and are not mistaken for each other."""

from __future__ import annotations

from pathlib import Path

import pytest
from airflow.providers.common.compat.sdk import BaseOperator
from airflow.sdk import task, task_group

from airflow_provider_xethub.hooks.attempt import current_attempt, instance_key, loop_index
from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.operators.pull_requests import XetCommentPullRequestOperator
from airflow_provider_xethub.operators.xethub import (
    XetForgetTokenOperator,
    XetListOperator,
    XetTokenOperator,
    XetUploadOperator,
)
from airflow_provider_xethub.xet.publish.card import Card
from airflow_provider_xethub.xet.publish.request import CommitRequest
from support.airflow_runs import new_dag
from support.builders import TEXT, binary, write

pytestmark = [
    pytest.mark.airflow,
    pytest.mark.skipif(not hasattr(task_group(lambda: None), "loop"), reason="Airflow has task loops from 3.4 on"),
]


def test_each_iteration_commits_though_its_files_are_those_of_another(connection, repo, run_dag, tmp_path):
    """A, B, A again: the third commit is no repetition of the first by a retry of it."""
    write(tmp_path / "0", {"a.txt": b"A\n"})
    write(tmp_path / "1", {"a.txt": b"B\n"})
    with new_dag("loops") as dag:

        @task_group
        def each():
            XetUploadOperator(
                task_id="upload",
                source=f"{tmp_path}/{{{{ loop.index % 2 }}}}",
                repo_id=repo.repo_id,
                repo_type="dataset",
                commit_message="The same",
            )

        each.loop(max_iterations=3)
    run = run_dag(dag)
    assert run.state == "success", run.states
    results = run.xcoms("each.upload")
    assert len({result["oid"] for result in results}) == 3
    assert all(result["created"] for result in results)
    keys = [each["description"] for each in XetHubConnection().hub.latest_commits(repo, 3)]
    assert len(set(keys)) == 3


def test_the_retry_of_an_iteration_finds_its_own_commit_and_no_other(connection, hub, repo, run_dag, tmp_path):
    """A, B, A: the first two are killed after their commit, the third before it: its commit is still to be made."""
    write(tmp_path / "0", {"a.txt": b"A\n"})
    write(tmp_path / "1", {"a.txt": b"B\n"})
    before = len(XetHubConnection().hub.latest_commits(repo, 20))
    tries = []
    with new_dag("loops") as dag:

        class Upload(XetUploadOperator):
            def execute(self, context):
                index, is_first = loop_index(context), context["ti"].try_number == 1
                if is_first and index == 2:
                    raise RuntimeError("killed before its commit")
                result = super().execute(context)
                tries.append((index, result["oid"]))
                if is_first:
                    raise RuntimeError("killed after its commit")
                return result

        @task_group
        def each():
            Upload(
                task_id="upload",
                source=f"{tmp_path}/{{{{ loop.index % 2 }}}}",
                repo_id=repo.repo_id,
                repo_type="dataset",
                retries=1,
                retry_delay=0,
            )

        each.loop(max_iterations=3)
    assert run_dag(dag).state == "success"
    made = [each["oid"] for each in XetHubConnection().hub.latest_commits(repo, 3)][::-1]
    assert len(set(made)) == 3
    assert len(XetHubConnection().hub.latest_commits(repo, 20)) == before + 3
    assert tries == [(0, made[0]), (0, made[0]), (1, made[1]), (1, made[1]), (2, made[2])]


def test_mapped_tasks_in_a_loop_are_told_apart_too_and_outside_nothing_has_changed(run_dag):
    seen = []
    with new_dag("loops") as dag:

        class Look(BaseOperator):
            def __init__(self, *, number=0, **kwargs):
                super().__init__(**kwargs)
                self.number = number

            def execute(self, context):
                seen.append((loop_index(context), context["ti"].map_index, instance_key(context), current_attempt()))

        @task_group
        def each():
            Look.partial(task_id="look").expand(number=[7, 8])

        each.loop(max_iterations=2)
        Look.partial(task_id="mapped").expand(number=[7, 8])
        Look(task_id="plain")
    run = run_dag(dag)
    assert run.state == "success", run.states
    prefix = f"{dag.dag_id}/{run.run_id}"
    inside = [each for each in seen if "each.look" in each[2]]
    assert sorted(each[:2] for each in inside) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert all(key.startswith(f"{prefix}/each.look/{index}/") for _, index, key, _ in inside)
    assert len({key for *_, key, _ in inside}) == len({attempt for *_, attempt in inside}) == 4
    outside = sorted(key for index, _, key, _ in seen if index is None)
    assert outside == [f"{prefix}/mapped/0", f"{prefix}/mapped/1", f"{prefix}/plain/-1"]


def test_every_iteration_comments_once(connection, hub, repo, run_dag, tmp_path):
    hook = XetHubConnection()
    write(tmp_path, {"a.txt": TEXT})
    pull_request = hook.publish(tmp_path, CommitRequest(repo, (), message="A change", create_pr=True))["pull_request"]
    with new_dag("loops") as dag:

        @task_group
        def each():
            XetCommentPullRequestOperator(
                task_id="comment",
                repo_id=repo.repo_id,
                repo_type="dataset",
                pull_request=pull_request,
                comment="Checked.",
            )

        each.loop(max_iterations=2)
    assert run_dag(dag).state == "success"
    number = int(str(pull_request).rstrip("/").rpartition("/")[2])
    details = hook.api.get_discussion_details(repo.repo_id, number, repo_type="dataset")
    assert [event.content.startswith("Checked.") for event in details.events if event.type == "comment"].count(
        True
    ) == 2


def test_a_card_names_the_iteration(connection, repo, run_dag, tmp_path):
    write(tmp_path, {"a.bin": binary(3000)})
    with new_dag("loops") as dag:

        @task_group
        def each():
            XetUploadOperator(
                task_id="upload",
                source=str(tmp_path),
                path_in_repo="{{ loop.index }}",
                repo_id=repo.repo_id,
                repo_type="dataset",
                card=Card(),
            )

        each.loop(max_iterations=2)
    assert run_dag(dag).state == "success"
    text = XetHubConnection().api.hf_hub_download(
        repo.repo_id, "README.md", repo_type="dataset", local_dir=tmp_path / "c"
    )
    assert "| Iteration | `1` |" in Path(text).read_text()


# --- tokens -----------------------------------------------------------------------------------------------------------


def test_each_iteration_forgets_its_own_token_after_its_work(connection, repo, run_dag):
    seen = []
    with new_dag("loops") as dag:

        @task_group
        def each():
            token = XetTokenOperator(task_id="token", repo_id=repo.repo_id, repo_type="dataset")
            look = XetListOperator(task_id="look", repo_id=repo.repo_id, repo_type="dataset")

            @task(task_id="see")
            def see(ti=None):
                seen.append(ti.xcom_pull(task_ids="each.token"))

            token >> look >> see() >> XetForgetTokenOperator(task_id="forget").as_teardown(setups=token)

        each.loop(max_iterations=2)
    run = run_dag(dag)
    assert run.state == "success", run.states
    assert len(seen) == 2
    assert all(value["sealed"] for value in seen)
    assert run.xcoms("each.token") == []
    assert len(run.xcoms("each.look")) == 2


def test_tokens_of_mapped_tasks_are_forgotten_even_when_the_next_iteration_has_begun(connection, make_repo, run_dag):
    """The first iteration has three tokens, the second one; teardowns of the first run after the second began."""
    repos = [make_repo().repo_id for _ in range(3)]
    with new_dag("loops") as dag:

        @task_group
        def each():
            @task
            def choose(*, loop=None):
                return repos if loop.index == 0 else repos[:1]

            tokens = XetTokenOperator.partial(task_id="token", repo_type="dataset").expand(repo_id=choose())
            wait = [BaseOperator(task_id=f"wait_{number}").as_teardown() for number in range(3)]
            forget = XetForgetTokenOperator(task_id="forget", token_task_ids="each.token").as_teardown()
            tokens >> wait[0] >> wait[1] >> wait[2] >> forget

        each.loop(max_iterations=2)
    run = run_dag(dag)
    assert run.state == "success", run.states
    assert len(run.xcoms("each.choose")) == 2
    assert run.xcoms("each.token") == []


def test_a_teardown_outside_of_the_loop_says_that_it_belongs_inside(connection, repo, run_dag, capfd):
    with new_dag("loops") as dag:
        other = XetTokenOperator(task_id="other", repo_id=repo.repo_id, repo_type="dataset")

        @task_group
        def each():
            XetTokenOperator(task_id="token", repo_id=repo.repo_id, repo_type="dataset")

        forget = XetForgetTokenOperator(task_id="forget", token_task_ids=["other", "each.token"], retries=3)
        [other, each.loop(max_iterations=2)] >> forget
    run = run_dag(dag)
    assert run.states["forget"] == "failed"
    assert "Token task each.token is in loop each: move forget into the loop." in capfd.readouterr().out
    assert len(run.xcoms("other")) == 1
