"""How long to stay open: a number of seconds, or a function of the ``Opening``.

    growing(5, maximum=60)     5 ── 10 ── 20 ── 40 ── 60 ── 60 …     each re-opening waits longer, ±10 %
    from_error(30)             what the failing service asked for    Retry-After, else 30 s

The breaker counts the re-openings, and forgets one of them for every ``forgive_after`` seconds that it stayed closed;
so a policy needs no memory, and one object may serve any number of breakers.
"""

from __future__ import annotations

import logging
import math
import random as _random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple, TypeAlias, cast

from .checks import check_callable, check_seconds, check_share

__all__ = ["Cooldown", "Opening", "from_error", "growing", "retry_after_of", "sound"]

FALLBACK = 30.0  # seconds: the breaker's own default, where a policy fails


class Opening(NamedTuple):
    """What a policy may decide on: re-openings not yet forgiven, 0 at first, and the error that tripped, if any."""

    reopens: int
    error: BaseException | None


Cooldown: TypeAlias = Callable[[Opening], float]
"""Returns seconds; must be quick, and must not touch the breaker."""


def growing(
    first: float,
    *,
    factor: float = 2.0,
    maximum: float = 300.0,
    jitter: float = 0.1,
    random: Callable[[], float] = _random.random,
) -> Cooldown:
    """Wait ``first * factor**reopens`` seconds, at most *maximum*, times a random factor in ``1 ± jitter``.

    The jitter applies at the maximum too, so that breakers which opened together do not all probe together.
    """
    where = "growing"
    if not check_seconds(where, "factor", factor) >= 1:
        raise ValueError(f"growing needs factor >= 1, got {factor!r}")
    if check_seconds(where, "maximum", maximum) < check_seconds(where, "first", first):
        raise ValueError(f"growing needs first <= maximum, got first={first!r} and maximum={maximum!r}")
    if jitter != 0 and check_share(where, "jitter", jitter) == 1:
        raise ValueError(f"growing needs 0 <= jitter < 1, got {jitter!r}")
    check_callable(where, "random", random)
    return _Growing(first, factor, maximum, jitter, random)


@dataclass(frozen=True)
class _Growing:
    first: float
    factor: float
    maximum: float
    jitter: float
    random: Callable[[], float]

    def __call__(self, opening: Opening) -> float:
        try:
            seconds = min(self.first * self.factor**opening.reopens, self.maximum)
        except OverflowError:
            seconds = self.maximum
        return seconds * (1 + self.jitter * (2 * self.random() - 1))


def from_error(default: float | Cooldown, *, maximum: float = 300.0) -> Cooldown:
    """Wait as long as the error asks for, never longer than *maximum* seconds, and *default* where it does not ask.

    What an error may ask with is listed at ``retry_after_of``.
    """
    check_seconds("from_error", "maximum", maximum)
    if not callable(default):
        check_seconds("from_error", "default", default)
    return _FromError(default, maximum)


@dataclass(frozen=True)
class _FromError:
    default: float | Cooldown
    maximum: float

    def __call__(self, opening: Opening) -> float:
        asked = retry_after_of(opening.error)
        if asked:
            return min(asked, self.maximum)
        return self.default(opening) if callable(self.default) else self.default


def sound(cooldown: float | Cooldown) -> Cooldown:
    """Return a policy that never raises, and answers with a finite time above 0 s whatever *cooldown* does.

    Raises ValueError or TypeError for a number that is no such time.
    """
    if callable(cooldown):
        check_callable("CircuitBreaker", "cooldown", cooldown)
    else:
        check_seconds("CircuitBreaker", "cooldown", cooldown)
    return _Sound(cooldown)


@dataclass(frozen=True)
class _Sound:
    cooldown: float | Cooldown

    def __call__(self, opening: Opening) -> float:
        if not callable(self.cooldown):
            return self.cooldown
        try:
            return check_seconds("a cooldown policy", "the time returned", self.cooldown(opening))
        except Exception:
            logging.getLogger(__name__).exception("the cooldown policy failed; staying open for %s s", FALLBACK)
            return FALLBACK


def retry_after_of(error: BaseException | None) -> float | None:
    """Return the seconds that *error* asks to wait, above 0; None where it asks nothing that makes sense.

    Looked at, in this order: its ``retry_after``; ``retryAfter`` or ``retry_after`` in its ``data`` or ``error.data``,
    as the MCP SDKs carry them; the header ``Retry-After`` of its ``response`` (RFC 9110: seconds, or a date).  Then
    its cause is asked, and so on, at most 8 times, since causes may form a ring.
    """
    for _ in range(8):
        for value in (_field(error, "retry_after"), *_from_data(error), _from_header(error)):
            seconds = _seconds(value)
            if seconds > 0:
                return seconds
        error = _field(error, "__cause__")
    return None


def _from_data(error: object) -> list[object]:
    sources = (_field(error, "data"), _field(_field(error, "error"), "data"))
    return [_field(source, name) for source in sources for name in ("retryAfter", "retry_after")]


def _from_header(error: object) -> object:
    headers = _field(_field(error, "response"), "headers")
    return _field(headers, "Retry-After") or _field(headers, "retry-after")


def _field(source: object, name: str) -> Any:
    try:
        return cast("Any", source).get(name) if isinstance(source, Mapping) else getattr(source, name)
    except Exception:  # noqa: BLE001  # it has none, or a property of a foreign object raises
        return None


def _seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return 0.0
    try:
        return float(value)
    except OverflowError:  # an int that no float can hold
        return math.inf if isinstance(value, int) and value > 0 else 0.0
    except ValueError:
        return _until(str(value))


def _until(date: str) -> float:
    try:
        return parsedate_to_datetime(date).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError):  # no date, in the words of several Pythons
        return 0.0
