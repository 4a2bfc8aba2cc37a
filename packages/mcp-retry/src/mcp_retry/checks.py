"""Arguments of this package's constructors, refused when they are given, with their name and value."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import Any, TypeVar

from .budget import Budget

__all__ = ["checked_budget", "checked_count", "checked_function", "checked_instance", "checked_seconds"]

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


def checked_count(name: str, value: object, least: int) -> int:
    """Return *value*, a whole number of at least *least*."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be a whole number, got {value!r}")
    if value < least:
        raise ValueError(f"{name} must be {least} or more, got {value!r}")
    return value


def checked_seconds(name: str, value: object) -> float:
    """Return *value*, a finite number of seconds above 0."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number of seconds, got {value!r}")
    if not 0 < value <= sys.float_info.max:
        raise ValueError(f"{name} must be 0 < seconds < inf, got {value!r}")
    return float(value)


def checked_function(name: str, value: F) -> F:
    """Return *value*, something to call that answers at once."""
    given: object = value
    if not callable(given):
        raise TypeError(f"{name} must be a function, got {value!r}")
    if any(map(inspect.iscoroutinefunction, (given, type(given).__call__))):
        raise TypeError(f"{name} must be a function that is not async, got {value!r}")
    return value


def checked_instance(name: str, value: object, kind: type[T]) -> T:
    """Return *value*, an instance of *kind*."""
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be a {kind.__name__}, got {value!r}")
    return value


def checked_budget(value: Budget | bool) -> Budget | None:
    """Return *value*, a new budget for True, or none for False."""
    if isinstance(value, bool):
        return Budget() if value else None
    return checked_instance("budget", value, Budget)
