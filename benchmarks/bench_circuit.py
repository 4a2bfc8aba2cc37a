# /// script
# requires-python = ">=3.10"
# dependencies = ["pybreaker", "aiobreaker", "circuitbreaker", "purgatory", "hyx", "interlock-cb", "nopanic", "tornado"]
# ///
"""What a circuit breaker costs a call that succeeds, a call that is refused, and in memory, ours beside its peers.

Each candidate guards the same ``async`` function that does nothing, in its library's cheapest documented form. A ratio
counts the guarded call; what the breaker *adds* is that minus one. Windows are of 10 s and 3600 s where a library has
windows of time. pybreaker guards coroutines through tornado, as it documents.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import tracemalloc
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import aiobreaker
import circuitbreaker
import hyx.circuitbreaker
import interlock
import nopanic
import purgatory
import pybreaker
from _ratio import Row, compare, figure
from mcp_circuit import (
    CircuitBreaker,
    CircuitMiddleware,
    CircuitOpen,
    KeyedBreakers,
    consecutive,
    failure_rate,
    slow_rate,
)

PEERS = ["pybreaker", "aiobreaker", "circuitbreaker", "purgatory", "hyx", "interlock-cb", "nopanic"]
BARE = "a handler without middleware"
RESULT = {"content": [], "isError": False, "resultType": "complete"}
HOUR = 3600.0

Run = Callable[[], Awaitable[object]]


async def noop() -> None:
    return None


@dataclass
class Context:
    """As the official SDK's: the params are the mapping from the wire."""

    method: str = "tools/call"
    params: Any = field(default_factory=lambda: {"name": "search", "arguments": {}})


async def handler(ctx: Any) -> dict[str, Any]:
    return RESULT


async def pass_through(ctx: Any, call_next: Any) -> Any:
    """The least that any middleware costs."""
    return await call_next(ctx)


def behind(run: Any) -> Run:
    """A call of the handler through the middleware *run*."""
    ctx, call_next = Context(), handler

    async def call() -> object:
        return await run(ctx, call_next)

    return call


def bare_handler() -> Run:
    """What the middleware's figures are to be compared with."""
    ctx, call_next = Context(), handler

    async def call() -> object:
        return await call_next(ctx)

    return call


def purgatory_call() -> Run:
    @purgatory.AsyncCircuitBreakerFactory()("bench")
    async def call() -> None:
        return None

    return call


def pybreaker_call() -> Run:
    breaker = pybreaker.CircuitBreaker()

    async def call() -> object:
        return await breaker.call_async(noop)

    return call


def interlock_call(kind: interlock.WindowType, size: int) -> Run:
    config = interlock.Config(window_type=kind, window_size=size)
    breaker = interlock.CircuitBreaker(name="bench", config=config)

    async def call() -> object:
        return await breaker.call_async(noop)

    return call


def windows() -> dict[str, Run]:
    """Ours, in all forms, over two windows."""
    rates = {span: failure_rate(0.5, seconds=span) for span in (10.0, HOUR)}
    return {
        "ours, consecutive": CircuitBreaker()(noop),
        "ours, last 100 calls": CircuitBreaker(trip=failure_rate(0.5, calls=100))(noop),
        **{f"ours, {span:g} s": CircuitBreaker(trip=rate)(noop) for span, rate in rates.items()},
        "ours, slow calls, 10 s": CircuitBreaker(trip=slow_rate(0.5, slower_than=1, seconds=10))(noop),
        BARE: bare_handler(),
        "a middleware that does nothing": behind(pass_through),
        "ours, middleware": behind(CircuitMiddleware(CircuitBreaker())),
        "ours, middleware, 10 s": behind(CircuitMiddleware(CircuitBreaker(trip=rates[10.0]))),
        "ours, middleware a tool": behind(CircuitMiddleware(lambda tool: CircuitBreaker())),
        "ours, middleware a tool, 10 s": behind(CircuitMiddleware(lambda tool: CircuitBreaker(trip=rates[10.0]))),
    }


