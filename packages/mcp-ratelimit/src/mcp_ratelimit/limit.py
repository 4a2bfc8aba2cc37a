"""How much is allowed: an amount in a period, counted by one of six algorithms.

Limit("100/min burst 20")                      100 a minute, of which 20 may come at once
Limit(amount=100, per=60, burst=20)            the same
Limit("5000/month", algorithm="fixed_window", timezone="Europe/Paris")

algorithm         most that can pass in any window of one period        state of one key
gcra              burst + amount (the token bucket; default)            one number
strict_gcra       amount                                                one number
sliding_log       amount                                                amount numbers
bucketed          amount; delivers about 94 % of it under pressure      18 numbers
fixed_window      amount a window, so 2 x amount around its boundary    two numbers
sliding_counter   2 x amount                                            three numbers
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args
from zoneinfo import ZoneInfo

__all__ = ["AlgorithmName", "CalendarUnit", "Limit", "parse_limits", "share", "whole"]

AlgorithmName = Literal["gcra", "strict_gcra", "sliding_log", "bucketed", "fixed_window", "sliding_counter"]
CalendarUnit = Literal["day", "week", "month", "year"]

MAX_RATE = 2**20
"""Units per second.  The clock counts ticks of about a millionth of a second; a unit is worth one or more."""
MIN_PERIOD = 0.001
MAX_SPAN = 2**30
"""Seconds, 34 years: the longest period, and the longest time to refill a burst."""

_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 604800}
_UNITS = {
    alias: unit
    for unit, aliases in {
        "second": "s sec secs second seconds",
        "minute": "m min mins minute minutes",
        "hour": "h hr hour hours",
        "day": "d day days",
        "week": "w week weeks",
        "month": "mo month months",
        "year": "y year years",
    }.items()
    for alias in aliases.split()
}
_LONGEST = {"month": 31 * 86400, "year": 366 * 86400}
_SPEC = re.compile(r"(\d+)\s*(?:/|per\s)\s*(\d+(?:\.\d+)?)?\s*([a-z]+)(?:\s+burst\s+(\d+))?")


@dataclass(frozen=True, init=False)
class Limit:
    """An amount that may pass in a period, for each key by itself.

    Args:
        spec: The limit in words: ``"100/min"``, ``"5 per 2 s"``, ``"60/min burst 10"``.  Units are s, min, h, day, week
            and, for calendar windows, month and year.
        amount: What may pass in one period, a whole number; instead of *spec*, together with *per*.
        per: The period in seconds.  The amount may not be over 2**20 a second.
        burst: What may pass at once, for ``gcra`` (default: the amount) and ``strict_gcra`` (a tenth of it).
        algorithm: See the table at the top of this module.
        timezone: Where the calendar windows of ``fixed_window`` begin; an IANA name.
        name: What refusals, headers and stores call this limit.  Give one to a limit that is to keep its state when
            its figures change between two runs; by default it is the spec.
    """

    amount: int
    period: float
    burst: int
    algorithm: AlgorithmName
    calendar: CalendarUnit | None
    timezone: str
    name: str

    def __init__(
        self,
        spec: str | None = None,
        *,
        amount: int | None = None,
        per: float | None = None,
        burst: int | None = None,
        algorithm: AlgorithmName = "gcra",
        timezone: str = "UTC",
        name: str | None = None,
    ) -> None:
        if algorithm not in get_args(AlgorithmName):
            raise ValueError(f"Limit needs algorithm to be one of {get_args(AlgorithmName)}, got {algorithm!r}")
        if (spec is None) != (amount is not None and per is not None) or (spec is not None and (amount or per)):
            raise TypeError("Limit needs either a spec such as '100/min', or amount= and per=")
        calendar: CalendarUnit | None = None
        if spec is not None:
            amount, per, calendar, spec_burst = _parse(spec, algorithm)
            burst = burst if spec_burst is None else spec_burst
        units = whole("Limit", "amount", amount)
        period = _period(per, units)
        values = {
            "amount": units,
            "period": period,
            "burst": _burst(burst, units, period, algorithm),
            "algorithm": algorithm,
            "calendar": calendar,
            "timezone": _timezone(timezone, calendar),
        }
        default = " ".join((spec or f"{units}/{period:g}s").split())
        for field, value in {**values, "name": _name(default if name is None else name)}.items():
            object.__setattr__(self, field, value)

    def renamed(self, name: str) -> Limit:
        """Return the same limit under another name."""
        return self._with(name=_name(name))

    def resized(self, amount: float, period: float, burst: float) -> Limit:
        """Return the limit that this one was when it had other figures."""
        return self._with(amount=int(amount), period=period, burst=int(burst))

    def _with(self, **changes: object) -> Limit:
        copy = object.__new__(Limit)
        for field, value in {**vars(self), **changes}.items():
            object.__setattr__(copy, field, value)
        return copy


def parse_limits(*specs: Limit | str) -> tuple[Limit, ...]:
    """Return the limits that *specs* name; one string may hold several: ``"10/s; 1000/h"``.

    Raises ValueError if there is none, or if two have one name; TypeError for anything but a Limit or a string.
    """
    limits = tuple(limit for spec in specs for limit in _expand(spec))
    names = [limit.name for limit in limits]
    if not limits or len(set(names)) < len(names):
        raise ValueError(f"a limiter needs one limit or several, each with a name of its own, got {names!r}")
    return limits


def _expand(spec: object) -> Iterator[Limit]:
    if isinstance(spec, Limit):
        yield spec
    elif isinstance(spec, str):
        yield from (Limit(part.strip()) for part in spec.split(";") if part.strip())
    else:
        raise TypeError(f"a limit is a Limit or a string such as '100/min', got {spec!r}")


def _parse(spec: object, algorithm: str) -> tuple[int, float, CalendarUnit | None, int | None]:
    if not isinstance(spec, str):
        raise TypeError(f"Limit needs a spec such as '100/min', got {spec!r}")
    found = _SPEC.fullmatch(spec.strip().lower())
    unit = _UNITS.get(found[3]) if found else None
    if found is None or unit is None:
        raise ValueError(f"Limit cannot read {spec!r}; write it like '100/min', '5 per 2 s' or '60/min burst 10'")
    count = float(found[2] or 1)
    burst = int(found[4]) if found[4] else None
    if algorithm == "fixed_window" and count == 1 and unit in get_args(CalendarUnit):
        seconds = _SECONDS.get(unit) or _LONGEST[unit]
        return int(found[1]), seconds, unit, burst  # type: ignore[return-value]  # one of CalendarUnit
    if unit not in _SECONDS:
        raise ValueError(f"Limit cannot count {spec!r} by {algorithm}: only one {unit} by fixed_window has an end")
    return int(found[1]), count * _SECONDS[unit], None, burst


def share(limit: Limit, workers: int) -> Limit:
    """Return what one of *workers* processes may let through by itself, at least one unit."""
    if limit.algorithm == "strict_gcra":
        amount = max(2, limit.amount // workers)
        return limit.resized(amount, limit.period, min(amount - 1, max(1, limit.burst // workers)))
    return limit.resized(max(1, limit.amount // workers), limit.period, max(1, limit.burst // workers))


def whole(where: str, what: str, value: object, *, least: int = 1) -> int:
    """Return *value*; TypeError unless it is a whole number, ValueError if it is below *least*."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{where} needs {what} to be a whole number, got {value!r}")
    if value < least:
        raise ValueError(f"{where} needs {what} >= {least}, got {value!r}")
    return value


