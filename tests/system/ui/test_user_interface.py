"""Airflow's own pages, as a user of the provider sees them: from the connection to a run that a commit starts.

The tests follow one story, and each can be run alone: what has happened before is in the fixtures. After each,
everything that the browser was sent is searched for secrets. ``XETHUB_SCREENSHOTS=1`` takes the pictures of the
documentation again.
"""

from __future__ import annotations

import json
import re

import pytest
from playwright.sync_api import expect

from airflow_provider_xethub.get_provider_info import CONNECTION_FIELDS, FIELD_BEHAVIOUR
from demo import services
from support.connection_form import open_form, save
from support.standalone import Run
from support.visitor import PATIENCE, WIDTH, Visitor
from xethub_local.server import LocalHub

pytestmark = [pytest.mark.long, pytest.mark.timeout(1200)]

WRONG_TOKEN = "hf_" + "w" * 34
TASKS = [
    "find_files",
    "write_token",
    "upload",
    "publish",
    "arrived",
    "read_token",
    "download",
    "forget_tokens",
    "compare",
]


# --- the connection ---------------------------------------------------------------------------------------------------


def test_the_form_has_our_fields(somebody: Visitor) -> None:
    form = open_form(somebody)
    for field, label in FIELD_BEHAVIOUR["relabeling"].items():
        assert form.get_by_label(label).get_attribute("name") == field
    for field in FIELD_BEHAVIOUR["hidden-fields"]:
        assert form.locator(f"[name={field}]").count() == 0
    assert form.locator("[name=host]").get_attribute("placeholder") == "https://huggingface.co"
    assert form.locator("[name=password]").get_attribute("type") == "password"
    form.get_by_role("button", name="Extra Fields", exact=True).click()
    for name, field in CONNECTION_FIELDS.items():
        entry = form.locator(f"[name=element_{name}]")
        entry.wait_for(state="attached")
        form.get_by_text(field["label"], exact=True).wait_for()
        form.get_by_text(field["description"], exact=True).wait_for()
        if field["schema"].get("format") == "password":
            assert entry.get_attribute("type") == "password"
    # The form grows while it opens.
    form.get_by_text(CONNECTION_FIELDS["stall_timeout"]["description"]).scroll_into_view_if_needed()
    assert somebody.sideways() <= 0
    form.get_by_role("button", name="Close").click()
    form.wait_for(state="hidden")


def test_a_connection_made_in_the_form_is_stored(
    somebody: Visitor, connection: str, hub: LocalHub, airflow: services.Airflow
) -> None:
    stored = airflow.get(f"/connections/{connection}")
    host, _, port = hub.url.rpartition(":")
    assert (stored["conn_type"], stored["host"], stored["port"]) == ("xethub", host, int(port))
    assert stored["password"] == "***"
    assert set(json.loads(stored["extra"]).values()) == {None}


def test_the_test_button_says_who_we_are_and_what_is_wrong(somebody: Visitor, connection: str, hub: LocalHub) -> None:
    def press() -> None:
        # What was told before is taken away first.
        for close in somebody.page.locator("[data-scope=toast] [data-part=close-trigger]").all():
            close.click()
        row.get_by_role("button", name="Test Connection").click()

    def change_token(token: str) -> None:
        row.get_by_role("button", name="Edit Connection").click()
        form = somebody.page.get_by_role("dialog")
        form.get_by_label("Hub token").fill(token)
        save(form)

    somebody.visit("/connections")
    row = somebody.page.get_by_role("row").filter(has_text=connection)
    press()
    somebody.shows("Test Connection Successful", f"Connected to {hub.url} as local, with the write token 'write'.")
    somebody.picture("airflow-connection-test", height=420)
    change_token(WRONG_TOKEN)
    press()
    somebody.shows("Test Connection Failed", "The Hub token of this connection is missing, wrong or expired")
    somebody.visit("/connections")
    change_token(hub.token())


# --- the quick start --------------------------------------------------------------------------------------------------


def look_at_xcom(somebody: Visitor, run: Run, task: str) -> None:
    somebody.visit(run.path(task, "xcom"))
    somebody.page.get_by_role("button", name="Expand all").click()


def test_the_token_is_sealed_in_xcom(somebody: Visitor, halted_run: Run) -> None:
    look_at_xcom(somebody, halted_run, "write_token")
    somebody.shows('"xet_token"', "hf://datasets/local/penguins@main", '"expires_at"', '"sealed"')
    value = halted_run.airflow.xcom(halted_run.dag_id, halted_run.run_id, "write_token")
    assert value["sealed"][:40] in "".join(somebody.page.inner_text("body").split())
    # The page got all of it, and that is searched for the token like all else.
    assert any("/xcomEntries" in place and value["sealed"] in text for place, text in somebody.seen.items())
    somebody.picture("airflow-xcom")


