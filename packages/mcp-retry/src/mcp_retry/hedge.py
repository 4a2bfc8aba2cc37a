"""Send a second request when the first is late, and take the answer that comes first.

    0 s          after                      first good answer
    │ attempt 1 ───┼──────────────────────────────▶ cancelled, and awaited
    │              └ attempt 2 ──────────▶ wins     its answer is returned at once

For calls that may be sent twice, and only those.  The late ones of a few slow servers then cost *after* instead of
their own time.  How many are late is up to *after*: a fixed time, or a moving quantile of the latencies seen, so that
about one call in twenty is hedged with ``Quantile(0.95)``.  A budget bounds them when everything becomes slow.

Invariants, each a property in ``tests/retry/test_hedge_properties.py``:

1. At most *attempts* are in flight for one call, and when it ends, none is: losers are cancelled and awaited.
2. Every attempt after the first has cost a token; a refusal leaves those in flight alone.
3. A failure counts only when nothing is in flight any more, and so does a result that *on_result* takes for one; an
   exception comes out itself, in no group.  What is no ``Exception``, as ``SystemExit``, counts at once.

A failure does not start the next attempt: that is what a retry is for, around the hedge.  Losers are waited for, so
one that does not let itself be cancelled delays the answer.  The function runs in a task of its own.

Source: Dean and Barroso, "The Tail at Scale", CACM 56(2), 2013.
"""

from __future__ import annotations

import logging
import math
import time
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, ParamSpec, TypeVar

import anyio
from anyio.abc import TaskGroup

from .budget import Budget, BudgetStatistics
from .checks import checked_budget, checked_count, checked_function, checked_seconds
from .decoration import checked_async, preserve_signature
from .events import BudgetRefused, Event, Hedged, HedgeWon, report
from .frames import hidden, unseen

__all__ = ["Hedge", "HedgeStatistics", "Quantile"]

P = ParamSpec("P")
R = TypeVar("R")


class Quantile:
    """A moving quantile of the last latencies: *q* of them, 0 < q < 1, were not longer.

    Until *least* latencies were seen it is *initial* seconds.  It remembers *window* of them, sorted.
    """

    def __init__(self, q: float, *, initial: float = 1.0, window: int = 200, least: int = 20) -> None:
        self._q = _checked_fraction(q)
        self._initial = checked_seconds("initial", initial)
        self._least = checked_count("least", least, 1)
        self._recent: deque[float] = deque(maxlen=checked_count("window", window, least))
        self._sorted: list[float] = []

    def add(self, seconds: float) -> None:
        """Take note of a latency."""
        if len(self._recent) == self._recent.maxlen:
            del self._sorted[bisect_left(self._sorted, self._recent[0])]
        self._recent.append(seconds)
        insort(self._sorted, seconds)

    @property
    def seconds(self) -> float:
        """The quantile of this moment."""
        seen = self._sorted
        return seen[math.ceil(self._q * len(seen)) - 1] if len(seen) >= self._least else self._initial


@dataclass(frozen=True)
class HedgeStatistics:
    """What a ``Hedge`` has done: calls, attempts sent beside a late one, those that won, and those not paid for."""

    calls: int
    hedges: int
    won: int
    budget_refusals: int
    budget: BudgetStatistics | None


