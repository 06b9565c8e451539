"""Hand an open Xet token to a process that is not Airflow: in a file that only this user can read, for one block."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from airflow_provider_xethub.exceptions import (
    XetCancelledError,
    XetDestinationError,
    XetHubError,
    XetInputError,
    XetTokenSealError,
)
from airflow_provider_xethub.hooks.errors import fail_without_retry
from airflow_provider_xethub.hooks.tokens import sealing
from airflow_provider_xethub.hooks.tokens.given_token import SAME_KEY
from airflow_provider_xethub.xet.message_text import duration, os_reason
from airflow_provider_xethub.xet.process import threads

if TYPE_CHECKING:
    from airflow_provider_xethub.hooks.connections.connection import LazyConnection
    from airflow_provider_xethub.hooks.tokens.tokens import Tokens
    from airflow_provider_xethub.xet.files.private_folders import PrivateFolder
    from airflow_provider_xethub.xet.repo import Repo, Scope
    from airflow_provider_xethub.xet.token import SealedTokenDict, TokenDocument, XetToken

PURPOSE = "xethub-hand-over"
FILE_NAME = "token.json"

_SHORTEST_LIFE = 120.0
"""Seconds that a token should have left when it is handed over; ``hf_xet`` needs 30, ``@huggingface/hub`` 60."""

_RENEWED_AFTER = 0.5
"""Share of a token's life after which the next one is fetched, so that a process always finds one that lasts."""

_SHORTEST_DELAY = 1.0
_LONGEST_DELAY = 60.0
"""Seconds after which a failed renewal is tried again, at most."""


@contextlib.contextmanager
def hand_over(
    tokens: Tokens,
    connection: LazyConnection,
    log: Any,
    token: XetToken | SealedTokenDict,
    folder: str | os.PathLike[str] | None,
    scope: Scope | None,
    repo: Repo | None,
) -> Iterator[Path]:
    """Hand over a token for a ``with`` block; see :meth:`XetHubConnection.hand_over`.

    :param tokens, connection, log: those of the hook.
    """
    from airflow_provider_xethub.hooks.attempt import current_attempt
    from airflow_provider_xethub.xet.files import private_folders

    with fail_without_retry():
        handed = _fit(tokens, token, scope, repo)
        is_own = handed.conn_id in (None, connection.conn_id)
        fetch = None
        if tokens.may_replace(handed.conn_id):
            hub = connection.hub
            fetch = lambda: hub.xet_token(handed.repo, handed.scope)  # noqa: E731
        private = private_folders.create(folder, PURPOSE, current_attempt())
    content = _Content(private, connection.endpoint if is_own else None, renewed=fetch is not None)
    try:
        with _removed_on_sigterm(private):
            with fail_without_retry():
                path = content.write(handed)
            log.info(
                "Handed over the %s token for %s in %s. It is valid for %s%s.",
                handed.scope,
                handed.repo,
                path,
                duration(handed.seconds_left()),
                ", and renewed until the block ends" if fetch else " and cannot be renewed without its connection",
            )
            with _renewed(handed, fetch, content, log):
                yield path
    finally:
        private.remove()


def document(
    tokens: Tokens,
    connection: LazyConnection,
    token: XetToken | SealedTokenDict | None,
    scope: Scope | None,
    repo: Repo | None,
) -> TokenDocument:
    """Return a token in plain text; see :meth:`XetHubConnection.token_document`.

    :param tokens, connection: those of the hook.
    """
    if token is None:
        if repo is None:
            raise XetInputError("Neither a token nor a repository was given: set token or repo_id.")
        handed = tokens.fetch(repo, scope or "read")
    else:
        handed = _fit(tokens, token, scope, repo)
        if handed is tokens.open(token).opened and tokens.may_replace(handed.conn_id):
            handed = tokens.fetch(handed.repo, handed.scope)
    return plain_text(handed, connection)


def plain_text(token: XetToken, connection: LazyConnection) -> TokenDocument:
    """Return the document of a token that nothing will renew.

    :param connection: says which Hub issued the token, if it was fetched with it.
    """
    is_own = token.conn_id in (None, connection.conn_id)
    return token.to_document(connection.endpoint if is_own else None, renewed=False)