def test_rendered_templates_have_what_was_asked_for_and_no_token(somebody: Visitor, finished_run: Run) -> None:
    somebody.visit(finished_run.path("write_token", "rendered_templates"))
    somebody.shows("repo_id", "local/penguins", "scope", "write")
    somebody.visit(finished_run.path("upload/mapped/0", "rendered_templates"))
    somebody.shows("source", "penguins.csv")
    somebody.visit(finished_run.path("download", "rendered_templates"))
    somebody.shows("destination", "photos.bin")
    assert "sealed" not in somebody.page.inner_text("body")


def test_the_graph_shows_the_whole_run(somebody: Visitor, finished_run: Run) -> None:
    page = somebody.page
    somebody.visit(finished_run.path())
    page.get_by_role("button", name="Show Graph").click()
    page.get_by_role("button", name="Collapse Details Panel").click()
    page.set_viewport_size({"width": WIDTH, "height": 560})
    page.get_by_role("button", name="Fit View").click()
    for task in TASKS:
        node = page.locator(".react-flow__node").filter(has_text=task).filter(has_text="success").first
        expect(node).to_be_in_viewport(ratio=0.99, timeout=PATIENCE)
    somebody.picture("airflow-graph", height=560)
    assert somebody.sideways() <= 0


def test_logs_tell_what_was_moved(somebody: Visitor, finished_run: Run) -> None:
    somebody.visit(finished_run.path("write_token"))
    somebody.shows("Fetched a write token")
    # Mapped by name: penguins.csv, photos.bin, summary.csv.
    somebody.visit(finished_run.path("upload/mapped/1"))
    somebody.shows("Uploaded 1 file, 3.0 MB: sent 3.0 MB")
    somebody.visit(finished_run.path("publish"))
    somebody.shows("Committed 3 changed, 0 deleted, 0 unchanged files to hf://datasets/local/penguins@main")
    somebody.visit(finished_run.path("download"))
    somebody.shows("Downloaded 3 files")
    somebody.picture("airflow-logs", height=460)


def test_the_tokens_are_forgotten_at_the_end(somebody: Visitor, finished_run: Run) -> None:
    somebody.visit(finished_run.path("forget_tokens"))
    somebody.shows("Deleted the token of task write_token", "Deleted the token of task read_token")
    for task in ("write_token", "read_token"):
        somebody.visit(finished_run.path(task, "xcom"))
        # What may be left is where the link leads.
        somebody.shows(re.compile("No XCom found|_link_XetHubLink"))
        assert "return_value" not in somebody.page.inner_text("body")
    assert [place for place, text in somebody.seen.items() if "sealed" in text and "/xcom" in place] == []


# --- the link ---------------------------------------------------------------------------------------------------------


def test_the_link_opens_the_commit_on_the_hub(somebody: Visitor, finished_run: Run, hub: LocalHub) -> None:
    commit = finished_run.airflow.xcom(finished_run.dag_id, finished_run.run_id, "publish")
    somebody.visit(finished_run.path("publish", "details"))
    link = somebody.page.get_by_role("link", name="Open on the Hub")
    link.wait_for()
    somebody.picture("airflow-link", height=460)
    with somebody.page.context.expect_page() as opened:
        link.click()
    page = opened.value
    page.get_by_text("photos.bin").first.wait_for()
    assert page.url == commit["url"] == f"{hub.url}/datasets/local/penguins/commit/{commit['oid']}"
    somebody.read(page)
    somebody.picture("local-hub-commit", page)
    page.close()


# --- a run that a commit starts ---------------------------------------------------------------------------------------


def test_a_commit_starts_the_dag_that_watches(
    somebody: Visitor, started_by_asset: Run, commit_of_another: str, airflow: services.Airflow
) -> None:
    run = airflow.get(f"/dags/{started_by_asset.dag_id}/dagRuns/{started_by_asset.run_id}")
    assert run["run_type"] == "asset_triggered"
    look_at_xcom(somebody, started_by_asset, "changes")
    somebody.shows("photos/adelie.csv")
    look_at_xcom(somebody, started_by_asset, "new_commits")
    somebody.shows(commit_of_another[:20], re.compile(r"A\snew\sphoto"))
    somebody.visit(started_by_asset.path("", "asset_events"))
    somebody.shows("hf://datasets/local/corpus")
    somebody.picture("airflow-asset", height=500)
