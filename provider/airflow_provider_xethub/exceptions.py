"""Every error that the provider raises on purpose.

::

    XetHubError
    ├── XetInputError (ValueError)               an argument is wrong; nothing was sent                    final
    │   └── XetTriggerArgumentError (TypeError)  the same of a trigger                                     final
    ├── XetAirflowConnectionError (LookupError)  Airflow did not return the connection                     retry
    ├── XetTokenError
    │   ├── XetTokenFormatError (ValueError)     the Hub's token answer breaks the protocol                final
    │   ├── XetTokenExpiredError (PermissionError)  expired, and nothing here can get a new one            final
    │   ├── XetTokenScopeError (PermissionError) wrong scope, repository or revision                       final
    │   └── XetTokenSealError (PermissionError)  the XCom value does not open here: no key, another key    final
    │       └── XetTokenTamperedError            the XCom value was changed, or claims something else      final
    ├── XetConnectionError (ConnectionError)     no answer: refused, reset, DNS                            retry
    │   ├── XetTimeoutError (TimeoutError)       no answer in time                                         retry
    │   ├── XetProxyError                        the proxy wants another credential, or forbids it         final
    │   └── XetTLSError                          the certificate is not trusted                            final
    ├── XetResponseError                         an answer that is not a success; has ``status``           final
    │   ├── XetUnauthorizedError (PermissionError)  401: the credential is missing, wrong or expired       final
    │   ├── XetForbiddenError (PermissionError)  403: the credential may not do this                       final
    │   ├── XetNotFoundError (LookupError)       404: repository, revision, path or stored file            final
    │   │   └── XetRevisionNotFoundError         404: the repository is there, this revision is not        final
    │   ├── XetConflictError                     409 or 412: somebody else was faster                      final
    │   ├── XetRateLimitError                    429: too many requests; has ``retry_after``               retry
    │   │   └── XetCommitQuotaError              429: the Hub's limit of commits per hour is reached       retry
    │   ├── XetServerError                       5xx                                                       retry
    │   ├── XetRedirectError                     sent away to another origin; not followed                 final
    │   └── XetProtocolError                     a success whose body is not what was asked for            final
    └── XetTransferError
        ├── XetSourceError (OSError)             a source is missing, unreadable, or changed while read    retry
        │   └── XetEmptySourceError              the source contains no file                               retry
        ├── XetDestinationError (OSError)        a destination cannot be written                           retry
        ├── XetStalledError (TimeoutError)       nothing moved for too long; the transfer was ended         retry
        ├── XetIntegrityError                    bytes arrived that are not the file; nothing was kept     retry
        └── XetCancelledError                    the transfer was stopped from outside                     retry

*retry*: another try may succeed, so Airflow's ``retries`` apply. *final*: no retry can mend it, so where the error
leaves the hook it is also an ``AirflowFailException`` and the task fails at once. This module imports nothing:
:func:`airflow_provider_xethub.hooks.errors.fail_without_retry` adds that base class.
"""

from __future__ import annotations

from typing import Literal

Service = Literal["Hub", "CAS"]


class XetHubError(Exception):
    """Base of all errors of this provider. ``retryable`` says whether another try may succeed."""

    retryable: bool = True


class XetInputError(XetHubError, ValueError):
    """An argument is wrong. Raised before anything was sent or written."""

    retryable = False


class XetTriggerArgumentError(XetInputError, TypeError):
    """An argument of a trigger is wrong.

    A triggerer fails a stored trigger whose constructor raises ``TypeError``. Any other error ends the triggerer
    itself, and with it all other triggers.
    """


class XetAirflowConnectionError(XetHubError, LookupError):
    """Airflow did not return the connection that ``xethub_conn_id`` names.

    It may not exist. Airflow reports the same while a secrets backend or its own API server is unavailable, so that
    nothing tells the two apart and Airflow's retries apply.
    """


class XetTokenError(XetHubError):
    """Base of the errors about Xet tokens. No message contains a token."""

    retryable = False


