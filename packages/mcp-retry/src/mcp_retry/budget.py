"""A budget for extra load: the one thing that keeps retries from making an outage worse.

Backoff and jitter only move retries in time.  When every call fails, each is still sent *attempts* times, and a server
that was merely late is drowned by its own clients.  So each first attempt pays *ratio* tokens into a bucket, and
every retry or hedge takes one out: whatever happens, extra sends stay below
``ratio * calls + floor * seconds + burst``.

    first attempt ──(+ratio)──▶ ┌────────┐
    each second ────(+floor)──▶ │ tokens │ ──(-1)──▶ retry, hedge         never above *burst*, never below 0
                                └────────┘

Paying in is one increment of ``calls``, because it happens on every success; the bucket is brought up to date when
somebody asks for a token.  Between two withdrawals it only fills, so that comes to the same.

Invariants, each a property in ``tests/retry/test_budget.py``:

1. After n calls and t seconds, at most ``burst + ratio*n + floor*t`` tokens were spent.
2. A refusal changes nothing: asking often does not cost.
3. A clock that goes backwards stands still.

Rejected: counting over a sliding window (as Finagle does), which keeps a list and forgets tokens all at once; asking
after the sleep (as failsafe-go does), which makes callers wait for a refusal.
"""

from __future__ import annotations

import inspect
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Budget", "BudgetStatistics"]


@dataclass(frozen=True)
class BudgetStatistics:
    """What a ``Budget`` has seen: first attempts, tokens spent and refused, and those it holds now."""

    calls: int
    spent: int
    refused: int
    tokens: float


class Budget:
    """Tokens for retries and hedges, to be shared by everything that calls the same server.

    *ratio* is the extra load that is allowed, 0.1 for one retry in ten calls; *floor* adds tokens per second, so that a
    client with few calls can retry at all; *burst* is what the bucket holds, and begins with.

    Raises ValueError or TypeError unless 0 <= ratio <= 1, 0 <= floor < inf and 1 <= burst < inf, with ratio or floor
    above 0.
    """

    __slots__ = ("_burst", "_clock", "_floor", "_paid", "_ratio", "_refused", "_spent", "_tokens", "_updated", "calls")

    def __init__(
        self,
        *,
        ratio: float = 0.1,
        floor: float = 1.0,
        burst: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ratio = _number("ratio", ratio, 0, 1)
        self._floor = _number("floor", floor, 0, math.inf)
        self._burst = self._tokens = _number("burst", burst, 1, math.inf)
        if not ratio and not floor:
            raise ValueError("Budget needs ratio > 0 or floor > 0, got 0 for both: it would never fill again")
        given: object = clock
        if not callable(given) or any(map(inspect.iscoroutinefunction, (given, type(given).__call__))):
            raise TypeError(f"Budget needs clock as a function that is not async, got {clock!r}")
        self._clock = clock
        self._updated = clock()
        self._paid = self._spent = self._refused = 0
        self.calls: int = 0
        """First attempts so far; whoever makes one adds 1."""

    def spend(self) -> bool:
        """Take one token for one extra send, and say whether there was one.  Never waits."""
        self._update()
        if self._tokens < 1:
            self._refused += 1
            return False
        self._tokens -= 1
        self._spent += 1
        return True

    def statistics(self) -> BudgetStatistics:
        """Return the counts so far and the tokens of this moment."""
        self._update()
        return BudgetStatistics(self.calls, self._spent, self._refused, self._tokens)

    def _update(self) -> None:
        now, calls = max(self._clock(), self._updated), self.calls
        income = self._ratio * (calls - self._paid) + self._floor * (now - self._updated)
        self._tokens = min(self._burst, self._tokens + income)
        self._updated, self._paid = now, calls


def _number(name: str, value: object, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"Budget needs {name} as a number, got {value!r}")
    if not low <= value <= min(high, sys.float_info.max):
        raise ValueError(f"Budget needs {low} <= {name} {'<' if high == math.inf else '<='} {high}, got {value!r}")
    return float(value)
