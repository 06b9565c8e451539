"""Define every error that the provider raises on purpose.

::

    XetHubError
    ├── XetInputError (ValueError)               an argument is wrong; nothing was sent                    final
    │   └── XetTriggerArgumentError (TypeError)  an argument of a trigger is wrong                         final
    ├── XetAirflowConnectionError (LookupError)  Airflow did not return the connection                     retry
    ├── XetWeakCredentialError (PermissionError) the administrator requires a narrower credential              final
    ├── XetIdentityError (PermissionError)       the connection's identity has no ID token for the Hub     final
    │   ├── XetIdentityUnavailableError (ConnectionError)  the service that issues it did not respond      retry
    │   └── XetPublisherError                    the Hub has no trusted publisher for it                   final
    ├── XetTokenError
    │   ├── XetTokenFormatError (ValueError)     the Hub's token response breaks the protocol              final
    │   ├── XetTokenExpiredError (PermissionError)  expired, and no connection to fetch a new one          final
    │   ├── XetTokenScopeError (PermissionError) wrong scope, repository or revision                       final
    │   ├── XetTokenBindingError (PermissionError)  bound to another DAG, run or task                      final
    │   └── XetTokenSealError (PermissionError)  the XCom value cannot be decrypted on this worker         final
    │       └── XetTokenTamperedError            the XCom value was changed or contradicts the task        final
    ├── XetConnectionError (ConnectionError)     no response: refused, reset, DNS                          retry
    │   ├── XetTimeoutError (TimeoutError)       no response in time                                       retry
    │   ├── XetProxyError                        the proxy requires other credentials or blocks the host   final
    │   └── XetTLSError                          the certificate is not trusted                            final
    ├── XetResponseError                         an unsuccessful response; has ``status``                  final
    │   ├── XetUnauthorizedError (PermissionError)  401: the credential is missing, wrong or expired       final
    │   ├── XetForbiddenError (PermissionError)  403: the credential lacks permission                      final
    │   ├── XetNotFoundError (LookupError)       404: repository, revision, path or stored file            final
    │   │   └── XetRevisionNotFoundError         404: the repository exists, the revision does not         final
    │   ├── XetConflictError                     someone else changed it first, or it exists               final
    │   │   ├── XetBusyError                     409 or 412 to a request that a retry decides anew         retry
    │   │   └── XetPullRequestClosedError        the pull request was closed without being merged          final
    │   ├── XetRateLimitError                    429: too many requests; has ``retry_after``               retry
    │   │   └── XetCommitQuotaError              429: the hourly limit of commits is reached               retry
    │   ├── XetServerError                       5xx, 408 or 425, or a change without effect               retry
    │   ├── XetRedirectError                     a redirect to another origin; not followed                final
    │   └── XetProtocolError                     a success with unexpected content                         final
    ├── XetScanError                             what the Hub reports about its security scan of files
    │   ├── XetUnsafeFileError (PermissionError) a scanner found an issue                                  final
    │   ├── XetScanPendingError                  there is no result yet                                    retry
    │   └── XetScanMissingError (LookupError)    the Hub reports no scan at all                            final
    ├── XetKubernetesError                       Kubernetes refused the Secret of a pod; has ``status``        retry
    └── XetTransferError
        ├── XetSourceError (OSError)             a source is missing, unreadable, or changed while read    retry
        │   └── XetEmptySourceError              the source contains no file                               retry
        ├── XetDestinationError (OSError)        the destination cannot be written                         retry
        ├── XetStalledError (TimeoutError)       a transfer made no progress and was cancelled             retry
        ├── XetTooSlowError (TimeoutError)       a transfer stayed below ``min_rate`` and was cancelled    retry
        ├── XetIntegrityError                    the received bytes are not the file; nothing was kept     retry
        └── XetCancelledError                    the transfer was stopped from outside                     retry

*retry*: another attempt may succeed, so Airflow's ``retries`` apply. *final*: retrying cannot fix the error, so where
it leaves the hook it is also an ``AirflowFailException`` and the task fails at once. This module does not import
Airflow: :func:`airflow_provider_xethub.hooks.errors.fail_without_retry` adds that base class.

The page ``errors`` of the documentation has a section for each class. Its anchor is the name of the class in lower
case, such as ``errors.html#xetnotfounderror``. The log of a failed task links there, if the documentation has an
address.
"""

