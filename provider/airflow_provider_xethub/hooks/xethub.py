"""``XetHubConnection``: the hook that everything else in this provider uses."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, TypeVar, cast, overload

from airflow.providers.common.compat.sdk import BaseHook

from airflow_provider_xethub import get_provider_info as info
from airflow_provider_xethub.exceptions import (
    XetHubError,
    XetIdentityError,
    XetInputError,
    XetNotFoundError,
    XetPublisherError,
)
from airflow_provider_xethub.hooks import inline_content as inline_contents
from airflow_provider_xethub.hooks.cas_access import CasConnector
from airflow_provider_xethub.hooks.connections import connection
from airflow_provider_xethub.hooks.errors import fail_without_retry
from airflow_provider_xethub.hooks.lineage import Lineage
from airflow_provider_xethub.hooks.manifests import Manifests
from airflow_provider_xethub.hooks.tokens import hand_over, sealing, token_bindings
from airflow_provider_xethub.hooks.tokens.tokens import Tokens, TokenUse
from airflow_provider_xethub.xet import arguments, samples
from airflow_provider_xethub.xet.files.cache.hub_cache import HubCache
from airflow_provider_xethub.xet.identifiers import COMMIT_ID
from airflow_provider_xethub.xet.path_patterns import matches
from airflow_provider_xethub.xet.repo import Repo, Scope
from airflow_provider_xethub.xet.token import SealedTokenDict, TokenDocument, XetToken
from airflow_provider_xethub.xet.token_binding import Bind

if TYPE_CHECKING:
    import os
    from datetime import timedelta
    from pathlib import Path

    import requests
    from airflow.sdk import ObjectStoragePath
    from huggingface_hub import HfApi

    from airflow_provider_xethub.xet.cas.limits import TransferLimits
    from airflow_provider_xethub.xet.cas.session import CasAccess, WithCasAccess
    from airflow_provider_xethub.xet.files.found_files import FoundFiles
    from airflow_provider_xethub.xet.files.object_storage import Location, Storage
    from airflow_provider_xethub.xet.hub.api.calls import ApiCalls
    from airflow_provider_xethub.xet.hub.api.refs import Kind
    from airflow_provider_xethub.xet.hub.api.repositories import Gated, SpaceSdk, Visibility
    from airflow_provider_xethub.xet.hub.client import Hub
    from airflow_provider_xethub.xet.manifests.files import Files
    from airflow_provider_xethub.xet.publish.copies import Copies
    from airflow_provider_xethub.xet.publish.publisher import Publisher
    from airflow_provider_xethub.xet.publish.request import CommitRequest
    from airflow_provider_xethub.xet.records import (
        XetChanges,
        XetCleanup,
        XetCommit,
        XetCommitResult,
        XetCopyResult,
        XetDownloadResult,
        XetFile,
        XetManifest,
        XetMirrorDownload,
        XetMirrorPlan,
        XetMirrorResult,
        XetPublishResult,
        XetPullRequest,
        XetRef,
        XetRepo,
        XetSquashResult,
        XetUploadResult,
    )
    from airflow_provider_xethub.xet.task_state import TaskState

    Place = str | os.PathLike[str] | ObjectStoragePath
    Source = Place | Sequence[Place]

T = TypeVar("T")
CommitResult = TypeVar("CommitResult", bound="XetCommitResult")


class XetHubConnection(BaseHook):
    """The Hub of an Airflow connection: tokens, files, transfers and commits.

    Connection: ``host`` is the Hub's endpoint (default ``https://huggingface.co``), ``password`` the Hub token; the
    extras are those of :data:`airflow_provider_xethub.get_provider_info.CONNECTION_FIELDS`.

    Example::

        hook = XetHubConnection()
        hook.publish("out/", CommitRequest(hook.repo("acme/corpus", "dataset"), (), message="Nightly"))

    :param xethub_conn_id: the connection; ``None`` on a worker that has none and works with given tokens only.
    """

    conn_name_attr = "xethub_conn_id"
    default_conn_name = info.DEFAULT_CONN_ID
    conn_type = info.CONNECTION_TYPE
    hook_name = info.HOOK_NAME

    def __init__(self, xethub_conn_id: str | None = default_conn_name, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        with fail_without_retry():
            self.xethub_conn_id = arguments.string("xethub_conn_id", xethub_conn_id)
        self._connection = connection.LazyConnection(self.xethub_conn_id, self.get_connection)
        self._tokens = Tokens(self._connection, self.log)
        self._cas = CasConnector(self._connection, self._tokens, self.log)
        self._manifests = Manifests(self._connection, self._cas)

    def __reduce__(self) -> tuple[type[XetHubConnection], tuple[str | None]]:
        """Pickle as the connection's id and nothing else: sessions do not travel, and credentials must not."""
        return type(self), (self.xethub_conn_id,)

    # --- connection and Hub ---------------------------------------------------------------------------------------

    @property
    def has_connection(self) -> bool:
        """Whether this worker can read the connection now, and so can fetch tokens.

        :raises XetAirflowConnectionError: Airflow failed while it read the connection.
        """
        return self._connection.found is not None

    @property
    def endpoint(self) -> str | None:
        """URL of the Hub, without a credential in it; ``None`` where this worker does not have the connection.

        :raises XetInputError: the connection's host is not the URL of a Hub.
        """
        return self._connection.endpoint

    @property
    @fail_without_retry()
    def hub(self) -> Hub:
        """The Hub with this connection's credential and settings.

        :raises XetAirflowConnectionError: Airflow did not return the connection.
        :raises XetInputError: ``xethub_conn_id`` is ``None``, or a field of the connection is wrong.
        """
        return self._connection.hub

    @fail_without_retry()
    def get_conn(self) -> requests.Session:
        """Return a session with the Hub token; it takes paths on the Hub, such as ``/api/models/acme/m``.

        The credential never leaves the connection's endpoint: other origins are refused, as are redirects to them.
        """
        return self.hub.session

    @property
    def api(self) -> HfApi:
        """A ``huggingface_hub.HfApi`` with this endpoint and Hub token, for what this hook does not offer.

        The library has one HTTP client for the process: it knows ``HTTPS_PROXY`` and ``SSL_CERT_FILE`` alone, sends
        no extra headers, and follows redirects to other origins, without the Hub token. Its progress bars are off
        unless stderr is a terminal, or ``HF_HUB_DISABLE_PROGRESS_BARS=0`` is set: in a task log each step would be an
        error.

        Over a keyless connection, each call uses the token of the repository that it is about, which is exchanged for
        that call and not replaced during it; calls that are not about one repository fail before anything is sent.
        """
        from airflow_provider_xethub.hooks.connections import api

        hub = self.hub
        hub.session.check_credential()  # the library sends its requests itself
        if hub.exchanged is None:
            return api.of(hub.endpoint, connection.hub_token(self._connection.found), hub.secrets.hide)
        return api.keyless(hub.endpoint, hub.token_of, hub.secrets.hide)

    @fail_without_retry()
    def repo(self, repo_id: str | None = None, repo_type: str | None = None, revision: str | None = None) -> Repo:
        """Return a repository; what is left out comes from the connection's defaults.

        :raises XetInputError: a name is empty or not valid, or there is no repo_id anywhere.
        :raises XetAirflowConnectionError: something is left out, and Airflow did not return the connection.
        """
        for name, value in (("repo_id", repo_id), ("repo_type", repo_type), ("revision", revision)):
            arguments.string(name, value)
        return self._connection.repo(repo_id, repo_type, revision)

    @fail_without_retry()
    def whoami(self) -> dict[str, Any]:
        """Return what the Hub says about the Hub token: ``name``, ``type``, ``auth`` and more."""
        return self.hub.whoami()

    def test_connection(self) -> tuple[bool, str]:
        """Say who the Hub token belongs to, of which kind it is, and at which endpoint; for the UI's Test button.

        Of a keyless connection, say which identity it has, and try it on the connection's default repository or user.
        """
        from airflow_provider_xethub.hooks.connections import connection_test

        try:
            hub = self._connection.open_hub("this connection")
            if hub.exchanged is None:
                return True, connection_test.describe_credential(hub, self._connection.default("repo_id"))
            repo = self._connection.repo(None, None, None) if self._connection.default("repo_id") else None
            return True, connection_test.describe_identity(hub, hub.exchanged, repo)
        except XetHubError as error:
            # Airflow tests a form under a random connection ID, which means nothing to the user.
            text = str(error)
            for word in ("Connection", "connection"):
                text = text.replace(
                    f"{word} {self.xethub_conn_id!r}", f"{'This' if word[0] == 'C' else 'this'} connection"
                )
            is_local = isinstance(error, XetIdentityError) and not isinstance(error, XetPublisherError)
            return False, f"{text} This test ran in Airflow's API server, not on a worker." if is_local else text

    # --- tokens ---------------------------------------------------------------------------------------------------

    @fail_without_retry()
    def get_token(self, repo: Repo, scope: Scope = "read") -> XetToken:
        """Return a fresh Xet token for ``repo``: the one fetched before, or a new one from the Hub.

        :raises XetHubError: the Hub does not issue it.
        """
        return self._tokens.get(repo, scope)

    @contextmanager
    def prefetch_token(self, repo: Repo, scope: Scope) -> Iterator[None]:
        """Fetch the token that :meth:`get_token` will be asked for in this block while other work is done.

        An error of the Hub is raised by :meth:`get_token` only.
        """
        with self._tokens.prefetch(repo, scope):
            yield

    @fail_without_retry()
    def refresh_token(self, token: XetToken) -> XetToken:
        """Fetch a new token for the same scope, repository and revision, with the same binding."""
        return replace(self._tokens.fetch(token.repo, token.scope), binding=token.binding)

    @overload
    def seal_token(
        self,
        token: XetToken,
        *,
        bind: Bind | None = ...,
        consumers: str | Sequence[str] | None = ...,
        recipient: None = ...,
    ) -> SealedTokenDict: ...

    @overload
    def seal_token(self, token: XetToken, *, recipient: Mapping[str, Any] | str) -> str: ...

    @fail_without_retry()
    def seal_token(
        self,
        token: XetToken,
        *,
        bind: Bind | None = None,
        consumers: str | Sequence[str] | None = None,
        recipient: Mapping[str, Any] | str | None = None,
    ) -> SealedTokenDict | str:
        """Return the token in the form that may be an XCom: sealed, or only a reference where there is no key.

        A token that was bound before keeps its binding; ``bind`` and ``consumers`` may narrow it.

        :param token: as fetched, or as :meth:`fresh_token` returned it.
        :param bind: only tasks of this DAG (``dag``) or of this run (``run``) may use it. ``None``: every task that has
            the key, unless ``consumers`` is given, which also binds it to the DAG.
        :param consumers: only tasks with these full IDs may use it. ``None``: all.
        :param recipient: the public key of a process that is not Airflow, as JWK or text: only that process opens the
            token, with ``xethub-token``, and no task does. ``None``: tasks that have the Fernet key open it.
        :returns: with ``recipient``, a string, a JWE.
        :raises XetInputError: no task is running to bind it to, the DAG has no such task, or an argument is wrong.
        """
        if recipient is not None:
            if bind is not None or consumers is not None:
                raise XetInputError("A token for a recipient is not bound to tasks; leave out bind and consumers.")
            return self._tokens.seal_to(token, recipient)
        return self._tokens.seal(token, token_bindings.binding(bind, consumers))

    @fail_without_retry()
    def confirmed_repo(self, token: XetToken | SealedTokenDict) -> Repo | None:
        """Return the repository that a given token is for, or ``None`` if it does not open here."""
        opened = self._tokens.open(token).opened
        return opened.repo if opened else None

    @fail_without_retry()
    def token_repo(
        self,
        token: XetToken | SealedTokenDict,
        repo_id: str | None = None,
        repo_type: str | None = None,
        revision: str | None = None,
    ) -> Repo:
        """Return the repository that a task works on that was given a token.

        Where the token opens here, that is the token's, and the arguments take precedence, each by itself. Where it
        does not, nothing confirms what it says: the repository is that of :meth:`repo`, as if there was no token.

        :param token: as XCom value, or as fetched.
        :param repo_id, repo_type, revision: the task's own arguments.
        :raises XetTokenSealError: it does not open, and neither the arguments nor the connection name a repository.
        :raises XetAirflowConnectionError: it does not open, and Airflow did not return the connection.
        :raises XetTokenTamperedError: it does not open, and says something else than they do; or it was changed.
        """
        return self._tokens.repo_of(token, repo_id, repo_type, revision)

    @fail_without_retry()
    def check_token(self, token: XetToken | SealedTokenDict | None, scope: Scope, repo: Repo | None = None) -> None:
        """Refuse a given token that is not for this use, before anything is sent or written.

        :param token: as XCom value, or as fetched; ``None`` is accepted.
        :param scope: what it must allow.
        :param repo: what it must be for, never taken from a token that does not open here; ``None`` if it decides.
        :raises XetTokenScopeError: it is for another scope, repository or revision.
        :raises XetTokenTamperedError: it was changed since it was sealed; or it does not open here, and says that it is
            for another repository.
        :raises XetTokenSealError: it does not open here, and ``repo`` is ``None``.
        """
        self._tokens.accept(token, scope, repo)

    @fail_without_retry()
    def fresh_token(self, token: XetToken | SealedTokenDict | None, scope: Scope, repo: Repo | None = None) -> XetToken:
        """Return a token that is fit for this use, starting from the one given.

        A stale one is replaced through the connection, if there is one, for what its seal says. One that does not open
        here is replaced for ``repo``, and only for that.

        :param token: as fetched, as XCom value, or ``None``.
        :param scope: what it must allow; nothing more is fetched.
        :param repo: what it must be for, never taken from a token that does not open here; ``None`` if it decides.
        :raises XetTokenScopeError: it is for something else. Nothing was sent.
        :raises XetTokenTamperedError: it was changed since it was sealed; or it does not open here, and says that it is
            for something else. Nothing was sent.
        :raises XetTokenExpiredError: it is stale, and this task has no connection to fetch a new one.
        :raises XetTokenSealError: it cannot be opened, and this task has no connection, or no ``repo``.
        :raises XetAirflowConnectionError: another one is needed, and Airflow did not return the connection.
        """
        return self._tokens.fresh(self._tokens.accept(token, scope, repo))

    @contextmanager
    def hand_over(
        self,
        token: XetToken | SealedTokenDict,
        folder: str | os.PathLike[str] | None = None,
        *,
        scope: Scope | None = None,
        repo: Repo | None = None,
    ) -> Iterator[Path]:
        """Hand a token, opened, to a process that is not Airflow: as a JSON file that is gone when the block ends.

        The file contains a :class:`~airflow_provider_xethub.xet.token.TokenDocument` and has mode 0600, in a folder of
        its own with mode 0700. Pass its path to the process, or mount its folder into a container; never pass its
        content on. With the connection, the file is replaced by one with a new token before half of the token's life
        is over. It is removed after an exception and on SIGTERM, too, which ends the block with a
        ``XetCancelledError``. After SIGKILL it remains until the next hand-over into the same folder; the token in it
        expires.

        Example::

            with hook.hand_over(token) as path:
                subprocess.run(["my-tool", "--token-file", path], check=True)

        :param token: as XCom value, or as fetched.
        :param folder: an existing folder for it, such as one that a container can mount. ``None``: in memory
            (``/dev/shm`` or ``XDG_RUNTIME_DIR``), otherwise in the system's folder for temporary files; never on a file
            system that other machines may read.
        :param scope: what the token must allow; ``None`` if the token decides.
        :param repo: what it must be for; ``None`` if the token decides.
        :raises XetInputError: it is not a token, or ``folder`` is a link or not an existing folder.
        :raises XetTokenError: as for :meth:`fresh_token`.
        :raises XetDestinationError: no folder can hold the file.
        """
        with hand_over.hand_over(self._tokens, self._connection, self.log, token, folder, scope, repo) as path:
            yield path

    @fail_without_retry()
    def token_document(
        self, token: XetToken | SealedTokenDict | None = None, *, scope: Scope | None = None, repo: Repo | None = None
    ) -> TokenDocument:
        """Return a token in plain text, for a process that the file of :meth:`hand_over` does not reach.

        With the connection it is a new token, as nothing renews it later. Never return it from a task or log it.

        :param token: as XCom value, or as fetched; ``None`` to fetch one for ``repo``.
        :param scope: what the token must allow. ``None``: the token decides, or ``read`` where there is none.
        :param repo: what it must be for; ``None`` if the token decides.
        :raises XetTokenError: as for :meth:`fresh_token`.
        """
        return hand_over.document(self._tokens, self._connection, token, scope, repo)

    def cas_access(self, limits: TransferLimits | None = None) -> Callable[[XetToken], CasAccess]:
        """Return what turns a token into access to CAS: with this connection's network, timeouts and Hub.

        :param limits: what a transfer may take of the worker and of the network; ``None`` for the defaults.
        :raises XetInputError: a field of the connection is wrong.
        """
        return self._cas.factory(limits)

    def with_cas_access(
        self,
        given: XetToken | SealedTokenDict | None,
        scope: Scope,
        repo: Repo | None,
        work: Callable[[CasAccess], T],
        limits: TransferLimits | None = None,
    ) -> T:
        """Run a transfer with a fresh token, and once more if CAS rejects the token or the transfer stalls.

        :param given: the token that the task was given, or ``None``.
        :param scope, repo: as for :meth:`fresh_token`.
        :param work: the transfer.
        :param limits: as for :meth:`cas_access`.
        """
        return self._cas.bind(self._tokens.accept(given, scope, repo), limits)(work)

    # --- files ----------------------------------------------------------------------------------------------------

    @cached_property
    def lineage(self) -> Lineage:
        """What this hook moved, as reported to Airflow's lineage."""
        return Lineage(self)

    @fail_without_retry()
    def list_files(
        self,
        repo: Repo,
        path: str | None = None,
        patterns: str | Sequence[str] | None = None,
        *,
        inline_content: bool | None = False,
    ) -> list[XetFile]:
        """List the files of a repository.

        :param repo: where to look.
        :param path: only this file, or those in this folder; all where ``None``. A slash at the end says that it is a
            folder: a bucket may have a file of the same name.
        :param patterns: only paths that match one of these (``*`` matches ``/`` as well, ``dir/`` is
            all that is in ``dir``).
        :param inline_content: put the content of inline files into the records, sealed, for workers without the
            connection; ``True`` fails if not all of it fits, ``None`` takes the smallest files.
        :raises XetInputError: ``path`` or ``patterns`` is empty, or there is too much inline content.
        :raises XetTokenSealError: ``inline_content`` is ``True``, and this worker has no Fernet key.
        :raises XetNotFoundError: repository, revision or path does not exist.
        """
        if inline_content is False:
            return self._list(repo, path, patterns)
        return inline_contents.listed(
            self._connection.hub,
            repo,
            lambda pinned: self._list(pinned, path, patterns),
            required=inline_content is True,
        )

    @fail_without_retry()
    def find_files(
        self, repo: Repo, path: str | None = None, patterns: str | Sequence[str] | None = None
    ) -> Sequence[XetFile]:
        """Find the files of a repository, any number of them in the same memory.

        :param repo, path, patterns: as for :meth:`list_files`.
        :returns: up to ``[xethub] manifest_files`` records, a list, sorted by path. More are kept on this worker's
            disk, in the order in which the Hub lists them; they name the commit that was listed.
        :raises XetHubError: as for :meth:`list_files`.
        """
        return self._manifests.find(
            repo, arguments.string("path", path), arguments.selection("patterns", patterns), self.get_commit_id
        )

    @fail_without_retry()
    def list_batches(
        self, repo: Repo, batch_files: int, path: str | None = None, patterns: str | Sequence[str] | None = None
    ) -> list[XetManifest]:
        """Divide the files of a repository, by their folders, into batches to map over.

        :param repo, path, patterns: as for :meth:`list_files`.
        :param batch_files: about how many files a batch has. A folder is not divided, so that a batch with one large
            folder has more.
        :returns: a manifest for each batch, all at the same commit.
        :raises XetInputError: the folders are too many to name.
        :raises XetHubError: as for :meth:`list_files`.
        """
        return self._manifests.batches(
            repo,
            arguments.string("path", path),
            arguments.selection("patterns", patterns),
            arguments.whole_number("batch_files", batch_files),
            self.get_commit_id,
        )

    @fail_without_retry()
    def read_files(self, files: Any, *, token: XetToken | SealedTokenDict | None = None) -> Sequence[XetFile]:
        """Return the records of what a task returned: a list, lists of lists, manifests, or any mixture.

        Example::

            for file in hook.read_files(listed):
                print(file["path"], file["size"])

        :param files: what operators, sensors and this hook return as files.
        :param token: the token to read manifests with that are in CAS; fetched through the connection where ``None``.
        :returns: a list, or, with a manifest, a sequence that is read and verified when it is first used, and takes the
            same memory whatever its length.
        :raises XetInputError: it is something else.
        """
        from airflow_provider_xethub.xet.manifests.files import read

        return read(files, self._manifests.reader(lambda repo: self._tokens.accept(token, "read", repo)))

    @fail_without_retry()
    def xcom_files(self, files: Sequence[XetFile]) -> list[XetFile] | XetManifest:
        """Return records as a task should: up to ``[xethub] manifest_files`` as a list, more of them as a manifest.

        Example::

            @task
            def images():
                hook = XetHubConnection()
                return hook.xcom_files(hook.find_files(hook.repo("acme/corpus", "dataset"), patterns="*.png"))

        :param files: as :meth:`find_files` or :meth:`read_files` returns them. A list of records from elsewhere becomes
            a manifest only if there is an ``[xethub] manifest_storage``.
        """
        value: list[XetFile] | XetManifest = self._manifests.value(files)
        return value

    def is_many(self, files: Sequence[XetFile]) -> bool:
        """Return whether these are more files than a task returns as a list."""
        return self._manifests.is_many(files)

    @fail_without_retry()
    def add_inline_content(self, files: Sequence[XetFile], *, required: bool = True) -> list[XetFile]:
        """Return records with the content of inline files, sealed, for workers that have a token and no connection.

        :param files: records of one repository and revision, as uploads, sensors and asset events give them.
        :param required: whether to fail if not all content fits; otherwise the smallest files get theirs.
        :raises XetInputError: the records are of several repositories, or there is too much content.
        :raises XetTokenSealError: ``required``, and this worker has no Fernet key.
        :raises XetSourceError: a file changed since its record was made.
        """
        from airflow_provider_xethub.xet.files.targets import repo_of

        return inline_contents.add(self._connection.hub, files, repo_of(files), required=required) if files else []

    def _list(self, repo: Repo, path: str | None, patterns: str | Sequence[str] | None) -> list[XetFile]:
        path = arguments.string("path", path)
        wanted = arguments.selection("patterns", patterns)
        name = path.strip("/") if path is not None else None
        files = self._connection.hub.get_files(repo, [name]) if path and name and not path.endswith("/") else []
        files = files or self._connection.hub.list_files(repo, name)
        if name and not files:
            raise XetNotFoundError(f"{path} does not exist in {repo}. Check the path.", status=404)
        return files if wanted is None else [file for file in files if matches(file["path"], wanted)]

    @fail_without_retry()
    def get_files(self, repo: Repo, paths: Sequence[str]) -> list[XetFile]:
        """Return the records of those ``paths`` that exist."""
        return self._connection.hub.get_files(repo, paths)

    @fail_without_retry()
    def get_latest_commit(self, repo: Repo) -> XetCommit:
        """Return the newest commit of the revision."""
        commits = self._connection.hub.latest_commits(repo)
        if not commits:
            raise XetNotFoundError(f"{repo} has no commits yet.", status=404)
        return commits[0]

    @fail_without_retry()
    def get_changes(self, repo: Repo, since: str | None, path: str = "") -> XetChanges:
        """Return which files are new or different in a revision, compared with an earlier commit, and which are gone.

        It lists only folders that have changed. The records name the commit of the revision.

        :param repo: the repository at the newer revision.
        :param since: ID of the commit to compare with. ``None``: with an empty repository.
        :param path: only this file, or the files in this folder. Default: all.
        :raises XetInputError: the repository is a bucket, which has no commits.
        :raises XetNotFoundError: the repository or one of the commits does not exist.
        """
        from airflow_provider_xethub.xet.hub.changes import changes
        from airflow_provider_xethub.xet.identifiers import COMMIT_ID

        if not repo.is_bucket and not COMMIT_ID.fullmatch(repo.revision):
            repo = repo.at(self.get_latest_commit(repo)["oid"])
        return changes(self.hub, repo, since, path)

    @fail_without_retry()
    def download(
        self,
        destination: Place | HubCache,
        files: Sequence[XetFile] | XetManifest | Sequence[XetManifest],
        *,
        single: bool = False,
        token: XetToken | SealedTokenDict | None = None,
        require_safe: bool = False,
        repo: Repo | None = None,
        task_state: TaskState | None = None,
        ref: str | None = None,
        limits: TransferLimits | None = None,
    ) -> XetDownloadResult:
        """Download files and verify them before they appear under their names in ``destination``.

        :param destination: a folder, local or in object storage, below which the files keep their paths; see
            :func:`airflow_provider_xethub.xet.files.targets.local_targets` for a ``single`` file; or the Hugging Face
            cache.
        :param files: records, as :meth:`list_files`, :meth:`get_files` or :meth:`upload` return them; they name the
            repository, and nothing confirms those that come from an XCom. Each is read at the revision that it names.
            Or a manifest or a list of manifests: these are downloaded in batches, and the result has the manifest with
            its ``destination`` instead of records.
        :param single: whether one file was named, rather than a folder or patterns.
        :param token: a read or write token; fetched through the connection where ``None``.
        :param repo: the repository and revision that the token is for. ``None``: those of the records.
        :param require_safe: refuse files that the Hub's security scan has not found safe, before anything is written.
            Needs the connection.
        :param task_state: stores for a retry which multipart uploads to abort if this attempt is killed.
        :param ref: for the Hugging Face cache, the branch or tag that will point to the commit of the records there,
            when all files are complete. ``None``: the one that the records name.
        :param limits: as for :meth:`cas_access`.
        :raises XetInputError: the files are of several repositories, or of another one than ``repo``.
        :raises XetScanError: the Hub has not scanned a file, or not found it safe. Nothing was written.
        :raises XetHubError: no damaged or partial file is left under a final name.
        """
        limits = self._cas.limits(limits)
        files = self._given_files(files, token)
        if isinstance(destination, HubCache):
            return self._download_to_cache(
                destination, files, token, repo, ref, require_safe=require_safe, limits=limits
            )
        from airflow_provider_xethub.hooks.attempt import current_attempt
        from airflow_provider_xethub.hooks.digests import memory
        from airflow_provider_xethub.hooks.storage import open_storage
        from airflow_provider_xethub.xet.files import object_targets, targets
        from airflow_provider_xethub.xet.files.object_storage import location
        from airflow_provider_xethub.xet.manifests.files import Files, source_of
        from airflow_provider_xethub.xet.process import threads
        from airflow_provider_xethub.xet.task_state import TaskState
        from airflow_provider_xethub.xet.transfer import batches, digests
        from airflow_provider_xethub.xet.transfer.download import download, download_each, download_to_storage

        source = source_of(files)
        repo = repo or source
        if not source.is_same_repo(repo):
            raise XetInputError(f"the files are of {source}, not of {repo}.")
        use = self._tokens.accept(token, "read", repo)
        if isinstance(files, Files):
            # CAS gives the records to any token for the revision that they were uploaded for.
            files.load(self._manifests.reader(None if token is None else lambda _: use))
        if require_safe:
            self._require_safe(files)
        hub = (lambda: self._connection.hub) if self.xethub_conn_id is not None else None
        contents = inline_contents.of_records(files, use, self._tokens, self._connection)

        def access_to(uri: str) -> WithCasAccess:
            # A token that is fetched here is for the revision that the record names: CAS need not give it other files.
            return self._cas.bind(use if token is not None else TokenUse("read", Repo.from_uri(uri)), limits)

        where = location(destination)
        attempt, state = current_attempt(), task_state or TaskState()

        def to_folder(some: Sequence[XetFile], *, names_checked: bool = False) -> XetDownloadResult:
            planned = targets.local_targets(
                some, str(destination), single=single, attempt=attempt, names_checked=names_checked
            )
            return download_each(
                digests.completed(planned, hub),
                access_to,
                lambda each, access: download(each, access, hub, attempt, contents, memory=memory()),
            )

        def to_storage(where: Location, some: Sequence[XetFile], *, names_checked: bool = False) -> XetDownloadResult:
            stored = threads.interruptible(
                lambda: object_targets.stored_targets(
                    some, where, open_storage(where), single=single, names_checked=names_checked
                )
            )
            return download_each(
                digests.completed(stored, hub),
                access_to,
                lambda each, access: download_to_storage(each, access, hub, state, contents),
            )

        if not isinstance(files, Files):
            received = to_folder(files) if where is None else to_storage(where, files)
        elif where is None:
            targets.check_names(files, str(destination), str(repo))
            received = batches.download(files, to_folder)
            received["files"] = self._downloaded(files, str(targets.root_of(str(destination))))
        else:
            storage = threads.interruptible(lambda: open_storage(where))
            threads.interruptible(lambda: object_targets.check_names(files, where, storage, str(repo)))
            object_targets.abort_abandoned(storage, where, state)
            received = batches.download(files, partial(to_storage, where))
            received["files"] = self._downloaded(files, storage.uri(storage.plain(where.path)))
        self.lineage.read(repo, files)
        self.lineage.elsewhere("output", destination)
        return received

    def _downloaded(self, files: Files, destination: str) -> Any:
        """Return what a download of manifests returns: the manifests with the destination."""
        from airflow_provider_xethub.xet.manifest import is_manifest

        if files.manifest is not None and is_manifest(kept := self._manifests.value(files)):
            return {**kept, "destination": destination}
        return files.value(destination)

    def _given_files(self, files: Any, token: XetToken | SealedTokenDict | None) -> Sequence[XetFile]:
        """Return what the caller gave as files, read lazily if there is a manifest in it."""
        from airflow_provider_xethub.xet.manifest import is_manifest
        from airflow_provider_xethub.xet.manifests.files import Files

        if isinstance(files, Files):
            return files
        has_manifest = is_manifest(files) or (isinstance(files, (list, tuple)) and any(map(is_manifest, files)))
        return self.read_files(files, token=token) if has_manifest else files

    def _require_safe(self, files: Iterable[XetFile]) -> None:
        from airflow_provider_xethub.xet.hub import scans
        from airflow_provider_xethub.xet.manifests.files import batches

        if not self.has_connection:
            text = "require_safe asks the Hub for its security scan, which needs a connection, not only a token"
            raise connection.needed(self.xethub_conn_id, XetInputError(text))
        for batch in batches(files):
            for uri in dict.fromkeys(file["repo"] for file in batch):
                here = [file for file in batch if file["repo"] == uri]
                scans.require_safe(self._connection.hub, Repo.from_uri(uri), here)

    def _download_to_cache(
        self,
        cache: HubCache,
        files: Sequence[XetFile],
        token: XetToken | SealedTokenDict | None,
        repo: Repo | None,
        ref: str | None,
        *,
        require_safe: bool,
        limits: TransferLimits | None,
    ) -> XetDownloadResult:
        from airflow_provider_xethub.hooks.attempt import current_attempt
        from airflow_provider_xethub.hooks.connections import api

        api.before_import()
        from airflow_provider_xethub.xet.files.cache import layout as cache_layout
        from airflow_provider_xethub.xet.manifests.files import Files
        from airflow_provider_xethub.xet.transfer import cache as transfer

        source = transfer.check(files)
        repo = repo or source
        if not source.is_same_repo(repo):
            raise XetInputError(f"the files are of {source}, not of {repo}.")
        use = self._tokens.accept(token, "read", repo)
        contents = inline_contents.of_records(files, use, self._tokens, self._connection)
        if contents is not None:
            # The seal confirms what the branch was at, which the Hub cannot be asked.
            commit, ref = contents.commit, repo.revision
            if COMMIT_ID.fullmatch(source.revision) and source.revision != commit:
                raise XetInputError(f"the records are of commit {source.revision}, but their content is of {commit}.")
        else:
            commit, ref = self.get_commit_id(source), ref or source.revision
        at = repo.at(commit)
        hub = self._connection.hub if self.has_connection else None
        pinned = transfer.pinned(files, at, hub)
        if require_safe:
            self._require_safe(pinned)
        snapshot = cache_layout.Snapshot(cache, at, current_attempt())
        received = transfer.download_to_cache(
            snapshot,
            pinned,
            self._cas.bind(use if token is not None else TokenUse("read", at), limits),
            (lambda: self._connection.hub) if self.xethub_conn_id is not None else None,
            contents,
            ref=None if ref == commit else ref,
            tree=hub.listed_tree(at) if hub else None,
        )
        if isinstance(files, Files):
            received["files"] = self._downloaded(files, str(snapshot.folder))
        self.lineage.read(at, files)
        self.lineage.elsewhere("output", snapshot.folder)
        return received

    @fail_without_retry()
    def get_commit_id(self, repo: Repo) -> str:
        """Return the commit that a revision is at now.

        :raises XetInputError: the revision is a branch or tag, and there is no connection to ask the Hub.
        """
        if COMMIT_ID.fullmatch(repo.revision):
            return repo.revision
        if not self.has_connection:
            raise connection.needed(
                self.xethub_conn_id,
                XetInputError(
                    f"{repo} names no commit, and the Hugging Face cache needs one. List the files with "
                    "inline_content=True, or with revision set to a commit id, or give this task a connection that "
                    "can look it up."
                ),
            )
        return self.get_latest_commit(repo)["oid"]

    @fail_without_retry()
    def upload(
        self,
        source: Source,
        repo: Repo | None = None,
        *,
        path_in_repo: str | None = None,
        patterns: str | Sequence[str] | None = None,
        exclude: str | Sequence[str] | None = None,
        follow_links: bool = False,
        token: XetToken | SealedTokenDict | None = None,
        deduplicate: bool | None = None,
        create_repo: bool = False,
        limits: TransferLimits | None = None,
    ) -> XetUploadResult:
        """Upload files to CAS without publishing them; :meth:`commit` publishes the returned records.

        :param source: file, folder, glob pattern, or a list of these, local or in object storage; see
            :func:`airflow_provider_xethub.xet.files.sources.collect`.
        :param repo: where they will be published; that of the token where ``None``.
        :param path_in_repo: the folder there, or the new path of a single file; the root where ``None``.
        :param patterns: of a folder, only paths that match one of these (``*`` matches ``/`` as well); all where
            ``None``.
        :param exclude: leave out paths that match one of these.
        :param follow_links: whether to follow links to folders, and links that lead out of the source.
        :param token: a write token; fetched through the connection where ``None``.
        :param deduplicate: whether to ask CAS for chunks that it already has, so that they are not sent; ``None`` asks
            unless the files are so small that asking takes longer than sending.
        :param create_repo: create ``repo``, as a private one, if it does not exist, once the files were found.
        :param limits: as for :meth:`cas_access`.
        :raises XetInputError: an argument is empty; ``None`` stands for its default.
        :raises XetEmptySourceError: there is no file to upload.
        :raises XetHubError: nothing was published.
        """
        from airflow_provider_xethub.xet.publish.batches import upload_files

        use = self._tokens.accept(token, "write", repo)
        access = self._cas.bind(use, limits)
        files = self._collect(source, path_in_repo, patterns, exclude, follow_links=follow_links)
        if create_repo and repo is not None:
            self._create_missing(repo)
        # The records go through XCom, where everybody could read how each file begins.
        seal = partial(samples.seal, fernet=next(iter(sealing.fernets()), None))
        sent = upload_files(files, access, deduplicate, seal)
        self.lineage.elsewhere("input", source)
        self.lineage.uploaded(sent["files"])
        return sent

    @fail_without_retry()
    def xcom_uploaded(
        self, files: Sequence[XetFile], repo: Repo, *, token: XetToken | SealedTokenDict | None = None
    ) -> list[XetFile] | XetManifest:
        """Return uploaded records as a task should: many of them as a manifest, which is stored beside the files.

        :param files: as :meth:`upload` or :meth:`publish` returned them.
        :param repo: the repository that they were uploaded for.
        :param token: the write token that they were uploaded with; the connection's where ``None``.
        :raises XetHubError: the manifest cannot be stored.
        """
        use = self._tokens.accept(token, "write", repo)
        value: list[XetFile] | XetManifest = self._manifests.value(files, self._cas.bind(use))
        return value

    @fail_without_retry()
    def xcom_commit(
        self, result: CommitResult, repo: Repo, *, token: XetToken | SealedTokenDict | None = None
    ) -> CommitResult:
        """Return the result of a commit as a task should, see :class:`XetCommitResult`: it grows with no list of files.

        :param result: as :meth:`publish`, :meth:`commit` and :meth:`mirror` return it.
        :param repo: the repository of the request.
        :param token: as for :meth:`xcom_uploaded`.
        """
        use = self._tokens.accept(token, "write", repo)
        return cast("CommitResult", {**result, **self._manifests.large_fields(result, self._cas.bind(use))})

    @fail_without_retry()
    def xcom_plan(self, plan: XetMirrorPlan) -> XetMirrorPlan:
        """Return the plan of a mirror as a task should: it grows with no list of paths.

        :param plan: as :meth:`mirror` and :meth:`mirror_download` return it.
        """
        return self._manifests.short_plan(plan)

    # --- publishing -----------------------------------------------------------------------------------------------

    @fail_without_retry()
    def publish(
        self,
        source: Source,
        request: CommitRequest,
        *,
        path_in_repo: str | None = None,
        patterns: str | Sequence[str] | None = None,
        exclude: str | Sequence[str] | None = None,
        follow_links: bool = False,
        token: XetToken | SealedTokenDict | None = None,
        deduplicate: bool | None = None,
        create_repo: bool = False,
        limits: TransferLimits | None = None,
    ) -> XetPublishResult:
        """Upload files and publish them in one commit.

        The Hub says first which files it wants inline; these are not sent through CAS.

        :param request: the commit, without ``files``.
        :param source, path_in_repo, patterns, exclude, follow_links, token, deduplicate, create_repo, limits: as
            for :meth:`upload`.
        :raises XetHubError: nothing was committed.
        """
        use = self._tokens.accept(token, "write", request.repo)
        access = self._cas.bind(use, limits)
        files = self._collect(source, path_in_repo, patterns, exclude, follow_links=follow_links)
        result = self._publishing(create_repo).publish_files(
            files,
            request,
            write_access=access,
            prefetch=partial(self._tokens.prefetch, scope="write") if token is None else None,
            deduplicate=deduplicate,
        )
        self.lineage.elsewhere("input", source)
        self.lineage.committed(result)
        return result

    @fail_without_retry()
    def mirror(
        self,
        source: Place,
        request: CommitRequest,
        *,
        path_in_repo: str | None = None,
        patterns: str | Sequence[str] | None = None,
        exclude: str | Sequence[str] | None = None,
        protect: str | Sequence[str] | None = None,
        max_delete_share: float = 0.5,
        allow_empty: bool = False,
        follow_links: bool = False,
        deduplicate: bool | None = None,
        dry_run: bool = False,
        create_repo: bool = False,
        limits: TransferLimits | None = None,
    ) -> XetMirrorResult | XetMirrorPlan:
        """Make a folder of a repository equal to a source, in one commit with all additions, changes and deletions.

        In a bucket, which has no commits, additions come first and deletions last.

        :param source: one folder, local or in object storage.
        :param request: the commit, without ``files`` and ``delete``.
        :param path_in_repo: the folder of the repository; the root where ``None``.
        :param patterns, exclude: files whose path below the folder they do not select are neither uploaded nor deleted.
        :param protect: files that match one of these are never deleted.
        :param max_delete_share: refuse to delete more than this share of the selected files of the folder.
        :param allow_empty: whether the source may have no file.
        :param follow_links, deduplicate, limits: as for :meth:`upload`.
        :param dry_run: return the plan, and change nothing.
        :param create_repo: create the repository, as a private one, if it does not exist; not in a dry run.
        :raises XetEmptySourceError: there is no file to upload, and ``allow_empty`` is false.
        :raises XetConflictError: others keep committing to the same files.
        :raises XetHubError: nothing was committed.
        """
        from airflow_provider_xethub.hooks.storage import open_storage
        from airflow_provider_xethub.xet.files import sources
        from airflow_provider_xethub.xet.files.mirror import plan as mirror_plan
        from airflow_provider_xethub.xet.process import threads

        repo = request.repo
        rules = mirror_plan.rules(
            patterns,
            exclude,
            protect,
            max_delete_share,
            path_in_repo,
            allow_empty=allow_empty,
            always_protected=() if repo.is_bucket else mirror_plan.ALWAYS_PROTECTED,
        )
        collect = partial(sources.collect_folder, source, rules.folder or None, patterns, open_storage)
        access = self._cas.bind(TokenUse("write", repo), limits)
        files = threads.interruptible(
            lambda: collect(exclude=exclude, follow_links=follow_links, allow_empty=allow_empty)
        )
        if create_repo and not dry_run:
            self._create_missing(repo)
        job = self._publisher.mirror(
            files,
            request,
            rules,
            write_access=access,
            prefetch=partial(self._tokens.prefetch, scope="write"),
            deduplicate=deduplicate,
        )
        if dry_run:
            return job.plan()
        result = job.run()
        self.lineage.elsewhere("input", source)
        self.lineage.committed(result)
        return result

    @fail_without_retry()
    def mirror_download(
        self,
        destination: Place,
        repo: Repo,
        *,
        path_in_repo: str | None = None,
        patterns: str | Sequence[str] | None = None,
        exclude: str | Sequence[str] | None = None,
        protect: str | Sequence[str] | None = None,
        max_delete_share: float = 0.5,
        allow_empty: bool = False,
        dry_run: bool = False,
        task_state: TaskState | None = None,
        limits: TransferLimits | None = None,
    ) -> XetMirrorDownload | XetMirrorPlan:
        """Make a destination equal to a folder of a repository, as far as its files are from earlier mirrors.

        :param destination: a folder, local or in object storage. Its ``.xethub-mirror.json`` records what mirrors put
            there; nothing else is deleted.
        :param repo: the repository; of a branch, its newest commit is mirrored.
        :param path_in_repo: the folder of the repository; the root where ``None``.
        :param patterns, exclude: files whose path below the folder they do not select are neither downloaded nor
            deleted.
        :param protect: files that match one of these are never deleted.
        :param max_delete_share: refuse to delete more than this share of the selected files.
        :param allow_empty: whether the folder of the repository may have no file.
        :param dry_run: return the plan, and change nothing.
        :param task_state, limits: as for :meth:`download`.
        :raises XetInputError: more would be deleted than is allowed, or the destination mirrors something else.
        :raises XetHubError: no damaged file was kept, and nothing was deleted before all other files were complete.
        """
        from airflow_provider_xethub.hooks.attempt import current_attempt
        from airflow_provider_xethub.hooks.storage import open_storage
        from airflow_provider_xethub.xet.files.mirror import plan as mirror_plan
        from airflow_provider_xethub.xet.files.object_storage import location
        from airflow_provider_xethub.xet.hub.folders import list_folder
        from airflow_provider_xethub.xet.process import threads
        from airflow_provider_xethub.xet.task_state import TaskState
        from airflow_provider_xethub.xet.transfer import mirror

        rules = mirror_plan.rules(patterns, exclude, protect, max_delete_share, path_in_repo, allow_empty=allow_empty)
        pinned = repo if repo.is_bucket else repo.at(self.get_latest_commit(repo)["oid"])
        files = list(list_folder(self._connection.hub, pinned, rules.folder).values())
        access = self._cas.bind(TokenUse("read", pinned), limits)
        where = location(destination)
        end: mirror.Destination
        if where is None:
            end = mirror.LocalDestination(destination, access, lambda: self._connection.hub, current_attempt())
        else:
            storage = threads.interruptible(lambda: open_storage(where))
            end = mirror.StoredDestination(
                where, storage, access, lambda: self._connection.hub, task_state or TaskState()
            )
        job = mirror.MirrorDownload(pinned, files, rules, end)
        if dry_run:
            return job.plan()
        result = job.run()
        self.lineage.read(pinned, result["files"])
        self.lineage.elsewhere("output", destination)
        return result

    @fail_without_retry()
    def commit(self, request: CommitRequest, *, create_repo: bool = False) -> XetCommitResult:
        """Publish files that are in CAS in one commit; safe to retry.

        Files that the Hub wants inline are read back, from CAS or from the object storage they were uploaded from. In a
        bucket, which has no commits, the files are put.

        :param request: the commit.
        :param create_repo: create the repository, as a private one, if it does not exist.
        :raises XetHubError: nothing was committed.
        """
        result = self._publishing(create_repo).publish_uploaded(request)
        self.lineage.committed(result)
        return result

    @fail_without_retry()
    def publish_contents(self, contents: Mapping[str, bytes], request: CommitRequest) -> XetCommitResult:
        """Publish bytes in memory, together with the files of ``request``, which are in CAS, in one commit.

        :param contents: small files, by their paths in the repository.
        :param request: the commit.
        :raises XetHubError: nothing was committed.
        """
        return self._publisher.publish_contents(contents, request)

    @fail_without_retry()
    def copy(
        self,
        files: Sequence[XetFile] | XetManifest | Sequence[XetManifest],
        request: CommitRequest,
        *,
        path_in_repo: str | None = None,
        single: bool = False,
        create_repo: bool = False,
    ) -> XetCopyResult:
        """Copy files from another repository, revision or bucket, without moving the bytes that are in CAS.

        Files that the source stores inline are read and sent again; to a bucket, through CAS.

        :param files: records, as :meth:`list_files` or :meth:`get_files` return them, of one repository; or a manifest.
        :param request: the commit, without ``files``; its repository is where the copies go.
        :param path_in_repo: the folder below which the files keep their paths; the root where ``None``. For a
            ``single`` file, its new path, without a slash at the end.
        :param single: whether one file was named, rather than a folder or patterns.
        :param create_repo: create the repository of the copies, as a private one, if it does not exist.
        :raises XetInputError: the Hub does not copy this: from a bucket to a repository, or a file that is not in CAS.
        :raises XetHubError: nothing was committed.
        """
        from airflow_provider_xethub.xet.manifests.files import source_of
        from airflow_provider_xethub.xet.publish import copies

        files = self._given_files(files, None)
        job = copies.plan_copies(source_of(files), files, request, path_in_repo, single=single)
        return self._copy(job, create_repo=create_repo)

    @fail_without_retry()
    def copy_as(self, copies_by_path: Mapping[str, XetFile], request: CommitRequest) -> XetCopyResult:
        """Copy files as :meth:`copy` does, each to a path of its own.

        :param copies_by_path: records of one repository, by the path of the copy.
        :param request: the commit, without ``files``; its ``delete`` is part of the same commit, so that a move is one.
        :raises XetHubError: as for :meth:`copy`.
        """
        from airflow_provider_xethub.xet.files.targets import source_of
        from airflow_provider_xethub.xet.publish import copies

        source = source_of(list(copies_by_path.values()))
        return self._copy(copies.plan_copies_as(source, list(copies_by_path.items()), request))

    def _copy(self, job: Copies, *, create_repo: bool = False) -> XetCopyResult:
        result = self._publishing(create_repo).copy(job)
        self.lineage.read(job.source, job.request.files)
        self.lineage.committed(result)
        return result

    def _publishing(self, create_repo: bool) -> Publisher:
        return self._publisher.preparing(self._create_missing) if create_repo else self._publisher

    @cached_property
    def _publisher(self) -> Publisher:
        from airflow_provider_xethub.hooks import digests
        from airflow_provider_xethub.xet.publish.publisher import Publisher

        def open_storage(where: Location) -> Storage:
            # Loaded here, because few commits read anything back from object storage.
            from airflow_provider_xethub.hooks import storage

            return storage.open_storage(where)

        cas = self._cas
        return Publisher(
            lambda: self._connection.hub,
            write_access=lambda repo: cas.bind(TokenUse("write", repo)),
            read_access=lambda repo: cas.bind(TokenUse("read", repo)),
            open_storage=open_storage,
            fernets=sealing.fernets,
            memory=digests.memory(),
        )

    def _collect(
        self,
        source: Source,
        path_in_repo: str | None,
        patterns: str | Sequence[str] | None,
        exclude: str | Sequence[str] | None,
        *,
        follow_links: bool,
    ) -> FoundFiles:
        from airflow_provider_xethub.hooks.storage import open_storage
        from airflow_provider_xethub.xet.files import sources
        from airflow_provider_xethub.xet.process import threads

        path_in_repo = arguments.string("path_in_repo", path_in_repo)
        find = partial(sources.collect, source, path_in_repo, patterns, open_storage)
        return threads.interruptible(lambda: find(exclude=exclude, follow_links=follow_links))

    # --- pull requests --------------------------------------------------------------------------------------------

    @fail_without_retry()
    def get_pull_request(self, repo: Repo, number: int) -> XetPullRequest:
        """Return the state of a pull request.

        :param repo: its repository, at any revision.
        :param number: its number.
        :raises XetNotFoundError: there is no such pull request.
        """
        from airflow_provider_xethub.xet.hub import pull_requests

        return pull_requests.get(self._connection.hub, repo, number).record

    @fail_without_retry()
    def open_pull_request(self, repo: Repo, title: str, description: str = "") -> XetPullRequest:
        """Open an empty pull request into ``main``, as a draft; commits to its ``repo`` fill it.

        What publishes with ``create_pr=True`` opens one by itself. Not safe to retry: it may open a second one.

        :param repo: the repository.
        :param title: its title.
        :param description: the text of its first comment.
        """
        from airflow_provider_xethub.xet.hub.api import pull_requests as pull_request_calls

        return pull_request_calls.open_pull_request(self._api_calls, repo, title, description)

    @fail_without_retry()
    def merge_pull_request(
        self,
        repo: Repo,
        number: int,
        *,
        comment: str | None = None,
        head_commit: str | None = None,
        is_first_try: bool = True,
    ) -> XetCommitResult:
        """Merge a pull request, and return the commit and the files that it changed; safe to retry.

        A draft is published first. If it is merged already, that is a success, and ``created`` is ``False`` unless an
        earlier attempt may have merged it.

        :param repo: its repository, at any revision.
        :param number: its number.
        :param comment: text of a comment on the merge.
        :param head_commit: ID of the newest commit in the pull request; merge only if no other has been added.
        :param is_first_try: whether no earlier attempt can have merged it.
        :raises XetPullRequestClosedError: it is closed. Nothing was merged.
        :raises XetConflictError: it conflicts with its branch, or has other commits. Nothing was merged.
        """
        from airflow_provider_xethub.xet.hub.api import pull_requests as pull_request_calls

        result = pull_request_calls.merge(
            self._api_calls, repo, number, comment=comment, head_commit=head_commit, is_first_try=is_first_try
        )
        self.lineage.committed(result)
        return result

    @fail_without_retry()
    def close_pull_request(self, repo: Repo, number: int, *, comment: str | None = None) -> XetPullRequest:
        """Close a pull request without merging it. If it is closed already, that is a success.

        :param repo: its repository, at any revision.
        :param number: its number.
        :param comment: text of a comment that says why.
        :raises XetConflictError: it is merged.
        """
        from airflow_provider_xethub.xet.hub.api import pull_requests as pull_request_calls

        return pull_request_calls.close(self._api_calls, repo, number, comment=comment)

    @fail_without_retry()
    def comment_pull_request(self, repo: Repo, number: int, text: str, *, key: str | None = None) -> bool:
        """Comment on a pull request, and return whether a comment was added.

        :param repo: its repository, at any revision.
        :param number: its number.
        :param text: the comment, in Markdown.
        :param key: the same for all attempts of one piece of work, so that the comment is added once. ``None``: always
            add one.
        """
        from airflow_provider_xethub.xet.hub.api import pull_requests as pull_request_calls

        return pull_request_calls.comment_on(self._api_calls, repo, number, text, key=key)

    # --- repositories, branches and tags --------------------------------------------------------------------------

    @fail_without_retry()
    def repo_exists(self, repo: Repo) -> bool:
        """Return whether the repository or bucket exists, and the connection has access to it."""
        from airflow_provider_xethub.xet.hub.api import repositories

        return repositories.find(self._connection.hub, repo) is not None

    @fail_without_retry()
    def create_repo(
        self,
        repo: Repo,
        *,
        visibility: Visibility | None = None,
        exist_ok: bool = True,
        space_sdk: SpaceSdk | None = None,
        license: str | None = None,  # noqa: A002 - the Hub's own name
    ) -> XetRepo:
        """Create a repository or bucket, unless it exists.

        :param repo: its name and type.
        :param visibility: ``None``: private if it is created, and as it is if it exists.
        :param exist_ok: whether it may exist already.
        :param space_sdk: ``docker``, ``gradio``, ``static`` or ``streamlit``; required for a Space.
        :param license: of a model or dataset, such as ``apache-2.0``; committed as its ``README.md``, unless it has
            more than its first commit.
        :raises XetConflictError: it exists, and ``exist_ok`` is false or its visibility is another one.
        """
        from airflow_provider_xethub.xet.hub.api import repositories
        from airflow_provider_xethub.xet.publish import license_card

        card = None if license is None else license_card.checked(self._connection.hub, repo, license)
        created = repositories.create(
            self._api_calls, repo, visibility=visibility, exist_ok=exist_ok, space_sdk=space_sdk
        )
        if card is not None and license_card.is_wanted(self._connection.hub, repo):
            self.publish_contents({license_card.PATH: card}, license_card.commit_request(repo))
        return created

    @fail_without_retry()
    def delete_repo(self, repo: Repo, *, confirm: str, missing_ok: bool = False) -> bool:
        """Delete a repository or bucket with all of its files, and return whether it existed.

        :param repo: what to delete.
        :param confirm: its id, written again.
        :param missing_ok: whether it may be missing.
        :raises XetInputError: ``confirm`` is not its id.
        """
        from airflow_provider_xethub.xet.hub.api import repositories

        return repositories.delete(self._api_calls, repo, confirm=confirm, missing_ok=missing_ok)

    @fail_without_retry()
    def update_repo(self, repo: Repo, *, visibility: Visibility | None = None, gated: Gated | None = None) -> XetRepo:
        """Change who can see a repository or bucket, and whether access to its files has to be requested.

        :param repo: what to change.
        :param visibility, gated: ``None``: as it is.
        :raises XetInputError: both are ``None``, or do not fit the type of the repository.
        """
        from airflow_provider_xethub.xet.hub.api import repositories

        return repositories.update(self._api_calls, repo, visibility=visibility, gated=gated)

    @fail_without_retry()
    def list_refs(self, repo: Repo) -> list[XetRef]:
        """Return the branches, then the tags of a repository, each sorted by name."""
        from airflow_provider_xethub.xet.hub.api import refs

        return refs.list_refs(self._connection.hub, repo)

    def create_branch(self, repo: Repo, branch: str, *, exist_ok: bool = False) -> XetRef:
        """Create a branch at the revision of ``repo``, or return the one that exists at the same commit.

        :param repo: the repository, at the revision to start from.
        :param branch: its name.
        :param exist_ok: whether it may exist at another commit; it is then left there.
        :raises XetConflictError: it exists at another commit.
        """
        return self._create_ref(repo, "branch", branch, exist_ok=exist_ok)

    def create_tag(self, repo: Repo, tag: str, *, message: str | None = None) -> XetRef:
        """Create a tag at the revision of ``repo``, or return the one that exists at the same commit.

        :param repo: the repository, at the revision to tag.
        :param tag: its name.
        :param message: of the tag.
        :raises XetConflictError: it exists at another commit.
        """
        return self._create_ref(repo, "tag", tag, message=message)

    @fail_without_retry()
    def _create_ref(self, repo: Repo, kind: Kind, name: str, **options: Any) -> XetRef:
        from airflow_provider_xethub.xet.hub.api import refs

        return refs.create(self._api_calls, repo, kind, name, **options)

    def delete_branch(self, repo: Repo, branch: str, *, missing_ok: bool = False) -> bool:
        """Delete a branch, but never ``main``, and return whether it existed."""
        return self._delete_ref(repo, "branch", branch, missing_ok=missing_ok)

    def delete_tag(self, repo: Repo, tag: str, *, missing_ok: bool = False) -> bool:
        """Delete a tag, and return whether it existed."""
        return self._delete_ref(repo, "tag", tag, missing_ok=missing_ok)

    @fail_without_retry()
    def _delete_ref(self, repo: Repo, kind: Kind, name: str, *, missing_ok: bool) -> bool:
        from airflow_provider_xethub.xet.hub.api import refs

        return refs.delete(self._api_calls, repo, kind, name, missing_ok=missing_ok)

    @fail_without_retry()
    def squash_history(self, repo: Repo, commit_message: str | None = None) -> XetSquashResult:
        """Replace the history of a branch by one commit with the same files. It cannot be restored.

        :param repo: at the branch.
        :param commit_message: title of that commit.
        """
        from airflow_provider_xethub.xet.hub.api import refs

        return refs.squash(self._api_calls, repo, commit_message)

    @fail_without_retry()
    def delete_unreferenced_files(
        self, repo: Repo, *, dry_run: bool = True, min_age: timedelta | None = None
    ) -> XetCleanup:
        """Delete stored content that no branch, tag or pull request refers to. It cannot be restored.

        :param repo: the repository.
        :param dry_run: only list it.
        :param min_age: keep what was pushed more recently. ``None``: 7 days.
        :raises XetProtocolError: what is unreferenced cannot be known. Nothing was deleted.
        """
        from airflow_provider_xethub.xet.hub.api import unreferenced_files

        age = unreferenced_files.MIN_AGE if min_age is None else min_age
        return unreferenced_files.delete_unreferenced(self._api_calls, repo, dry_run=dry_run, min_age=age)

    def _create_missing(self, repo: Repo) -> None:
        """Create a repository that does not exist, before something is published to it."""
        from airflow_provider_xethub.xet.hub.api import repositories

        repositories.create_missing(self._api_calls, repo)

    @property
    def _api_calls(self) -> ApiCalls:
        from airflow_provider_xethub.xet.hub.api.calls import ApiCalls

        return ApiCalls(self._connection.hub, lambda: self.api)

    # --- connection form of Airflow 3.0 and 3.1; later versions read get_provider_info() -----------------------------

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Return the form's own fields."""
        from flask_babel import lazy_gettext
        from wtforms import PasswordField, StringField
        from wtforms.validators import any_of

        return {
            name: (PasswordField if field["schema"].get("format") == "password" else StringField)(
                lazy_gettext(field["label"]),
                description=field["description"],
                validators=[any_of(field["schema"]["enum"])] if "enum" in field["schema"] else [],
            )
            for name, field in info.CONNECTION_FIELDS.items()
        }

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return labels, placeholders and hidden fields of the form."""
        return {name.replace("-", "_"): value for name, value in info.FIELD_BEHAVIOUR.items()}
