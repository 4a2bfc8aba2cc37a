"""Wait in line: first come, first served, whatever the cost.

    arrive ──▶ last in the line of every limit that refuses ──▶ first in all of them ──▶ try ──▶ leave, wake the next
                                                                         ▲── sleep ◀── refused ─┘

There is a line for each limit and key.  Only who is first in all of its lines sleeps and tries; the others wait to be
called by who leaves, so there is no herd.  Rejected: polling, which loses the rate; a heap by cost, which starves the
large; one lock around the sleep, which lets one key delay all; reservations, which a cancelled waiter cannot give back.

1. In a line nobody passes anybody: order is that of arrival, also for whoever joins a further line later.
2. Nobody waits behind a key that is not his own.
3. A waiter that is cancelled, at any point, leaves nothing behind, and the next in line moves up.
4. What was charged is never lost: there is no await between a successful try and the return from it.
"""

from __future__ import annotations

import asyncio
import itertools
import math
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import nullcontext

import anyio

from .decision import Decision, RateLimited
from .limit import Limit

__all__ = ["Lines"]

LineName = tuple[str, str]
"""The name of a limit, and a key."""


class _Waiter:
    __slots__ = ("bell", "called", "cost", "lines", "ticket")

    def __init__(self, ticket: int, cost: int) -> None:
        self.ticket = ticket
        self.cost = cost
        self.lines: list[_Line] = []
        self.called = False
        self.bell: Callable[[], None] | None = None

    def is_first(self) -> bool:
        for line in self.lines:  # noqa: SIM110  # ``all`` takes twice the time
            if line.first() is not self:
                return False
        return True

    def call(self) -> None:
        """Tell that this waiter's place, or the room there is, may have changed."""
        self.called = True
        if self.bell is not None:
            self.bell()

    async def rest(self, seconds: float = math.inf) -> None:
        """Wait for a call, at most some *seconds*; return at once if one has come since the last rest."""
        if not self.called:
            loop = _asyncio_loop()
            await (self._rest(seconds) if loop is None else self._rest_on(loop, seconds))
            self.bell = None
        self.called = False

    async def _rest(self, seconds: float) -> None:
        event = anyio.Event()
        self.bell = event.set
        with anyio.move_on_after(seconds):
            await event.wait()

    async def _rest_on(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        """Do the same in a third of the time: a scope that runs out costs more than all else a waiter does."""
        event = asyncio.Event()
        self.bell = event.set
        timer = None if seconds == math.inf else loop.call_later(seconds, self.call)
        try:
            await event.wait()
        finally:
            if timer is not None:
                timer.cancel()


class _Line:
    """Who waits, by ticket; whoever leaves, from whichever place, does so in O(1)."""

    __slots__ = ("cost", "members", "name")

    def __init__(self, name: LineName) -> None:
        self.name = name
        self.members: OrderedDict[int, _Waiter] = OrderedDict()
        self.cost = 0

    def first(self) -> _Waiter:
        return next(iter(self.members.values()))

    def add(self, waiter: _Waiter) -> None:
        younger = []
        if self.members and next(reversed(self.members)) > waiter.ticket:
            younger = [ticket for ticket in self.members if ticket > waiter.ticket]
        self.members[waiter.ticket] = waiter
        for ticket in younger:
            self.members.move_to_end(ticket)
        self.cost += waiter.cost


class Lines:
    """The lines of one limiter; *max_waiters* is how many callers may wait in all of them together.

    Who is first tries when he was told to, and every *nap* seconds, where room may be made without a call.
    """

    def __init__(self, max_waiters: int | None, nap: float = math.inf) -> None:
        self._nap = nap
        self.waiting: int = 0
        self._max_waiters = math.inf if max_waiters is None else max_waiters
        self._tickets = itertools.count()
        self._lines: dict[LineName, _Line] = {}

    def ahead(self, names: Iterable[LineName]) -> dict[int, int]:
        """Return the costs that wait in the lines, by the place of the line in *names*, where anybody waits."""
        return {place: self._lines[name].cost for place, name in enumerate(names) if name in self._lines}

    def refusal(self, names: Sequence[LineName], limit: Limit) -> Decision | None:
        """Return a refusal, of which only *violated* is known, if all the lines *names* have waiters and room for one.

        Whoever wants to wait for ever needs no better one, and it takes a tenth of the time of a decision.
        """
        if 0 < self.waiting < self._max_waiters and all(name in self._lines for name in names):
            return Decision(False, limit, 0, 0.0, 0.0, tuple(limit_name for limit_name, _ in names))
        return None

    def wake(self) -> None:
        """Let everyone who is first try again, because there may be more room than they know of."""
        for line in self._lines.values():
            line.first().call()

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
                if waiter.is_first():
                    await waiter.rest(min(refused.retry_after, self._nap))
                while not waiter.is_first():
                    await waiter.rest()
                refused = await attempt()
                if refused.allowed:
                    return refused
        raise RateLimited(refused)

    def _join(self, waiter: _Waiter, names: Iterable[LineName]) -> None:
        for name in names:
            line = self._lines.get(name)
            if line is None:
                line = self._lines[name] = _Line(name)
            if line not in waiter.lines:
                line.add(waiter)
                waiter.lines.append(line)

    def _leave(self, waiter: _Waiter) -> None:
        for line in waiter.lines:
            was_first = line.first() is waiter
            del line.members[waiter.ticket]
            line.cost -= waiter.cost
            if not line.members:
                del self._lines[line.name]
            elif was_first:
                line.first().call()


def _asyncio_loop() -> asyncio.AbstractEventLoop | None:
    """Return the loop that runs this task, None if it is no task of asyncio."""
    try:
        task = asyncio.current_task()
    except RuntimeError:
        return None
    return None if task is None else task.get_loop()  # None: a guest, such as trio's, on a loop of asyncio
