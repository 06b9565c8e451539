"""A Xet token that a task was given, and what this worker knows about it: confirmed by its seal, or only claimed."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_provider_xethub.exceptions import (
    XetHubError,
    XetTokenExpiredError,
    XetTokenSealError,
    XetTokenTamperedError,
)
from airflow_provider_xethub.hooks.connections import connection
from airflow_provider_xethub.hooks.tokens import sealing
from airflow_provider_xethub.hooks.tokens.token_bindings import running_task
from airflow_provider_xethub.xet.repo import Repo, Scope
from airflow_provider_xethub.xet.token import SealedToken, SealedTokenDict, XetToken, check_use
from airflow_provider_xethub.xet.token_binding import TokenBinding

SAME_KEY = "Set the same [core] fernet_key on all workers (or [xethub] fernet_key)"
"""What to do about a token that does not open: follows the reason, and the first 100 characters hold both."""


@dataclass(frozen=True)
class GivenToken:
    """A token after this worker tried to open it: either ``opened`` is set, or ``claims`` and ``reason`` are.

    :param opened: the token, confirmed by its seal; without an access token once it has expired.
    :param claims: the clear fields of a token that does not open here, only to compare with what the task names.
    :param reason: why it does not open here.
    """

    opened: XetToken | None = None
    claims: SealedToken | None = None
    reason: str = ""

    @classmethod
    def open(cls, token: XetToken | SealedTokenDict) -> GivenToken:
        """Try to open a token, and mask its access token in logs.

        :raises XetInputError: it is not a token.
        :raises XetTokenTamperedError: it was changed since it was sealed.
        """
        if isinstance(token, XetToken):
            sealing.mask(token.access_token)
            return cls(token)
        claims = SealedToken.from_xcom(token)
        try:
            opened = claims.open(sealing.fernets())
        except XetTokenTamperedError:
            raise
        except XetTokenSealError as error:
            return cls(claims=claims, reason=str(error))
        sealing.mask(opened.access_token)
        return cls(opened)

    @property
    def conn_id(self) -> str | None:
        """The connection it was fetched with, or claims to have been fetched with."""
        known = self.opened or self.claims
        return known.conn_id if known else None

    @property
    def binding(self) -> TokenBinding | None:
        """The tasks that may use it. A claim that no seal confirms is good enough to refuse a task."""
        known = self.opened or self.claims
        return known.binding if known else None

    def check_binding(self) -> None:
        """Refuse the token if the task that runs here is not one that may use it.

        :raises XetTokenBindingError: it is bound to other tasks.
        """
        if self.binding:
            self.binding.check(running_task())

    def check(self, scope: Scope, repo: Repo | None) -> None:
        """Refuse the token if it is for something else.

        :param repo: what the task works on; may be ``None`` where the token is opened.
        :raises XetTokenScopeError: it is for something else.
        :raises XetTokenTamperedError: it is not opened, and claims to be for something else.
        """
        if self.opened:
            check_use(self.opened.scope, self.opened.repo, scope, repo)
        elif self.claims and repo:
            self.claims.check_claims(scope, repo)

    def unopened_error(self, conn_id: str | None, *, names_repo: bool, has_connection: bool) -> XetHubError:
        """Return the error for a token that neither opens nor can be replaced, naming what the task lacks.

        :param conn_id: the task's connection; ``has_connection`` says whether this worker can read it.
        :param names_repo: whether the task itself names a repository.
        """
        lacks = [] if names_repo else ["repo_id (with repo_type and revision)"]
        is_other = self.conn_id not in (None, conn_id)
        if not has_connection:
            lacks.append(f"the connection {conn_id!r}" if conn_id else "xethub_conn_id")
        elif is_other:
            lacks.append(f"xethub_conn_id={self.conn_id!r:.100}, if the token came from there")
        says = f"{self.claims.scope}, {self.claims.repo}" if self.claims else ""
        error = XetTokenSealError(
            f"{self.reason}. {SAME_KEY}, or let this task fetch a token of its own: it lacks "
            f"{' and '.join(lacks)}. Nothing confirms what the token says ({says})."
        )
        return error if has_connection or is_other else connection.needed(conn_id, error)

    def stale_error(self, what: str, conn_id: str | None) -> XetHubError:
        """Return the error for a token that opens, is stale, and cannot be replaced.

        :param what: the token and how old it is.
        :param conn_id: the task's connection.
        """
        if self.conn_id not in (None, conn_id):
            return XetTokenExpiredError(
                f"{what}. Set xethub_conn_id={self.conn_id!r}, with which it was fetched, so that this task can fetch "
                "a new one."
            )
        which = f"no connection {conn_id!r}" if conn_id else "no connection (xethub_conn_id is None)"
        return connection.needed(
            conn_id,
            XetTokenExpiredError(
                f"{what}. Fetch it closer to its use, or create a connection: this worker has {which} to fetch a new "
                "one."
            ),
        )
