"""How long to wait before the next attempt: a growing delay, spread at random.

    seconds = jitter(min(cap, delays(attempt)))

Jitter is taken *after* the cap, from a range whose upper end is the cap.  Where it is taken before, and the sum cut
off, every caller that has reached the cap waits for exactly the same time, and they all come back in step.

    full            [0, delay]                                    spreads most, and so is the default
    equal           [delay/2, delay]                              never returns at once
    decorrelated    [base, min(cap, 3 * the last wait)]           random walk; *base* is the first delay
    a fraction f    [delay * (1-f), delay * (1+f)], below cap     for delays that were chosen with care
    none            delay

Full, equal and decorrelated jitter are those of M. Brooker, "Exponential Backoff And Jitter" (AWS, 2015), the last one
with its range cut at the cap instead of its value.

Invariants, each a property in ``tests/retry/test_backoff.py``:

1. A wait is finite, and in [0, cap], for every attempt number, however large.
2. With jitter, two different random numbers give two different waits, also at the cap.
3. Waits are a function of (attempt, last wait, random number) alone: concurrent calls share one ``Backoff``.
"""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any, Literal, TypeAlias, cast

__all__ = ["Backoff", "BackoffLike", "Jitter", "constant", "exponential", "linear"]

Jitter: TypeAlias = Literal["full", "equal", "decorrelated", "none"] | float

LISTED = 1_000  # delays taken from an iterable, which may be endless; the last one then repeats
MAXIMUM = 3_600.0  # seconds: the cap where none is given


class Backoff:
    """Delays by attempt number, capped and spread.

    *delays* is a function of the number of failed attempts, 1 for the first, or an iterable of seconds, whose last
    value repeats.  *cap* is in seconds; *jitter* is a name of the table above, or the fraction f, 0 < f <= 1.  A
    function that answers with a negative number, NaN or infinity means *cap*.

    Raises ValueError or TypeError for anything else, and for an iterable with a delay that is not in [0, cap].
    """

    def __init__(
        self, delays: Callable[[int], float] | Iterable[float], *, cap: float = MAXIMUM, jitter: Jitter = "none"
    ) -> None:
        self.cap: float = _seconds("Backoff", "cap", cap, above_zero=True)
        self.jitter: Jitter = _checked_jitter(jitter)
        self._delays = cast("Callable[[int], float]", delays) if _is_function(delays) else _listed(delays, self.cap)
        self._base = self._capped(1) if jitter == "decorrelated" else 0.0
        if jitter == "decorrelated" and not 0 < self._base < self.cap:
            raise ValueError(f"decorrelated jitter needs 0 < first delay < cap={cap!r}, got {self._base!r}")

    def delay(self, attempt: int, previous: float, random: float) -> float:
        """Return the seconds to wait after failed attempt number *attempt*.

        *previous* is the wait before this attempt, 0 for the first; *random* is in [0, 1).  What a function given as
        *delays* raises passes through.
        """
        if self.jitter == "decorrelated":
            return self._base + random * (min(self.cap, 3 * max(previous, self._base)) - self._base)
        seconds = self._capped(attempt)
        if not isinstance(self.jitter, str):
            low, high = seconds * (1 - self.jitter), min(self.cap, seconds * (1 + self.jitter))
            return low + random * (high - low)
        return seconds * {"full": random, "equal": (1 + random) / 2, "none": 1.0}[self.jitter]

    def __repr__(self) -> str:
        return f"Backoff({self._delays!r}, cap={self.cap!r}, jitter={self.jitter!r})"

    def _capped(self, attempt: int) -> float:
        try:
            seconds = float(self._delays(attempt))
        except OverflowError:
            return self.cap
        return min(seconds, self.cap) if seconds >= 0 else self.cap  # which NaN is not


BackoffLike: TypeAlias = Backoff | Callable[[int], float] | Iterable[float]


def constant(seconds: float, *, jitter: Jitter = "full") -> Backoff:
    """Wait about the same time after each attempt; *seconds* is the cap of the jitter too."""
    seconds = _seconds("constant", "seconds", seconds)
    return Backoff(lambda _: seconds, cap=max(seconds, math.ulp(0.0)), jitter=jitter)


def linear(step: float = 0.1, *, cap: float = 10.0, jitter: Jitter = "full") -> Backoff:
    """Wait *step* seconds more after each attempt, beginning with one *step*."""
    step = _seconds("linear", "step", step, above_zero=True)
    return Backoff(lambda attempt: step * attempt, cap=_above("linear", cap, "step", step), jitter=jitter)


def exponential(base: float = 0.1, *, factor: float = 2.0, cap: float = 10.0, jitter: Jitter = "full") -> Backoff:
    """Wait *base* seconds, and after each further attempt *factor* times as long; 1 < factor < inf."""
    base = _seconds("exponential", "base", base, above_zero=True)
    factor = _seconds("exponential", "factor", factor)
    if factor <= 1:
        raise ValueError(f"exponential needs factor > 1, got {factor!r}; constant() is for waits that do not grow")
    cap = _above("exponential", cap, "base", base)
    return Backoff(lambda attempt: base * factor ** (attempt - 1), cap=cap, jitter=jitter)


def _seconds(where: str, name: str, value: object, *, above_zero: bool = False) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{where} needs {name} as a number, got {value!r}")
    if not 0 <= value <= sys.float_info.max or (above_zero and not value):
        raise ValueError(f"{where} needs 0 {'<' if above_zero else '<='} {name} < inf, got {value!r}")
    return float(value)


def _above(where: str, cap: float, name: str, least: float) -> float:
    if _seconds(where, "cap", cap) < least:
        raise ValueError(f"{where} needs cap >= {name}, got cap={cap!r} and {name}={least!r}")
    return cap


def _checked_jitter(jitter: Any) -> Jitter:
    is_fraction = isinstance(jitter, (int, float)) and not isinstance(jitter, bool) and 0 < jitter <= 1
    if jitter not in ("full", "equal", "decorrelated", "none") and not is_fraction:
        names = "'full', 'equal', 'decorrelated', 'none'"
        raise ValueError(f"Backoff needs jitter to be one of {names}, or a fraction in (0, 1], got {jitter!r}")
    return cast("Jitter", jitter)


def _is_function(delays: object) -> bool:
    if not callable(delays) or isinstance(delays, type):
        return False
    return not any(map(inspect.iscoroutinefunction, (delays, type(delays).__call__)))


def _listed(delays: object, cap: float) -> Callable[[int], float]:
    if isinstance(delays, (str, type)) or not isinstance(delays, Iterable):
        raise TypeError(f"Backoff needs a function of the attempt number or an iterable of seconds, got {delays!r}")
    listed = tuple(_listed_delay(value, cap) for value in islice(cast("Iterable[object]", delays), LISTED))
    if not listed:
        raise ValueError(f"Backoff needs at least one delay, got {delays!r}")
    return lambda attempt: listed[min(attempt, len(listed)) - 1]


def _listed_delay(value: object, cap: float) -> float:
    seconds = _seconds("Backoff", "every delay", value)
    if seconds > cap:
        raise ValueError(f"Backoff needs delays of at most cap={cap!r}, got {value!r}; a function's are cut off there")
    return seconds
