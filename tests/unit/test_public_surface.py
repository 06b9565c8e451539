"""Every class that the provider offers, found by walking what Airflow reads about it: nothing here is a list of names.

A new operator, sensor, trigger or hook is checked from the day on which it is written.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import pkgutil
import re
import textwrap
from collections.abc import Iterator
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import BaseHook, BaseOperator, BaseSensorOperator, DecoratedOperator
from airflow.sdk import DAG
from airflow.triggers.base import BaseTrigger

import airflow_provider_xethub
from airflow_provider_xethub.get_provider_info import get_provider_info

pytestmark = [pytest.mark.airflow, pytest.mark.smoke]

NAME = "airflow_provider_xethub"
INFO = get_provider_info()
SECRETS = ("token", "password", "secret", "credential")


def named(value: Any) -> Iterator[str]:
    """Every dotted name of this provider in its metadata, wherever it stands."""
    if isinstance(value, str):
        if re.fullmatch(rf"{NAME}(\.\w+)+", value):
            yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from named(each)
    elif isinstance(value, list):
        for each in value:
            yield from named(each)


def load(name: str) -> Any:
    """Return the module, or what is in a module, of a dotted name."""
    module, _, attribute = name.rpartition(".")
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        return getattr(importlib.import_module(module), attribute)


NAMES = sorted(set(named(INFO)))


def public_classes() -> dict[str, type]:
    """Every public class that a module named in the metadata has or imports from this provider."""
    found = {}
    for name in NAMES:
        thing = load(name)
        owner = thing if inspect.ismodule(thing) else importlib.import_module(thing.__module__)
        for each in vars(owner).values():
            if inspect.isclass(each) and each.__module__.startswith(NAME) and not each.__name__.startswith("_"):
                found[f"{each.__module__}.{each.__qualname__}"] = each
    return found


CLASSES = public_classes()


def subclasses(*bases: type) -> list[Any]:
    return [
        pytest.param(each, id=each.__name__)
        for name, each in sorted(CLASSES.items())
        if issubclass(each, bases) and not inspect.isabstract(each)
    ]


TASKS = subclasses(BaseOperator, BaseSensorOperator)
TRIGGERS = subclasses(BaseTrigger)
HOOKS = subclasses(BaseHook)


def parameters(kind: Any) -> dict[str, inspect.Parameter]:
    """The parameters of a class, and those of its bases in this provider, where it passes them on."""
    found: dict[str, inspect.Parameter] = {}
    for each in kind.__mro__:
        if not each.__module__.startswith(NAME) or "__init__" not in vars(each):
            continue
        own = inspect.signature(each.__init__).parameters
        found |= {
            name: parameter
            for name, parameter in own.items()
            if name != "self" and name not in found and parameter.kind is not inspect.Parameter.VAR_POSITIONAL
        }
        if not any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in own.values()):
            break
    return {name: each for name, each in found.items() if each.kind is not inspect.Parameter.VAR_KEYWORD}


def documented(kind: Any) -> set[str]:
    """What the docstrings of a class and of its bases in this provider explain."""
    texts = (each.__doc__ or "" for each in kind.__mro__ if each.__module__.startswith(NAME))
    return {name for text in texts for name in re.findall(r":param (\w+):", text)}


EXAMPLES: dict[str, Any] = {
    "repo_id": "acme/corpus",
    "repo_type": "dataset",
    "paths": ["d/a.bin"],
    "known": {"d/a.bin": ["b" * 40]},
    "newer_than": "a" * 40,
    "scope": "read",
    "once": True,
    "poke_interval": 7.5,
    "xethub_conn_id": "another",
    "revision": "refs/pr/1",
    "may_be_missing": "repo",
}
"""Values other than the defaults, for arguments that take only some."""


def arguments_for(kind: Any, *, only_required: bool = True) -> dict[str, Any]:
    """Arguments for a class: those without a default, or all that have an example."""
    return {
        name: EXAMPLES.get(name, f"example of {name}")
        for name, parameter in parameters(kind).items()
        if parameter.default is inspect.Parameter.empty or (name in EXAMPLES and not only_required)
    }


def test_the_walk_finds_what_is_there():
    assert {each.values[0].__name__ for each in TASKS} >= {"XetUploadOperator", "XetFileSensor"}
    assert {each.values[0].__name__ for each in TRIGGERS} >= {"XetFileTrigger", "XetRevisionTrigger"}
    assert [each.values[0].__name__ for each in HOOKS].count("XetHubConnection") == 1
    assert "repo_id" in parameters(load(f"{NAME}.sensors.xethub.XetFileSensor"))


@pytest.mark.parametrize("name", NAMES)
def test_everything_that_the_metadata_names_can_be_imported(name):
    assert load(name) is not None


def test_no_task_sensor_or_trigger_is_outside_of_what_the_metadata_names():
    public = set()
    for module in pkgutil.walk_packages(airflow_provider_xethub.__path__, f"{NAME}."):
        if module.name.split(".")[1] in ("operators", "sensors", "triggers", "hooks", "links", "decorators"):
            public |= {
                f"{module.name}.{name}"
                for name, each in vars(importlib.import_module(module.name)).items()
                if inspect.isclass(each)
                and each.__module__ == module.name
                and issubclass(each, (BaseOperator, BaseSensorOperator, BaseTrigger, BaseHook))
                and not name.startswith("_")
            }
    # A base is there to be subclassed, and need not be in a module that is named; what has no subclass here must be.
    bases = {f"{base.__module__}.{base.__qualname__}" for each in CLASSES.values() for base in each.__mro__[1:]}
    assert public - set(CLASSES) <= bases


# What a decorator makes is never constructed by its user, and refuses some of these together: see
# decorators/test_failures.py.
@pytest.mark.parametrize("kind", [each for each in TASKS if not issubclass(each.values[0], DecoratedOperator)])
def test_template_fields_are_arguments_that_are_kept_as_they_came(kind):
    assert set(kind.template_fields) <= set(parameters(kind)) | set(inspect.signature(BaseOperator).parameters)
    assert len(set(kind.template_fields)) == len(kind.template_fields)
    given = {
        **arguments_for(kind),
        **{name: "{{ params.anything }}" for name in kind.template_fields if name in parameters(kind)},
    }
    with DAG("surface", schedule=None):
        task = kind(task_id="task", **given)
    for name in kind.template_fields:
        assert getattr(task, name) == given.get(name, getattr(task, name)), f"{name} is not kept as it came"


@pytest.mark.parametrize("kind", TASKS)
def test_a_constructor_does_nothing_with_what_may_be_a_template(kind):
    """It may only keep it: what is rendered comes later, and a check here would look at braces."""
    fields = set(kind.template_fields)
    for each in kind.__mro__:
        if not each.__module__.startswith(NAME) or "__init__" not in vars(each):
            continue
        for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(each.__init__)))):
            if isinstance(node, (ast.If, ast.IfExp, ast.Assert)):
                used = {part.id for part in ast.walk(node.test) if isinstance(part, ast.Name)}
                assert not used & fields, f"{each.__name__}.__init__ decides by {used & fields}"


@pytest.mark.parametrize("kind", TASKS)
def test_each_connection_can_be_a_template(kind):
    connections = {name for name in parameters(kind) if name.endswith("conn_id")}
    assert ("xethub_conn_id" in connections) == hasattr(kind, "hook")
    assert connections <= set(kind.template_fields)


@pytest.mark.parametrize("kind", TASKS)
def test_no_token_can_be_a_template(kind):
    assert not [name for name in kind.template_fields if name.endswith(SECRETS)]


@pytest.mark.parametrize("kind", [*TASKS, *TRIGGERS, *HOOKS])
def test_the_docstring_explains_every_argument_and_no_other(kind):
    assert set(parameters(kind)) - documented(kind) == set()
    own = set(re.findall(r":param (\w+):", kind.__doc__ or ""))
    assert own - set(parameters(kind)) == set(), "explained, and not there"


@pytest.mark.parametrize("kind", [pytest.param(each, id=name) for name, each in sorted(CLASSES.items())])
def test_every_class_and_method_says_what_it_is(kind):
    assert inspect.getdoc(kind)
    problems = []
    for name, member in vars(kind).items():
        function = inspect.unwrap(getattr(member, "__func__", getattr(member, "fget", None) or member))
        if name.startswith("_") or not inspect.isfunction(function):
            continue
        text = inspect.getdoc(getattr(kind, name)) or ""
        told = {each for names in re.findall(r":param ([\w, ]+):", text) for each in names.split(", ")}
        taken = {*inspect.signature(function).parameters} - {"self", "cls"}
        if not text:
            problems.append(f"{name} has no docstring")
        if told and told != taken:
            problems.append(f"{name}: explained and not there, or there and not explained: {sorted(told ^ taken)}")
    assert not problems


@pytest.mark.parametrize("kind", TASKS)
def test_deferrable_follows_the_administrators_default(kind):
    parameter = parameters(kind).get("deferrable")
    if parameter is not None:
        assert parameter.default is False
        source = "".join(inspect.getsource(each) for each in kind.__mro__ if each.__module__.startswith(NAME))
        assert 'conf.getboolean("operators", "default_deferrable", fallback=False)' in source


@pytest.mark.parametrize("kind", TRIGGERS)
def test_a_trigger_is_the_same_after_it_was_in_the_database(kind):
    from airflow.serialization.serialized_objects import BaseSerialization

    for arguments in (arguments_for(kind), arguments_for(kind, only_required=False)):
        if "paths" in parameters(kind):
            arguments["paths"] = ["d/a.bin"]
        if kind.__name__ == "XetPullRequestTrigger":
            arguments["revision"] = "refs/pr/1"
        if "exponential_backoff" in parameters(kind):
            arguments["exponential_backoff"] = True  # without it, it and max_wait are left out
        trigger = kind(**arguments)
        classpath, kept = trigger.serialize()
        assert load(classpath) is kind
        # Airflow stores the queue of a watcher beside the arguments.
        assert set(kept) == set(parameters(kind)) - {"queue"}, "what is not serialised is lost in the triggerer"
        assert json.loads(json.dumps(kept)) == kept
        assert kind(**json.loads(json.dumps(kept))).serialize() == (classpath, kept)
        airflows = json.loads(json.dumps(BaseSerialization.serialize(kept)))
        assert kind(**BaseSerialization.deserialize(airflows)).serialize() == (classpath, kept)
        for name, value in arguments.items():
            assert kept[name] == value, f"{name} is not handed over as it came"
        assert not [name for name in kept if name.endswith(SECRETS)]


@pytest.mark.parametrize("kind", TRIGGERS)
def test_a_trigger_takes_nothing_by_position(kind):
    assert {each.kind for each in parameters(kind).values()} == {inspect.Parameter.KEYWORD_ONLY}
