"""What ``@task.xethub`` refuses in the DAG file."""

from __future__ import annotations

import pytest

from airflow_provider_xethub.decorators import xethub as decorators
from airflow_provider_xethub.decorators.xethub import XetDecoratedOperator, xethub_task
from support.airflow_runs import new_dag
from support.decorated import (
    lower,
)

pytestmark = pytest.mark.airflow


@pytest.mark.parametrize(
    ("arguments", "call", "text"),
    [
        ({"path": "a", "patterns": "*"}, {}, "give only one of path and patterns"),
        ({"path": "a"}, {"files": ["b"]}, "give only one of path and files= in the call"),
        ({}, {"output": "/tmp"}, "the task itself provides output; leave it out of the call"),
        ({"read_only": True}, {}, "read_only=True uploads nothing"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_the_dag_file(arguments, call, text):
    with new_dag(), pytest.raises(ValueError, match=text):
        xethub_task(**arguments)(lower)(**call)


def test_files_that_no_parameter_takes_are_refused_in_the_dag_file():
    def nobody(output): ...

    with (
        new_dag(),
        pytest.raises(ValueError, match=r"path is given, but nobody\(\) has none of the parameters file, fi"),
    ):
        xethub_task(path="a")(nobody)()


def test_functions_that_cannot_be_called_by_name_are_refused_in_the_dag_file():
    async def later(file): ...

    def several(*files): ...

    def only(file, /): ...

    def yields(file):
        yield file

    for function, text in [(later, "async"), (yields, "generators"), (several, r"\*args"), (only, "positional-only")]:
        with new_dag(), pytest.raises(TypeError, match=text):
            xethub_task(function)()
    with new_dag(), pytest.raises(TypeError, match="Give file and files by name"):
        xethub_task(lower)(["a"])
    with new_dag(), pytest.raises(TypeError, match="missing a required argument: 'more'"):
        xethub_task(lambda file, more: None)()
    with new_dag(), pytest.raises(TypeError, match="multiple values for argument 'more'"):
        xethub_task(lambda file, more: None)(1, more=2)


def test_every_argument_is_a_template_field_unless_it_shapes_the_dag():
    import inspect

    own = {
        name
        for kind in XetDecoratedOperator.__mro__
        if kind.__module__.startswith("airflow_provider_xethub.")
        for name, each in inspect.signature(kind.__init__).parameters.items()
        if each.kind is each.KEYWORD_ONLY
    }
    fixed = {"python_callable", "token", "commit", "create_pr", "deduplicate", "follow_links", "on_empty"}
    fixed |= {"create_repo", "on_unchanged", "read_only"}
    fixed |= {"source"}
    assert own - set(XetDecoratedOperator.template_fields) == fixed
    assert set(XetDecoratedOperator.template_fields) <= own
    assert list(XetDecoratedOperator.template_fields[:2]) == ["op_args", "op_kwargs"]
    assert decorators.PROVIDED == ("file", "files", "folder", "output")
