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
from functools import partial

import anyio

from .decision import Decision, RateLimited
from .limit import Limit

__all__ = ["Lines", "undecided"]

LineName = tuple[str, str]
"""The name of a limit, and a key."""


class _Waiter:
    __slots__ = ("bell", "called", "cost", "lines", "refused", "ticket")

    def __init__(self, ticket: int, cost: int, refused: Decision) -> None:
        self.ticket = ticket
        self.cost = cost
        self.refused = refused
        self.lines: list[_Line] = []
        self.called = False
        self.bell: Callable[[], None] | None = None

    def is_first(self) -> bool:
        for line in self.lines:  # noqa: SIM110  # ``all`` takes twice the time
            if line.first is not self:
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
        future = loop.create_future()
        self.bell = partial(_ring, future)
        timer = None if seconds == math.inf else loop.call_later(seconds, self.call)
        try:
            await future
        finally:
            if timer is not None:
                timer.cancel()


class _Line:
    """Who waits, by ticket; whoever leaves, from whichever place, does so in O(1)."""

    __slots__ = ("cost", "first", "members", "name", "newest")

    def __init__(self, name: LineName) -> None:
        self.name = name
        self.members: OrderedDict[int, _Waiter] = OrderedDict()
        self.first: _Waiter | None = None
        self.newest = -1
        self.cost = 0

    def add(self, waiter: _Waiter) -> None:
        ticket = waiter.ticket
        self.members[ticket] = waiter
        if ticket < self.newest:
            for younger in [other for other in self.members if other > ticket]:
                self.members.move_to_end(younger)
        else:
            self.newest = ticket
        if self.first is None or ticket < self.first.ticket:
            self.first = waiter
        self.cost += waiter.cost

    def remove(self, waiter: _Waiter) -> None:
        """Take *waiter* out; if it was first, call who is now."""
        del self.members[waiter.ticket]
        self.cost -= waiter.cost
        if self.first is waiter:
            self.first = next(iter(self.members.values()), None)
            self.call_first()

    def call_first(self) -> None:
        if self.first is not None:
            self.first.call()


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

    def is_behind(self, names: Iterable[LineName]) -> bool:
        """Say whether somebody waits in each of the lines *names*, and there is room for one more to do so.

        Whoever wants to wait for ever may then do so without a decision, which takes ten times as long.
        """
        return 0 < self.waiting < self._max_waiters and all(name in self._lines for name in names)

    def wake(self) -> None:
        """Let everyone who is first try again, because there may be more room than they know of."""
        for line in self._lines.values():
            line.call_first()

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
        waiter = _Waiter(next(self._tickets), cost, refused)
        self.waiting += 1
        try:
            if patience == math.inf:
                return await self._served(waiter, names, attempt)
            deadline = anyio.current_time() + patience
            with anyio.CancelScope(deadline=deadline):
                return await self._served(waiter, names, attempt, deadline)
            raise RateLimited(waiter.refused)
        finally:
            self.waiting -= 1
            for line in waiter.lines:
                line.remove(waiter)
                if not line.members:
                    del self._lines[line.name]

    async def _served(
        self,
        waiter: _Waiter,
        names: Sequence[LineName],
        attempt: Callable[[], Awaitable[Decision]],
        deadline: float = math.inf,
    ) -> Decision:
        while deadline == math.inf or anyio.current_time() + waiter.refused.retry_after <= deadline:
            self._join(waiter, [name for name in names if name[0] in waiter.refused.violated])
            if waiter.is_first():
                await waiter.rest(min(waiter.refused.retry_after, self._nap))
            while not waiter.is_first():
                await waiter.rest()
            decision = await attempt()
            if decision.allowed:
                return decision
            waiter.refused = decision
        raise RateLimited(waiter.refused)

    def _join(self, waiter: _Waiter, names: Iterable[LineName]) -> None:
        for name in names:
            line = self._lines.get(name)
            if line is None:
                line = self._lines[name] = _Line(name)
            if line not in waiter.lines:
                line.add(waiter)
                waiter.lines.append(line)


def undecided(limits: Sequence[Limit]) -> Decision:
    """Return the refusal for whoever waits in all lines without having asked; nobody else gets to see it."""
    return Decision(False, limits[0], 0, 0.0, 0.0, tuple(limit.name for limit in limits))


def _ring(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _asyncio_loop() -> asyncio.AbstractEventLoop | None:
    """Return the loop that runs this task, None if it is no task of asyncio."""
    try:
        task = asyncio.current_task()
    except RuntimeError:
        return None
    return None if task is None else task.get_loop()  # None: a guest, such as trio's, on a loop of asyncio
