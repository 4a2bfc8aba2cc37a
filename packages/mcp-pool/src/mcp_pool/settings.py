"""The configuration of a pool: every option, its default, and what would be nonsense."""

from __future__ import annotations

import inspect
import math
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, cast

from .events import Event

if TYPE_CHECKING:
    from typing_extensions import TypedDict

T = TypeVar("T")

__all__ = ["Settings", "check_async", "check_count", "check_factory", "check_sizes", "check_timeout", "is_sync"]

_NUMBERS = (int, float)


@dataclass(frozen=True)
class Settings(Generic[T]):
    """Options of a pool.  Times are in seconds; ``math.inf`` switches off what a time would trigger.

    Attributes:
        name: For events and errors.
        reset: ``await reset(resource)`` after each use, to make it as good as new; a failure closes the resource.
        check: ``await check(resource)`` says whether it still works, by returning anything but False.
        check_after: A resource used this recently is lent without a check.
        check_interval: Idle resources are checked this often by the pool.
        check_on_return: Also check after each use.
        broken: ``broken(error)`` says of what came out of the borrower's block whether the resource is unusable now.
            By default a cancellation makes it so unless there is a ``reset``, and an Exception does not.
        min_size: Resources that the pool keeps without demand.
        max_size: Resources alive at once, being connected and closed included.
        max_waiters: Callers waiting at once; more are refused with PoolFull.
        timeout: How long ``acquire`` waits at most, connecting and checks included.
        refuse_early: Refuse at once who would, by the mean time of a use, not be served before its deadline.
        connect_timeout: For one connect.
        check_timeout: For one check, also when its caller leaves earlier.
        reset_timeout: For one reset.
        close_timeout: For one close.
        drain_timeout: How long ``close`` waits for resources in use before it closes them too.
        order: Which idle resource is lent: the one used last ("lifo", so that a quiet pool shrinks) or first ("fifo").
        max_lifetime: Age at which a resource is replaced.
        jitter: Share of ``max_lifetime`` taken off at random, so that a pool does not age all at once.
        idle_timeout: Idle time after which a resource above ``min_size`` is closed.
        max_uses: Uses after which a resource is replaced; None for no limit.
        max_connecting: Connects in flight at once.
        connect_attempts: Failures in a row after which callers are refused when no resource is left to wait for.
        backoff: Wait after the first failed connect; doubles with each further one, half of it random.
        max_backoff: Where doubling ends.
        leak_after: A resource out for longer is reported, with the borrower's stack and task.
        debug: Lend stand-ins, which refuse use after return, and whose loss brings the resource back.
        on_event: Called with each event, in the middle of the pool's work: it must not wait.
        clock: The time in seconds, from any origin.
        random: A float in [0, 1).
    """

    name: str = "pool"
    reset: Callable[[T], Awaitable[object]] | None = None
    check: Callable[[T], Awaitable[object]] | None = None
    check_after: float = 0.5
    check_interval: float = math.inf
    check_on_return: bool = False
    broken: Callable[[BaseException], bool] | None = None
    min_size: int = 0
    max_size: int = 10
    max_waiters: int = 1000
    timeout: float = 30.0
    refuse_early: bool = False
    connect_timeout: float = 10.0
    check_timeout: float = 5.0
    reset_timeout: float = 5.0
    close_timeout: float = 5.0
    drain_timeout: float = 30.0
    order: Literal["lifo", "fifo"] = "lifo"
    max_lifetime: float = 3600.0
    jitter: float = 0.1
    idle_timeout: float = 600.0
    max_uses: int | None = None
    max_connecting: int = 4
    connect_attempts: int = 3
    backoff: float = 0.1
    max_backoff: float = 30.0
    leak_after: float = math.inf
    debug: bool = False
    on_event: Callable[[Event], object] | None = None
    clock: Callable[[], float] = field(default=time.monotonic, repr=False)
    random: Callable[[], float] = field(default=random.random, repr=False)

    def __post_init__(self) -> None:
        for names, (kinds, is_valid, wanted) in _RULES.items():
            for name in names.split():
                if not is_valid(getattr(self, name)):
                    raise _refused(name, getattr(self, name), wanted, kinds)
        check_sizes(self.min_size, self.max_size)
        for name in ("reset", "check"):
            if getattr(self, name) is not None:
                check_async(name, getattr(self, name))


def check_sizes(min_size: object, max_size: object) -> None:
    """Raise ValueError, or TypeError for no number, unless 0 <= *min_size* <= *max_size* and *max_size* >= 1."""
    check_count("min_size", min_size, 0)
    check_count("max_size", max_size, 1)
    if cast("int", min_size) > cast("int", max_size):
        raise ValueError(f"Pool needs min_size <= max_size, got min_size={min_size!r} and max_size={max_size!r}")


def check_count(name: str, value: object, minimum: int) -> None:
    """Raise ValueError, or TypeError for no number, unless *value* is at least *minimum*."""
    if not _is_count(value, minimum):
        raise _refused(name, value, f"an int of at least {minimum}")