from __future__ import annotations

from typing import Literal

Service = Literal["Hub", "CAS"]


class XetHubError(Exception):
    """Base of all errors of this provider.

    ``retryable`` says whether another attempt may succeed, so that Airflow's ``retries`` apply.
    """

    retryable: bool = True


class XetInputError(XetHubError, ValueError):
    """An argument is wrong; nothing was sent or written.

    Not retried: correct the argument that the message names.
    """

    retryable = False


class XetTriggerArgumentError(XetInputError, TypeError):
    """An argument of a trigger is wrong. Not retried.

    A triggerer fails a stored trigger whose constructor raises ``TypeError``. Any other error would stop the triggerer
    itself, and all other triggers with it.
    """


class XetAirflowConnectionError(XetHubError, LookupError):
    """Airflow did not return the connection that ``xethub_conn_id`` names.

    The connection may not exist. Airflow reports the same while a secrets backend or its own API server is unavailable,
    so the two cases cannot be distinguished. Airflow's retries apply.
    """


class XetWeakCredentialError(XetHubError, PermissionError):
    """The connection's credential is weaker than ``[xethub] minimum_credential`` requires.

    Not retried: store a fine-grained Hub token in the connection, or choose an identity.
    """

    retryable = False


class XetIdentityError(XetHubError, PermissionError):
    """The identity of a keyless connection cannot be used: it is not allowed, or has no ID token for this Hub.

    Not retried: correct what the message names. No message contains an ID token.
    """

    retryable = False


class XetIdentityUnavailableError(XetIdentityError, ConnectionError):
    """The service that issues ID tokens, such as a cloud's metadata server, did not respond or has a problem.

    Retried.
    """

    retryable = True


class XetPublisherError(XetIdentityError):
    """The Hub issues no token for the ID token: the repository has no trusted publisher for it, or one that may less.

    Not retried: add the publisher that the message describes.
    """


class XetTokenError(XetHubError):
    """Base of the errors about Xet tokens. Not retried. No message contains a token."""

    retryable = False


class XetTokenFormatError(XetTokenError, ValueError):
    """The Hub's response to a token request breaks the protocol. Not retried.

    The message names the field, but never shows its value.
    """


class XetTokenExpiredError(XetTokenError, PermissionError):
    """The token expired, or the content in records is too old, and the task has no connection to fetch a new one.

    Not retried: the same XCom would be used again. Fetch it closer to its use, or give the task the connection.
    """


class XetTokenScopeError(XetTokenError, PermissionError):
    """The token, or content in records, is for another scope, repository or revision.

    Not retried. Raised before any network call.
    """


class XetTokenBindingError(XetTokenError, PermissionError):
    """The token is bound to another DAG, run or task, or to a task at all where none is running.

    Not retried, and never answered by fetching another token. Raised before any network call.
    """


class XetTokenSealError(XetTokenError, PermissionError):
    """The XCom value cannot be decrypted on this worker, and the task cannot fetch its own token.

    Not retried: give all workers the same Fernet key, or name the repository in the task.
    """


class XetTokenTamperedError(XetTokenSealError):
    """The XCom value was changed after it was sealed, or it cannot be decrypted and contradicts the task's arguments.

    The value is a token, or the record of an inline file with its content. Not retried, and never answered by fetching
    another token for what the value claims.
    """


class XetConnectionError(XetHubError, ConnectionError):
    """No response arrived: connection refused or reset, host name not resolved, response truncated or damaged.

    Retried: the cause is usually temporary.
    """


class XetTimeoutError(XetConnectionError, TimeoutError):
    """No response arrived in time. Retried."""


class XetProxyError(XetConnectionError):
    """The proxy did not forward the request: its username, password or URL is wrong, or it blocks the host.

    Not retried: correct the proxy settings.
    """

    retryable = False


class XetTLSError(XetConnectionError):
    """The server's certificate is not trusted on this worker. Not retried: set ``ca_bundle`` in the connection."""

    retryable = False


