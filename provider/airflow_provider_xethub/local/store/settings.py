"""What can be changed while the local Hub runs: how long its tokens and data URLs live, and what its clock shows.

They hold for the whole server, or, where a fault says so, for one request only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any

_YEAR = 366 * 24 * 3600
MAX_TOKEN_LIFE = 10 * _YEAR
MAX_OFFSET = 20 * _YEAR


@dataclass(frozen=True)
class Settings:
    """Settings of the whole server, or those of one request, where ``None`` means the server's.

    :param token_life: seconds that a new Xet token lives, at least 1.
    :param data_url_life: seconds that a new data URL lives; 0 and less: it is issued expired.
    :param clock_offset: seconds that the server's clock is ahead of this machine's; negative: behind.
    :raises ValueError: one of them makes no sense.
    """

    token_life: int | None = None
    data_url_life: int | None = None
    clock_offset: float | None = None

    def __post_init__(self) -> None:
        if self.token_life is not None:
            check_token_life(self.token_life)
        if self.data_url_life is not None:
            check_data_url_life(self.data_url_life)
        if self.clock_offset is not None:
            check_clock_offset(self.clock_offset)


_OF_THIS_REQUEST: ContextVar[Settings | None] = ContextVar("xethub_settings_of_this_request", default=None)


def of_this_request() -> Settings | None:
    """Return the settings that hold for the request that is being answered, if it has its own."""
    return _OF_THIS_REQUEST.get()


@contextmanager
def for_one_request(settings: Settings) -> Iterator[None]:
    """Let settings hold for what is done inside, also in the thread pool."""
    token = _OF_THIS_REQUEST.set(settings)
    try:
        yield
    finally:
        _OF_THIS_REQUEST.reset(token)


class LiveSettings:
    """The settings of a running server, and its clock.

    :param settings: all three of them.
    :param clock: this machine's clock, UNIX seconds; may be changed at run time.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float]) -> None:
        self._settings = settings
        self.clock = clock

    @property
    def settings(self) -> Settings:
        """What holds for the whole server; set it to change several at once."""
        return self._settings

    @settings.setter
    def settings(self, settings: Settings) -> None:
        for name in ("token_life", "data_url_life", "clock_offset"):
            if getattr(settings, name) is None:
                raise ValueError(f"{name} must be a number of seconds, and is missing.")
        self._settings = settings

    @property
    def token_life(self) -> int:
        """Seconds that a new Xet token lives, at least 1."""
        seconds: int = self._setting("token_life")
        return seconds

    @token_life.setter
    def token_life(self, seconds: int) -> None:
        self.settings = replace(self._settings, token_life=seconds)

    @property
    def data_url_life(self) -> int:
        """Seconds that a new data URL lives; 0 and less: it is issued expired."""
        seconds: int = self._setting("data_url_life")
        return seconds

    @data_url_life.setter
    def data_url_life(self, seconds: int) -> None:
        self.settings = replace(self._settings, data_url_life=seconds)

    @property
    def clock_offset(self) -> float:
        """Seconds that the server's clock is ahead of this machine's; negative: behind."""
        seconds: float = self._setting("clock_offset")
        return seconds

    @clock_offset.setter
    def clock_offset(self, seconds: float) -> None:
        self.settings = replace(self._settings, clock_offset=seconds)

    def now(self) -> float:
        """Return what the server's clock shows, UNIX seconds: so does the ``Date`` header of every answer."""
        return self.clock() + self.clock_offset

    def _setting(self, name: str) -> Any:
        own = of_this_request()
        value = getattr(own, name) if own else None
        return getattr(self._settings, name) if value is None else value


def check_token_life(seconds: object) -> None:
    """Refuse what is no life of a Xet token.

    :raises ValueError: it is not a whole number of seconds of at least 1.
    """
    if not isinstance(seconds, int) or isinstance(seconds, bool) or not 1 <= seconds <= MAX_TOKEN_LIFE:
        raise ValueError(f"token_life must be at least 1 second, a whole number, not {str(seconds)[:40]}.")


def check_data_url_life(seconds: object) -> None:
    """Refuse what is no life of a data URL.

    :raises ValueError: it is not a whole number of seconds.
    """
    if not isinstance(seconds, int) or isinstance(seconds, bool) or abs(seconds) > MAX_TOKEN_LIFE:
        raise ValueError(f"data_url_life must be a whole number of seconds, not {str(seconds)[:40]}.")


def check_clock_offset(seconds: object) -> None:
    """Refuse what no clock can be ahead or behind.

    :raises ValueError: it is not a number of seconds, or more than 20 years.
    """
    is_number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool) and math.isfinite(seconds)
    if not is_number or abs(seconds) > MAX_OFFSET:  # type: ignore[arg-type]
        raise ValueError(f"clock_offset must be a number of seconds, at most 20 years, not {str(seconds)[:40]}.")
