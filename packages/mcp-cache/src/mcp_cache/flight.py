"""One computation for all who wait for it, whoever among them gives up.

    lead ──▶ computing ──(value or error)──▶ over: every follower has its answer
                 │
                 ├──(leader cancelled)──▶ the follower that has waited longest leads, with its own function
                 ├──(leader cancelled, nobody waits)──▶ over
                 └──(key invalidated or set; that follower cancelled, too)──▶ over: every follower starts again

A flight is state and nothing else; the one who leads it computes in its own task, with its own deadline. A follower
waits for an event of its own, never for the leader's task: neither can cancel the other.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Union

import anyio

from .entries import Entry

__all__ = [
    "Answer",
    "ComputationCancelled",
    "Failure",
    "Flight",
    "Follower",
    "Space",
    "Uncacheable",
    "is_own_doing",
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


class Space:
    """Entries and flights by key; the name sets its keys in a store apart from those of other spaces."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.entries: dict[Any, Entry] = {}
        self.flights: dict[Any, Flight] = {}


class Flight:
    """The callers that wait for one key, in the order of their coming; in the air from its making."""

    __slots__ = ("followers", "key", "space", "tick")

    space: Space
    key: Any
    tick: int
    followers: list[Follower]

    def __init__(self, space: Space, key: Any, tick: int) -> None:
        self.space = space
        self.key = key
        self.tick = tick
        self.followers = []
        space.flights[key] = self

    @property
    def is_in_the_air(self) -> bool:
        """Whether it is this flight that a caller would join now."""
        return self.space.flights.get(self.key) is self

    def join(self) -> Follower:
        """Line up."""
        follower = Follower()
        self.followers.append(follower)
        return follower

    def leave(self, follower: Follower) -> None:
        """Give up waiting; if it was just told to lead, the others start again."""
        if follower.outcome == "lead":
            self.end("again")
        elif follower.outcome is None:
            self.followers.remove(follower)

    def hand_over(self) -> bool:
        """Let the one who has waited longest lead; False if nobody waits."""
        if not self.followers:
            return False
        self.followers.pop(0).tell("lead")
        return True

    def end(self, outcome: Outcome) -> None:
        """Tell everyone; nobody can join any more."""
        if self.is_in_the_air:
            del self.space.flights[self.key]
        followers, self.followers = self.followers, []
        for follower in followers:
            follower.tell(outcome)


def twin(error: Exception) -> Exception:
    """Return a copy of *error* for another caller: the same type, arguments, cause, notes and place of origin.

    Its traceback ends where that of *error* ends, and grows on its own. An exception that cannot be copied comes back
    itself.
    """
    try:
        clone = copy.copy(error)
    except Exception:  # noqa: BLE001  # its constructor takes other arguments than it keeps
        clone = error.__class__.__new__(error.__class__, *error.args)
        clone.__dict__.update(error.__dict__)
    if clone.__class__ is not error.__class__:
        return error
    if hasattr(error, "__notes__"):
        clone.__notes__ = list(error.__notes__)  # type: ignore[attr-defined]  # 3.11
    clone.__cause__, clone.__context__ = error.__cause__, error.__context__
    clone.__suppress_context__ = error.__suppress_context__
    return clone.with_traceback(error.__traceback__)


def is_own_doing(error: BaseException) -> bool:
    """Say whether *error* is a CancelledError that the computation raised although nobody cancelled the current task.

    Python 3.10 cannot tell; there, a CancelledError always counts as coming from outside.
    """
    task = asyncio.current_task() if isinstance(error, asyncio.CancelledError) else None
    cancelling: Callable[[], int] | None = getattr(task, "cancelling", None)
    return cancelling is not None and not cancelling()
