"""The hook's lower half: the connection, the Hub behind it, and Xet tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar, cast

from airflow.providers.common.compat.sdk import BaseHook

from airflow_provider_xethub import get_provider_info as info
from airflow_provider_xethub.exceptions import (
    XetAirflowConnectionError,
    XetHubError,
    XetInputError,
    XetStalledError,
    XetTokenExpiredError,
    XetUnauthorizedError,
)
from airflow_provider_xethub.hooks import configuration, sealing
from airflow_provider_xethub.hooks import connection as conn
from airflow_provider_xethub.hooks.errors import fail_without_retry
from airflow_provider_xethub.hooks.given_token import GivenToken
from airflow_provider_xethub.xet import arguments
from airflow_provider_xethub.xet.repo import DEFAULT_REVISION, Repo, RepoType, Scope
from airflow_provider_xethub.xet.token import FRESH_MARGIN, SealedToken, SealedTokenDict, XetToken

if TYPE_CHECKING:
    import requests
    from huggingface_hub import HfApi

    from airflow_provider_xethub.xet.cas.session import CasAccess
    from airflow_provider_xethub.xet.hub.client import Hub

T = TypeVar("T")


class XetTokenHook(BaseHook):
    """The lower half of :class:`~airflow_provider_xethub.hooks.xethub.XetHubConnection`: connection and tokens.

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
        self._found: Any | None = None
        self._tokens: dict[tuple[Scope, Repo], XetToken] = {}
        self._coming: dict[tuple[Scope, Repo], Callable[[], XetToken]] = {}
        self._given: tuple[dict[str, object], GivenToken] | None = None

    def __reduce__(self) -> tuple[type[XetTokenHook], tuple[str | None]]:
        """Pickle as the connection's id and nothing else: sessions do not travel, and credentials must not."""
        return type(self), (self.xethub_conn_id,)

    # --- connection -----------------------------------------------------------------------------------------------

    @property
    def _connection(self) -> Any | None:
        """The Airflow connection, or ``None`` where Airflow returns none; only one that was found is remembered."""
        if self._found is None and self.xethub_conn_id is not None:
            self._found = conn.read(self.xethub_conn_id, self.get_connection)
        return self._found

    def _default(self, name: str) -> Any:
        return conn.default(self._connection, self.xethub_conn_id, name)

    @property
    def has_connection(self) -> bool:
        """Whether this worker can read the connection now, and so can fetch tokens.

        :raises XetAirflowConnectionError: Airflow failed while it read the connection.
        """
        return self._connection is not None

    @property
    def endpoint(self) -> str | None:
        """URL of the Hub, without a credential in it; ``None`` where this worker does not have the connection.

        :raises XetInputError: the connection's host is not the URL of a Hub.
        """
        connection = self._connection
        return conn.endpoint(connection) if connection else None

    @cached_property
    def hub(self) -> Hub:
        """The Hub with this connection's credential and settings.

        :raises XetAirflowConnectionError: Airflow did not return the connection.
        :raises XetInputError: ``xethub_conn_id`` is ``None``, or a field of the connection is wrong.
        """
        return self._make_hub(f"connection {self.xethub_conn_id!r}")

    @fail_without_retry()
    def _make_hub(self, credential: str) -> Hub:
        from airflow_provider_xethub.xet.hub import client as hub

        connection = self._connection
        if connection is None:
            if self.xethub_conn_id is None:
                raise XetInputError("this needs a connection to the Hub, and xethub_conn_id is None.")
            raise conn.not_found(self.xethub_conn_id)
        return hub.Hub(
            conn.endpoint(connection),
            conn.hub_token(connection),
            credential=credential,
            conn_id=self.xethub_conn_id,
            timeout=conn.seconds(connection, "timeout", hub.DEFAULT_TIMEOUT),
            network=conn.network(connection),
            headers=conn.headers(connection),
        )

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
        """
        from airflow_provider_xethub.hooks import api

        return api.of(self.hub.endpoint, conn.hub_token(self._connection))

    @fail_without_retry()
    def repo(self, repo_id: str | None = None, repo_type: str | None = None, revision: str | None = None) -> Repo:
        """Return a repository; what is left out comes from the connection's defaults.

        :raises XetInputError: a name is empty or not valid, or there is no repo_id anywhere.
        :raises XetAirflowConnectionError: something is left out, and Airflow did not return the connection.
        """
        for name, value in (("repo_id", repo_id), ("repo_type", repo_type), ("revision", revision)):
            arguments.string(name, value)
        repo_id = repo_id or self._default("repo_id")
        if not repo_id:
            raise XetInputError(
                f"repo_id is missing: give it to the task, or set it as default in connection {self.xethub_conn_id!r}."
            )
        repo_type = repo_type or self._default("repo_type") or "model"
        if repo_type == "bucket":
            return Repo(repo_id, "bucket", revision or DEFAULT_REVISION)
        revision = revision or self._default("revision") or DEFAULT_REVISION
        return Repo(repo_id, cast("RepoType", repo_type), revision)

    @fail_without_retry()
    def whoami(self) -> dict[str, Any]:
        """Return what the Hub says about the Hub token: ``name``, ``type``, ``auth`` and more."""
        return self.hub.whoami()

    # --- tokens ---------------------------------------------------------------------------------------------------

    @fail_without_retry()
    def get_token(self, repo: Repo, scope: Scope = "read") -> XetToken:
        """Return a fresh Xet token for ``repo``: the one fetched before, or a new one from the Hub.

        :raises XetHubError: the Hub does not issue it.
        """
        coming = self._coming.pop((scope, repo), None)
        known = self._keep(coming()) if coming else self._tokens.get((scope, repo))
        return known if known and known.is_fresh() else self._fetch(repo, scope)

    @contextmanager
    def prefetch_token(self, repo: Repo, scope: Scope) -> Iterator[None]:
        """Fetch the token that :meth:`get_token` will be asked for here while other work is done.

        Where the Hub does not issue it, only :meth:`get_token` says so.
        """
        from airflow_provider_xethub.xet import threads as workers

        hub, known = self.hub, self._tokens.get((scope, repo))
        if not (known and known.is_fresh()):
            self._coming[scope, repo] = workers.begun(lambda: hub.xet_token(repo, scope))
        try:
            yield
        finally:
            self._coming.pop((scope, repo), None)

    @fail_without_retry()
    def refresh_token(self, token: XetToken) -> XetToken:
        """Fetch a new token for the same scope, repository and revision."""
        return self._fetch(token.repo, token.scope)

    def _fetch(self, repo: Repo, scope: Scope) -> XetToken:
        return self._keep(self.hub.xet_token(repo, scope))

    def _keep(self, token: XetToken) -> XetToken:
        sealing.mask(token.access_token)
        self._tokens[token.scope, token.repo] = token
        self.log.info("Fetched a %s token for %s, good for %.0f s.", token.scope, token.repo, token.seconds_left())
        return token

    def seal_token(self, token: XetToken) -> SealedTokenDict:
        """Return the token in the form that may be an XCom: sealed, or only a reference where there is no key."""
        fernets = sealing.fernets()
        if not fernets:
            self.log.warning(
                "This worker has no Fernet key, so the token for %s is not put into XCom. A task that gets this value "
                "fetches its own token, if it has the connection and names repo_id. Set [core] fernet_key or [xethub] "
                "fernet_key on all workers.",
                token.repo,
            )
        return SealedToken.seal(token, fernets[0] if fernets else None).to_xcom()

    @fail_without_retry()
    def confirmed_repo(self, token: XetToken | SealedTokenDict) -> Repo | None:
        """Return the repository that a given token is for, or ``None`` if it does not open here."""
        opened = self._open(token).opened
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

        :param repo_id, repo_type, revision: the task's own arguments.
        :raises XetTokenSealError: it does not open, and neither the arguments nor the connection name a repository.
        :raises XetAirflowConnectionError: it does not open, and Airflow did not return the connection.
        :raises XetTokenTamperedError: it does not open, and says something else than they do; or it was changed.
        """
        given = self._open(token)
        if given.opened:
            of = given.opened.repo
            return Repo(repo_id or of.repo_id, cast("RepoType", repo_type or of.repo_type), revision or of.revision)
        try:
            if not (repo_id or self._default("repo_id")):
                raise self._useless(given, names_repo=False)
            named = self.repo(repo_id, repo_type, revision)
        except XetAirflowConnectionError as error:
            raise self._useless(given, names_repo=bool(repo_id)) from error
        given.check("read", named)
        return named

    @fail_without_retry()
    def check_token(self, token: XetToken | SealedTokenDict | None, scope: Scope, repo: Repo | None = None) -> None:
        """Refuse a given token that is not for this use, before anything is sent or written.

        :param repo: what it must be for, never taken from a token that does not open here; ``None`` if it decides.
        :raises XetTokenScopeError: it is for another scope, repository or revision.
        :raises XetTokenTamperedError: it was changed since it was sealed; or it does not open here, and says that it is
            for another repository.
        :raises XetTokenSealError: it does not open here, and ``repo`` is ``None``.
        """
        if token is not None:
            self._receive(token, scope, repo)

    def _open(self, token: XetToken | SealedTokenDict) -> GivenToken:
        """Return what this worker knows about a given token; once, as the key may come from a secrets backend."""
        if isinstance(token, XetToken):
            return GivenToken.receive(token)
        known = self._given
        if known is None or known[0] != token:
            given = GivenToken.receive(token)
            # Both at once, as threads may share a hook.
            known = self._given = dict(token), given
        return known[1]

    def _receive(self, token: XetToken | SealedTokenDict, scope: Scope, repo: Repo | None) -> GivenToken:
        """Return what a given token is, if it is for this use."""
        given = self._open(token)
        if given.opened is None and repo is None:
            raise self._useless(given, names_repo=False)
        given.check(scope, repo)
        return given

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
        :raises XetTokenExpiredError: it is stale, and this task has no connection to fetch another one with.
        :raises XetTokenSealError: it cannot be opened, and this task has no connection, or no ``repo``.
        :raises XetAirflowConnectionError: another one is needed, and Airflow did not return the connection.
        """
        if token is None:
            if repo is None:
                raise XetInputError("neither a token nor a repository was given: set token or repo_id.")
            return self.get_token(repo, scope)
        given = self._receive(token, scope, repo)
        opened = given.opened
        if opened is None:
            if repo is None or not self._may_replace(given.conn_id):
                raise self._useless(given, names_repo=repo is not None)
            self.log.info("%s; fetching a %s token for %s, which this task names.", given.why_shut, scope, repo)
            return self.get_token(repo, scope)
        if opened.is_fresh():
            return opened
        # The client would not even begin with it.
        end = f"expires in less than {FRESH_MARGIN:.0f} s"
        if opened.seconds_left() <= 0:
            end = f"expired at {opened.expires_at.to_iso8601_string()}"
        what = f"the {opened.scope} token for {opened.repo} {end}"
        if not self._may_replace(opened.conn_id):
            raise given.irreplaceable(what, self.xethub_conn_id)
        self.log.info("%s; fetching another one.", what)
        return self.get_token(opened.repo, scope)

    def _may_replace(self, conn_id: str | None) -> bool:
        """Whether another token may be fetched: only from the Hub that the given one came from."""
        return conn_id in (None, self.xethub_conn_id) and self.has_connection

    def _useless(self, given: GivenToken, *, names_repo: bool) -> XetHubError:
        return given.useless(self.xethub_conn_id, names_repo=names_repo, has_connection=self.has_connection)

    def cas_access(self) -> Callable[[XetToken], CasAccess]:
        """Return what makes of a token all that a transfer needs: this connection's network, patience and Hub.

        :raises XetInputError: a field of the connection is wrong.
        """
        from airflow_provider_xethub.xet.cas import cache as client_cache
        from airflow_provider_xethub.xet.cas import token_relay
        from airflow_provider_xethub.xet.cas.session import CasAccess
        from airflow_provider_xethub.xet.network.settings import Network
        from airflow_provider_xethub.xet.progress import STALL_TIMEOUT

        connection = self._connection
        stall_timeout = conn.seconds(connection, "stall_timeout", STALL_TIMEOUT) if connection else STALL_TIMEOUT
        network = conn.network(connection) if connection else Network()
        cache = client_cache.folder(configuration.cache_folder())

        def access(token: XetToken) -> CasAccess:
            options = CasAccess(
                token,
                stall_timeout=stall_timeout,
                network=network,
                cache_folder=cache,
                telemetry=configuration.telemetry(),
            )
            if not self._may_replace(token.conn_id):
                return options
            hub = self.hub
            refresh = token_relay.Refresh(lambda: hub.xet_token(token.repo, token.scope))
            return replace(options, refresh=refresh, secrets=hub.secrets)

        return access

    def with_cas_access(
        self,
        given: XetToken | SealedTokenDict | None,
        scope: Scope,
        repo: Repo | None,
        work: Callable[[CasAccess], T],
    ) -> T:
        """Do a transfer with a fresh token, and once more if CAS does not accept it or the transfer stands still."""
        access = self.cas_access()
        # A write token is for reading here, and what the client and a second try ask for is a read token.
        token = replace(self.fresh_token(given, scope, repo), scope=scope)
        try:
            return work(access(token))
        except XetStalledError as error:
            self.log.warning("%s Trying once more.", error)
            return work(access(replace(self.fresh_token(given, scope, repo), scope=scope)))
        except XetTokenExpiredError as error:
            raise self._irreplaceable(token, error) from error.__cause__
        except XetUnauthorizedError as error:
            # The client itself refreshes by the clock only, never after a 401.
            if error.service != "CAS":
                raise
            if not self._may_replace(token.conn_id):
                raise self._irreplaceable(token, error) from error.__cause__
            self.log.warning("CAS did not accept the token for %s; trying once more with a new one.", token.repo)
            return work(access(self._fetch(token.repo, token.scope)))

    def _irreplaceable(self, token: XetToken, error: XetHubError) -> XetHubError:
        is_other = token.conn_id not in (None, self.xethub_conn_id)
        return error if is_other else conn.needed(self.xethub_conn_id, error)
