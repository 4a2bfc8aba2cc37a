"""Refuse values that cannot be meant, when a breaker is built and not when it first trips."""

from __future__ import annotations

import inspect
import math
from typing import Any

__all__ = ["check_async", "check_callable", "check_count", "check_seconds", "check_share"]


def check_callable(where: str, name: str, value: object, *, optional: bool = False) -> None:
    """Raise TypeError unless *value* can be called without an await; with *optional*, None will do."""
    if not callable(value) and not (optional and value is None):
        raise TypeError(f"{where} needs a callable as {name}, got {value!r}")
    if inspect.iscoroutinefunction(value):
        raise TypeError(f"{where} does not await {name}, which must not be async, got {value!r}")


def check_async(fn: Any) -> None:
    """Raise TypeError unless calling *fn* gives what can be awaited once."""
    name = getattr(fn, "__qualname__", None) or repr(fn)
    if inspect.isasyncgenfunction(fn) or inspect.isclass(fn):
        raise TypeError(f"{name} is not a call that ends in a result; guard what it does with breaker.guard()")
    returns = str(getattr(fn, "__annotations__", {}).get("return"))
    if not (
        inspect.iscoroutinefunction(fn)
        or inspect.iscoroutinefunction(getattr(fn, "__call__", None))  # noqa: B004  # the method itself is wanted
        or "Awaitable" in returns
        or "Coroutine" in returns
    ):
        raise TypeError(f"{name} is not async; did you forget 'async def'?")


def check_count(where: str, name: str, value: object) -> int:
    """Return *value* if it is an int of at least 1; otherwise raise ValueError, or TypeError for another type."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{where} needs an int as {name}, got {value!r}")
    if value < 1:
        raise ValueError(f"{where} needs {name} >= 1, got {value!r}")
    return value


def check_share(where: str, name: str, value: object) -> float:
    """Return *value* if it lies in (0, 1]; otherwise raise ValueError, or TypeError for what is no number."""
    number = _number(where, name, value)
    if not 0 < number <= 1:
        raise ValueError(f"{where} needs 0 < {name} <= 1, got {value!r}")
    return number


def check_seconds(where: str, name: str, value: object, *, zero: bool = False) -> float:
    """Return *value* if it is a finite time above 0 s, or with *zero* also 0; otherwise raise."""
    number = _number(where, name, value)
    if not (0 < number < math.inf or (zero and number == 0)):
        raise ValueError(f"{where} needs 0 {'<=' if zero else '<'} {name} < inf seconds, got {value!r}")
    return number


def _number(where: str, name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{where} needs a number as {name}, got {value!r}")
    return float(value)
