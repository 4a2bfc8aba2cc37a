"""Trio on a ``MockClock`` that jumps when nothing is ready, waits for threads and sockets, and reports deadlocks.

Trio asks its clock how long to sleep exactly when no task is runnable. That question is answered here first: work
outside the loop switches the automatic jump off and makes the wait real, see ``waiting``; being asked again and again
with no deadline and no step of any task in between means that nothing can ever wake. Then the watched task is
cancelled and told why; what is shielded from that is cancelled inside its shield.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import trio
import trio.lowlevel
import trio.testing

from tests.support.waiting import MAX_JUMPS, MAX_TURNS, Deadlock, RealWait, instead_of_its_consequences, report

__all__ = ["TrioTime"]

LOOKS = 3  # a guest run is asked once or twice more than it steps, when its host hands it work or stops


class TrioTime(trio.abc.Instrument):
    """Virtual time for any number of trio runs, one after the other; each starts at 0.0 s."""

    def __init__(self) -> None:
        self.clock = trio.testing.MockClock(autojump_threshold=0)
        self._sleep_time = self.clock.deadline_to_sleep_time
        self._start_clock = self.clock.start_clock
        # MockClock is final, and the private hooks of its automatic jump take no other clock: so no subclass.
        vars(self.clock).update(deadline_to_sleep_time=self._deadline_to_sleep_time, start_clock=self._start, time=self)
        self._reset()

    @property
    def options(self) -> dict[str, Any]:
        """The keyword arguments that ``trio.run`` needs."""
        return {"clock": self.clock, "instruments": [self]}

    @staticmethod
    def current() -> TrioTime | None:
        """The virtual time of the trio run in progress, if it has any."""
        return getattr(trio.lowlevel.current_clock(), "time", None)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Turn a deadlock into an exception in the task that runs this block."""
        with instead_of_its_consequences(lambda: self._deadlock), trio.CancelScope() as self._scope:
            self._watched = trio.lowlevel.current_task()
            try:
                yield
            finally:
                self._watched = None

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """Called by trio."""
        self._progressed = True

    def before_io_wait(self, timeout: float) -> None:
        """Called by trio, in each turn of its loop."""
        self._turns += 1
        if self._turns > MAX_TURNS:
            self._turns = 0
            self._break(f"livelock: {MAX_TURNS} turns of the loop at {self.clock.current_time()} s, and no end")

    def _start(self) -> None:
        trio.testing.MockClock.__init__(self.clock, autojump_threshold=0)
        self._reset()
        self._start_clock()

    def _reset(self) -> None:
        self._real_wait = RealWait()
        self._progressed = True
        self._looks = self._jumps = self._turns = 0
        self._watched: trio.lowlevel.Task | None = None
        self._deadlock: Deadlock | None = None

    def _deadline_to_sleep_time(self, deadline: float) -> float:
        progressed, self._progressed, self._turns = self._progressed, False, 0
        remaining = deadline - self.clock.current_time()
        try:
            if remaining > 0 and _is_awaited_outside():
                return self._wait_for_real(deadline, remaining, progressed=progressed)
            self._count(remaining, progressed=progressed)
        except Deadlock as deadlock:
            self._break(str(deadlock))
        self._jump_when_idle(0)
        return self._sleep_time(deadline)

    def _wait_for_real(self, deadline: float, remaining: float, *, progressed: bool) -> float:
        self._jump_when_idle(math.inf)
        self._looks = 0
        real = self._real_wait.slice(deadline, remaining, progressed=progressed)
        if not real:
            self.clock.jump(remaining)
        return real

    def _count(self, remaining: float, *, progressed: bool) -> None:
        if remaining == math.inf:
            self._looks = 1 if progressed else self._looks + 1
            if self._looks >= LOOKS:
                raise Deadlock("deadlock: every task is blocked, and no timer, thread or socket can wake one")
        elif remaining > 0:
            self._jumps += 1
            if self._jumps > MAX_JUMPS:
                raise Deadlock(f"runaway: the clock has jumped {MAX_JUMPS} times, to {self.clock.current_time()} s")

    def _jump_when_idle(self, threshold: float) -> None:
        if self.clock.autojump_threshold != threshold:  # assigning it makes a guest run tick
            self.clock.autojump_threshold = threshold

    def _break(self, reason: str) -> None:
        root = trio.lowlevel.current_root_task()
        assert root is not None
        tasks = list(_family(self._watched or root))
        if self._deadlock is not None:
            for task in tasks:
                task._cancel_status._scope.cancel()
            return
        self._deadlock = report(reason, [(task.name, task.coro) for task in tasks])
        # An exception raised here would crash trio, and leave the host of a guest run waiting for ever. Unwatched
        # (a fixture, say), the main task is cancelled instead, and the Cancelled that comes out carries the report.
        scope = self._scope if self._watched else root.child_nurseries[-1].cancel_scope
        scope.cancel(reason=str(self._deadlock))


def _family(task: trio.lowlevel.Task) -> Iterator[trio.lowlevel.Task]:
    yield task
    for nursery in task.child_nurseries:
        for child in nursery.child_tasks:
            yield from _family(child)


def _is_awaited_outside() -> bool:
    io = trio.lowlevel.current_statistics().io_statistics
    watched = sum(getattr(io, name, 0) for name in ("tasks_waiting_read", "tasks_waiting_write", "tasks_waiting"))
    return watched > 1 or trio.testing.active_thread_count() > 0  # trio itself waits on one: its wake-up socket
