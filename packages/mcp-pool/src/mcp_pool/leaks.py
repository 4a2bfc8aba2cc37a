"""Who has a resource, and what becomes of one that its borrower forgot.

A ``StandIn`` is lent instead of the resource in debug mode. It passes everything on, special methods too, until it is
returned, and refuses afterwards. When it is garbage, the resource comes back: the finalizer only leaves a note, since
it may run in another thread, or in the middle of the pool's own work.
"""

from __future__ import annotations

import functools
import inspect
import weakref
from collections.abc import Callable
from types import CodeType
from typing import Any, cast

import anyio

from .entry import Entry
from .errors import PoolMisuse

__all__ = ["Borrower", "end_loan", "stand_in"]

DEPTH = 12  # frames of a borrower's stack that are kept
_OWN = frozenset(dir(object)) - {"__str__", "__repr__", "__eq__", "__hash__", "__format__", "__lt__", "__dir__"} | {
    "__getattr__", "__setattr__", "__delattr__", "__del__", "__slots__", "__dict__", "__weakref__", "__module__",
}  # fmt: skip
"""Special methods that a stand-in has for itself; all others are the resource's."""


class Borrower:
    """The task and the stack that got a resource at the time *now*; put into words only when somebody asks."""

    def __init__(self, now: float) -> None:
        self.since: float = now
        self.task: str = str(anyio.get_current_task().name)
        self.reported = False
        self._spots: list[tuple[CodeType, int]] = []
        frame: Any = inspect.currentframe()  # traceback would read source lines, which takes a thousand times longer
        while frame is not None and len(self._spots) < DEPTH:
            if frame.f_globals.get("__package__") != __package__:
                self._spots.append((frame.f_code, frame.f_lineno))
            frame = frame.f_back

    @property
    def stack(self) -> tuple[str, ...]:
        """File, line and function of each frame, the innermost first."""
        return tuple(f"{code.co_filename}:{line} in {code.co_name}" for code, line in self._spots)


def stand_in(resource: Any, dropped: Callable[[], object]) -> Any:
    """Make an object that behaves like *resource*; *dropped()* is called when it is garbage before ``end_loan``."""
    kind = cast("Any", type(resource))
    found = _class_of(kind)(resource)
    object.__setattr__(found, "_finalizer", weakref.finalize(found, dropped))
    return found


def end_loan(entry: Entry[Any]) -> None:
    """Forget who has *entry*; whatever is done with its stand-in from now on raises PoolMisuse."""
    found, entry.stand_in = entry.stand_in and entry.stand_in(), None
    entry.taken, entry.holder, entry.borrower = False, None, None
    if found is not None:
        object.__getattribute__(found, "_finalizer").detach()
        object.__setattr__(found, "_resource", _RETURNED)


_RETURNED: Any = object()


def _resource_of(found: Any) -> Any:
    resource = object.__getattribute__(found, "_resource")
    if resource is _RETURNED:
        raise PoolMisuse("this resource was returned to its pool and may serve somebody else; acquire it again")
    return resource


class StandIn:
    """What all stand-ins have in common."""

    __slots__ = ("__weakref__", "_finalizer", "_resource")

    def __init__(self, resource: Any) -> None:
        object.__setattr__(self, "_resource", resource)

    def __getattr__(self, name: str) -> Any:
        return getattr(_resource_of(self), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(_resource_of(self), name, value)


@functools.lru_cache(maxsize=128)
def _class_of(kind: Any) -> type[StandIn]:
    """Return a class that also has the special methods of *kind*, which Python looks up on classes alone."""
    names = {name for name in dir(kind) if name.startswith("__") and callable(getattr(kind, name))} - _OWN
    methods: dict[str, Any] = {name: _passing_on(name) for name in names}
    own = {"__slots__": (), "__class__": property(lambda _: kind)}
    return type(f"StandIn[{kind.__name__}]", (StandIn,), own | methods)


def _passing_on(name: str) -> Callable[..., Any]:
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return getattr(_resource_of(self), name)(*args, **kwargs)

    return method