class XetResponseError(XetHubError):
    """The Hub or CAS returned an unsuccessful response. Not retried, except by the subclasses that say so.

    :param message: what happened, to which repository or path, and what to do next.
    :param service: who responded: ``Hub`` or ``CAS``.
    :param status: the HTTP status; ``None`` if the client library hides it.
    :param retry_after: seconds that the server asks to wait before the next attempt; ``None`` if it does not.
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
    """401: the credential is missing, wrong or expired. Not retried."""


class XetForbiddenError(XetResponseError, PermissionError):
    """403: the credential is valid but lacks permission. Not retried."""


class XetNotFoundError(XetResponseError, LookupError):
    """404: no such repository, revision, path or stored file, or the credential has no access. Not retried."""


class XetRevisionNotFoundError(XetNotFoundError):
    """404: the repository exists, but has no such branch, tag, commit or pull request. Not retried."""


class XetConflictError(XetResponseError):
    """Someone else changed the branch first, or the object already exists with other properties.

    Not retried: decide again from the new state.
    """


class XetBusyError(XetConflictError):
    """409 or 412: someone else changes the same at this moment.

    Retried: the next try reads the new state, and fails for good if that leaves nothing to do.
    """

    retryable = True


class XetPullRequestClosedError(XetConflictError):
    """The pull request was closed without being merged.

    Not retried: reopen it, or publish again.
    """


class XetRateLimitError(XetResponseError):
    """429: too many requests, also after the retries within the request.

    Retried by Airflow; ``retry_after`` says after how many seconds.
    """

    retryable = True


class XetCommitQuotaError(XetRateLimitError):
    """429 for a commit: the hourly limit of commits is reached.

    Retried by Airflow; only a delay of up to an hour helps.
    """


class XetServerError(XetResponseError):
    """5xx, 408 or 425, also after the retries within the request, or a change without effect. Retried by Airflow.

    Also 409 or 412 to a request that changes nothing.
    """

    retryable = True


class XetRedirectError(XetResponseError):
    """The Hub redirects to another origin. Not followed, because the Hub token would be sent there. Not retried."""


class XetProtocolError(XetResponseError):
    """A successful response has unexpected content, such as an HTML page instead of JSON. Not retried."""


class XetScanError(XetHubError):
    """Base of the errors about the Hub's security scan of files. Nothing was downloaded."""


class XetUnsafeFileError(XetScanError, PermissionError):
    """The Hub's security scan found an issue in a file, or reports a result that this provider does not know.

    Not retried. The message names the files and the scanners.
    """

    retryable = False


class XetScanPendingError(XetScanError):
    """The Hub has not scanned a file yet, or its scanner failed. Retried: scans take up to a few minutes."""


class XetScanMissingError(XetScanError, LookupError):
    """The Hub reports no scan of a file, not even one without a result yet.

    Not retried: such a Hub offers no scans, or not for this file.
    """

    retryable = False


class XetKubernetesError(XetHubError):
    """Kubernetes refused to create, change or delete the Secret of a pod, or did not answer. Retried.

    :param message: what happened, in which namespace, and what to do next; never the content of the Secret.
    :param status: the HTTP status; ``None`` if there was no response.
    """

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class XetTransferError(XetHubError):
    """A transfer through CAS failed and left nothing damaged behind. Retried."""


class XetSourceError(XetTransferError, OSError):
    """A source is missing or unreadable, or changed while it was read. Retried."""


class XetEmptySourceError(XetSourceError):
    """The source contains no file, or none that matches: an empty folder, or a pattern without a match. Retried."""


class XetDestinationError(XetTransferError, OSError):
    """The destination cannot be written. Retried."""


class XetStalledError(XetTransferError, TimeoutError):
    """The transfer made no progress for longer than ``stall_timeout`` and was cancelled. Retried.

    The message says how many bytes had been transferred.
    """


class XetTooSlowError(XetTransferError, TimeoutError):
    """The transfer stayed below ``min_rate``, also with one request at a time, and was cancelled. Retried.

    The message says how many bytes had been transferred.
    """


class XetIntegrityError(XetTransferError):
    """The received bytes are not the file: size or sha256 differ. Nothing was kept. Retried."""


class XetCancelledError(XetTransferError):
    """The transfer was stopped from outside: SIGTERM, ``execution_timeout``, or a failure elsewhere. Retried."""
