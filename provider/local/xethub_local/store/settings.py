"""Settings that can change while the local Hub runs: lifetimes of tokens and data URLs, and the clock offset.

They apply to the whole server or, if a fault sets them, to a single request.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, fields, replace
from typing import Any

_YEAR = 366 * 24 * 3600
MAX_TOKEN_LIFE = 10 * _YEAR
MAX_OFFSET = 20 * _YEAR


@dataclass(frozen=True)
class Settings:
    """Settings of the whole server, or of one request, where ``None`` means the server's setting.

    :param token_life: seconds that a new Xet token is valid, at least 1.
    :param data_url_life: seconds that a new data URL is valid; 0 or less issues expired ones.
    :param clock_offset: seconds that the server's clock is ahead of this machine's; negative if it is behind.
    :param exchanged_token_lifetime: seconds that a Hub token is valid that was exchanged for an ID token, at least 1.
    :raises ValueError: one of them is invalid.
    """

    token_life: int | None = None
    data_url_life: int | None = None
    clock_offset: float | None = None
    exchanged_token_lifetime: int | None = None

    def __post_init__(self) -> None:
        if self.token_life is not None:
            check_token_life(self.token_life)
        if self.data_url_life is not None:
            check_data_url_life(self.data_url_life)
        if self.clock_offset is not None:
            check_clock_offset(self.clock_offset)
        if self.exchanged_token_lifetime is not None:
            check_token_life(self.exchanged_token_lifetime, "exchanged_token_lifetime")


_REQUEST_SETTINGS: ContextVar[Settings | None] = ContextVar("xethub_settings_of_this_request", default=None)


def request_settings() -> Settings | None:
    """Return the settings of the current request, if it has its own."""
    return _REQUEST_SETTINGS.get()


@contextmanager
def for_one_request(settings: Settings) -> Iterator[None]:
    """Apply settings to the current request inside the ``with`` block, including work in the thread pool."""
    token = _REQUEST_SETTINGS.set(settings)
    try:
        yield
    finally:
        _REQUEST_SETTINGS.reset(token)


class LiveSettings:
    """The settings of a running server, and its clock.

    :param settings: all of them.
    :param clock: this machine's clock, UNIX seconds; can be changed at run time.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float]) -> None:
        self._settings = settings
        self.clock = clock

    @property
    def settings(self) -> Settings:
        """Settings of the whole server; assign to change several at once."""
        return self._settings

    @settings.setter
    def settings(self, settings: Settings) -> None:
        for field in fields(settings):
            if getattr(settings, field.name) is None:
                raise ValueError(f"{field.name} is missing; it must be a number of seconds.")
        self._settings = settings

    @property
    def token_life(self) -> int:
        """Seconds that a new Xet token is valid, at least 1."""
        seconds: int = self._setting("token_life")
        return seconds

    @token_life.setter
    def token_life(self, seconds: int) -> None:
        self.settings = replace(self._settings, token_life=seconds)

    @property
    def data_url_life(self) -> int:
        """Seconds that a new data URL is valid; 0 or less issues expired ones."""
        seconds: int = self._setting("data_url_life")
        return seconds

    @data_url_life.setter
    def data_url_life(self, seconds: int) -> None:
        self.settings = replace(self._settings, data_url_life=seconds)

    @property
    def clock_offset(self) -> float:
        """Seconds that the server's clock is ahead of this machine's; negative if it is behind."""
        seconds: float = self._setting("clock_offset")
        return seconds

    @clock_offset.setter
    def clock_offset(self, seconds: float) -> None:
        self.settings = replace(self._settings, clock_offset=seconds)

    @property
    def exchanged_token_lifetime(self) -> int:
        """Seconds that a new exchanged token is valid, at least 1."""
        seconds: int = self._setting("exchanged_token_lifetime")
        return seconds

    @exchanged_token_lifetime.setter
    def exchanged_token_lifetime(self, seconds: int) -> None:
        self.settings = replace(self._settings, exchanged_token_lifetime=seconds)

    def now(self) -> float:
        """Return the time of the server's clock in UNIX seconds, as in the ``Date`` header of responses."""
        return self.clock() + self.clock_offset

    def _setting(self, name: str) -> Any:
        own = request_settings()
        value = getattr(own, name) if own else None
        return getattr(self._settings, name) if value is None else value


def check_token_life(seconds: object, name: str = "token_life") -> None:
    """Check the lifetime of Xet tokens, or of another kind of tokens that ``name`` sets.

    :raises ValueError: it is not a whole number of seconds from 1 to 10 years.
    """
    if not isinstance(seconds, int) or isinstance(seconds, bool) or not 1 <= seconds <= MAX_TOKEN_LIFE:
        raise ValueError(f"{name} must be at least 1 second and a whole number, not {str(seconds)[:40]}.")


def check_data_url_life(seconds: object) -> None:
    """Check the lifetime of data URLs.

    :raises ValueError: it is not a whole number of seconds, or over 10 years.
    """
    if not isinstance(seconds, int) or isinstance(seconds, bool) or abs(seconds) > MAX_TOKEN_LIFE:
        raise ValueError(f"data_url_life must be a whole number of seconds, not {str(seconds)[:40]}.")


def check_clock_offset(seconds: object) -> None:
    """Check a clock offset.

    :raises ValueError: it is not a number of seconds, or over 20 years.
    """
    is_number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool) and math.isfinite(seconds)
    if not is_number or abs(seconds) > MAX_OFFSET:  # type: ignore[arg-type]
        raise ValueError(f"clock_offset must be a number of seconds, at most 20 years, not {str(seconds)[:40]}.")
