"""A backend that can be made to fail, and what must be true of a pool at any moment."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from mcp_pool import Pool, PoolClosed
from mcp_pool.entry import Entry


class Connection:
    """What the backend gives; it knows whether it is open."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.is_open = True
        self.scope: Any = None

    def __repr__(self) -> str:
        return f"<{self.number}>"


class Backend:
    """Opens and closes connections, and knows which are open; ``plan`` says what the next connects do.

    A step of a plan is a number of seconds to take, an exception to raise, or a function to await.
    """

    def __init__(self, *, takes: float = 0.0, closing_takes: float = 0.0) -> None:
        self.takes = takes
        self.closing_takes = closing_takes
        self.plan: list[Any] = []
        self.default: Any = None
        self.made = 0
        self.open: set[Connection] = set()
        self.most_open = 0
        self.attempts: list[float] = []
        self.closers: dict[int, list[object]] = {}

    async def connect(self) -> Connection:
        self.attempts.append(anyio.current_time())
        step = self.plan.pop(0) if self.plan else self.default
        if isinstance(step, BaseException):
            raise step
        if callable(step):
            await step()
        await anyio.sleep(step if isinstance(step, (int, float)) else self.takes)
        self.made += 1
        connection = Connection(self.made)
        self.open.add(connection)
        self.most_open = max(self.most_open, len(self.open))
        return connection

    async def close(self, connection: Connection) -> None:
        assert connection in self.open, f"{connection} is closed twice"
        self.open.remove(connection)
        connection.is_open = False
        self.closers.setdefault(connection.number, []).append(anyio.get_current_task().id)
        await anyio.sleep(self.closing_takes)

    @asynccontextmanager
    async def context(self) -> AsyncIterator[Connection]:
        connection = await self.connect()
        try:
            async with anyio.create_task_group():  # must be left by the task that entered it
                yield connection
        finally:
            with anyio.CancelScope(shield=True):
                await self.close(connection)

    @asynccontextmanager
    async def mortal(self) -> AsyncIterator[Connection]:
        """A context that ends by itself when ``connection.scope`` is cancelled."""
        connection = await self.connect()
        try:
            with anyio.CancelScope() as connection.scope:
                yield connection
        finally:
            with anyio.CancelScope(shield=True):
                await self.close(connection)

    @asynccontextmanager
    async def patient(self) -> AsyncIterator[Connection]:
        """A context that cannot close when it is cancelled."""
        connection = await self.connect()
        yield connection
        await self.close(connection)

    def pool(self, **options: Any) -> Pool[Connection]:
        return Pool(self.connect, **{"close": self.close, **STEADY, **options})


ON_BOTH = pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"], indirect=True)
"""Even where all else runs on asyncio alone: for what has code of its own for each."""

STEADY: dict[str, Any] = {"jitter": 0.0, "random": lambda: 1.0, "clock": anyio.current_time}
"""Options that leave nothing to chance, and keep the test's time."""


class Never:
    """A hook or a connect that does not come back."""

    async def __call__(self, *_: object) -> None:
        await anyio.sleep_forever()


def entries(pool: Pool[Any]) -> list[Entry[Any]]:
    return list(pool._desk.shelf.entries)


def check_invariants(pool: Pool[Any], backend: Backend | None = None) -> None:
    """Invariants 1 and 2 of the shelf, and that its counts are those of what it holds."""
    shelf = pool._desk.shelf
    states = [entry.state for entry in shelf.entries]
    staying = [entry for entry in shelf.entries if entry.state != "closing" and entry.retire_at > -math.inf]
    assert len(staying) <= shelf.max_size  # after a resize, others may be on their way out
    assert {entry for entry in shelf.entries if entry.state == "idle"} == set(shelf.idle)
    assert len(shelf.idle) == len(set(shelf.idle))
    assert (shelf.connecting, shelf.serviced, shelf.closing) == tuple(
        map(states.count, ("connecting", "serviced", "closing"))
    )
    assert shelf.in_use == states.count("in use")
    assert not (shelf.idle and shelf.waiters)
    if backend is not None:
        assert backend.most_open <= shelf.max_size


def all_closed(backend: Backend) -> None:
    """Every connection that was made is closed, once."""
    assert backend.open == set()
    assert all(len(closers) == 1 for closers in backend.closers.values())
    assert len(backend.closers) == backend.made


async def until(condition: Callable[[], bool], *, limit: float = 10.0, step: float = 0.001) -> None:
    """Wait, for virtual seconds, until *condition* holds."""
    with anyio.fail_after(limit):
        while not condition():
            await anyio.sleep(step)


async def hold(pool: Pool[Connection], seconds: float, log: list[Any] | None = None, name: object = None) -> None:
    async with pool.acquire() as connection:
        if log is not None:
            log.append(connection if name is None else name)
        await anyio.sleep(seconds)


async def settle_on_any() -> None:
    """Let the pool's tasks run on every backend."""
    for _ in range(10):
        await anyio.lowlevel.checkpoint()
    await anyio.sleep(0.001)


def on_trio() -> bool:
    return anyio.get_cancelled_exc_class().__module__.startswith("trio")


async def expect_closed(use: Callable[[], Awaitable[object]]) -> None:
    with pytest.raises(PoolClosed):
        await use()
