"""The secrets of a connection, and what removes them from texts of others: servers and clients may repeat any of them.

Airflow masks task logs only. Errors also reach the answer of the Test button and, from a trigger, the database.
"""

from __future__ import annotations

import base64
import json
import re
from collections import deque
from collections.abc import Iterable, Mapping
from urllib.parse import quote, unquote
from urllib.request import getproxies

HIDDEN = "***"

_SHORTEST = 3
"""Characters; anything shorter is no secret, and hiding it would make texts unreadable."""

_UNMISTAKABLE = 6
"""Characters from which a value is hidden within words as well."""

_NO_WORD = 16
"""Characters from which a value is too long to be a word that may stand anywhere, such as the name of a host."""

_PART = 8
"""Characters from which the parts of a header's value are hidden too, such as what follows ``Bearer``."""

_TOKENS = 100
"""Xet tokens that are remembered, the newest: a long process fetches another one every few minutes."""


class Secrets:
    """Knows the secrets of one connection, in every form that a server or a client might repeat them in.

    :param hub_token: the Hub token.
    :param headers: extra headers; all their values are secrets.
    :param proxy: URL of the proxy; where ``None``, those of the environment count.
    """

    def __init__(
        self, hub_token: str | None = None, headers: Mapping[str, str] | None = None, proxy: str | None = None
    ) -> None:
        values = {hub_token or ""}
        for value in (headers or {}).values():
            values |= {value, *(part for part in re.split(r"[\s;,=:]+", value) if len(part) >= _PART)}
        for url in [proxy] if proxy else getproxies().values():
            values |= _of_proxy(url)
        self._values = values
        self._tokens: deque[str] = deque(maxlen=_TOKENS)
        self._pattern = _pattern(values)

    def add(self, *xet_tokens: str) -> None:
        """Hide these Xet tokens as well."""
        new = [token for token in dict.fromkeys(xet_tokens) if token not in self._tokens]
        if new:
            self._tokens.extend(new)
            self._pattern = _pattern({*self._values, *self._tokens})

    def hide(self, text: str) -> str:
        """Return a text of a server or a client without any of the secrets."""
        return self._pattern.sub(HIDDEN, text) if self._pattern else text

    def are_in(self, text: str) -> bool:
        """Whether a text that is needed as it is has one in it that cannot be there by chance."""
        return any(len(value) >= _NO_WORD and value in text for value in self._values)


def _of_proxy(url: str) -> set[str]:
    """Return user and password of a proxy's URL, and both as they are sent."""
    # Not urlsplit, for which a "/" or "#" in a password begins the path.
    user, _, password = (url.partition("://")[2] or url).rpartition("@")[0].partition(":")
    raw, plain = f"{user}:{password}", f"{unquote(user)}:{unquote(password)}"
    basic = {base64.b64encode(each.encode()).decode() for each in (raw, plain)} if password else set()
    return {user, unquote(user), password, unquote(password), *basic}


def _pattern(values: Iterable[str]) -> re.Pattern[str] | None:
    forms = {form for value in values for form in (value, quote(value, safe=""), json.dumps(value)[1:-1])}
    known = sorted((form for form in forms if len(form.strip()) >= _SHORTEST), key=len, reverse=True)
    texts = [re.escape(form) if len(form) >= _UNMISTAKABLE else rf"(?<!\w){re.escape(form)}(?!\w)" for form in known]
    return re.compile("|".join(texts), re.IGNORECASE) if texts else None
