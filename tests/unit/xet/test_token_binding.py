"""To whom a token is bound: what a binding allows, and that it only ever becomes narrower."""

from __future__ import annotations

import json

import pendulum
import pytest
from cryptography.fernet import Fernet
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_xethub.exceptions import XetInputError, XetTokenBindingError, XetTokenTamperedError
from airflow_provider_xethub.xet.repo import Repo
from airflow_provider_xethub.xet.token import SealedToken, XetToken
from airflow_provider_xethub.xet.token_binding import RunningTask, TokenBinding, check_bind, check_consumers

KEY = Fernet(Fernet.generate_key())
HERE = RunningTask("nightly", "run_1", "group.upload")

IDS = st.sampled_from(["a", "b", "group.a"])
BINDINGS = st.builds(
    TokenBinding,
    st.just("nightly"),
    st.none() | st.sampled_from(["run_1", "run_2"]),
    st.none() | st.lists(IDS, min_size=1, unique=True).map(tuple),
)
TASKS = st.builds(RunningTask, st.sampled_from(["nightly", "other"]), st.sampled_from(["run_1", "run_2"]), IDS)


def new_token(binding=None):
    expires_at = pendulum.datetime(2099, 1, 1)
    return XetToken(Repo("acme/m"), "read", "https://cas.example", expires_at, access_token="xet_0", binding=binding)


def allows(binding, task):
    try:
        binding.check(task)
    except XetTokenBindingError:
        return False
    return True


def bound(**binding):
    return SealedToken.seal(new_token(binding=TokenBinding("nightly", **binding)), KEY).to_xcom()


@pytest.mark.parametrize(
    ("binding", "task", "text"),
    [
        (TokenBinding("other"), HERE, "bound to DAG 'other', and this is DAG 'nightly'. Fetch a token in this DAG"),
        (TokenBinding("nightly", "run_0"), HERE, "bound to run 'run_0', and this is run 'run_1'. Fetch a token in"),
        (TokenBinding("nightly", None, ("upload",)), HERE, "may not be used by task 'group.upload'. Add it to cons"),
        (TokenBinding("nightly", "run_1"), None, "bound to DAG 'nightly', and no Airflow task runs here. Use it in"),
    ],
)
def test_another_task_is_refused_and_told_what_to_do(binding, task, text):
    with pytest.raises(XetTokenBindingError) as caught:
        binding.check(task)
    assert text in str(caught.value)
    assert not caught.value.retryable


def test_the_tasks_that_it_allows_may_use_it():
    for binding in (
        TokenBinding("nightly"),
        TokenBinding("nightly", "run_1"),
        TokenBinding("nightly", "run_1", ("group.upload",)),
    ):
        binding.check(HERE)


def test_consumers_alone_bind_to_the_dag():
    assert TokenBinding.of(HERE, None, ["a", "a"]) == TokenBinding("nightly", None, ("a",))
    assert TokenBinding.of(HERE, "run", None) == TokenBinding("nightly", "run_1")


@given(BINDINGS, BINDINGS, TASKS)
def test_a_binding_only_becomes_narrower(first, further, task):
    wider = set(further.consumers or ()) - set(first.consumers or further.consumers or ())
    if wider:
        with pytest.raises(XetInputError, match="may only narrow"):
            first.narrowed(further)
        return
    both = first.narrowed(further)
    if allows(both, task):
        assert allows(first, task)
    if first.run_id in (None, further.run_id):
        assert allows(both, task) == (allows(first, task) and allows(further, task))


@given(BINDINGS)
def test_it_survives_xcom_and_json(binding):
    assert TokenBinding.from_xcom(json.loads(json.dumps(binding.to_xcom()))) == binding


def test_the_value_shows_the_binding_and_its_seal_confirms_it():
    value = bound(run_id="run_1", consumers=("a",))
    assert value["bound_to"] == {"dag_id": "nightly", "run_id": "run_1", "consumers": ["a"]}
    assert SealedToken.from_xcom(value).open([KEY]).binding == TokenBinding("nightly", "run_1", ("a",))


def test_a_token_without_a_binding_has_the_shape_that_it_always_had():
    assert "bound_to" not in SealedToken.seal(new_token(), KEY).to_xcom()


@pytest.mark.parametrize(
    "change",
    [
        lambda value: value.pop("bound_to"),
        lambda value: value.update(bound_to=None),
        lambda value: value.update(bound_to={}),
        lambda value: value.update(bound_to="nightly"),
        lambda value: value["bound_to"].pop("run_id"),
        lambda value: value["bound_to"].update(more=1),
        lambda value: value["bound_to"].update(dag_id="other"),
        lambda value: value["bound_to"].update(dag_id=""),
        lambda value: value["bound_to"].update(dag_id=None),
        lambda value: value["bound_to"].update(run_id="run_2"),
        lambda value: value["bound_to"].update(run_id=None),
        lambda value: value["bound_to"].update(consumers=["a", "b"]),
        lambda value: value["bound_to"].update(consumers=None),
        lambda value: value["bound_to"].update(consumers=[]),
        lambda value: value["bound_to"].update(consumers=[1]),
        lambda value: value["bound_to"].update(consumers="a"),
        lambda value: value["bound_to"].update(dag_id="x" * 5000),
    ],
)
def test_a_binding_that_was_removed_or_changed_is_refused(change):
    value = bound(run_id="run_1", consumers=("a",))
    change(value)
    with pytest.raises(XetTokenTamperedError):
        SealedToken.from_xcom(value).open([KEY])


def test_a_binding_cannot_be_added_to_a_token_that_has_none():
    value = {
        **SealedToken.seal(new_token(), KEY).to_xcom(),
        "bound_to": {"dag_id": "n", "run_id": None, "consumers": None},
    }
    with pytest.raises(XetTokenTamperedError, match="bound_to"):
        SealedToken.from_xcom(value).open([KEY])


def test_a_reference_without_a_seal_shows_its_binding_as_a_claim():
    reference = SealedToken.seal(new_token(binding=TokenBinding("nightly")), None)
    assert SealedToken.from_xcom(reference.to_xcom()).binding == TokenBinding("nightly")


def test_unknown_choices_and_tasks_are_named():
    with pytest.raises(XetInputError, match=r"bind 'task' is unknown; use 'dag' or 'run'"):
        check_bind("task")
    check_consumers(["a", "group.b"], "nightly", ["a", "group.b", "c"])
    with pytest.raises(XetInputError) as caught:
        check_consumers(["b", "x"], "nightly", ["a", "group.b"])
    assert "consumers names 'b', 'x', but DAG 'nightly' has no such task" in str(caught.value)
    assert "Did you mean 'group.b'?" in str(caught.value)
