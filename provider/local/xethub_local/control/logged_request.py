"""One request as the request log keeps it: a value without headers and query, because credentials are in them."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

# A user agent may start with what a client is built on, such as python/3.11.7; these products say more.
_MAIN_PRODUCTS = ("hf_xet/", "hf_hub/")


class LoggedRequest(NamedTuple):
    """A request in the log.

    ``path`` is percent-encoded as it arrived; ``status`` is 0 if no response was sent. ``session`` is the
    ``x-xet-session-id`` that hf-xet sends with all requests of one transfer, or empty. ``route`` is the template of
    its route, such as ``GET /api/{kind}/{namespace}/{name}/xet-read-token/{revision}``.
    """

    method: str
    path: str
    status: int
    user_agent: str
    bytes_in: int
    bytes_out: int
    milliseconds: float
    session: str = ""
    route: str = ""

    @property
    def client(self) -> str:
        """The product that sent the request, such as ``hf_xet/1.8.0``."""
        return main_product(self.user_agent)

    def to_json(self) -> dict[str, Any]:
        """Return all fields by name, for JSON."""
        return {**self._asdict(), "milliseconds": round(self.milliseconds, 3)}


@functools.lru_cache(maxsize=1024)
def main_product(products: str) -> str:
    """Return the product that says most about a client: hf-xet or huggingface_hub, otherwise the first one."""
    known = products.split(" ")
    preferred = (each for main in _MAIN_PRODUCTS for each in known if each.startswith(main))
    return next(preferred, known[0]) or "unknown"
