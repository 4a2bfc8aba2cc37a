"""What the layers know of themselves, for people and for machines: a live page, its JSON, and metrics for Prometheus.

    /status         one HTML file, which asks for /status.json every second
    /status.json    the packages' own statistics
    /metrics        what Prometheus scrapes

There is no authentication: serve this on loopback, or in a private network.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from mcp_circuit import Rejected
from mcp_metrics import MetricsApp, NativeBuckets, Source
from mcp_middleware import CallContext
from mcp_ratelimit import CallRefused, Decision, caller_of
from mcp_rbac import AccessDecided
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from .stack import Stack

C = TypeVar("C", bound=CallContext)
R = TypeVar("R")

PAGE = Path(__file__).with_name("status.html")
CALLERS = 20  # whose allowances are shown: those who called last
DURATION = "mcp.server.operation.duration"
HEADERS = {"content-security-policy": "default-src 'self' data: 'unsafe-inline'", "cache-control": "no-store"}


class Tally:
    """Counts, from the events of all layers, who refused a tool call and why."""

    def __init__(self) -> None:
        self.refusals: Counter[tuple[str, str]] = Counter()

    def __call__(self, event: object) -> None:
        """Take note of one event."""
        match event:
            case AccessDecided(method="tools/call", allowed=False):
                self.refusals["rbac", event.reason] += 1
            case CallRefused():
                self.refusals["ratelimit", event.decision.limit.name] += 1
            case Rejected():
                self.refusals["circuit", f"{event.name} {event.state.value}"] += 1
            case _:
                pass


def latencies(source: Source) -> Iterator[dict[str, Any]]:
    """Yield, for each tool, how often it was called, how often in vain, and how long half and 99 % of calls took."""
    tools: dict[str, tuple[Counter[str], NativeBuckets]] = {}
    for about, points in source.collect():
        for point in points if about.name == DURATION else ():
            labels = dict(zip(about.labels, point.labels, strict=True))
            if labels["mcp.method.name"] != "tools/call" or point.native is None:
                continue
            ends, native = tools.setdefault(labels["gen_ai.tool.name"], (Counter(), NativeBuckets()))
            ends["calls"] += point.native.count()
            ends["errors"] += point.native.count() if labels["error.type"] else 0
            native.merge(point.native)
    for tool, (ends, native) in sorted(tools.items()):
        yield {"tool": tool, **ends, "p50": quantile(native, 0.5), "p99": quantile(native, 0.99)}


def quantile(native: NativeBuckets, share: float) -> float:
    """Return the upper bound of the bucket in which that *share* of the values is reached; 9 % too much at most."""
    left = share * native.count() - native.zero_count
    for place, count in sorted(native.positive.items()):
        left -= count
        if left <= 0:
            return float(2.0 ** (place * 2.0**-native.schema))
    return 0.0


async def allowance(stack: Stack[Any], caller: str) -> dict[str, Any]:
    """Return what is left to one caller; this charges nothing."""
    peeked = stack.limiter.peek(caller)
    decision = peeked if isinstance(peeked, Decision) else await peeked
    limit = decision.limit
    return {"caller": caller, "limit": limit.name, "remaining": decision.remaining, "burst": limit.burst}


class Callers:
    """A middleware that remembers who called last, so that their allowances can be shown."""

    def __init__(self) -> None:
        self.keys: OrderedDict[str, None] = OrderedDict()

    async def __call__(self, ctx: C, call_next: Callable[[C], Awaitable[R]]) -> R:
        """Take note of the caller, and pass the call on."""
        caller = caller_of(ctx)
        self.keys[caller] = None
        self.keys.move_to_end(caller)
        if len(self.keys) > CALLERS:
            self.keys.popitem(last=False)
        return await call_next(ctx)


class Status:
    """What one stack says of itself; ``watch`` is to stand before its chain, and ``tally`` gets its events."""

    def __init__(self) -> None:
        self.tally, self.watch = Tally(), Callers()

    async def of(self, stack: Stack[Any]) -> dict[str, Any]:
        """Return the statistics of all layers, as JSON has them."""
        cache, pool, retry = stack.cache.statistics(), stack.pool.statistics(), stack.retry.statistics()
        refusals = self.tally.refusals + Counter({("pool", "timeout"): pool.timeouts, ("pool", "full"): pool.refusals})
        return {
            "circuits": [{**asdict(stack.breaker.snapshot()), **asdict(stack.breaker.statistics())}],
            "limits": [await allowance(stack, caller) for caller in tuple(self.watch.keys)],
            "caches": [{**asdict(cache), "hit_ratio": cache.hit_ratio, "seconds_saved": cache.seconds_saved}],
            "retries": [asdict(retry)],
            "pools": [asdict(pool)],
            "latencies": list(latencies(stack.registry)),
            "refusals": [{"by": by, "why": why, "times": times} for (by, why), times in refusals.items()],
        }

    def routes(self, stack: Stack[Any]) -> list[Route]:
        """Return the routes of the page, of its JSON and of the metrics, for any Starlette application."""

        async def page(_: Request) -> Response:
            return FileResponse(PAGE, headers=HEADERS)

        async def facts(_: Request) -> Response:
            return JSONResponse(await self.of(stack))

        return [
            Route("/status", page),
            Route("/status.json", facts),
            Route("/metrics", MetricsApp(stack.registry)),
        ]
