"""The endpoint for the Hub's webhooks, a FastAPI application inside Airflow's API server.

Nothing of a request is believed before its secret is verified, and no more of it is read than a webhook may have.
"""

from __future__ import annotations

import asyncio
import logging

from fastapi import FastAPI, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from sqlalchemy.exc import DataError, SQLAlchemyError

from airflow_provider_xethub.exceptions import XetHubError, XetInputError
from airflow_provider_xethub.plugins import asset_events
from airflow_provider_xethub.xet.answers import is_storable
from airflow_provider_xethub.xet.hub import webhooks
from airflow_provider_xethub.xet.hub.webhooks import RefUpdate, WebhookSecrets
from airflow_provider_xethub.xet.records import XetCommit

log = logging.getLogger(__name__)

BODY_SECONDS = 10.0
"""Seconds that a body may take to arrive."""

_LAST = {"Connection": "close"}  # what is still coming is not waited for


def build_app(secrets: WebhookSecrets, conn_id: str | None) -> FastAPI:
    """Build the application; its only route is ``POST /webhook``.

    :param secrets: what a webhook must come with.
    :param conn_id: connection with which the Hub is asked for the commits; ``None``: it is not asked.
    """
    app = FastAPI(title="Webhooks of the Xet Hub", docs_url=None, redoc_url=None, openapi_url=None)

    @app.post("/webhook")
    async def receive_webhook(request: Request) -> dict[str, int | str]:
        if not secrets.matches(request.headers.get("x-webhook-secret", "")):
            raise HTTPException(
                401, "The header X-Webhook-Secret is missing, or it is not [xethub] webhook_secret.", headers=_LAST
            )
        body = await _read(request)
        try:
            moves = webhooks.parse_ref_updates(body)
        except XetInputError as error:
            log.warning("A webhook of the Hub was refused: %s", error)
            raise HTTPException(400, str(error)) from None
        if not moves:
            return {"events": 0, "detail": "Ignored: no existing branch, tag or pull request moved."}
        try:
            return await run_in_threadpool(_record, moves, conn_id)
        except (DataError, ValueError, TypeError) as error:
            # The drivers' own way to refuse a value, such as a NUL in PostgreSQL: another try would be refused too.
            log.error("A webhook of the Hub cannot be stored in Airflow's database (%s).", type(error).__name__)
            raise HTTPException(422, "Airflow's database cannot store this event. Do not replay it.") from None
        except SQLAlchemyError as error:
            # Told by its kind: the text of such an error has the statement with all its values in it.
            log.error("A webhook of the Hub was lost: Airflow's database fails (%s).", type(error).__name__)
            raise HTTPException(
                503, "Airflow's database does not answer. Replay this event later.", headers={"Retry-After": "60"}
            ) from None

    return app


async def _read(request: Request) -> bytes:
    """Return the body, as long as it is no larger than a webhook, and does not take for ever.

    :raises HTTPException: 413, 408, or 400 where it was cut off.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and (len(declared) > 15 or int(declared) > webhooks.MAX_BODY):
        raise _too_large()
    try:
        return await asyncio.wait_for(_read_bounded(request), BODY_SECONDS)
    except asyncio.TimeoutError:
        raise HTTPException(408, f"The body did not arrive within {BODY_SECONDS:.0f} seconds.", headers=_LAST) from None


async def _read_bounded(request: Request) -> bytes:
    body = bytearray()
    while True:
        message = await request.receive()
        if message["type"] != "http.request":
            raise HTTPException(400, "The body was cut off.", headers=_LAST)
        body += message.get("body", b"")
        if len(body) > webhooks.MAX_BODY:
            raise _too_large()
        if not message.get("more_body"):
            return bytes(body)


def _too_large() -> HTTPException:
    return HTTPException(413, f"The body is larger than {webhooks.MAX_BODY} bytes.", headers=_LAST)


def _record(moves: list[RefUpdate], conn_id: str | None) -> dict[str, int | str]:
    """Make asset events of the moves; blocks, so in a thread."""
    assets = asset_events.find_assets(moves[0].repo.repo_id)
    count = known = 0
    for move in moves:
        ids = assets.get(move.repo, [])
        new = [asset_id for asset_id in ids if not asset_events.is_recorded(asset_id, move.after, move.before)]
        known += len(ids) - len(new)
        if not new:
            continue
        # Before the transaction: nobody shall wait for the Hub with a lock in hand.
        payloads = webhooks.event_payloads(move, _history(move, conn_id))
        if not is_storable(payloads):
            # SQLite would store some of what PostgreSQL refuses, and Airflow's API could not show the asset any more.
            raise ValueError
        for asset_id in new:
            count += (told := asset_events.record_events(asset_id, payloads, move.before))
            known += not told
        log.info("Webhook: %s is at %s now; %d asset(s) told.", move.repo, move.after, len(new))
    if count:
        detail = "Told."
    elif known:
        detail = "Ignored: told already."
    else:
        detail = f"Ignored: no asset of this Airflow is {moves[0].repo}" + (" or the others." if moves[1:] else ".")
    return {"events": count, "detail": detail}


def _history(move: RefUpdate, conn_id: str | None) -> list[XetCommit]:
    """Return the commits of a move, newest first, as a watcher reads them; none where the Hub cannot be asked."""
    if not conn_id:
        return []
    from airflow_provider_xethub.hooks.xethub import XetHubConnection
    from airflow_provider_xethub.xet.hub.history import commits_until

    try:
        hub = XetHubConnection(conn_id).hub
        hub.retries_enabled = False
        return commits_until(hub, move.repo.at(move.after), {move.before})
    except XetHubError as error:
        log.warning("The commits of a webhook cannot be read; it is told without their titles. %s", error)
    except Exception as error:
        # A secrets backend that fails, for example: its text may say anything.
        log.warning("Connection %r cannot be read (%s); told without titles.", conn_id, type(error).__name__)
    return []
