"""Any sequence of operations and failures, in virtual time, against the invariants of ``shelf`` and ``supply``."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable
from typing import Any, cast

import anyio
import hypothesis.strategies as st
import mcp_pool.shelf
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from mcp_pool import Pool, PoolError
from mcp_pool.desk import Desk
from mcp_pool.entry import TRANSITIONS, Entry

from tests.pool.world import STEADY, Backend, Connection, Never, check_invariants, entries
from tests.support.virtual_asyncio import VirtualLoop

SECONDS = st.sampled_from([0.0, 0.3, 1.0, 5.0])
TIMEOUTS = st.sampled_from([0.0, 0.5, 30.0])
PLAN = {"works": None, "fails": OSError("refused"), "slow": 0.4, "hangs": Never(), "says no": False}
LIMITS = {"connect_timeout": 2.0, "check_timeout": 1.0, "reset_timeout": 1.0, "close_timeout": 1.5}
LONGEST = {"connecting": 2.0, "serviced": 1.0, "closing": 1.5}
"""Seconds that a resource can be in a state which has a limit: 6."""
ALMOST = 1e-6  # seconds: rounding of times


class WatchedEntry(Entry[Any]):
    """An entry that refuses a change of state which the table does not have, and knows how long it is in one."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "state" and value != getattr(self, "state", None):
            assert not hasattr(self, "state") or value in TRANSITIONS[self.state], f"{self.state} -> {value}"
            self.since = asyncio.get_running_loop().time()
        super().__setattr__(name, value)


class Borrower:
    """One task, from its request until it ends; the machine says when and how it returns what it has."""

    def __init__(self, number: int, deadline: float) -> None:
        self.number = number
        self.deadline = deadline
        self.connection: Connection | None = None
        self.error: BaseException | None = None
        self.returns = asyncio.Event()
        self.how = "well"
        self.cancelled = False
        self.task: asyncio.Task[None]

    async def run(self, way: str, pool: Pool[Connection], limit: float, machine: Pools) -> None:
        ways = {"block": self.in_block, "take": self.by_hand, "try": self.perhaps}
        try:
            await ways[way](pool, limit, machine)
        except (PoolError, KeyError) as error:
            self.error = error
        assert self.connection or not machine.is_late(self.deadline)

    async def in_block(self, pool: Pool[Connection], limit: float, machine: Pools) -> None:
        async with pool.acquire(limit) as self.connection:
            await self.use(machine)
            if self.how == "discard":
                pool.discard(self.connection)
            if self.how == "error":
                raise KeyError(self.number)

    async def perhaps(self, pool: Pool[Connection], limit: float, machine: Pools) -> None:
        async with pool.try_acquire() as self.connection:
            if self.connection is not None:
                await self.use(machine)

    async def by_hand(self, pool: Pool[Connection], limit: float, machine: Pools) -> None:
        self.connection = await pool.take(limit)
        try:
            await self.use(machine)
        except asyncio.CancelledError:
            self.how = "discard"
            raise
        finally:
            if machine.has(self.connection):  # it did not die meanwhile
                back = pool.discard(self.connection) if self.how == "discard" else pool.give_back(self.connection)
                await (back or asyncio.sleep(0))

    async def use(self, machine: Pools) -> None:
        machine.served(self)
        try:
            await self.returns.wait()
        finally:
            machine.holding.remove(self)

    def has_waited_from_the_start(self) -> bool:
        """Whether it is in the queue, and has had no turn yet."""
        coroutine: Any = self.task.get_coro()
        while (frame := getattr(coroutine, "cr_frame", None)) and frame.f_code is not Desk._wait.__code__:
            coroutine = coroutine.cr_await
        return frame is not None and not frame.f_locals["first"]


async def follow(step: Any) -> Any:
    """Do what a plan says: nothing, fail, take some time, hang, or answer."""
    if isinstance(step, OSError):
        raise step
    if isinstance(step, float):
        await anyio.sleep(step)
    return await step() if callable(step) else step


