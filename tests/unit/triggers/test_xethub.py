"""Arguments of triggers: checked where they are written, the same after they were in the database."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from airflow_provider_xethub.exceptions import XetInputError
from airflow_provider_xethub.triggers.xethub import XetFileTrigger, XetRevisionTrigger
from support.trigger_runs import TRIGGERS, again

pytestmark = [pytest.mark.airflow, pytest.mark.smoke]


@pytest.mark.parametrize(
    ("kind", "arguments", "name"),
    [
        *[
            (kind, {"poke_interval": value}, "poke_interval")
            for kind in (XetFileTrigger, XetRevisionTrigger)
            for value in ("1", 0, -1, True, None, float("nan"), float("inf"), timedelta(0), timedelta(seconds=-1))
        ],
        (XetFileTrigger, {"xethub_conn_id": ""}, "xethub_conn_id"),
        (XetRevisionTrigger, {"xethub_conn_id": None}, "xethub_conn_id"),
        (XetRevisionTrigger, {"xethub_conn_id": 7}, "xethub_conn_id"),
        (XetRevisionTrigger, {"repo_id": None}, "repo_id"),
        (XetRevisionTrigger, {"revision": ""}, "revision"),
        (XetRevisionTrigger, {"may_be_missing": "file"}, "may_be_missing"),
        (XetRevisionTrigger, {"newer_than": "main"}, "newer_than"),
        (XetRevisionTrigger, {"once": "False"}, "once"),
        (XetRevisionTrigger, {"queue": ""}, "queue"),
        (XetRevisionTrigger, {"queue": 7}, "queue"),
        (XetRevisionTrigger, {"queue": "eu", "once": True}, "queue is for watchers only"),
        (XetFileTrigger, {"paths": [7]}, "paths"),
        (XetFileTrigger, {"paths": [""]}, "paths"),
        (XetFileTrigger, {"patterns": {"*": 1}}, "patterns"),
        (XetFileTrigger, {"paths": [], "patterns": []}, "patterns"),
        (XetFileTrigger, {"patterns": "*", "paths": None, "min_files": "2"}, "min_files"),
        (XetFileTrigger, {"known": ["a"]}, "known"),
    ],
)
def test_a_wrong_argument_is_refused_where_it_is_written(kind, arguments, name):
    more = {"paths": ["a"]} if kind is XetFileTrigger and not {"paths", "patterns"} & set(arguments) else {}
    with pytest.raises(XetInputError, match=name) as raised:
        kind(**{"repo_id": "acme/corpus", **more, **arguments})
    # Otherwise one stored trigger would end the triggerer, and all others with it.
    assert isinstance(raised.value, TypeError)


@pytest.mark.parametrize("given", [timedelta(seconds=90), 90, 90.0])
def test_an_interval_is_seconds_or_a_timedelta(given):
    trigger = XetRevisionTrigger(repo_id="acme/corpus", poke_interval=given)
    assert trigger.serialize()[1]["poke_interval"] == 90
    assert XetFileTrigger(repo_id="acme/corpus", paths="a.bin", poke_interval=given).condition.paths == ("a.bin",)


@pytest.mark.parametrize("trigger", TRIGGERS, ids=lambda trigger: type(trigger).__name__)
def test_a_trigger_is_the_same_after_it_was_in_the_database(trigger):
    decoders = pytest.importorskip("airflow.serialization.decoders", reason="Airflow 3.2 and later have it")
    encoders = pytest.importorskip("airflow.serialization.encoders")

    classpath, arguments = trigger.serialize()
    assert json.loads(json.dumps(arguments)) == arguments
    assert again(trigger).serialize() == (classpath, arguments)
    encoded = json.loads(json.dumps(encoders.encode_trigger({"classpath": classpath, "kwargs": arguments})))
    kept = {name: decoders.smart_decode_trigger_kwargs(value) for name, value in encoded["kwargs"].items()}
    assert type(trigger)(**kept).serialize() == (classpath, arguments)


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        (XetFileTrigger, {"repo_id": "acme"}),
        (XetFileTrigger, {"repo_id": "acme/corpus"}),
        (XetFileTrigger, {"repo_id": "acme/corpus", "paths": ["a"], "patterns": ["b"]}),
        (XetFileTrigger, {"repo_id": "acme/corpus", "paths": ["../a"]}),
        (XetFileTrigger, {"repo_id": "acme/corpus", "patterns": ["*"], "min_files": 0}),
        (XetFileTrigger, {"repo_id": "acme/corpus", "paths": ["a"], "min_files": 2}),
        (XetFileTrigger, {"repo_id": "acme/corpus", "paths": ["a"], "newer_than": "main"}),
        (XetFileTrigger, {"repo_id": "acme/corpus", "paths": ["a"], "known": {"a": ["no hash"]}}),
        (XetFileTrigger, {"repo_id": "acme/corpus", "paths": ["a"], "may_be_missing": "file"}),
        (XetFileTrigger, {"repo_id": "acme/b", "repo_type": "bucket", "paths": ["a"], "newer_than": "a" * 40}),
        (XetRevisionTrigger, {"repo_id": "acme/corpus", "repo_type": "bucket"}),
        (XetRevisionTrigger, {"repo_id": "acme/corpus", "newer_than": "main"}),
    ],
)
def test_a_wrong_argument_is_refused_before_anything_waits(kind, arguments):
    with pytest.raises(XetInputError):
        kind(**arguments)
