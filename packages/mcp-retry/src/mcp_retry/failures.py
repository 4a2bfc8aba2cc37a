"""Tell the failures that are worth another attempt from all others.

    on = exception types and predicates
      ├─ the error itself          an instance of a type, or a predicate says yes
      ├─ the members of a group    all of them, each by these same rules: one that must not be repeated forbids it
      └─ its ``__cause__``         by these same rules: libraries and SDKs wrap what happened

The walk is bounded, by what it has seen and by ``LIMIT``; what it does not reach is not retried.

Never retried, whatever a predicate says, because it never gets here: what is no ``Exception`` (cancellation on asyncio
and trio, ``KeyboardInterrupt``, ``SystemExit``).  A predicate that raises means no, which is noted on the error.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, TypeAlias, cast

__all__ = ["Failures", "On", "note"]

Predicate: TypeAlias = Callable[[Any], object]
On: TypeAlias = type[Exception] | Predicate | Iterable["type[Exception] | Predicate"]

LIMIT = 64  # errors looked at in one chain of causes and groups


class Failures:
    """The failures that *on* describes: one exception type or predicate, or several.

    Raises ValueError for an empty *on* and for a type that is never retried, TypeError for what is neither a type nor a
    function of the error.
    """

    def __init__(self, on: On) -> None:
        several = isinstance(on, Iterable) and not isinstance(on, (str, type))
        conditions: list[Any] = list(on) if several else [on]  # type: ignore[arg-type]  # narrowed one line above
        if not conditions:
            raise ValueError(f"on needs at least one exception type or predicate, got {on!r}")
        kinds = [checked for condition in conditions if (checked := _checked(condition))]
        self.types: tuple[type[Exception], ...] = tuple(kinds)
        self.predicates: tuple[Predicate, ...] = tuple(c for c in conditions if not isinstance(c, type))

    def __call__(self, error: Exception) -> bool:
        """Say whether *error* is one of them."""
        try:
            return self._matches(error, {})
        except Exception as fault:  # noqa: BLE001  # a predicate's, which must not take the place of the error
            note(error, f"not retried: the predicate raised {type(fault).__name__}: {fault}")
            return False

    def _matches(self, error: object, seen: dict[int, bool]) -> bool:
        if not isinstance(error, Exception):
            return False
        key = id(error)
        if key not in seen and len(seen) < LIMIT:
            seen[key] = False  # for a cycle, which ends here
            seen[key] = self._matches_itself(error) or self._matches_inside(error, seen)
        return seen.get(key, False)

    def _matches_itself(self, error: Exception) -> bool:
        return isinstance(error, self.types) or any(predicate(error) for predicate in self.predicates)

    def _matches_inside(self, error: Exception, seen: dict[int, bool]) -> bool:
        # By its looks, since Python 3.10 has no class for groups, and trio and others had their own.
        members: Any = getattr(error, "exceptions", None)
        if (
            isinstance(members, tuple)
            and members
            and all(self._matches(member, seen) for member in cast("Any", members))
        ):
            return True
        return self._matches(error.__cause__, seen)


def note(error: BaseException, text: str) -> None:
    """Add *text* to the notes of *error*; Python 3.10 has none, and a frozen error takes none."""
    with suppress(AttributeError, TypeError):
        error.add_note(text)  # type: ignore[attr-defined]  # since 3.11


def _checked(condition: object) -> type[Exception] | None:
    if isinstance(condition, type):
        if issubclass(condition, Exception):
            return condition
        if issubclass(condition, BaseException):
            raise ValueError(f"on needs subclasses of Exception, got {condition.__name__}, which is never retried")  # noqa: TRY004  # it is a type, but of no use
        raise TypeError(f"on needs exception types or predicates, got the class {condition.__name__}")
    if isinstance(condition, BaseException):
        raise TypeError(f"on needs exception types, got the instance {condition!r}; use {type(condition).__name__}")
    if not callable(condition):
        raise TypeError(f"on needs exception types or predicates, got {condition!r}")
    if any(map(inspect.iscoroutinefunction, (condition, type(condition).__call__))):
        raise TypeError(f"on needs predicates that answer at once, got the async function {condition!r}")
    return None
