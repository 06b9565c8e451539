"""The secrets of a connection, and their removal from texts of servers and clients, which may repeat any of them.

Airflow masks task logs only. Errors also reach the result of the Test button and, from a trigger, the database.
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
"""Characters; anything shorter is not a secret, and hiding it would make texts unreadable."""

_WITHIN_WORDS = 6
"""Length from which a value is also hidden within words."""

_LONGER_THAN_WORDS = 16
"""Length from which a value is too long to be an ordinary word, such as a host name."""

_PART = 8
"""Length from which parts of a header's value are hidden too, such as the token after ``Bearer``."""

_TOKENS = 100
"""Newest Xet tokens that are kept: a long-running process fetches another one every few minutes."""


class Secrets:
    """The secrets of one connection, in every form in which a server or a client might repeat them.

    :param hub_token: the Hub token.
    :param headers: extra headers; all their values are secrets.
    :param proxy: URL of the proxy. ``None``: the proxies of the environment.
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
        """Return the text of a server or a client with all secrets replaced."""
        return self._pattern.sub(HIDDEN, text) if self._pattern else text

    def are_in(self, text: str) -> bool:
        """Return whether a text that must not be changed contains a secret, and not by chance."""
        return any(len(value) >= _LONGER_THAN_WORDS and value in text for value in (*self._values, *self._tokens))


def _of_proxy(url: str) -> set[str]:
    """Return the user and password in a proxy's URL, also in the form in which they are sent."""
    # urlsplit would take a "/" or "#" in a password as the start of the path.
    user, _, password = (url.partition("://")[2] or url).rpartition("@")[0].partition(":")
    raw, plain = f"{user}:{password}", f"{unquote(user)}:{unquote(password)}"
    basic = {base64.b64encode(each.encode()).decode() for each in (raw, plain)} if password else set()
    return {user, unquote(user), password, unquote(password), *basic}


def _pattern(values: Iterable[str]) -> re.Pattern[str] | None:
    forms = {form for value in values for form in (value, quote(value, safe=""), json.dumps(value)[1:-1])}
    known = sorted((form for form in forms if len(form.strip()) >= _SHORTEST), key=len, reverse=True)
    texts = [re.escape(form) if len(form) >= _WITHIN_WORDS else rf"(?<!\w){re.escape(form)}(?!\w)" for form in known]
    return re.compile("|".join(texts), re.IGNORECASE) if texts else None
