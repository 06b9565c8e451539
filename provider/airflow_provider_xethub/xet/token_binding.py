"""To which DAG, run and tasks a token is bound, and whether a task is one of them. Pure: no I/O.

A binding only ever restricts. It travels with the token in XCom, in clear and in the sealed part.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypedDict, get_args

from airflow_provider_xethub.exceptions import XetInputError, XetTokenBindingError

Bind = Literal["dag", "run"]
BINDS: tuple[str, ...] = get_args(Bind)

_MAX_CHARS = 4000
"""Upper limit of an ID in a binding; Airflow's own limit is 250."""

_MAX_SHOWN = 5


class TokenBindingDict(TypedDict):
    """A binding in XCom. ``run_id`` and ``consumers`` are ``None`` where they do not restrict."""

    dag_id: str
    run_id: str | None
    consumers: list[str] | None


class RunningTask(NamedTuple):
    """The task that this process runs, as Airflow knows it; never as a value in XCom says it."""

    dag_id: str
    run_id: str
    task_id: str


@dataclass(frozen=True)
class TokenBinding:
    """Where a token may be used.

    :param dag_id: in tasks of this DAG.
    :param run_id: in this run only. ``None``: in all runs.
    :param consumers: in tasks with these full IDs only. ``None``: in all tasks.
    """

    dag_id: str
    run_id: str | None = None
    consumers: tuple[str, ...] | None = None

    @classmethod
    def of(cls, task: RunningTask, bind: Bind | None, consumers: Sequence[str] | None) -> TokenBinding:
        """Return the binding to a DAG, or to a run and to some of its tasks.

        :param task: a task of that run.
        :param bind: ``dag`` or ``run``. ``None``: ``dag``, because the IDs of tasks mean nothing elsewhere.
        :param consumers: the full IDs of the tasks that may use the token. ``None``: all.
        """
        run_id = task.run_id if bind == "run" else None
        return cls(task.dag_id, run_id, None if consumers is None else tuple(dict.fromkeys(consumers)))

    def narrowed(self, further: TokenBinding) -> TokenBinding:
        """Return this binding, restricted further. Nothing that this one forbids becomes allowed.

        :param further: a binding to the same DAG.
        :raises XetInputError: ``further`` allows tasks that this binding forbids.
        """
        wider = sorted(set(further.consumers or ()) - set(self.consumers or further.consumers or ()))
        if wider:
            raise XetInputError(
                f"consumers may only narrow the binding of a token, which does not allow {_listed(wider)}. Name some "
                f"of {_listed(self.consumers or ())}, or fetch another token."
            )
        return TokenBinding(self.dag_id, self.run_id or further.run_id, further.consumers or self.consumers)

    def check(self, task: RunningTask | None) -> None:
        """Refuse the token in a task that it is not bound to.

        :param task: the task that is about to use it; ``None`` outside of tasks.
        :raises XetTokenBindingError: the task is another one; the message names both.
        """
        if task is None:
            raise XetTokenBindingError(
                f"This token is bound to DAG {self.dag_id!r:.100}, and no Airflow task runs here. Use it in a task of "
                "that DAG, or fetch it without bind and consumers."
            )
        if task.dag_id != self.dag_id:
            raise XetTokenBindingError(
                f"This token is bound to DAG {self.dag_id!r:.100}, and this is DAG {task.dag_id!r:.100}. Fetch a token "
                "in this DAG (XetTokenOperator), or leave out bind and consumers where it is fetched."
            )
        if self.run_id is not None and task.run_id != self.run_id:
            raise XetTokenBindingError(
                f"This token is bound to run {self.run_id!r:.100}, and this is run {task.run_id!r:.100}. Fetch a token "
                "in this run, or set bind='dag' where it is fetched."
            )
        if self.consumers is not None and task.task_id not in self.consumers:
            raise XetTokenBindingError(
                f"This token may not be used by task {task.task_id!r:.100}. Add it to consumers where the token is "
                f"fetched, which allows {_listed(self.consumers)}."
            )

    def __str__(self) -> str:
        """Return a few words for the log."""
        run = f"run {self.run_id!r} of " if self.run_id is not None else ""
        tasks = f", {_listed(self.consumers)} only" if self.consumers is not None else ""
        return f"{run}DAG {self.dag_id!r}{tasks}"

    def to_xcom(self) -> TokenBindingDict:
        """Return the binding as plain JSON."""
        consumers = None if self.consumers is None else list(self.consumers)
        return {"dag_id": self.dag_id, "run_id": self.run_id, "consumers": consumers}

    @classmethod
    def from_xcom(cls, value: object) -> TokenBinding:
        """Read what :meth:`to_xcom` returned.

        :raises ValueError: it is something else.
        """
        if not isinstance(value, Mapping) or set(value) != set(TokenBindingDict.__annotations__):
            raise ValueError
        consumers = value["consumers"]
        if consumers is not None and not (isinstance(consumers, list) and consumers and all(map(_is_id, consumers))):
            raise ValueError
        if not _is_id(value["dag_id"]) or not (value["run_id"] is None or _is_id(value["run_id"])):
            raise ValueError
        return cls(value["dag_id"], value["run_id"], None if consumers is None else tuple(consumers))


def check_bind(value: str) -> None:
    """Refuse anything but the two bindings.

    :raises XetInputError: it is another string.
    """
    if value not in BINDS:
        raise XetInputError(f"bind {value!r:.60} is unknown; use 'dag' or 'run', or leave bind out.")


def check_consumers(consumers: Iterable[str], dag_id: str, task_ids: Iterable[str]) -> None:
    """Refuse consumers that the DAG does not have: a typo would lock out the task that needs the token.

    :param task_ids: the full IDs of all tasks of the DAG.
    :raises XetInputError: a consumer is not among them.
    """
    known = set(task_ids)
    unknown = [each for each in dict.fromkeys(consumers) if each not in known]
    if not unknown:
        return
    similar = sorted(each for each in known if each.rpartition(".")[2] in unknown)
    hint = f" Did you mean {_listed(similar)}?" if similar else ""
    raise XetInputError(
        f"consumers names {_listed(unknown)}, but DAG {dag_id!r:.100} has no such task. Correct the ID; that of a task "
        f"in a task group includes the group's.{hint}"
    )


def _is_id(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _MAX_CHARS


def _listed(task_ids: Sequence[str]) -> str:
    shown = ", ".join(f"{each!r:.100}" for each in task_ids[:_MAX_SHOWN])
    return shown if len(task_ids) <= _MAX_SHOWN else f"{shown} and {len(task_ids) - _MAX_SHOWN} more"