class Hedge:
    """Send late calls once more; for functions that may run twice at once.

    Args:
        after: Seconds to wait for an answer before the next attempt, or a ``Quantile`` of the latencies seen.
        attempts: At most so many for one call, the first included; 2 or more.
        budget: True for one of its own; a ``Budget`` to share the one of a ``Retry`` around the same calls, which then
            pays in for the first attempts; False for none.
        on_result: A predicate; an answer for which it is true wins only if nothing else is in flight.
        on_event: Called with each event.
        clock: Seconds, for the latencies.
        sleep: Waits for so many seconds.

    Raises ValueError or TypeError for nonsense, naming the argument.
    """

    def __init__(
        self,
        *,
        after: float | Quantile,
        attempts: int = 2,
        budget: Budget | bool = True,
        on_result: Callable[[Any], object] | None = None,
        on_event: Callable[[Event], object] | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> None:
        self._after = after if isinstance(after, Quantile) else checked_seconds("after", after)
        self._attempts = checked_count("attempts", attempts, 2)
        self._pays_in = budget is True
        self._budget = checked_budget(budget)
        self._on_result = None if on_result is None else checked_function("on_result", on_result)
        self._on_event = None if on_event is None else checked_function("on_event", on_event)
        self._clock = checked_function("clock", clock)
        self._sleep = checked_async("sleep", sleep)
        self._calls = self._hedges = self._won = self._budget_refusals = 0

    async def call(self, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call ``fn(*args, **kwargs)``, again whenever it is late, and return the first good answer."""
        with unseen:
            return await self.first_good(partial(fn, *args, **kwargs), self._on_result)

    @hidden
    async def first_good(self, call: Callable[[], Awaitable[R]], is_bad: Callable[[R], object] | None) -> R:
        """Do the same with ``call()``, and *is_bad* in the place of *on_result*."""
        self._calls += 1
        if self._pays_in and self._budget is not None:
            self._budget.calls += 1
        started = self._clock()
        race = _Race[R](is_bad)
        async with anyio.create_task_group() as tasks:
            race.start(tasks, 1, call)
            for number in range(2, self._attempts + 1):
                await self._sleep(waited := self._seconds())
                if _is_cancelled() or not self._may_hedge(number, waited):
                    break
                race.start(tasks, number, call)
        winner, answer = race.result()
        self._finish(winner, self._clock() - started)
        return answer

    def __call__(self, fn: Callable[P, Awaitable[R]]) -> Callable[P, Coroutine[Any, Any, R]]:
        """Decorate *fn*, an async function that may run twice at once; its name, signature and type stay."""
        checked_async("Hedge()", fn)

        async def hedged(*args: P.args, **kwargs: P.kwargs) -> R:
            with unseen:
                return await self.first_good(partial(fn, *args, **kwargs), self._on_result)

        return preserve_signature(hedged, fn)

    def statistics(self) -> HedgeStatistics:
        """Return the counts so far, and those of the budget."""
        budget = None if self._budget is None else self._budget.statistics()
        return HedgeStatistics(self._calls, self._hedges, self._won, self._budget_refusals, budget)

    def _seconds(self) -> float:
        return self._after.seconds if isinstance(self._after, Quantile) else self._after

    def _may_hedge(self, number: int, waited: float) -> bool:
        if self._budget is not None and not self._budget.spend():
            self._budget_refusals += 1
            self._report(BudgetRefused, number - 1)
            return False
        self._hedges += 1
        self._report(Hedged, number, waited)
        return True

    def _finish(self, winner: int, seconds: float) -> None:
        if isinstance(self._after, Quantile):
            # The time of the whole call: that of a late first attempt is not known, only that it was longer than
            # *after*, as the call was too.  With the winner's own time the quantile would sink with every hedge.
            self._after.add(seconds)
        if winner > 1:
            self._won += 1
            self._report(HedgeWon, winner)

    def _report(self, event: Callable[..., Event], *facts: object) -> None:
        if self._on_event is not None:
            report(self._on_event, event(*facts))


class _Race(Generic[R]):
    """The attempts of one call, and what came of them."""

    def __init__(self, is_bad: Callable[[R], object] | None) -> None:
        self._is_bad = is_bad
        self._running = 0
        self._answers: list[tuple[int, R]] = []
        self._error: BaseException | None = None

    def start(self, tasks: TaskGroup, number: int, call: Callable[[], Awaitable[R]]) -> None:
        """Start an attempt, which ends the race with a good answer, or when nothing else is running."""
        self._running += 1
        tasks.start_soon(self._run, tasks.cancel_scope, number, call)

    @hidden
    def result(self) -> tuple[int, R]:
        """Return the number of the attempt that won, and its answer, or raise the failure that ended the race."""
        error, self._error = self._error, None
        if error is None:
            return self._answers[0]
        try:
            raise error.with_traceback(error.__traceback__ and error.__traceback__.tb_next)
        finally:
            del error  # it holds this frame, and would keep all it has seen until the garbage collector comes

    async def _run(self, scope: anyio.CancelScope, number: int, call: Callable[[], Awaitable[R]]) -> None:
        try:
            answer = await call()
        except BaseException as error:
            # Otherwise it is the function's own, as that of a future of asyncio which somebody else has cancelled.
            if _is_cancelled() and isinstance(error, anyio.get_cancelled_exc_class()):
                raise
            self._running -= 1
            is_last = not self._running and not self._answers and self._error is None
            if is_last or not isinstance(error, Exception):
                self._error = error  # raised where the caller waits: from here it would come out in a group
                scope.cancel()
            return
        self._running -= 1
        if not self._running or not self._seems_bad(answer):
            self._answers.append((number, answer))
            scope.cancel()

    def _seems_bad(self, answer: R) -> bool:
        try:
            return bool(self._is_bad and self._is_bad(answer))
        except Exception:
            logging.getLogger(__name__).exception("on_result failed; its result is taken for a good one")
            return False


def _is_cancelled() -> bool:
    """Say whether the race around is over, or was given up from outside."""
    return anyio.current_effective_deadline() == -math.inf


def _checked_fraction(q: object) -> float:
    if isinstance(q, bool) or not isinstance(q, (int, float)):
        raise TypeError(f"Quantile needs q as a number, got {q!r}")
    if not 0 < q < 1:
        raise ValueError(f"Quantile needs 0 < q < 1, got {q!r}")
    return float(q)