class Pools(RuleBasedStateMachine):
    """A pool of mortal resources on a backend that may do anything."""

    @initialize(
        size=st.integers(1, 3),
        least=st.integers(0, 1),
        reset=st.booleans(),
        options=st.fixed_dictionaries(
            {
                "max_lifetime": st.sampled_from([math.inf, 4.0]),
                "max_uses": st.sampled_from([None, 3]),
                "order": st.sampled_from(["lifo", "fifo"]),
                "check_on_return": st.booleans(),
                "check_interval": st.sampled_from([math.inf, 1.5]),
            }
        ),
    )
    def begin(self, size: int, least: int, reset: bool, options: dict[str, Any]) -> None:
        mcp_pool.shelf.Entry = WatchedEntry  # type: ignore[attr-defined]
        self.loop = VirtualLoop()
        self.backend = Backend()
        self.size = size
        self.plans: dict[str, Any] = dict.fromkeys(["connect", "check", "reset"])
        self.waiting: list[Borrower] = []
        self.holding: list[Borrower] = []
        self.all: list[Borrower] = []
        self.others: list[asyncio.Task[None]] = []  # who warm or close the pool
        self.number = 0
        hooks = {"check": self.do_check, "check_after": 0.1, "reset": self.do_reset if reset else None}
        sizes = {"min_size": least, "max_size": size, "idle_timeout": 3.0, "drain_timeout": 1.0}
        backing_off = {"backoff": 0.5, "max_backoff": 2.0}
        self.pool = Pool.from_context(
            self.backend.mortal, **{**STEADY, **sizes, **hooks, **LIMITS, **backing_off, **options}
        )
        self.closes = asyncio.Event()
        self.host = self.loop.create_task(self.live())
        self.settle()

    async def live(self) -> None:
        async with self.pool:
            await self.closes.wait()

    async def do_check(self, connection: Connection) -> bool:
        return await follow(self.plans["check"]) is not False

    async def do_reset(self, connection: Connection) -> None:
        await follow(self.plans["reset"])

    def settle(self, seconds: float = 0.0, act: Callable[[], object] = bool) -> None:
        """Do *act*, let *seconds* go by, and everybody act on it."""

        async def pass_time() -> None:
            act()
            await anyio.sleep(seconds)
            await self.loop.idle()

        self.loop.run_until_complete(pass_time())
        for borrower in self.all:
            if borrower.task.done() and not borrower.task.cancelled():
                borrower.task.result()
        self.all = [borrower for borrower in self.all if not borrower.task.done()]
        self.waiting = [borrower for borrower in self.waiting if not borrower.task.done()]
        for task in [task for task in self.others if task.done()]:
            self.others.remove(task)
            task.result()

    def is_late(self, deadline: float) -> bool:
        """Whether somebody has waited longer than the limit: 6."""
        return self.loop.time() > deadline + ALMOST

    def has(self, connection: Connection) -> bool:
        """Whether the pool counts it among those in use."""
        return any(entry.state == "in use" and entry.resource is connection for entry in entries(self.pool))

    def served(self, borrower: Borrower) -> None:
        """Invariant 3: nobody who came earlier is still in the queue."""
        self.waiting.remove(borrower)
        assert not self.is_late(borrower.deadline)
        now = self.loop.time()
        in_queue = [other for other in self.waiting if other.deadline > now and not other.cancelled]
        assert all(other.number > borrower.number for other in in_queue if other.has_waited_from_the_start())
        assert not any(other.connection is borrower.connection for other in self.holding)
        assert borrower.connection is not None
        self.holding.append(borrower)

    @rule(timeout=TIMEOUTS, pause=st.sampled_from([0.0, 0.3]))
    def borrow(self, timeout: float, pause: float) -> None:
        self.settle(pause)
        self.begin_to_borrow("block", timeout)

    @rule(timeout=TIMEOUTS, way=st.sampled_from(["take", "try"]))
    def borrow_otherwise(self, timeout: float, way: str) -> None:
        self.begin_to_borrow(way, timeout)

    def begin_to_borrow(self, way: str, timeout: float) -> None:
        self.number += 1
        # Without a limit of its own, it waits for as many checks as there may be resources.
        limit = LIMITS["check_timeout"] * 4 if way == "try" else timeout
        borrower = Borrower(self.number, self.loop.time() + limit)
        self.waiting.append(borrower)
        self.all.append(borrower)
        borrower.task = self.loop.create_task(borrower.run(way, self.pool, timeout, self))
        self.settle()

    @rule(timeout=TIMEOUTS)
    def warm(self, timeout: float) -> None:
        deadline = self.loop.time() + timeout

        async def warm() -> None:
            with contextlib.suppress(PoolError):
                await self.pool.warm(timeout)
                assert self.pool._desk.shelf.alive >= self.pool.statistics().min_size
            assert not self.is_late(deadline)

        self.others.append(self.loop.create_task(warm()))
        self.settle()

    @precondition(lambda self: self.number > 8)
    @rule(drain=TIMEOUTS)
    def close(self, drain: float) -> None:
        deadline = self.loop.time() + drain + LIMITS["close_timeout"]

        async def close() -> None:
            await self.pool.close(drain_timeout=drain)
            assert not self.is_late(deadline)
            assert self.backend.open == set()

        self.others.append(self.loop.create_task(close()))
        self.settle()

    @precondition(lambda self: self.holding)
    @rule(data=st.data(), how=st.sampled_from(["well", "well", "error", "discard"]))
    def give_back(self, data: st.DataObject, how: str) -> None:
        borrower = data.draw(st.sampled_from(self.holding))
        borrower.how = how
        borrower.returns.set()
        self.settle()

    @precondition(lambda self: self.holding or self.waiting)
    @rule(data=st.data(), settled=st.booleans())
    def cancel(self, data: st.DataObject, settled: bool) -> None:
        borrower = data.draw(st.sampled_from(self.holding + self.waiting))
        borrower.cancelled = borrower.task.cancel()
        if settled:
            self.settle()

    @precondition(lambda self: self.holding and self.waiting)
    @rule()
    def cancel_at_the_hand_over(self) -> None:
        """The first waiter gets a resource and a cancellation in the same turn of the loop."""
        self.holding[0].returns.set()
        self.loop.run_until_complete(asyncio.sleep(0))
        if self.waiting:
            self.waiting[0].cancelled = self.waiting[0].task.cancel()
        self.settle()

    @precondition(lambda self: self.backend.open)
    @rule(data=st.data())
    def die(self, data: st.DataObject) -> None:
        connection = data.draw(st.sampled_from(sorted(self.backend.open, key=lambda connection: connection.number)))
        self.settle(act=connection.scope.cancel)

    @rule(seconds=SECONDS)
    def wait(self, seconds: float) -> None:
        self.settle(seconds)

    @rule(what=st.sampled_from(["connect", "check", "reset"]), how=st.sampled_from(sorted(PLAN)))
    def plan(self, what: str, how: str) -> None:
        self.plans[what] = PLAN[how]
        self.backend.default = self.plans["connect"]

    @rule(seconds=st.sampled_from([0.0, 0.5, math.inf]))
    def closes_slowly(self, seconds: float) -> None:
        self.backend.closing_takes = min(seconds, 1.0)

    @rule()
    def refresh(self) -> None:
        self.settle(act=self.pool.refresh)

    @rule(size=st.integers(1, 4))
    def resize(self, size: int) -> None:
        self.settle(act=lambda: self.pool.resize(min_size=min(1, size), max_size=size))
        self.backend.most_open = len(self.backend.open)
        self.size = max(size, len(self.backend.open))

    @invariant()
    def holds(self) -> None:
        if not hasattr(self, "pool"):
            return
        check_invariants(self.pool)
        assert self.backend.most_open <= self.size
        shelf = self.pool._desk.shelf
        assert shelf.connecting <= shelf.max_connecting
        assert len(self.backend.open) <= len(shelf.entries)
        assert not any(self.is_late(borrower.deadline) for borrower in self.waiting)
        for entry in cast("list[WatchedEntry]", entries(self.pool)):
            assert not self.is_late(entry.since + LONGEST.get(entry.state, math.inf)), entry.state

    def teardown(self) -> None:
        """With a backend that works again, whoever still waits is served; then nothing is left anywhere."""
        if not hasattr(self, "pool"):
            return
        self.backend.default = self.plans["check"] = self.plans["reset"] = None
        self.backend.closing_takes = 0.0
        for borrower in self.all:
            borrower.returns.set()
        self.settle()
        for _ in range(len(self.waiting)):
            self.settle(4.0)
        assert self.waiting == []
        self.settle(2.0)  # of a check or a reset that hangs
        assert self.pool.statistics().in_use == 0
        self.closes.set()
        self.loop.run_until_complete(self.host)
        self.settle(2.0)  # a borrower may still be in a reset that hangs
        assert self.backend.open == set()
        assert all(len(closers) == 1 for closers in self.backend.closers.values())
        assert sum(self.pool.statistics().closed.values()) == self.backend.made == self.pool.statistics().connects
        assert {task.get_name() for task in asyncio.all_tasks(self.loop)} == set()
        self.loop.close()
        mcp_pool.shelf.Entry = Entry  # type: ignore[misc]


TestPools = Pools.TestCase
TestPools.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)
