"""The Hub route that validates cards, and the card of a repository for other routes."""

from __future__ import annotations

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from xethub_local.http.json_fields import text_field
from xethub_local.hub.request import HubBackend, HubRequest, hub_route
from xethub_local.metadata import cards
from xethub_local.metadata.commits import Change, PutRegular
from xethub_local.metadata.history import Commit
from xethub_local.store.errors import HubError

_INVALID = f"Invalid metadata in {cards.PATH}."


def routes(hub: HubBackend) -> list[Route]:
    """Return the route that validates cards."""
    return [hub_route(hub, "/api/validate-yaml", validate_yaml, "POST")]


def validate_yaml(request: HubRequest) -> Response:
    """Validate a card before it is committed."""
    card = cards.read(text_field(request.json(), "content"))
    errors, warnings = ([{"message": each} for each in found] for found in (card.errors, card.warnings))
    if errors:
        raise HubError(400, _INVALID, extra={"errors": errors, "warnings": warnings})
    return JSONResponse({"errors": errors, "warnings": warnings})


def card_of(request: HubRequest, commit: Commit) -> cards.Card:
    """Return the card of the repository at a commit, or an empty card if there is none."""
    entry = request.hub.repositories.find(commit, cards.PATH)
    if entry is None or entry.kind != "regular" or entry.size > cards.MAX_BYTES:
        return cards.Card()
    return cards.read(request.hub.repositories.blob(entry.oid).decode("utf-8", "replace"))


def require_valid_card(change: Change) -> Change:
    """Return the change, after checking the card if the change is one.

    :raises HubError: 400, the card is not valid.
    """
    if isinstance(change, PutRegular) and change.path == cards.PATH and len(change.content) <= cards.MAX_BYTES:
        card = cards.read(change.content.decode("utf-8", "replace"))
        if card.errors:
            errors = [{"message": each} for each in card.errors]
            raise HubError(400, _INVALID, extra={"errors": errors})
    return change
