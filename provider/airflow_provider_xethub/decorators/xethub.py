"""``@task.xethub``: a function that works on local files; what it needs is downloaded, what it makes is uploaded.

Importing this module loads no client library: ``requests``, ``hf_xet`` and ``huggingface_hub`` load inside the task.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Protocol, overload

from airflow.providers.common.compat.sdk import DecoratedOperator, task_decorator_factory

from airflow_provider_xethub.exceptions import XetCancelledError, XetInputError
from airflow_provider_xethub.operators.xethub import XetUploadOperator
from airflow_provider_xethub.xet import arguments
from airflow_provider_xethub.xet.repo import Repo
from airflow_provider_xethub.xet.token import SealedTokenDict

try:
    from airflow.sdk.bases.decorator import determine_kwargs
except ImportError:  # Airflow 3.0 and 3.1; the oldest common-compat that we allow does not have it
    from airflow.utils.operator_helpers import determine_kwargs  # type: ignore[attr-defined]

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context, XComArg

    from airflow_provider_xethub.xet.records import XetFile

INPUTS: tuple[str, ...] = ("file", "files", "folder")
OUTPUT = "output"
PLACES: tuple[str, ...] = (*INPUTS, OUTPUT)
"""Parameters that the task fills in, where a function has them."""

_SOURCE = ("source_repo_id", "source_repo_type", "source_revision")


class XetDecoratedOperator(DecoratedOperator, XetUploadOperator):
    """What ``@task.xethub`` makes of a function: download, call it, upload.

    The function gets local paths in those of these parameters that it has: ``file``, the only one; ``files``, all of
    them, in the order of their paths in the repository; ``folder``, below which they keep these paths; ``output``, an
    empty folder for what it writes. All of them are gone when the task ends. Its other arguments are given by the
    caller, as for ``@task``; ``file`` and ``files`` may be: as Xet file records, or as paths in the source.

    Published is the path, or the list of paths, that the function returns; if it returns ``None``, what it wrote into
    ``output``.

    :param python_callable: the function.
    :param op_args: its arguments by position, and
    :param op_kwargs: by name, as the call in the DAG file gives them.
    :param source_repo_id: where the files come from; the records' repository, or the destination where ``None``.
    :param source_repo_type: its type; as above.
    :param source_revision: its revision; that of the destination where both are one repository, and else ``main``.
    :param path: one file, or one folder, in the source.
    :param paths: several files; all must exist.
    :param patterns: paths that match one of these (``*`` matches ``/`` as well); at least one must.
    :param files: records, as other operators and the sensor return them; lists of lists from mapped tasks too.
    :param read_only: upload nothing; the task returns what the function returns.
    :param on_empty: what to do if no file is found to work on, or the function makes none: ``fail``, or ``skip`` the
        task.
    :param path_in_repo: as for :class:`~airflow_provider_xethub.operators.xethub.XetUploadOperator`, and so are all
        other arguments; ``output`` counts as a folder. ``exclude`` and ``follow_links`` are about what is uploaded;
        ``patterns`` chooses what is downloaded.
    :returns: as ``XetUploadOperator``. Without ``path``, ``paths``, ``patterns`` and ``files``, a function that wants
        files gets the whole source.
    """

    template_fields: Sequence[str] = (
        # First, so that the others may use them: {{ task.op_kwargs.day }}.
        *DecoratedOperator.template_fields,
        *(name for name in XetUploadOperator.template_fields if name != "source"),
        *_SOURCE,
        "path",
        "paths",
        "files",
    )
    custom_operator_name = "@task.xethub"
    # DecoratedOperator of Airflow 3.0 asks for it, and never calls it; only its own BaseOperator has it.
    xcom_push: Any = None

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        op_args: Collection[Any] | None = None,
        op_kwargs: Mapping[str, Any] | None = None,
        source_repo_id: str | None = None,
        source_repo_type: str | None = None,
        source_revision: str | None = None,
        path: str | None = None,
        paths: str | Sequence[str] | None = None,
        files: Any = None,
        read_only: bool = False,
        **kwargs: Any,
    ) -> None:
        given = _by_name(python_callable, op_args or (), op_kwargs or {})
        wanted = [name for name in PLACES if name in inspect.signature(python_callable).parameters]
        # Airflow makes sure that every parameter has its argument.
        filled = dict.fromkeys(wanted)
        super().__init__(python_callable=python_callable, op_kwargs={**filled, **given}, source=(), **kwargs)
        self.op_kwargs = given
        self.source_repo_id = source_repo_id
        self.source_repo_type = source_repo_type
        self.source_revision = source_revision
        self.path = path
        self.paths = paths
        self.files = files
        self.read_only = read_only
        self._has_files = files is not None
        self._wanted = wanted
        self.check_written()
        self._check()

    @property
    def _function(self) -> str:
        return f"{getattr(self.python_callable, '__name__', 'the function')}()"

    def _selected(self) -> list[str]:
        """Name the arguments that say which files are meant, those of the function among them."""
        own = [name for name in ("path", "paths", "patterns", "files") if getattr(self, name) is not None]
        return own + [f"{name}= in the call" for name in INPUTS if name in self.op_kwargs]

    def _check(self) -> None:
        """Refuse what can be seen in the DAG file already."""
        selected = self._selected()
        if len(selected) > 1:
            raise XetInputError(f"{self.task_id}: give only one of {' and '.join(selected)}.")
        if taken := [name for name in ("folder", OUTPUT) if name in self.op_kwargs]:
            raise XetInputError(f"{self.task_id}: the task itself makes {taken[0]}; leave it out of the call.")
        if selected and not set(self._wanted) & set(INPUTS):
            raise XetInputError(
                f"{self.task_id}: {selected[0]} is given, but {self._function} has none of the parameters "
                f"{', '.join(INPUTS)}, so nobody would see the files."
            )
        if self.read_only and OUTPUT in self._wanted:
            raise XetInputError(
                f"{self.task_id}: {self._function} wants a folder for output, and read_only=True uploads nothing. "
                "Leave one of them out."
            )

    def work(self, context: Context) -> Any:
        """Download, call the function, and upload."""
        from airflow_provider_xethub.xet.files import targets as downloads

        token = self.resolve_token(context)
        # What another task returns may be None; only what was left out stands for the whole source.
        in_call = [name for name in INPUTS if name in self.op_kwargs]
        given = self.op_kwargs[in_call[0]] if in_call else self.files
        given = () if given is None and (in_call or self._has_files) else given
        records = None if given is None or _are_paths(given) else downloads.check_files(given)
        if in_call and records is None:
            given = arguments.selection(in_call[0], given)
        if records == []:
            text = f"{self.task_id}: the list of files is empty, so there is nothing to work on."
            self.fail_or_skip(XetInputError(text))
        default = downloads.repo_of(records) if records else None
        if not self.read_only:
            self._check_destination(token, default)
        with TemporaryDirectory(prefix="xethub-task-", ignore_cleanup_errors=True) as temporary:
            places: dict[str, Any] = {"folder": Path(temporary, "in"), OUTPUT: Path(temporary, "out")}
            for place in places.values():
                place.mkdir()
            if set(self._wanted) & set(INPUTS):
                wanted = self._find(token, given, records)
                places["files"] = self._download(context, token, wanted, places["folder"])
                places["file"] = places["files"][0]
            returned = self._call(context, {name: places[name] for name in self._wanted})
            if self.read_only:
                return returned
            return self.upload(context, self._made(returned, places[OUTPUT]), None, default)

    def _check_destination(self, token: SealedTokenDict | None, default: Repo | None) -> None:
        """Refuse a destination that cannot be written before the function does its work, which may take hours."""
        repo = self.resolve_repo(token, default)
        self.hook.fresh_token(token, "write", repo)  # the upload uses it

    def _find(self, token: SealedTokenDict | None, given: Any, records: list[XetFile] | None) -> list[XetFile]:
        """Return the records of the files that the function wants."""
        if records is None:
            source = self._source(token)
            if given is None:
                records = self.find_files(source, self.path, self.paths, self.patterns)
            else:
                records = self.find_files(source, paths=given)
        elif named := [name for name in _SOURCE if getattr(self, name) is not None]:
            raise XetInputError(
                f"{self.task_id}: Xet file records say where they come from; leave out {' and '.join(named)}."
            )
        if "file" in self._wanted and len(records) > 1:
            raise XetInputError(
                f"{self.task_id}: {self._function} wants one file, and there are {len(records)}. Give it the parameter "
                "files instead, or map it over them with .expand(file=…)."
            )
        return sorted(records, key=lambda record: record["path"])

    def _source(self, token: SealedTokenDict | None) -> Repo:
        target = self.resolve_repo(token)
        repo_id = self.source_repo_id or target.repo_id
        repo_type = self.source_repo_type or target.repo_type
        same = (repo_id, repo_type) == (target.repo_id, target.repo_type)
        return Repo(repo_id, repo_type, self.source_revision or (target.revision if same else "main"))  # type: ignore[arg-type]

    def _download(
        self, context: Context, token: SealedTokenDict | None, records: list[XetFile], folder: Path
    ) -> list[Path]:
        from airflow_provider_xethub.xet.files import targets as downloads

        source = downloads.repo_of(records)
        # A token is for one repository; any other one is read with the connection.
        if token is not None and (self.hook.confirmed_repo(token) or self.resolve_repo(token)) != source:
            token = None
        result = self.hook.download(folder, records, token=token)
        self.report_transfer(context, "download", result["transfer"], source, key="received")
        return [Path(file["local_path"]) for file in result["files"]]

    def _call(self, context: Context, places: dict[str, Any]) -> Any:
        arguments = {**context, **self.op_kwargs, **places}
        returned = self.python_callable(**determine_kwargs(self.python_callable, (), arguments))
        if not self._executing:
            # It caught what stops the task; nothing of it may be published all the same.
            raise XetCancelledError(
                f"Task {self.task_id} was stopped; {self._function} went on. Nothing was published."
            )
        return returned

    def _made(self, returned: Any, output: Path) -> Any:
        """Return the source of the upload.

        :raises XetInputError: there is none.
        """
        if returned is not None:
            paths = list(returned) if isinstance(returned, (list, tuple)) else [returned]
            wrong = next((each for each in paths if not _is_path(each)), None)
            if wrong is not None or not paths:
                what = f"a {type(wrong).__name__} ({wrong!r:.80})" if paths else "an empty list"
                error = XetInputError(
                    f"{self._function} returned {what}. @task.xethub publishes the Path or the list of Paths that a "
                    "function returns, or what it wrote into its parameter output if it returns None. To return "
                    "anything else, set read_only=True."
                )
                if paths:
                    raise error
                self.fail_or_skip(error)
            return returned if isinstance(returned, (list, tuple)) else paths[0]
        if OUTPUT not in self._wanted:
            raise XetInputError(
                f"{self._function} returned None and has no parameter output, so there is nothing to publish. Return "
                "the Path of a file, or set read_only=True."
            )
        if not any(each.is_file() for each in output.rglob("*")):
            text = f"{self._function} returned None and wrote no file into output, so there is nothing to publish."
            self.fail_or_skip(XetInputError(f"{text} If that may happen, set on_empty='skip'."))
        return str(output)


def _by_name(function: Callable[..., Any], args: Collection[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return all arguments by name. Positional ones go to the parameters that the task does not fill in itself.

    :raises TypeError: the function, or the call, does not allow it.
    """
    signature = inspect.signature(function)
    name = getattr(function, "__name__", "the function")
    if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
        raise TypeError(f"@task.xethub does not take async functions and generators, such as {name}().")
    parameters = list(signature.parameters.values())
    if any(each.kind in (each.VAR_POSITIONAL, each.POSITIONAL_ONLY) for each in parameters):
        raise TypeError(f"@task.xethub passes arguments by name: {name}() must not have *args or positional-only ones.")
    callers = signature.replace(parameters=[each for each in parameters if each.name not in PLACES])
    try:
        positional = callers.bind_partial(*args).arguments
    except TypeError:
        raise TypeError(
            f"{name}() got {len(args)} positional arguments, more than it has parameters besides {', '.join(PLACES)}. "
            "Give file and files by name: files=…"
        ) from None
    if twice := sorted(positional.keys() & kwargs.keys()):
        raise TypeError(f"{name}() got multiple values for argument {twice[0]!r}")
    return {**positional, **kwargs}


