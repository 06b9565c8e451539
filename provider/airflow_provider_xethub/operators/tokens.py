"""The operators that fetch and forget tokens; users import them from ``operators.xethub``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import XCOM_RETURN_KEY, BaseOperator, XCom, XComArg, conf
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_1_PLUS

from airflow_provider_xethub.exceptions import XetInputError
from airflow_provider_xethub.hooks.errors import fail_task
from airflow_provider_xethub.hooks.rendering import RenderedArguments
from airflow_provider_xethub.hooks.tokens import token_bindings
from airflow_provider_xethub.operators.base import REPO_FIELDS, XetOperator
from airflow_provider_xethub.xet import recipient as recipients
from airflow_provider_xethub.xet.repo import Scope
from airflow_provider_xethub.xet.token import SealedTokenDict
from airflow_provider_xethub.xet.token_binding import Bind

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


class XetTokenOperator(XetOperator):
    """Fetch a Xet token for one repository and revision, and return it sealed.

    The XCom value does not reveal the token in the database, the UI or a log. Without a Fernet key it is only a
    reference: consumers that have the connection and name the repository themselves fetch their own token.

    :param scope: ``read``, or ``write`` for tasks that upload.
    :param bind: who may use the token: tasks of this DAG (``dag``), or of this run (``run``). ``None``: every task
        that reads the XCom and has the key.
    :param consumers: the IDs of the tasks of this DAG that may use the token, with those of their task groups
        (``group.upload``). ``None``: all.
    :param recipient: the public key of a process that is not Airflow, such as the XCom of a task in which the process
        made it: a JWK, or its ``x``. Only that process can open the token, with ``xethub-token``. ``None``: tasks of
        Airflow open it.
    :returns: a :class:`~airflow_provider_xethub.xet.token.SealedTokenDict`; with ``recipient``, a string: a JWE.
    """

    template_fields: Sequence[str] = (*REPO_FIELDS, "scope", "bind", "consumers", "recipient")

    def __init__(
        self,
        *,
        scope: Scope = "read",
        bind: Bind | None = None,
        consumers: str | Sequence[str] | None = None,
        recipient: Mapping[str, Any] | str | XComArg | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.scope = scope
        self.bind = bind
        self.consumers = consumers
        self.recipient = recipient
        self._restricting = [name for name in ("bind", "consumers", "recipient") if getattr(self, name) is not None]
        self.check_written()

    def prepare(self, context: Context) -> None:
        """Check the rendered arguments.

        :raises XetInputError: a template that should restrict the token was rendered to ``None``.
        """
        super().prepare(context)
        if missing := [name for name in self._restricting if getattr(self, name) is None]:
            raise XetInputError(
                f"{missing[0]} is a template that was rendered to None, which would not restrict the token. Give it a "
                f"value, or leave {missing[0]} out of {self.task_id}."
            )

    def work(self, context: Context) -> SealedTokenDict | str:  # noqa: ARG002
        """Fetch the token and seal it."""
        if self.recipient is not None:
            return self._seal_to_recipient()
        binding = token_bindings.binding(self.bind, self.consumers)  # refuses wrong ones before a token is fetched
        token = self.hook.get_token(self.resolve_repo(), self.scope)
        if binding:
            self.log.info("Only tasks of %s may use the token.", binding)
        return self.hook.seal_token(token, bind=self.bind, consumers=self.consumers)

    def _seal_to_recipient(self) -> str:
        if self.bind is not None or self.consumers is not None:
            raise XetInputError(
                f"{self.task_id}: a token for a recipient is not bound to tasks; leave out bind and consumers."
            )
        # Refuses a wrong one before a token is fetched.
        key = recipients.public_key(self.recipient)
        token = self.hook.get_token(self.resolve_repo(), self.scope)
        self.log.info("Only the holder of the private key %s can open the token.", recipients.thumbprint(key))
        return self.hook.seal_token(token, recipient=key)


class XetForgetTokenOperator(RenderedArguments, BaseOperator):
    """Delete the XComs of token tasks, for all their map indexes: the teardown of a ``XetTokenOperator``.

    In a task loop (Airflow 3.4), each iteration forgets its own token. From outside of a loop, Airflow lets no task
    delete what its iterations stored.

    Example::

        forget = XetForgetTokenOperator(task_id="forget").as_teardown(setups=token)

    :param token_task_ids: ids of the token tasks. ``None``: the setup tasks of this teardown.
    """

    template_fields: Sequence[str] = ("token_task_ids",)

    def __init__(self, *, token_task_ids: str | Sequence[str] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.token_task_ids = token_task_ids
        self.check_written()

    def execute(self, context: Context) -> None:
        """Delete the XComs. A missing XCom is not an error."""
        with fail_task(self.log):
            self.check_rendered()
            task_ids = self._task_ids()
            self._check_loops(context, task_ids)
            for task_id in task_ids:
                ti = context["ti"]
                for map_index in self._map_indexes(context, task_id):
                    _delete_xcom(task_id, ti.dag_id, ti.run_id, map_index)
                self.log.info("Deleted the token of task %s.", task_id)

    def _task_ids(self) -> list[str]:
        if self.token_task_ids is not None:
            return list(self.token_task_ids)
        setups = sorted(task.task_id for task in self.upstream_list if task.is_setup)
        if not setups:
            raise XetInputError(
                f"{self.task_id} does not know which token to forget. Write {self.task_id}.as_teardown(setups=<token "
                "task>), or set token_task_ids."
            )
        return setups

    def _check_loops(self, context: Context, task_ids: Sequence[str]) -> None:
        """Refuse a token task in a task loop that this task is not part of.

        :raises XetInputError: Airflow would refuse the request, after the XComs of other tasks were deleted.
        """
        for task_id in task_ids:
            loop = _loop_of(context["dag"].get_task(task_id))
            if loop is not None and loop != _loop_of(self):
                raise XetInputError(
                    f"Token task {task_id} is in loop {loop}: move {self.task_id} into the loop. Airflow lets "
                    "no task outside of a loop delete the XComs of its iterations."
                )

    def _map_indexes(self, context: Context, task_id: str) -> Iterable[int]:
        """Return the map indexes of a task; a task that is not mapped has only -1.

        If both tasks are in one mapped task group, this task instance forgets the token of its own index only: the
        others may still be in use.
        """
        ti = context["ti"]
        task = context["dag"].get_task(task_id)
        group = task.get_closest_mapped_task_group()
        if group is not None and group is self.get_closest_mapped_task_group():
            return [-1 if ti.map_index is None else ti.map_index]
        if not task.is_mapped and group is None:
            return [-1]
        if _loop_of(task) is not None:
            return _indexes_until_empty(task_id, ti.dag_id, ti.run_id)
        return range(ti.get_ti_count(dag_id=ti.dag_id, task_ids=[task_id], run_ids=[ti.run_id]))


def _loop_of(task: Any) -> str | None:
    """Return the id of the task loop that contains a task: a task group with a gate. Airflow 3.4 has them."""
    group = task.task_group
    while group is not None and not hasattr(group, "gate_task_id"):
        group = group.parent_group
    return None if group is None else str(group.group_id)


def _indexes_until_empty(task_id: str, dag_id: str, run_id: str) -> Iterator[int]:
    """Yield map indexes as long as the mapped task has a return value in this iteration of a task loop.

    Airflow counts the task instances of the newest iteration, which may have started before this teardown.
    """
    for map_index in range(conf.getint("core", "max_map_length", fallback=1024)):
        if not XCom.get_all(key=XCOM_RETURN_KEY, task_id=task_id, dag_id=dag_id, run_id=run_id):
            return
        yield map_index


def _delete_xcom(task_id: str, dag_id: str, run_id: str, map_index: int) -> None:
    """Delete the returned value of a task."""
    XCom.delete(XCOM_RETURN_KEY, task_id, dag_id, run_id, map_index=map_index)
    if AIRFLOW_V_3_1_PLUS or map_index < 0:
        return
    # Airflow 3.0 drops the map index and deletes nothing, so this repeats its own request with the map index.
    from airflow.sdk.bases import xcom
    from airflow.sdk.execution_time import comms, task_runner

    message = comms.DeleteXCom(key=XCOM_RETURN_KEY, dag_id=dag_id, run_id=run_id, task_id=task_id, map_index=map_index)
    supervisor: Any = task_runner.SUPERVISOR_COMMS
    if hasattr(supervisor, "send_request"):  # 3.0.0 to 3.0.2
        supervisor.send_request(log=xcom.log, msg=message)
    else:
        supervisor.send(message)
