"""What a cache was told, checked once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Union, get_args

from .isolation import Isolation
from .table import POLICIES

__all__ = [
    "Config",
    "Tags",
    "Ttl",
    "check_callable",
    "check_surroundings",
    "checked_options",
    "checked_tags",
    "checked_ttl",
]

Ttl = Union[float, Callable[[Any], Union[float, None]], None]  # noqa: UP007  # evaluated on 3.10
"""Seconds; a function of the value that returns seconds, 0 for "do not store"; None for no end."""

Tags = Union[Iterable[str], Callable[[Any], Iterable[str]]]  # noqa: UP007  # evaluated on 3.10
"""Names under which entries can be invalidated together, or a function of the value that returns them."""

STORE = ("load", "read", "write", "invalidate", "listen")  # the methods of one


@dataclass(frozen=True)
class Config:
    """The options of one cache; ``Cache`` says what they mean. Raises ValueError or TypeError naming the argument."""

    maxsize: int
    max_weight: float
    weigh: Callable[[Any], float] | None
    policy: str
    ttl: Ttl
    jitter: float
    idle: float
    stale_while_revalidate: float
    stale_if_error: float
    refresh_ahead: float
    negative_ttl: Mapping[type[Exception], float]
    isolation: Isolation
    random: Callable[[], float]

    def __post_init__(self) -> None:
        if type(self.maxsize) is not int:
            raise TypeError(f"Cache needs an int as maxsize, got {self.maxsize!r}")
        if self.maxsize < 1:
            raise ValueError(f"Cache needs maxsize >= 1, got {self.maxsize!r}")
        _within("max_weight", self.max_weight, 0, math.inf, includes_end=True)
        _within("idle", self.idle, 0, math.inf, includes_end=True)
        for name in ("stale_while_revalidate", "stale_if_error", "refresh_ahead"):
            _within(name, getattr(self, name), 0, math.inf, includes_start=True)
        _within("jitter", self.jitter, 0, 1, includes_start=True)
        _one_of("policy", self.policy, tuple(POLICIES))
        _one_of("isolation", self.isolation, get_args(Isolation))
        check_callable("Cache", "weigh", self.weigh, optional=True)
        check_callable("Cache", "random", self.random)
        if (self.weigh is None) != (self.max_weight == math.inf):
            raise ValueError("Cache needs weigh= and max_weight= together")
        checked_ttl(self.ttl)
        if not _has(self.negative_ttl, "items"):
            raise TypeError(f"Cache needs a mapping of exceptions as negative_ttl, got {self.negative_ttl!r}")
        object.__setattr__(self, "negative_ttl", dict(self.negative_ttl))  # its owner may change it
        for kind, seconds in self.negative_ttl.items():
            if not _is_exception(kind):
                raise TypeError(f"Cache needs subclasses of Exception as keys of negative_ttl, got {kind!r}")
            _within(f"negative_ttl[{kind.__name__}]", seconds, 0, math.inf)

    @property
    def plain_ttl(self) -> float | None:
        """The seconds for which every value is fresh that has no TTL of its own; None if that depends on anything."""
        if self.ttl is None:
            return math.inf
        return None if self.jitter or callable(self.ttl) else self.ttl

    def lifetime(self, value: Any, ttl: Ttl) -> float:
        """Return the seconds for which *value* is fresh; 0 if it is not to be stored."""
        chosen = self.ttl if ttl is None else ttl
        if chosen is None:
            return math.inf
        if callable(chosen):
            told = chosen(value)
            seconds = math.inf if told is None else float(told)
        else:
            seconds = chosen
        if not seconds > 0:  # NaN, too
            return 0.0
        return seconds * (1 - self.jitter * self.random()) if self.jitter else seconds

    def failure_ttl(self, error: Exception) -> float:
        """Return the seconds for which *error* is to be remembered; 0 if not at all."""
        kinds = (kind for kind in type(error).__mro__ if kind in self.negative_ttl)
        return next((self.negative_ttl[kind] for kind in kinds), 0.0)

    @property
    def windows(self) -> float:
        """The seconds for which an expired entry may still be of use."""
        return max(self.stale_while_revalidate, self.stale_if_error)


def check_surroundings(  # noqa: PLR0917  # what a cache is given beside its options
    clock: object, on_event: object, store: object, serializer: object, on_store_error: object, retry_after: object
) -> None:
    """Raise TypeError or ValueError, naming the argument of ``Cache``."""
    check_callable("Cache", "clock", clock)
    check_callable("Cache", "on_event", on_event, optional=True)
    if isinstance(store, type) or not (store is None or _has(store, *STORE)):
        raise TypeError(f"Cache needs a store such as RedisStore(client), got {store!r}")
    if not _has(serializer, "dumps", "loads"):
        raise TypeError(f"Cache needs a Serializer(dumps, loads) as serializer, got {serializer!r}")
    _one_of("on_store_error", on_store_error, ("local", "deny"))
    _within("retry_store_after", retry_after, 0, math.inf)


def check_callable(who: str, name: str, value: object, *, optional: bool = False) -> None:
    """Raise TypeError unless *value* can be called, or may be left out and is."""
    if not callable(value) and not (optional and value is None):
        raise TypeError(f"{who} needs {name} to be callable{' or None' * optional}, got {value!r}")


def checked_ttl(ttl: Ttl) -> Ttl:
    """Return *ttl*, or raise TypeError or ValueError."""
    if ttl is not None and not callable(ttl):
        _within("ttl", ttl, 0, math.inf, includes_end=True)
    return ttl


def checked_tags(tags: Tags, value: Any) -> tuple[str, ...]:
    """Return the tags of *value*. Raises TypeError for a single string, whose letters would be taken for tags."""
    found: Any = tags(value) if callable(tags) else tags
    if isinstance(found, str):
        raise TypeError(f"tags needs a collection of strings, got the string {found!r}; write ({found!r},)")
    names: list[Any] = [*found] if isinstance(found, Iterable) else [found]
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"tags needs a collection of strings, got {name!r}")
    return tuple(names)


def checked_options(ttl: Ttl, tags: Tags) -> Tags:
    """Return *tags*, which may be an iterator, to be looked at again. Raises TypeError or ValueError."""
    if ttl is not None:
        checked_ttl(ttl)
    return tags if tags == () or callable(tags) else checked_tags(tags, None)


def _within(
    name: str, value: object, low: float, high: float, *, includes_start: bool = False, includes_end: bool = False
) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"Cache needs a number as {name}, got {value!r}")
    if not (low < value < high or (includes_start and value == low) or (includes_end and value == high)):
        signs = "<=" if includes_start else "<", "<=" if includes_end else "<"
        hint = "; leave it out for no end" if name in {"ttl", "idle"} else ""
        raise ValueError(f"Cache needs {low} {signs[0]} {name} {signs[1]} {high}, got {value!r}{hint}")


def _has(value: object, *methods: str) -> bool:
    return all(callable(getattr(value, method, None)) for method in methods)


def _is_exception(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, Exception)


def _one_of(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"Cache needs {name} to be one of {', '.join(choices)}, got {value!r}")
