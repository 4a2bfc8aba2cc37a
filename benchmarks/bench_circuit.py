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
from typing import Any

import aiobreaker
import circuitbreaker
import hyx.circuitbreaker
import interlock
import nopanic
import purgatory
import pybreaker
from _ratio import compare
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
RESULT = {"content": [], "isError": False, "resultType": "complete"}
HOUR = 3600.0

Run = Callable[[], Awaitable[object]]


async def noop() -> None:
    return None


class Context:
    """As the official SDK's: the params are the mapping from the wire."""

    method = "tools/call"

    def __init__(self, tool: str) -> None:
        self.params = {"name": tool, "arguments": {}}


def middleware(breaker: Any) -> Run:
    run, ctx = CircuitMiddleware(breaker), Context("search")

    async def handler(ctx: Any) -> dict[str, Any]:
        return RESULT

    async def call() -> object:
        return await run(ctx, handler)

    return call


def bare_handler() -> Run:
    """What the middleware's figures are to be compared with."""
    ctx = Context("search")

    async def handler(ctx: Any) -> dict[str, Any]:
        return RESULT

    async def call() -> object:
        return await handler(ctx)

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
        "a handler without middleware": bare_handler(),
        "ours, middleware": middleware(CircuitBreaker()),
        "ours, middleware, 10 s": middleware(CircuitBreaker(trip=rates[10.0])),
        "ours, middleware a tool": middleware(lambda tool: CircuitBreaker()),
        "ours, middleware a tool, 10 s": middleware(lambda tool: CircuitBreaker(trip=rates[10.0])),
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
    await refused()
    tracemalloc.start()
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


def bytes_per_key(count: int) -> float:
    """What one idle breaker of many occupies."""
    tracemalloc.start()
    keyed = KeyedBreakers(lambda key: CircuitBreaker(), max_keys=count // 10)
    for key in range(count):
        _ = keyed[key]
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return size / len(keyed)


def main() -> None:
    print("A call that succeeds, while closed:")
    compare({**windows(), **peers()}, peers=PEERS, calls=1000)
    print("\nA call that is refused:")
    compare(refusing(), calls=2000)
    print("\nThe length of the window:")
    compare({name: run for name, run in windows().items() if name in ("ours, 10 s", "ours, 3600 s")})
    print(f"Bytes kept by 1 000 000 refusals: {asyncio.run(kept_by_refusals(1_000_000))}")
    print(f"100 000 keys, 10 000 kept: {bytes_per_key(100_000):.0f} bytes each")
    compare(keys(), calls=2000)


if __name__ == "__main__":
    main()
