"""The page of trusted publishers: whose ID tokens are exchanged for a Hub token, of which repository or user."""

from __future__ import annotations

import json
from collections.abc import Sequence

from starlette.responses import Response

from xethub_local.metadata.repositories import Repository
from xethub_local.pages.frame import PUBLISHERS_PATH, empty, moment, page_response
from xethub_local.pages.html import Column, joined, link, table, tag
from xethub_local.store.publishers import Publisher

_ADD = "xethub-local publishers add dataset:acme/corpus --claim sub=airflow"


def publishers_page(publishers: Sequence[Publisher], issuer: str, now: float) -> Response:
    """Show all publishers, and the URL of the Hub's own issuer."""
    content = joined(
        tag("h1", "Publishers"),
        tag("p", "An ID token with these claims is exchanged for a short-lived Hub token.", class_="lead"),
        _table(publishers, issuer, now)
        if publishers
        else empty("No publishers. Add one with ", tag("code", _ADD), "."),
        tag(
            "p",
            *("The issuer of this Hub is ", tag("code", issuer), "; "),
            *(tag("code", "xethub-local identity"), " prints an ID token of it."),
        ),
    )
    return page_response("Publishers", content, here=PUBLISHERS_PATH)


def _table(publishers: Sequence[Publisher], issuer: str, now: float) -> object:
    columns = [
        Column("Resource", "path"),
        Column("Issuer"),
        Column("Claims"),
        Column("Access"),
        Column("Used"),
        Column("Id"),
    ]
    rows = [
        [
            _resource(each),
            tag("code", each.issuer or issuer),
            tag(
                "code",
                " ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in each.claims.items()),
            ),
            "read" if each.read_only else "write",
            "never" if each.last_used is None else moment(each.last_used, now),
            tag("code", each.id),
        ]
        for each in publishers
    ]
    return table("Publishers", columns, rows)


def _resource(publisher: Publisher) -> object:
    name = publisher.resource.repository
    return link(Repository(name, "", False, 0).web_path, str(publisher.resource)) if name else publisher.resource.user