def peers() -> dict[str, Run]:
    """Each in its own words."""
    return {
        "circuitbreaker": circuitbreaker.circuit(noop),
        "hyx": hyx.circuitbreaker.consecutive_breaker()(noop),
        "aiobreaker": aiobreaker.CircuitBreaker(timeout_duration=dt.timedelta(seconds=30))(noop),
        "nopanic": nopanic.circuit_breaker()(noop),
        "purgatory": purgatory_call(),
        "pybreaker": pybreaker_call(),
        "interlock, last 100 calls": interlock_call(interlock.WindowType.COUNT_BASED, 100),
        "interlock, 10 s": interlock_call(interlock.WindowType.TIME_BASED, 10),
        "interlock, 3600 s": interlock_call(interlock.WindowType.TIME_BASED, 3600),
    }


def refusing() -> dict[str, Run]:
    """A guarded call while open; the floor is an exception that is raised and caught."""
    breaker = CircuitBreaker(trip=consecutive(1), cooldown=HOUR)
    breaker.acquire().fail()
    guarded = breaker(noop)

    async def refused() -> None:
        try:
            await guarded()
        except CircuitOpen:  # `suppress` would be measured too
            return

    async def raised() -> None:
        try:
            await failing()
        except ValueError:
            return

    async def failing() -> None:
        raise ValueError

    return {"ours, refused": refused, "an exception, caught": raised}


async def kept_by_refusals(count: int) -> int:
    """Bytes that *count* refusals leave behind."""
    refused = refusing()["ours, refused"]
    tracemalloc.start()
    for _ in range(1000):  # the count of refusals itself takes some bytes
        await refused()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(count):
        await refused()
    kept = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return kept


def keys() -> dict[str, Callable[[], object]]:
    """A lookup among 100 and among 100 000 breakers."""
    found: dict[str, Callable[[], object]] = {}
    for count in (100, 100_000):
        keyed = KeyedBreakers(lambda key: CircuitBreaker(), max_keys=count)
        for key in range(count):
            _ = keyed[key]
        found[f"one of {count} keys"] = lambda keyed=keyed: keyed[50]
    return found


def size_of_keys(count: int, maximum: int) -> int:
    """Bytes that the breakers of *count* keys occupy, where *maximum* are kept."""
    tracemalloc.start()
    keyed = KeyedBreakers(lambda key: CircuitBreaker(), max_keys=maximum)
    for key in range(count):
        _ = keyed[key]
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return size


def show_added(rows: dict[str, Row]) -> None:
    """What each form of ours adds to what it guards."""
    for name, row in rows.items():
        if name.startswith("ours"):
            base = rows[BARE].ratio if "middleware" in name else 1.0
            target = 4.0 if name.endswith(" s") else 3.0
            figure(f"{name}, adds", row.ratio - base, "bare awaits", at_most=target)


def main() -> None:
    title = "a call that succeeds, while closed"
    closed = compare({**windows(), **peers()}, title=title, peers=PEERS, calls=1000)
    lengths = {name: windows()[name] for name in ("ours, 10 s", "ours, 3600 s")}
    _, short, long = compare(lengths, title="the length of the window", rounds=50)
    title = "a call that is refused, and the breaker of a key"
    _, refused, _, few, many = compare({**refusing(), **keys()}, title=title, calls=2000)
    show_added({row.name: row for row in closed})
    figure("a window of 3600 s to one of 10 s", long.ratio / short.ratio, "times", at_most=1.05)
    figure("a refusal", refused.nanoseconds / 1000, "µs", at_most=1.5)
    figure("growth over 1,000,000 refusals", asyncio.run(kept_by_refusals(1_000_000)), "bytes", at_most=0)
    bounded, full = size_of_keys(100_000, 10_000), size_of_keys(10_000, 10_000)
    figure("memory after 100,000 keys to that after the 10,000 kept", bounded / full, "times", at_most=1.1)
    figure("a look-up among 100,000 keys to one among 100", many.ratio / few.ratio, "times", at_most=1.5)


if __name__ == "__main__":
    main()
