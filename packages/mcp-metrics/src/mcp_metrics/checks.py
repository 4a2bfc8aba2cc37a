"""Refuse arguments that would fail later, in a scrape or in a request, with their name and value."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any, TypeVar, cast

__all__ = ["checked_function", "checked_source", "checked_words"]

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


def checked_function(where: str, name: str, value: F) -> F:
    """Return *value*, something to call that answers at once."""
    given: object = value
    if not callable(given):
        raise TypeError(f"{where} needs a callable {name}, got {value!r}")
    if inspect.iscoroutinefunction(given) or inspect.iscoroutinefunction(type(given).__call__):
        raise TypeError(f"{where} needs a callable {name} that is not async, got {value!r}")
    return value


def checked_source(where: str, value: T, method: str, kinds: str) -> T:
    """Return *value*, an instance, not a class, that has *method*."""
    if isinstance(value, type) or not callable(getattr(value, method, None)):
        raise TypeError(f"{where} needs {kinds}, got {value!r}")
    return value


def checked_words(where: str, name: str, values: Iterable[str]) -> frozenset[str]:
    """Return *values*, a collection of texts."""
    given = cast("object", values)
    if isinstance(given, str):
        raise TypeError(f"{where} needs a collection of {name}, got the text {values!r}")
    if not isinstance(given, Iterable):
        raise TypeError(f"{where} needs a collection of {name}, got {values!r}")
    words = tuple(values)
    for word in cast("tuple[object, ...]", words):
        if not isinstance(word, str):
            raise TypeError(f"{where} needs text for each of its {name}, got {word!r}")
    return frozenset(words)
