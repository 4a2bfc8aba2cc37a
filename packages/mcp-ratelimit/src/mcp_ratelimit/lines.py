"""Wait in line: first come, first served, whatever the cost.

    arrive ──▶ last in the line of every limit that refuses ──▶ first in all of them ──▶ try ──▶ leave, wake the next
                                                                         ▲── sleep ◀── refused ─┘

There is a line for each limit and key.  Only who is first in all of its lines sleeps and tries; the others wait to be
woken by who leaves, so there is no herd.  Rejected: polling, which loses the rate; a heap by cost, which starves the
large; one lock around the sleep, which lets one key delay all; reservations, which a cancelled waiter cannot give back.

1. In a line nobody passes anybody: order is that of arrival, also for whoever joins a further line later.
2. Nobody waits behind a key that is not his own.
3. A waiter that is cancelled, at any point, leaves nothing behind, and the next in line moves up.
4. What was charged is never lost: there is no await between a successful try and the return from it.
"""

from __future__ import annotations

import itertools
import math
from bisect import insort
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import nullcontext

import anyio

from .decision import Decision, RateLimited

__all__ = ["Lines"]


LineName = tuple[str, str]
"""The name of a limit, and a key."""


class _Waiter:
    __slots__ = ("cost", "lines", "ticket", "turn")

    def __init__(self, ticket: int, cost: int) -> None:
        self.ticket = ticket
        self.cost = cost
        self.lines: list[LineName] = []
        self.turn = anyio.Event()

    async def woken(self) -> None:
        """Wait until this waiter's place, or the room there is, may have changed."""
        await self.turn.wait()
        self.turn = anyio.Event()

    def __lt__(self, other: _Waiter) -> bool:
        return self.ticket < other.ticket


class _Line:
    __slots__ = ("cost", "members")

    def __init__(self) -> None:
        self.members: list[_Waiter] = []
        self.cost = 0


class Lines:
    """The lines of one limiter; *max_waiters* is how many callers may wait in all of them together."""

    def __init__(self, max_waiters: int | None) -> None:
        self.waiting: int = 0
        self._max_waiters = math.inf if max_waiters is None else max_waiters
        self._tickets = itertools.count()
        self._lines: dict[LineName, _Line] = {}

    def ahead(self, names: Iterable[LineName]) -> dict[int, int]:
        """Return the costs that wait in the lines, by the place of the line in *names*, where anybody waits."""
        return {place: self._lines[name].cost for place, name in enumerate(names) if name in self._lines}

    def wake(self) -> None:
        """Let everyone who is first try again, because there may be more room than they know of."""
        for line in self._lines.values():
            line.members[0].turn.set()

    async def wait(
        self,
        names: Sequence[LineName],
        cost: int,
        patience: float,
        refused: Decision,
        attempt: Callable[[], Awaitable[Decision]],
    ) -> Decision:
        """Wait until *attempt* succeeds, as the first in those of the lines *names* whose limits refuse.

        Raises RateLimited with the latest refusal as soon as that says that it will take more than *patience* seconds,
        or there are too many waiters, or they are over.
        """
        if self.waiting >= self._max_waiters:
            raise RateLimited(refused, "max_waiters")
        waiter = _Waiter(next(self._tickets), cost)
        self.waiting += 1
        try:
            return await self._served(waiter, names, patience, refused, attempt)
        finally:
            self.waiting -= 1
            self._leave(waiter)

    async def _served(
        self,
        waiter: _Waiter,
        names: Sequence[LineName],
        patience: float,
        refused: Decision,
        attempt: Callable[[], Awaitable[Decision]],
    ) -> Decision:
        deadline = math.inf if patience == math.inf else anyio.current_time() + patience
        with nullcontext() if deadline == math.inf else anyio.CancelScope(deadline=deadline):
            while deadline == math.inf or anyio.current_time() + refused.retry_after <= deadline:
                self._join(waiter, [name for name in names if name[0] in refused.violated])
                await self._turn_of(waiter, refused.retry_after)
                refused = await attempt()
                if refused.allowed:
                    return refused
        raise RateLimited(refused)

    async def _turn_of(self, waiter: _Waiter, delay: float) -> None:
        """Wait until *waiter* is first in all of its lines; if it is already, sleep until there should be room."""
        if self._is_first(waiter):
            with anyio.move_on_after(delay):
                await waiter.woken()
        while not self._is_first(waiter):
            await waiter.woken()

    def _is_first(self, waiter: _Waiter) -> bool:
        for name in waiter.lines:  # noqa: SIM110  # ``all`` takes twice the time
            if self._lines[name].members[0] is not waiter:
                return False
        return True

    def _join(self, waiter: _Waiter, names: Iterable[LineName]) -> None:
        for name in names:
            if name not in waiter.lines:
                line = self._lines.setdefault(name, _Line())
                insort(line.members, waiter)
                line.cost += waiter.cost
                waiter.lines.append(name)

    def _leave(self, waiter: _Waiter) -> None:
        for name in waiter.lines:
            line = self._lines[name]
            line.members.remove(waiter)
            line.cost -= waiter.cost
            if line.members:
                line.members[0].turn.set()
            else:
                del self._lines[name]
