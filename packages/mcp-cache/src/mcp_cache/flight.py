"""One computation for all who wait for it, whoever among them gives up.

    lead ──▶ computing ──(value or error)──▶ over: every follower has its answer
                 │
                 ├──(leader cancelled)──▶ the follower that has waited longest leads, with its own function
                 ├──(leader cancelled, nobody waits)──▶ over
                 └──(key invalidated or set; that follower cancelled, too)──▶ over: every follower starts again

A flight is state and nothing else, an empty list as long as nobody waits: a computation that nobody else asks for makes
no task, no event and no future. The one who leads it computes in its own task, with its own deadline. A follower waits
for an event of its own, never for the leader's task: neither can cancel the other.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import CoroutineType
from typing import Any, Literal, NamedTuple, Union, cast

import anyio

from .entries import Entry
from .store import Codec

__all__ = [
    "Answer",
    "ComputationCancelled",
    "Compute",
    "Failure",
    "Flight",
    "Follower",
    "Space",
    "Uncacheable",
    "computed",
    "is_own_doing",
    "refuse_coroutine",
    "refuse_if_not_async",
    "twin",
]


class ComputationCancelled(RuntimeError):  # noqa: N818  # what happened
    """The computation that this caller waited for raised CancelledError, although nobody had cancelled it."""


class Uncacheable(Exception):  # noqa: N818  # what it says of the value
    """Raise it from a computation whose result must not be shared: nothing is stored, every caller gets it raised."""


class Answer(NamedTuple):
    """A value, in the form in which it is kept."""

    value: Any


class Failure(NamedTuple):
    """What the computation raised; each caller gets a twin of it."""

    error: Exception


Compute = Callable[[], Awaitable[Any]]
Outcome = Union[Answer, Failure, Literal["lead", "again"]]  # noqa: UP007  # evaluated on 3.10


class Follower:
    """One caller that waits, and what it is told in the end."""

    __slots__ = ("_event", "outcome")

    def __init__(self) -> None:
        self._event = anyio.Event()
        self.outcome: Outcome | None = None

    def tell(self, outcome: Outcome) -> None:
        """Wake it with *outcome*."""
        self.outcome = outcome
        self._event.set()

    async def wait(self) -> None:
        """Wait to be told."""
        await self._event.wait()


# The callers that wait for one computation, in the order of their coming. A class of its own would cost a miss as much
# as awaiting its computation does.
Flight = list[Follower]


class Space:
    """Entries and flights by key; the name sets its keys in a store apart from those of other spaces.

    A flight is in the air for as long as it is found under its key. With a codec, values go to a store in another form.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.codec: Codec | None = None
        self.entries: dict[Any, Entry] = {}
        self.flights: dict[Any, Flight] = {}

    def take_off(self, key: Any) -> Flight:
        """Put a new flight into the air."""
        flight: Flight = []
        self.flights[key] = flight
        return flight

    def doom(self, key: Any) -> None:
        """Make what is being computed under *key* worthless: its followers start again."""
        if (flight := self.flights.get(key)) is not None:
            self.land(key, flight)

    def hand_over(self, key: Any, flight: Flight) -> None:
        """Let the one who has waited longest lead; if nobody waits, the flight is over."""
        if flight:
            flight.pop(0).tell("lead")
        else:
            self.land(key, flight)

    def land(self, key: Any, flight: Flight, outcome: Outcome = "again") -> None:
        """Tell everyone who waits, to start again if there is nothing better; nobody can join any more."""
        if self.flights.get(key) is flight:
            del self.flights[key]
        followers = [*flight]
        flight.clear()
        for follower in followers:
            follower.tell(outcome)


async def computed(fn: Compute) -> Any:
    """Return what *fn* returns when awaited. Raises TypeError if it is not async, or has forgotten an ``await``."""
    awaitable = fn()
    refuse_if_not_async(fn, awaitable)
    value = await awaitable
    refuse_coroutine(fn, value)
    return value


def refuse_if_not_async(fn: object, returned: object) -> None:
    """Raise TypeError unless what *fn* returned can be awaited."""
    if not hasattr(returned, "__await__"):
        raise TypeError(f"{_name(fn)}() is not async; did you forget 'async def'?")


def refuse_coroutine(fn: object, value: object) -> None:
    """Raise TypeError if the *value* of *fn* is a coroutine: it can be awaited by one caller alone."""
    if isinstance(value, CoroutineType):
        value.close()
        raise TypeError(f"{_name(fn)}() has returned a coroutine that nobody awaited; did you forget 'await'?")


def _name(fn: object) -> object:
    return getattr(fn, "__qualname__", fn)


def twin(error: Exception) -> Exception:
    """Return a copy of *error* for another caller: the same type, arguments, cause, notes and place of origin.

    Its traceback ends where that of *error* ends, and grows on its own. Lists, dictionaries and sets in its arguments
    and attributes are copies, too; other objects are shared, since copying a connection, say, would break it. An
    exception that cannot be copied comes back itself.
    """
    try:
        clone = copy.copy(error)
    except Exception:  # noqa: BLE001  # its constructor takes other arguments than it keeps
        clone = error.__class__.__new__(error.__class__, *error.args)
        clone.__dict__.update(error.__dict__)
    if clone.__class__ is not error.__class__:
        return error
    with suppress(RecursionError, AttributeError):  # what contains itself, or is read-only, stays shared
        clone.args, own = _apart(error.args), _apart(error.__dict__)
        clone.__dict__.update(own)
    clone.__cause__, clone.__context__ = error.__cause__, error.__context__
    clone.__suppress_context__ = error.__suppress_context__
    return clone.with_traceback(error.__traceback__)


def _apart(value: Any) -> Any:
    """Return *value* with every container in it copied."""
    kind = cast("Any", type)(value)
    if kind is dict:
        return {name: _apart(item) for name, item in value.items()}
    if kind in {list, tuple}:
        return cast("Any", kind(map(_apart, value)))
    return cast("Any", kind(value) if kind in {set, bytearray} else value)


def is_own_doing(error: BaseException) -> bool:
    """Say whether *error* is a CancelledError that the computation raised although nobody cancelled the current task.

    Python 3.10 cannot tell; there, a CancelledError always counts as coming from outside.
    """
    task = asyncio.current_task() if isinstance(error, asyncio.CancelledError) else None
    cancelling: Callable[[], int] | None = getattr(task, "cancelling", None)
    return cancelling is not None and not cancelling()