class XetTokenFormatError(XetTokenError, ValueError):
    """The Hub's answer to a token request breaks the protocol; the message names the field, never its value."""


class XetTokenExpiredError(XetTokenError, PermissionError):
    """The token expired and there is no connection here to get another one with."""


class XetTokenScopeError(XetTokenError, PermissionError):
    """The token is for another scope, repository or revision. Raised before any network call."""


class XetTokenSealError(XetTokenError, PermissionError):
    """The XCom value cannot be opened here, nothing confirms what it says, and the task cannot fetch its own token."""


class XetTokenTamperedError(XetTokenSealError):
    """The XCom value is not what was sealed, or does not open and claims something else than the task names.

    Never answered by fetching another token for what it claims.
    """


class XetConnectionError(XetHubError, ConnectionError):
    """No answer arrived: connection refused or reset, name not resolved, answer cut off."""


class XetTimeoutError(XetConnectionError, TimeoutError):
    """No answer arrived in time."""


class XetProxyError(XetConnectionError):
    """The proxy passes nothing on: its user, password or URL is wrong, or it forbids this. A retry is no use."""

    retryable = False


class XetTLSError(XetConnectionError):
    """The server's certificate is not trusted here. A retry does not change that."""

    retryable = False


class XetResponseError(XetHubError):
    """The Hub or CAS answered, and not with a success.

    :param message: what happened, to which repository or path, and what to do next.
    :param service: who answered, ``Hub`` or ``CAS``.
    :param status: the HTTP status, or ``None`` where the client library hides it.
    :param retry_after: seconds to wait before the next try, where the server said so.
    """

    retryable = False

    def __init__(
        self,
        message: str,
        *,
        service: Service = "Hub",
        status: int | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.service = service
        self.status = status
        self.retry_after = retry_after


class XetUnauthorizedError(XetResponseError, PermissionError):
    """401. The credential is missing, wrong or expired."""


class XetForbiddenError(XetResponseError, PermissionError):
    """403. The credential is valid and may not do this."""


class XetNotFoundError(XetResponseError, LookupError):
    """404. The repository, revision, path or stored file does not exist, or is not visible to this credential."""


class XetRevisionNotFoundError(XetNotFoundError):
    """404. The repository exists and is visible; the branch, tag, commit or pull request in it does not exist."""


class XetConflictError(XetResponseError):
    """409 or 412. The branch moved, or the thing exists already."""


class XetRateLimitError(XetResponseError):
    """429, after the bounded retries inside the request. ``retry_after`` is in seconds."""

    retryable = True


class XetCommitQuotaError(XetRateLimitError):
    """429 to a commit, because the repository's commits of this hour are used up. Waiting seconds does not help."""


class XetServerError(XetResponseError):
    """5xx, or 408 or 425, after the bounded retries inside the request."""

    retryable = True


class XetRedirectError(XetResponseError):
    """The Hub redirects to another origin. Not followed, because the Hub token would go there."""


class XetProtocolError(XetResponseError):
    """A success whose body is not what was asked for, such as an HTML page where JSON belongs."""


class XetTransferError(XetHubError):
    """A transfer through CAS failed and left nothing damaged behind."""


class XetSourceError(XetTransferError, OSError):
    """A source is missing or unreadable, or changed while it was read."""


class XetEmptySourceError(XetSourceError):
    """The source contains no file, or none that matches: an empty folder, or a glob pattern without a match."""


class XetDestinationError(XetTransferError, OSError):
    """The destination cannot be written."""


class XetStalledError(XetTransferError, TimeoutError):
    """The transfer stood still for longer than ``stall_timeout``, and was ended. The message says how far it got."""


class XetIntegrityError(XetTransferError):
    """The bytes that arrived are not the file: size or sha256 differ. Nothing was kept."""


class XetCancelledError(XetTransferError):
    """The transfer was stopped from outside: SIGTERM, ``execution_timeout``, or a failure elsewhere."""
