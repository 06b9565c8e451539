"""How templates in the arguments of operators and sensors are rendered: strings stay strings, whatever the DAG says.

A DAG may render templates natively (``render_template_as_native_obj``). That turns the string ``2026_01`` into the
number 202601, and ``1.10`` into 1.1. The string cannot be recovered from the number, so it must not become one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from airflow_provider_xethub.exceptions import XetInputError
from airflow_provider_xethub.hooks.errors import fail_without_retry
from airflow_provider_xethub.xet import arguments
from airflow_provider_xethub.xet.files.cache.hub_cache import HubCache

if TYPE_CHECKING:
    import jinja2
    from airflow.providers.common.compat.sdk import Context


class RenderedArguments:
    """Mixin for operators and sensors that renders each argument by what it is.

    * A string is rendered as a string.
    * A list of strings that is given as one template may be rendered natively to a list. Its elements are strings.
    * Everything else, such as records, is rendered as the DAG says.
    * A template that is rendered to ``None``, or to that string, means that the argument was not given.
    * A ``pathlib.Path`` is rendered like a string, as is the path of a ``HubCache``.
    """

    template_fields: Sequence[str]
    _renders_strings = False

    @fail_without_retry()
    def check_written(self) -> None:
        """Check what the DAG file says, at the end of a constructor.

        The constructor of a mapped task runs on the worker, where Airflow 3.0 does not handle its errors. There,
        :meth:`check_rendered` does all checks.

        :raises XetInputError: an argument is wrong.
        """
        if not getattr(self, "_BaseOperator__from_mapped", False):
            arguments.check_written(self, self.template_fields)

    def check_rendered(self) -> None:
        """Check and normalise the arguments before the task uses them.

        :raises XetInputError: an argument is empty or wrong.
        """
        arguments.check_fields(self, self.template_fields)
        arguments.check_written(self, self.template_fields)

    def _do_render_template_fields(
        self,
        parent: Any,
        template_fields: Iterable[str],
        context: Context,
        jinja_env: jinja2.Environment,
        seen_oids: set[int],
    ) -> None:
        from jinja2.nativetypes import NativeEnvironment

        def render(name: str, env: jinja2.Environment) -> None:
            base: Any = super(RenderedArguments, self)
            base._do_render_template_fields(parent, [name], context, env, seen_oids)

        dag = self.get_dag()  # type: ignore[attr-defined]
        own = getattr(self, "render_template_as_native_obj", None)  # since Airflow 3.2
        is_native = bool(dag and dag.render_template_as_native_obj) if own is None else own
        strings_env = (
            dag.get_template_env(force_sandboxed=True) if isinstance(jinja_env, NativeEnvironment) else jinja_env
        )
        # One by one, in the given order: a template may refer to the fields before it.
        for name in template_fields:
            if parent is not self or name not in arguments.RENDERED:
                render(name, jinja_env)
                continue
            given = _as_string(getattr(self, name))
            if isinstance(given, HubCache):
                self._render_cache(name, given, strings_env, render)
                continue
            setattr(self, name, given)
            if name in arguments.RECORDS:
                render(name, jinja_env)
            elif not (name in arguments.LISTS and is_native and isinstance(given, str)):
                self._render_strings(name, strings_env, render)
            else:
                render(name, jinja_env)
                if not _is_collection(getattr(self, name)):
                    setattr(self, name, given)
                    self._render_strings(name, strings_env, render)
            setattr(self, name, _unless_none(given, getattr(self, name)))

    def _render_strings(
        self, name: str, env: jinja2.Environment, render: Callable[[str, jinja2.Environment], None]
    ) -> None:
        self._renders_strings = True
        try:
            render(name, env)
        finally:
            self._renders_strings = False

    @fail_without_retry()
    def _render_cache(
        self,
        name: str,
        cache: HubCache,
        env: jinja2.Environment,
        render: Callable[[str, jinja2.Environment], None],
    ) -> None:
        """Render the path of a cache. The value itself stays as it is: several tasks may share it."""
        if cache.path is None:
            return
        setattr(self, name, cache.path)
        self._render_strings(name, env, render)
        path = _unless_none(cache.path, getattr(self, name))
        if path is None:
            raise XetInputError(f"{name} is HubCache({cache.path!r}), but the template or task returned no value.")
        setattr(self, name, HubCache(path))

    def _render(self, template: jinja2.Template, context: Context, dag: Any = None) -> Any:
        if not self._renders_strings:
            return super()._render(template, context, dag=dag)  # type: ignore[misc]
        try:
            from airflow.sdk.definitions.context import render_template_to_string
        except ImportError:  # Airflow 3.0
            from airflow.utils.helpers import render_template_to_string  # type: ignore[no-redef]
        return render_template_to_string(template, context)


def _as_string(value: Any) -> Any:
    """Return a ``pathlib.Path``, or each in a list, as a string. Some versions of Airflow call its ``resolve()``."""
    if isinstance(value, PurePath) and not hasattr(value, "protocol"):
        return str(value)
    if isinstance(value, (list, tuple)) and any(isinstance(each, PurePath) for each in value):
        return [_as_string(each) for each in value]
    return value


def _is_collection(value: Any) -> bool:
    return isinstance(value, (Sequence, Mapping)) and not isinstance(value, (str, bytes))


def _unless_none(given: Any, rendered: Any) -> Any:
    """Return what a template was rendered to, with ``None`` for the string of it."""
    if isinstance(given, str):
        return None if rendered == "None" and given != "None" else rendered
    if isinstance(given, (list, tuple)) and isinstance(rendered, (list, tuple)):
        return [_unless_none(before, after) for before, after in zip(given, rendered, strict=True)]
    return rendered