def check_timeout(value: float | None, name: str = "timeout") -> float | None:
    """Return *value* if it is None, or 0 to inf seconds; otherwise raise ValueError, or TypeError for no number."""
    if value is not None and not _is_number(value, 0):
        raise _refused(name, value, "0 to inf seconds")
    return value


def check_async(name: str, fn: Any) -> None:
    """Raise TypeError unless what *fn* returns can be awaited, as far as can be seen without calling it."""
    label = getattr(fn, "__qualname__", None) or repr(fn)
    if inspect.isclass(fn):
        raise TypeError(f"Pool needs an async function as {name}, got the class {label}; is it for Pool.from_context?")
    if not callable(fn):
        raise TypeError(f"Pool needs an async function as {name}, got {fn!r}")
    if inspect.isasyncgenfunction(fn):
        raise TypeError(f"{name}={label} is a generator; decorate it with @asynccontextmanager, for Pool.from_context")
    if inspect.isfunction(fn) and label[-8:] != "<lambda>" and not _may_be_awaited(fn):
        raise TypeError(f"{name}={label} is not async; did you forget 'async def'?")


def is_sync(value: object) -> bool:
    """Say whether *value* can be called, and what it returns need not be awaited, as far as can be seen."""
    own = getattr(value, "__call__", None)  # noqa: B004  # the method itself is wanted
    return callable(value) and not inspect.iscoroutinefunction(value) and not inspect.iscoroutinefunction(own)


def check_factory(factory: object) -> None:
    """Raise TypeError unless *factory* can be called; what it returns is looked at when it is."""
    if not callable(factory):
        raise TypeError(f"from_context needs a function that returns a context manager, got {factory!r}")


def _may_be_awaited(fn: Callable[..., object]) -> bool:
    returns = str(inspect.signature(fn).return_annotation)
    return inspect.iscoroutinefunction(fn) or any(word in returns for word in ("Awaitable", "Coroutine", "Future"))


def _is_count(value: object, minimum: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= minimum


def _is_number(value: object, minimum: float, *, finite: bool = False) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return minimum <= value < math.inf or (value == math.inf and not finite)


def _refused(name: str, value: object, wanted: str, kinds: tuple[type, ...] = _NUMBERS) -> Exception:
    fits = isinstance(value, kinds) and not isinstance(value, bool)
    return (ValueError if fits else TypeError)(f"Pool needs {wanted} as {name}, got {value!r}")


_ABOVE_ZERO = math.ulp(0.0)
_RULES: dict[str, tuple[tuple[type, ...], Callable[[Any], bool], str]] = {
    "timeout check_after drain_timeout": (_NUMBERS, lambda value: _is_number(value, 0), "0 to inf seconds"),
    "connect_timeout check_timeout reset_timeout close_timeout check_interval max_lifetime idle_timeout leak_after": (
        _NUMBERS,
        lambda value: _is_number(value, _ABOVE_ZERO),
        "seconds above 0, or inf",
    ),
    "backoff max_backoff": (
        _NUMBERS,
        lambda value: _is_number(value, _ABOVE_ZERO, finite=True),
        "finite seconds above 0",
    ),
    "jitter": (_NUMBERS, lambda value: _is_number(value, 0) and value <= 1, "a share from 0 to 1"),
    "max_waiters": (_NUMBERS, lambda value: _is_count(value, 0), "an int of at least 0"),
    "max_connecting connect_attempts": (_NUMBERS, lambda value: _is_count(value, 1), "an int of at least 1"),
    "max_uses": (_NUMBERS, lambda value: value is None or _is_count(value, 1), "None or an int of at least 1"),
    "order": ((str,), lambda value: value in ("lifo", "fifo"), "'lifo' or 'fifo'"),
    "name": ((), lambda value: isinstance(value, str), "a string"),
    "refuse_early debug check_on_return": ((), lambda value: isinstance(value, bool), "True or False"),
    "clock random": ((), is_sync, "a function that is not async"),
    "broken on_event": ((), lambda value: value is None or is_sync(value), "None or a function that is not async"),
}
"""By options: the kinds of which nonsense is a ValueError, not a TypeError; what is none; and the words for that."""


if TYPE_CHECKING:

    class Options(TypedDict, Generic[T], total=False):
        """The same for type checkers, so that each option is a keyword of ``Pool`` itself."""

        name: str
        reset: Callable[[T], Awaitable[object]] | None
        check: Callable[[T], Awaitable[object]] | None
        check_after: float
        check_interval: float
        check_on_return: bool
        broken: Callable[[BaseException], bool] | None
        min_size: int
        max_size: int
        max_waiters: int
        timeout: float
        refuse_early: bool
        connect_timeout: float
        check_timeout: float
        reset_timeout: float
        close_timeout: float
        drain_timeout: float
        order: Literal["lifo", "fifo"]
        max_lifetime: float
        jitter: float
        idle_timeout: float
        max_uses: int | None
        max_connecting: int
        connect_attempts: int
        backoff: float
        max_backoff: float
        leak_after: float
        debug: bool
        on_event: Callable[[Event], object] | None
        clock: Callable[[], float]
        random: Callable[[], float]