def _period(value: object, amount: int) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"Limit needs per to be a number of seconds, got {value!r}")
    if not MIN_PERIOD <= value <= MAX_SPAN:
        raise ValueError(f"Limit needs {MIN_PERIOD} <= per <= {MAX_SPAN} seconds, got {value!r}")
    if amount > MAX_RATE * value:
        raise ValueError(f"Limit needs amount <= 2**20 a second (count in larger units), got {amount} in {value:g} s")
    return float(value)


def _burst(value: int | None, amount: int, period: float, algorithm: AlgorithmName) -> int:
    if algorithm not in ("gcra", "strict_gcra"):
        if value is not None:
            raise ValueError(f"Limit needs burst to be left out with algorithm={algorithm!r}, got {value!r}")
        return amount
    burst = (
        (amount if algorithm == "gcra" else max(1, amount // 10)) if value is None else whole("Limit", "burst", value)
    )
    if algorithm == "strict_gcra" and burst >= amount:
        raise ValueError(f"Limit needs burst < amount with algorithm='strict_gcra', got {burst} of {amount}")
    steady = amount if algorithm == "gcra" else amount - burst
    if burst * period > MAX_SPAN * steady or steady > MAX_RATE * period:
        raise ValueError(f"Limit needs burst to refill within {MAX_SPAN} s, got {burst} at {steady} in {period:g} s")
    return burst


def _timezone(name: str, calendar: str | None) -> str:
    try:
        zone = name != "UTC" and ZoneInfo(name)
    except (KeyError, OSError, TypeError, ValueError) as error:
        raise ValueError(f"Limit needs timezone to be an IANA name such as 'Europe/Paris', got {name!r}") from error
    if zone and not calendar:
        raise ValueError(f"Limit needs a calendar window (fixed_window by day, week, month or year) for {name!r}")
    return name


def _name(name: object) -> str:
    if not isinstance(name, str) or not re.fullmatch(r"[ -~]{1,64}", name):
        raise ValueError(f"Limit needs name to be 1 to 64 printable ASCII characters, got {name!r}")
    return name