def _fit(tokens: Tokens, token: XetToken | SealedTokenDict, scope: Scope | None, repo: Repo | None) -> XetToken:
    """Return the token to hand over, which has a while to live if it can be replaced.

    :raises XetHubError: as for :meth:`XetHubConnection.hand_over`.
    """
    if scope not in (None, "read", "write"):
        raise XetInputError(f"scope {scope!r} is unknown; use 'read' or 'write'.")
    given = tokens.open(token)
    if given.opened is None and (scope is None or repo is None):
        raise XetTokenSealError(
            f"{given.reason}. {SAME_KEY}, or name scope= and repo= in hand_over(), so that this task can fetch a token "
            "of its own. Nothing confirms what the token says."
        )
    use = tokens.accept(token, scope or (given.opened.scope if given.opened else "read"), repo)
    fit = tokens.fresh(use)
    if fit is given.opened and fit.seconds_left() < _SHORTEST_LIFE and tokens.may_replace(fit.conn_id):
        return tokens.fetch(fit.repo, fit.scope)
    return fit


class _Content:
    """The file of a hand-over.

    :param private: the folder that it is in.
    :param endpoint, renewed: as in :class:`~airflow_provider_xethub.xet.token.TokenDocument`.
    """

    def __init__(self, private: PrivateFolder, endpoint: str | None, *, renewed: bool) -> None:
        self._private = private
        self._endpoint = endpoint
        self._renewed = renewed

    def write(self, token: XetToken) -> Path:
        """Create or replace the file.

        :raises XetDestinationError: it cannot be written; an earlier one is still there.
        """
        document = token.to_document(self._endpoint, renewed=self._renewed)
        try:
            return self._private.write(FILE_NAME, json.dumps(document, indent=2).encode() + b"\n")
        except OSError as error:
            raise XetDestinationError(
                f"The token cannot be written to {self._private.path}: {os_reason(error)}. Free some space there, or "
                "choose another folder."
            ) from error


@contextlib.contextmanager
def _removed_on_sigterm(private: PrivateFolder) -> Iterator[None]:
    """Remove the folder when the task is stopped, and end the block.

    Airflow's own handler only calls ``on_kill`` of the operator, which does nothing in a Python task: the block would
    go on, and be killed seconds later. Outside the main thread Python allows no handler; there, it does go on.
    """
    owner = os.getpid()
    before = signal.getsignal(signal.SIGTERM)

    def stop(number: int, frame: FrameType | None) -> None:
        is_ours = os.getpid() == owner and is_open
        if is_ours and before is not signal.SIG_IGN:
            private.remove()
        if callable(before):
            before(number, frame)
        elif before is signal.SIG_DFL:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        if is_ours and before is not signal.SIG_IGN:
            raise XetCancelledError(
                "The task was stopped from outside, and the token that it had handed over was removed. Clear it to run "
                "it again."
            )

    is_open = True
    try:
        signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not the main thread
        yield
        return
    try:
        yield
    finally:
        is_open = False
        if signal.getsignal(signal.SIGTERM) is stop:
            signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)


@contextlib.contextmanager
def _renewed(token: XetToken, fetch: Callable[[], XetToken] | None, content: _Content, log: Any) -> Iterator[None]:
    """Replace the file while the block runs, each time before half of the token's life is over."""
    if fetch is None:
        yield
        return
    stopped = threading.Event()
    thread = threading.Thread(
        target=_keep_fresh, args=(token, fetch, content, stopped, log), name="xethub-hand-over", daemon=True
    )
    threads.begin(thread)
    try:
        yield
    finally:
        stopped.set()  # the thread may wait for the Hub: once the folder is gone, it cannot write


def _keep_fresh(
    token: XetToken, fetch: Callable[[], XetToken], content: _Content, stopped: threading.Event, log: Any
) -> None:
    delay = token.seconds_left() * _RENEWED_AFTER
    has_failed = False
    while not stopped.wait(max(_SHORTEST_DELAY, delay)):
        try:
            new = fetch()
            sealing.mask_from_thread(new.access_token)
            content.write(new)
        except Exception as error:
            if stopped.is_set():
                return
            is_final = isinstance(error, XetHubError) and not error.retryable
            if is_final or not has_failed:
                log.warning(
                    "The token handed over for %s was not renewed%s. It expires in %s. %s",
                    token.repo,
                    "" if is_final else " and will be tried again",
                    duration(max(0.0, token.seconds_left())),
                    error if isinstance(error, XetHubError) else type(error).__name__,
                )
            if is_final:
                return
            has_failed = True
            delay = min(_LONGEST_DELAY, max(0.0, token.seconds_left()) / 4)
            continue
        token, has_failed = new, False
        delay = token.seconds_left() * _RENEWED_AFTER
        log.info("Renewed the token handed over for %s, valid for %s.", token.repo, duration(token.seconds_left()))
