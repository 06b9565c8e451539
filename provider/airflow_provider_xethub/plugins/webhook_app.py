"""Build the endpoint for the Hub's webhooks, a FastAPI application inside Airflow's API server.

The secret is verified before anything else of a request is read, and no more is read than the size limit of a webhook.
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
"""Seconds within which a body must arrive."""

_CLOSE = {"Connection": "close"}  # discards the rest of the body


def build_app(secrets: WebhookSecrets, conn_id: str | None) -> FastAPI:
    """Build the application with its only route, ``POST /webhook``.

    :param secrets: the secrets of which a webhook must send one.
    :param conn_id: Airflow connection ID to read the commits of a webhook with. ``None``: the commits are not read.
    """
    app = FastAPI(title="Webhooks of the Xet Hub", docs_url=None, redoc_url=None, openapi_url=None)

    @app.post("/webhook")
    async def receive_webhook(request: Request) -> dict[str, int | str]:
        if not secrets.matches(request.headers.get("x-webhook-secret", "")):
            raise HTTPException(
                401, "The header X-Webhook-Secret is missing or does not match [xethub] webhook_secret.", headers=_CLOSE
            )
        body = await _read(request)
        try:
            updates = webhooks.parse_ref_updates(body)
        except XetInputError as error:
            log.warning("Rejected a webhook of the Hub. %s", error)
            raise HTTPException(400, str(error)) from None
        if not updates:
            return {"events": 0, "detail": "Ignored: no existing branch, tag or pull request was updated."}
        try:
            return await run_in_threadpool(_record, updates, conn_id)
        except (DataError, ValueError, TypeError) as error:
            # The database driver rejects a value, such as NUL in PostgreSQL, and would reject it again.
            log.error("Airflow's database cannot store a webhook of the Hub (%s).", type(error).__name__)
            raise HTTPException(422, "Airflow's database cannot store this event. Do not replay it.") from None
        except SQLAlchemyError as error:
            # Only the class is logged: the message of such an error contains the statement with all its values.
            log.error(
                "A webhook of the Hub was lost, because Airflow's database is unavailable (%s).", type(error).__name__
            )
            raise HTTPException(
                503, "Airflow's database is unavailable. Replay this event later.", headers={"Retry-After": "60"}
            ) from None

    return app


async def _read(request: Request) -> bytes:
    """Read the body, within the limits of size and time.

    :raises HTTPException: 413 (too large), 408 (too slow) or 400 (truncated).
    """
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and (len(declared) > 15 or int(declared) > webhooks.MAX_BODY):
        raise _too_large()
    try:
        return await asyncio.wait_for(_read_bounded(request), BODY_SECONDS)
    except asyncio.TimeoutError:
        raise HTTPException(
            408, f"The body did not arrive within {BODY_SECONDS:.0f} seconds.", headers=_CLOSE
        ) from None


async def _read_bounded(request: Request) -> bytes:
    body = bytearray()
    while True:
        message = await request.receive()
        if message["type"] != "http.request":
            raise HTTPException(400, "The body was truncated.", headers=_CLOSE)
        body += message.get("body", b"")
        if len(body) > webhooks.MAX_BODY:
            raise _too_large()
        if not message.get("more_body"):
            return bytes(body)


def _too_large() -> HTTPException:
    return HTTPException(413, f"The body is larger than {webhooks.MAX_BODY} bytes.", headers=_CLOSE)


def _record(updates: list[RefUpdate], conn_id: str | None) -> dict[str, int | str]:
    """Create the asset events for updated refs. Blocking, so it runs in a thread."""
    assets = asset_events.find_assets(updates[0].repo.repo_id)
    count = known = 0
    for update in updates:
        ids = assets.get(update.repo, [])
        new = [asset_id for asset_id in ids if not asset_events.is_recorded(asset_id, update.after, update.before)]
        known += len(ids) - len(new)
        if not new:
            continue
        # Before the transaction: a response of the Hub must not be awaited while a row is locked.
        payloads = webhooks.event_payloads(update, _history(update, conn_id))
        if not is_storable(payloads):
            # SQLite would store values that PostgreSQL rejects, and Airflow's API could no longer show the asset.
            raise ValueError
        for asset_id in new:
            count += (recorded := asset_events.record_events(asset_id, payloads, update.before))
            known += not recorded
        log.info("Webhook: %s was updated to %s. Assets with new events: %d.", update.repo, update.after, len(new))
    if count:
        detail = "Event recorded." if count == 1 else f"{count} events recorded."
    elif known:
        detail = "Ignored: already recorded."
    else:
        detail = f"Ignored: no asset of this Airflow matches {updates[0].repo}" + (
            " or the other refs." if updates[1:] else "."
        )
    return {"events": count, "detail": detail}


def _history(update: RefUpdate, conn_id: str | None) -> list[XetCommit]:
    """Return the commits of an update, newest first, as a watcher reads them; an empty list if that fails."""
    if not conn_id:
        return []
    from airflow_provider_xethub.hooks.xethub import XetHubConnection
    from airflow_provider_xethub.xet.hub.history import commits_until

    try:
        hub = XetHubConnection(conn_id).hub
        hub.retries_enabled = False
        return commits_until(hub, update.repo.at(update.after), {update.before})
    except XetHubError as error:
        log.warning("The commits of a webhook could not be read. Its events have no titles. %s", error)
    except Exception as error:
        # For example a secrets backend that fails, whose message may contain anything.
        log.warning(
            "Airflow could not read connection %r (%s). Events of webhooks have no titles.",
            conn_id,
            type(error).__name__,
        )
    return []
