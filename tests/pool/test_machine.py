"""Any sequence of operations and failures, in virtual time, against the invariants of ``shelf`` and ``supply``."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any

import anyio
import hypothesis.strategies as st
import mcp_pool.shelf
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from mcp_pool import Pool, PoolError
from mcp_pool.entry import TRANSITIONS, Entry

from tests.pool.world import STEADY, Backend, Connection, Never, check_invariants
from tests.support.virtual_asyncio import VirtualLoop

SECONDS = st.sampled_from([0.0, 0.3, 1.0, 5.0])
PLAN = {"works": None, "fails": OSError("refused"), "slow": 0.4, "hangs": Never()}


class WatchedEntry(Entry[Any]):
    """An entry that refuses a change of state which the table does not have."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "state" and hasattr(self, "state") and value != self.state:
            assert value in TRANSITIONS[self.state], f"{self.state} -> {value}"
        super().__setattr__(name, value)


class Borrower:
    """One task, from its request until it ends; the machine says when and how it returns what it has."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.connection: Connection | None = None
        self.error: BaseException | None = None
        self.returns = asyncio.Event()
        self.how = "well"
        self.deadline = math.inf
        self.cancelled = False
        self.task: asyncio.Task[None]

    async def run(self, pool: Pool[Connection], limit: float, machine: Pools) -> None:
        try:
            async with pool.acquire(limit) as self.connection:
                machine.served(self)
                try:
                    await self.returns.wait()
                finally:
                    machine.holding.remove(self)
                if self.how == "discard":
                    pool.discard(self.connection)
                if self.how == "error":
                    self.fail()
        except (PoolError, KeyError) as error:
            self.error = error

    def fail(self) -> None:
        raise KeyError(self.number)


class Pools(RuleBasedStateMachine):
    """A pool of mortal resources on a backend that may do anything."""

    @initialize(
        size=st.integers(1, 3), least=st.integers(0, 1), reset=st.booleans(), lifetime=st.sampled_from([math.inf, 4.0])
    )
    def begin(self, size: int, least: int, reset: bool, lifetime: float) -> None:
        mcp_pool.shelf.Entry = WatchedEntry  # type: ignore[misc]
        self.loop = VirtualLoop()
        self.backend = Backend()
        self.size = size
        self.check: Any = None
        self.reset: Any = None
        self.waiting: list[Borrower] = []
        self.holding: list[Borrower] = []
        self.all: list[Borrower] = []
        self.number = 0
        options = {"min_size": least, "max_size": size, "max_lifetime": lifetime, "check": self.do_check}
        hooks = {"reset": self.do_reset if reset else None, "reset_timeout": 1.0, "check_after": 0.2}
        limits = {"connect_timeout": 2.0, "idle_timeout": 3.0, "drain_timeout": 1.0, "backoff": 0.5, "max_backoff": 2.0}
        self.pool = Pool.from_context(self.backend.mortal, **{**STEADY, **options, **hooks, **limits})
        self.closes = asyncio.Event()
        self.host = self.loop.create_task(self.live())
        self.settle()

    async def live(self) -> None:
        async with self.pool:
            await self.closes.wait()

    async def do_check(self, connection: Connection) -> bool:
        if isinstance(self.check, OSError):
            raise self.check
        return True

    async def do_reset(self, connection: Connection) -> None:
        if isinstance(self.reset, OSError):
            raise self.reset
        if self.reset is not None:
            await (self.reset() if callable(self.reset) else anyio.sleep(self.reset))

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

    def served(self, borrower: Borrower) -> None:
        """Invariant 3: nobody who came earlier is still in the queue."""
        self.waiting.remove(borrower)
        now = self.loop.time()
        in_queue = [other for other in self.waiting if other.deadline > now and not other.cancelled]
        assert all(other.number > borrower.number for other in in_queue)
        assert not any(other.connection is borrower.connection for other in self.holding)
        assert borrower.connection is not None
        self.holding.append(borrower)

    @rule(timeout=st.sampled_from([0.0, 0.5, 30.0]))
    def borrow(self, timeout: float) -> None:
        self.number += 1
        borrower = Borrower(self.number)
        self.waiting.append(borrower)
        self.all.append(borrower)
        borrower.deadline = self.loop.time() + timeout
        borrower.task = self.loop.create_task(borrower.run(self.pool, timeout, self))
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

    @rule(what=st.sampled_from(sorted(PLAN)))
    def connects(self, what: str) -> None:
        self.backend.default = PLAN[what]

    @rule(check=st.sampled_from([None, OSError("stale")]))
    def checks(self, check: Any) -> None:
        self.check = check

    @rule(what=st.sampled_from(sorted(PLAN)))
    def resets(self, what: str) -> None:
        self.reset = PLAN[what]

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

    def teardown(self) -> None:
        """With a backend that works again, whoever still waits is served; then nothing is left anywhere."""
        if not hasattr(self, "pool"):
            return
        self.backend.default = self.check = self.reset = None
        self.backend.closing_takes = 0.0
        for borrower in self.all:
            borrower.returns.set()
        self.settle()
        for _ in range(len(self.waiting)):
            self.settle(4.0)
        assert self.waiting == []
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
