"""The Xet tokens of a task: fetched through its connection, or given to it by another task."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from airflow_provider_xethub.exceptions import (
    XetAirflowConnectionError,
    XetCancelledError,
    XetHubError,
    XetInputError,
)
from airflow_provider_xethub.hooks.tokens import hand_over, sealing
from airflow_provider_xethub.hooks.tokens.given_token import GivenToken
from airflow_provider_xethub.xet import recipient as recipients
from airflow_provider_xethub.xet.message_text import duration
from airflow_provider_xethub.xet.process import core_dumps
from airflow_provider_xethub.xet.repo import Repo, RepoType, Scope
from airflow_provider_xethub.xet.token import FRESH_MARGIN, SealedToken, SealedTokenDict, XetToken
from airflow_provider_xethub.xet.token_binding import TokenBinding

if TYPE_CHECKING:
    from airflow_provider_xethub.hooks.connections.connection import LazyConnection


@dataclass(frozen=True)
class TokenUse:
    """What a token is needed for, and the token that the task was given: opened and checked, once.

    :param scope: what the token must allow; nothing more is fetched.
    :param repo: what it must be for, never taken from a token that does not open here; ``None`` if the token decides.
    :param given: ``None`` where the task was given no token.
    """

    scope: Scope
    repo: Repo | None
    given: GivenToken | None = None


class Tokens:
    """The Xet tokens of one hook.

    :param connection: fetches tokens, where this worker has it.
    :param log: the hook's logger.
    """

    def __init__(self, connection: LazyConnection, log: Any) -> None:
        self._connection = connection
        self._log = log
        self._fetched: dict[tuple[Scope, Repo], XetToken] = {}
        self._prefetched: dict[tuple[Scope, Repo], Callable[[], XetToken]] = {}
        self._given: tuple[dict[str, object], GivenToken] | None = None

    # --- fetched tokens

    def get(self, repo: Repo, scope: Scope) -> XetToken:
        """Return a fresh token: the one fetched before, or a new one from the Hub.

        :raises XetHubError: the Hub does not issue it.
        """
        known = self._fetched.get((scope, repo))
        if coming := self._prefetched.pop((scope, repo), None):
            try:
                known = self._keep(coming())
            except XetHubError as error:
                if isinstance(error, XetCancelledError) or not error.retryable:
                    raise
                self._log.warning("Requesting the token again: %s", error)
        return known if known and known.is_fresh() else self.fetch(repo, scope)

    def fetch(self, repo: Repo, scope: Scope) -> XetToken:
        """Fetch a new token, whatever was fetched before.

        :raises XetHubError: the Hub does not issue it.
        """
        return self._keep(self._connection.hub.xet_token(repo, scope))

    @contextmanager
    def prefetch(self, repo: Repo, scope: Scope) -> Iterator[None]:
        """Fetch the token that :meth:`get` will be asked for in this block while other work is done.

        An error of the Hub is raised by :meth:`get` only. The request is not repeated in its thread, which would go on
        asking after the work has failed: :meth:`get` repeats it.
        """
        from airflow_provider_xethub.xet.process import threads

        hub, known = self._connection.hub, self._fetched.get((scope, repo))
        if not (known and known.is_fresh()):
            request = functools.partial(hub.xet_token, repo, scope, retry=False)
            self._prefetched[scope, repo] = threads.start(request, threads.REQUEST)
        try:
            yield
        finally:
            self._prefetched.pop((scope, repo), None)

    def _keep(self, token: XetToken) -> XetToken:
        core_dumps.forbid_while(self)
        sealing.mask(token.access_token)
        self._fetched[token.scope, token.repo] = token
        self._log.info(
            "Fetched a %s token for %s, valid for %s.", token.scope, token.repo, duration(token.seconds_left())
        )
        return token

    def seal(self, token: XetToken, binding: TokenBinding | None = None) -> SealedTokenDict:
        """Return the XCom value of a token: sealed, or only a reference where this worker has no key.

        :param token: as fetched, or as :meth:`fresh` returned it.
        :param binding: the tasks that may use it; narrows a binding that the token already has.
        :raises XetTokenBindingError: the token is bound to other tasks than this one.
        :raises XetInputError: ``binding`` is wider than that of the token.
        """
        GivenToken(token).check_binding()
        if binding:
            token = replace(token, binding=token.binding.narrowed(binding) if token.binding else binding)
        fernets = sealing.fernets()
        if not fernets:
            self._log.warning(
                "This worker has no Fernet key, so the token for %s is not put into XCom. A task that gets this value "
                "fetches its own token, if it has the connection and names repo_id. Set [core] fernet_key or [xethub] "
                "fernet_key on all workers.",
                token.repo,
            )
        return SealedToken.seal(token, fernets[0] if fernets else None).to_xcom()

    def seal_to(self, token: XetToken, recipient: Mapping[str, Any] | str) -> str:
        """Return a token for a process that is not Airflow: a JWE that only the holder of a private key opens.

        :param token: as fetched, or as :meth:`fresh` returned it.
        :param recipient: the public key.
        :raises XetTokenBindingError: the token is bound to other tasks than this one.
        :raises XetInputError: ``recipient`` is not a public key.
        """
        GivenToken(token).check_binding()
        document = hand_over.plain_text(token, self._connection)
        return recipients.seal(json.dumps(document).encode(), recipient)

    # --- given tokens

    def open(self, token: XetToken | SealedTokenDict) -> GivenToken:
        """Return what this worker knows about a given token; the last one is kept, opened.

        Opening takes the key, which may come from a secrets backend.

        :raises XetTokenBindingError: the task that runs here is not one that may use it.
        :raises XetHubError: as for :meth:`GivenToken.open`.
        """
        core_dumps.forbid_while(self)
        if isinstance(token, XetToken):
            given = GivenToken.open(token)
        else:
            known = self._given
            if known is None or known[0] != token:
                opened = GivenToken.open(token)
                # Both at once, as threads may share a hook.
                known = self._given = dict(token), opened
            given = known[1]
        # Each time: a hook may outlive the task.
        given.check_binding()
        return given

    def accept(self, token: XetToken | SealedTokenDict | None, scope: Scope, repo: Repo | None) -> TokenUse:
        """Return the use of a token, after refusing a given one that is not for it.

        :raises XetHubError: as for :meth:`XetHubConnection.check_token`.
        """
        if token is None:
            return TokenUse(scope, repo)
        given = self.open(token)
        if given.opened is None and repo is None:
            raise self._unopened_error(given, names_repo=False)
        given.check(scope, repo)
        return TokenUse(scope, repo, given)

    def repo_of(
        self,
        token: XetToken | SealedTokenDict,
        repo_id: str | None,
        repo_type: str | None,
        revision: str | None,
    ) -> Repo:
        """Return the repository that a task with this token works on; see :meth:`XetHubConnection.token_repo`."""
        given = self.open(token)
        if given.opened:
            of = given.opened.repo
            return Repo(repo_id or of.repo_id, cast("RepoType", repo_type or of.repo_type), revision or of.revision)
        try:
            if not (repo_id or self._connection.default("repo_id")):
                raise self._unopened_error(given, names_repo=False)
            named = self._connection.repo(repo_id, repo_type, revision)
        except XetAirflowConnectionError as error:
            raise self._unopened_error(given, names_repo=bool(repo_id)) from error
        given.check("read", named)
        return named

    def fresh(self, use: TokenUse) -> XetToken:
        """Return a token for an accepted use: the given one, or one fetched in its place.

        :raises XetHubError: as for :meth:`XetHubConnection.fresh_token`.
        """
        repo, given = use.repo, use.given
        if given is None:
            if repo is None:
                raise XetInputError("Neither a token nor a repository was given: set token or repo_id.")
            return self.get(repo, use.scope)
        opened = given.opened
        if opened is None:
            if repo is None or not self.may_replace(given.conn_id):
                raise self._unopened_error(given, names_repo=repo is not None)
            self._log.info("%s; fetching a %s token for %s, which this task names.", given.reason, use.scope, repo)
            return self._bound(self.get(repo, use.scope), given)
        if opened.is_fresh():
            return opened
        # The client refuses to start with a stale token.
        end = f"expires within {FRESH_MARGIN:.0f} s" if opened.seconds_left() > 0 else "has expired"
        what = f"The {opened.scope} token for {opened.repo} {end}"
        if not self.may_replace(opened.conn_id):
            raise given.stale_error(what, self._connection.conn_id)
        self._log.info("%s; fetching a new one.", what)
        return self._bound(self.get(opened.repo, use.scope), given)

    def _bound(self, token: XetToken, given: GivenToken) -> XetToken:
        """Return the replacement of a given token with the same binding, in case that this task seals it again."""
        return replace(token, binding=given.binding)

    def may_replace(self, conn_id: str | None) -> bool:
        """Whether a new token may be fetched: only from the Hub that the old one came from.

        :param conn_id: the connection of the old one.
        """
        return conn_id in (None, self._connection.conn_id) and self._connection.found is not None

    def _unopened_error(self, given: GivenToken, *, names_repo: bool) -> XetHubError:
        connection = self._connection
        return given.unopened_error(
            connection.conn_id, names_repo=names_repo, has_connection=connection.found is not None
        )
