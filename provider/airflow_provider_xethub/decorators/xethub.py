"""``@task.xethub``: a function that works on local files. The task downloads its input and uploads its output.

Importing this module loads no client library: ``requests``, ``hf_xet`` and ``huggingface_hub`` load in the task.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, overload

from airflow.providers.common.compat.sdk import DecoratedOperator, task_decorator_factory

from airflow_provider_xethub.exceptions import XetCancelledError, XetInputError
from airflow_provider_xethub.operators.xethub import XetUploadOperator
from airflow_provider_xethub.xet import arguments
from airflow_provider_xethub.xet.identifiers import COMMIT_ID
from airflow_provider_xethub.xet.manifest import is_item_of_manifest
from airflow_provider_xethub.xet.message_text import counted
from airflow_provider_xethub.xet.process.temporary_folders import temporary_folder
from airflow_provider_xethub.xet.repo import Repo
from airflow_provider_xethub.xet.token import SealedTokenDict

try:
    from airflow.sdk.bases.decorator import determine_kwargs
except ImportError:  # Airflow 3.0 and 3.1; the oldest supported common-compat does not have it
    from airflow.utils.operator_helpers import determine_kwargs  # type: ignore[attr-defined]

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context, XComArg

    from airflow_provider_xethub.xet.records import XetFile

INPUTS: tuple[str, ...] = ("file", "files", "folder")
OUTPUT = "output"
PROVIDED: tuple[str, ...] = (*INPUTS, OUTPUT)
"""Parameters of the function that the task fills in."""

_SOURCE = ("source_repo_id", "source_repo_type", "source_revision")


class XetDecoratedOperator(DecoratedOperator, XetUploadOperator):
    """The task of a function that is decorated with ``@task.xethub``: download files, call the function, upload.

    The function receives local paths in those of these parameters that it declares: ``file``, the only file; ``files``,
    all files, in the order of their paths in the repository; ``folder``, in which the files keep these paths;
    ``output``, an empty folder for its output. All of them are removed when the task ends. The caller gives the other
    arguments, as with ``@task``, and may give ``file`` and ``files``, as Xet file records or as paths in the source.

    The task publishes the path, or the list of paths, that the function returns; if it returns ``None``, the content of
    ``output``. Without ``path``, ``paths``, ``patterns`` and ``files``, a function that declares files receives the
    whole source.

    :param python_callable: the function.
    :param op_args: positional arguments of its call in the DAG file.
    :param op_kwargs: keyword arguments of its call in the DAG file.
    :param source_repo_id: where the files come from. ``None``: the repository of the records, or the destination.
    :param source_repo_type: its type. ``None``: as above.
    :param source_revision: its revision. ``None``: that of the destination if it is the same repository, otherwise
        ``main``.
    :param path: one file or one folder in the source.
    :param paths: several files; all must exist.
    :param patterns: paths that match one of these (``*`` matches ``/`` as well); at least one path must match.
    :param files: Xet file records or manifests, as other operators and the sensor return them, or lists of them.
    :param read_only: upload nothing, and return what the function returns.
    :param on_empty: what to do if there is no input file, or the function produces no file: ``fail``, or ``skip`` the
        task.
    :param path_in_repo: as for :class:`~airflow_provider_xethub.operators.xethub.XetUploadOperator`, like all other
        arguments; ``output`` counts as a folder. ``patterns`` selects what is downloaded, ``exclude`` and
        ``follow_links`` concern what is uploaded.
    :returns: what ``XetUploadOperator`` returns.
    """

    template_fields: Sequence[str] = (
        # Rendered first, so that the others can use them: {{ task.op_kwargs.day }}.
        *DecoratedOperator.template_fields,
        *(name for name in XetUploadOperator.template_fields if name != "source"),
        *_SOURCE,
        "path",
        "paths",
        "files",
    )
    custom_operator_name = "@task.xethub"
    # DecoratedOperator of Airflow 3.0 reads this attribute, which only its own BaseOperator has, but never calls it.
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
        given = _bind_arguments(python_callable, op_args or (), op_kwargs or {})
        provided = [name for name in PROVIDED if name in inspect.signature(python_callable).parameters]
        # Airflow checks that every parameter has an argument.
        placeholders = dict.fromkeys(provided)
        super().__init__(python_callable=python_callable, op_kwargs={**placeholders, **given}, source=(), **kwargs)
        self.op_kwargs = given
        self.source_repo_id = source_repo_id
        self.source_repo_type = source_repo_type
        self.source_revision = source_revision
        self.path = path
        self.paths = paths
        self.files = files
        self.read_only = read_only
        self._has_files = files is not None
        self._provided = provided
        self.check_written()
        self._check_call()

    @property
    def _function(self) -> str:
        return f"{getattr(self.python_callable, '__name__', 'the function')}()"

    def _check_call(self) -> None:
        """Check the call in the DAG file.

        :raises XetInputError: the task could not run.
        """
        selected = self.given_selection(*(f"{name}= in the call" for name in INPUTS if name in self.op_kwargs))
        if taken := [name for name in ("folder", OUTPUT) if name in self.op_kwargs]:
            raise XetInputError(f"{self.task_id}: the task itself provides {taken[0]}; leave it out of the call.")
        if selected and not set(self._provided) & set(INPUTS):
            raise XetInputError(
                f"{self.task_id}: {selected[0]} is given, but {self._function} has none of the parameters "
                f"{', '.join(INPUTS)} to receive the files."
            )
        if self.read_only and OUTPUT in self._provided:
            raise XetInputError(
                f"{self.task_id}: {self._function} has the parameter output, but read_only=True uploads nothing. "
                "Leave one of them out."
            )

    def work(self, context: Context) -> Any:
        """Download the input, call the function, and upload its output."""
        token = self.resolve_token(context)
        # The output of another task may be None. Only an argument that was left out means the whole source.
        in_call = [name for name in INPUTS if name in self.op_kwargs]
        given = self.op_kwargs[in_call[0]] if in_call else self.files
        given = () if given is None and (in_call or self._has_files) else given
        records = None if given is None or _are_paths(given) else self.hook.read_files(given, token=token)
        if in_call and records is None:
            given = arguments.selection(in_call[0], given)
        if records is not None and not records:
            text = f"{self.task_id}: the list of files is empty, so there is nothing to process."
            self.fail_or_skip(XetInputError(text))
        default = self.default_repo(records) if records and not self.read_only else None
        if not self.read_only:
            self._check_destination(token, default)
        from airflow_provider_xethub.hooks.attempt import current_attempt

        with temporary_folder(current_attempt()) as temporary:
            provided: dict[str, Any] = {"folder": temporary / "in", OUTPUT: temporary / "out"}
            for folder in provided.values():
                folder.mkdir()
            if set(self._provided) & set(INPUTS):
                inputs = self._input_records(token, given, records)
                provided["files"] = self._download(context, token, inputs, provided["folder"])
                provided["file"] = provided["files"][0]
            returned = self._call(context, {name: provided[name] for name in self._provided})
            if self.read_only:
                return returned
            return self.upload(context, self._upload_source(returned, provided[OUTPUT]), None, default)

    def _check_destination(self, token: SealedTokenDict | None, default: Repo | None) -> None:
        """Refuse a destination that cannot be written to before the function runs, which may take hours."""
        repo = self.resolve_repo(token, default)
        if self.create_repo and token is None and not self.hook.repo_exists(repo):
            return  # the upload creates it
        self.hook.fresh_token(token, "write", repo)  # the upload uses it

    def _input_records(
        self, token: SealedTokenDict | None, given: Any, records: Sequence[XetFile] | None
    ) -> Sequence[XetFile]:
        """Return the records of the input files."""
        from airflow_provider_xethub.xet.manifests.files import Files

        if records is None:
            source = self._source(token)
            if given is None:
                records = self.find_files(source, self.path, self.paths, self.patterns)
            else:
                records = self.find_files(source, paths=given)
        elif named := [name for name in _SOURCE if getattr(self, name) is not None]:
            raise XetInputError(
                f"{self.task_id}: Xet file records name their repository; leave out {' and '.join(named)}."
            )
        if "file" in self._provided and len(records) > 1:
            raise XetInputError(
                f"{self.task_id}: {self._function} takes one file, but there are {len(records)}. Use the parameter "
                "files instead, or map the task over them with .expand(file=…)."
            )
        return records if isinstance(records, Files) else sorted(records, key=lambda record: record["path"])

    def _source(self, token: SealedTokenDict | None) -> Repo:
        target = self.resolve_repo(token)
        repo_id = self.source_repo_id or target.repo_id
        repo_type = self.source_repo_type or target.repo_type
        same = (repo_id, repo_type) == (target.repo_id, target.repo_type)
        return Repo(repo_id, repo_type, self.source_revision or (target.revision if same else "main"))  # type: ignore[arg-type]

    def _download(
        self, context: Context, token: SealedTokenDict | None, records: Sequence[XetFile], folder: Path
    ) -> list[Path]:
        from airflow_provider_xethub.xet.manifests.files import Files, source_of, uris_of

        source = source_of(records)

        def are_pinned() -> bool:
            return all(COMMIT_ID.fullmatch(Repo.from_uri(uri).revision) for uri in uris_of(records))

        # A token is for one repository; any other repository is read through the connection.
        repo = None if token is None else self.hook.confirmed_repo(token) or self.resolve_repo(token)
        if repo is not None and repo != source and not (repo.is_same_repo(source) and are_pinned()):
            token = repo = None
        result = self.hook.download(folder, records, token=token, repo=repo, limits=self.limits)
        self.report_transfer(context, "download", result["transfer"], source, key="received")
        if isinstance(records, Files):
            return [folder / path for path in sorted(file["path"] for file in records)]
        return [Path(file["local_path"]) for file in result["files"]]

    def _call(self, context: Context, provided: dict[str, Any]) -> Any:
        arguments = {**context, **self.op_kwargs, **provided}
        returned = self.python_callable(**determine_kwargs(self.python_callable, (), arguments))
        if not self._executing:
            # It caught the exception that stops the task. Its output must not be published.
            raise XetCancelledError(
                f"Task {self.task_id} was stopped, but {self._function} continued. Nothing was published."
            )
        return returned

    def _upload_source(self, returned: Any, output: Path) -> Any:
        """Return the source of the upload: what the function returned, or its output folder.

        :raises XetInputError: there is nothing to upload.
        """
        if returned is not None:
            paths = list(returned) if isinstance(returned, (list, tuple)) else [returned]
            wrong = next((each for each in paths if not _is_path(each)), None)
            if wrong is not None or not paths:
                what = f"a {type(wrong).__name__} ({wrong!r:.80})" if paths else "an empty list"
                error = XetInputError(
                    f"{self._function} returned {what}. @task.xethub publishes the Path or the list of Paths that a "
                    "function returns, or the content of its parameter output if it returns None. To return "
                    "anything else, set read_only=True."
                )
                if paths:
                    raise error
                self.fail_or_skip(error)
            return returned if isinstance(returned, (list, tuple)) else paths[0]
        if OUTPUT not in self._provided:
            raise XetInputError(
                f"{self._function} returned None and has no parameter output, so there is nothing to publish. Return "
                "the Path of a file, or set read_only=True."
            )
        if not any(each.is_file() for each in output.rglob("*")):
            text = f"{self._function} returned None and wrote no file into output, so there is nothing to publish."
            self.fail_or_skip(XetInputError(f"{text} If this is normal, set on_empty='skip'."))
        return str(output)


def _bind_arguments(function: Callable[..., Any], args: Collection[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call by name. Positional ones are for parameters that the task does not fill in.

    :raises TypeError: the function does not take its arguments by name, or the call does not match its parameters.
    """
    signature = inspect.signature(function)
    name = getattr(function, "__name__", "the function")
    if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
        raise TypeError(f"@task.xethub does not support async functions and generators, such as {name}().")
    parameters = list(signature.parameters.values())
    if any(each.kind in (each.VAR_POSITIONAL, each.POSITIONAL_ONLY) for each in parameters):
        raise TypeError(f"@task.xethub passes arguments by name: {name}() must not have *args or positional-only ones.")
    callers = signature.replace(parameters=[each for each in parameters if each.name not in PROVIDED])
    try:
        positional = callers.bind_partial(*args).arguments
    except TypeError:
        raise TypeError(
            f"{name}() got {counted(len(args), 'positional argument')}, more than it has parameters besides "
            f"{', '.join(PROVIDED)}. Give file and files by name: files=…"
        ) from None
    if twice := sorted(positional.keys() & kwargs.keys()):
        raise TypeError(f"{name}() got multiple values for argument {twice[0]!r}")
    return {**positional, **kwargs}