def _are_paths(value: Any) -> bool:
    return isinstance(value, str) or (
        isinstance(value, (list, tuple)) and bool(value) and all(isinstance(each, str) for each in value)
    )


def _is_path(value: Any) -> bool:
    """Whether it is a path, on the worker or in object storage: an ``ObjectStoragePath`` is no ``os.PathLike``."""
    return isinstance(value, os.PathLike) or hasattr(value, "protocol")


class XetTask(Protocol):
    """A decorated function, for type checkers: as the task fills in some of its parameters, any call may be right."""

    function: Callable[..., Any]

    def __call__(self, *args: Any, **kwargs: Any) -> XComArg:
        """Add the task to the DAG."""

    def expand(self, **kwargs: Any) -> XComArg:
        """Map the task over arguments of the function."""

    def expand_kwargs(self, kwargs: Any, *, strict: bool = True) -> XComArg:
        """Map the task over a list of arguments of the function."""

    def partial(self, **kwargs: Any) -> XetTask:
        """Set arguments of the function that are the same for all mapped tasks."""

    def override(self, **kwargs: Any) -> XetTask:
        """Change arguments of the decorator."""


@overload
def xethub_task(python_callable: Callable[..., Any]) -> XetTask: ...


@overload
def xethub_task(
    python_callable: None = None, *, multiple_outputs: bool | None = None, **kwargs: Any
) -> Callable[[Callable[..., Any]], XetTask]: ...


def xethub_task(
    python_callable: Callable[..., Any] | None = None, *, multiple_outputs: bool | None = None, **kwargs: Any
) -> Any:
    """Make a task of a function that works on local files; also found as ``@task.xethub``.

    Example::

        @task.xethub(repo_id="acme/corpus", repo_type="dataset", patterns="raw/*.csv", path_in_repo="clean")
        def clean(files: list[Path], output: Path) -> None:
            for file in files:
                (output / file.name).write_text(file.read_text().lower())

    :param python_callable: the function.
    :param multiple_outputs: whether each key of the returned value is an XCom of its own.
    :param kwargs: those of :class:`XetDecoratedOperator`, and what every operator takes.
    """
    return task_decorator_factory(
        python_callable=python_callable,
        multiple_outputs=multiple_outputs,
        decorated_operator_class=XetDecoratedOperator,
        **kwargs,
    )