def _are_paths(value: Any) -> bool:
    if isinstance(value, tuple) and is_item_of_manifest(value):
        return False
    return isinstance(value, str) or (
        isinstance(value, (list, tuple)) and bool(value) and all(isinstance(each, str) for each in value)
    )


def _is_path(value: Any) -> bool:
    """Return whether a value is a path on the worker or in object storage.

    An ``ObjectStoragePath`` is not an ``os.PathLike``.
    """
    return isinstance(value, os.PathLike) or hasattr(value, "protocol")


class XetTask(Protocol):
    """A decorated function, for type checkers. They accept any call, because the task fills in some parameters."""

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
    """Turn a function that works on local files into a task; the same as ``@task.xethub``.

    Example::

        @task.xethub(repo_id="acme/corpus", repo_type="dataset", patterns="raw/*.csv", path_in_repo="clean")
        def clean(files: list[Path], output: Path) -> None:
            for file in files:
                (output / file.name).write_text(file.read_text().lower())

    :param python_callable: the function.
    :param multiple_outputs: whether to push each key of the returned value as an XCom of its own.
    :param kwargs: arguments of :class:`XetDecoratedOperator` and of every operator.
    """
    return task_decorator_factory(
        python_callable=python_callable,
        multiple_outputs=multiple_outputs,
        decorated_operator_class=XetDecoratedOperator,
        **kwargs,
    )
