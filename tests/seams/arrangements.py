"""The ways to put pass-throughs before a server, and one that is not transparent, to prove that we would see it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import mcp_cache
import mcp_circuit
import mcp_metrics
import mcp_middleware as mm
import mcp_ratelimit
import mcp_rbac
import mcp_retry

from tests.seams.pool_row import Pooled

_ACCESSORS = (
    mm.target,
    mm.arguments,
    mm.headers,
    mm.session_id,
    mm.principal,
    mm.request_id,
    mm.is_notification,
    mm.is_internal,
    mm.is_continuation,
    mm.is_stream,
)


class Passes:
    """How many messages went through a pass-through, and through how many layers of them each went."""

    def __init__(self) -> None:
        self.seen = 0

    async def __call__(self, ctx: Any, call_next: Any) -> Any:
        """Read everything that can be read of the call and of its outcome, change nothing."""
        self.seen += 1
        for read in _ACCESSORS:
            read(ctx)
        try:
            result = await call_next(ctx)
        except BaseException as error:
            mm.outcome(error)
            raise
        mm.outcome(result)
        return result


class Rewriter(Passes):
    """A pass-through that hands on a copy of the context whenever the call has arguments."""

    async def __call__(self, ctx: Any, call_next: Any) -> Any:
        """Replace the arguments with equal ones."""
        self.seen += 1
        found = mm.arguments(ctx)
        return await call_next(mm.with_arguments(ctx, found) if found else ctx)


class Meddler(Passes):
    """Not transparent: `echo`, or a tool of the handler-style servers, hears other words than the client said."""

    async def __call__(self, ctx: Any, call_next: Any) -> Any:
        """Change the arguments of two tools."""
        self.seen += 1
        if mm.target(ctx) in ("echo", "tool-0"):
            ctx = mm.with_arguments(ctx, {**mm.arguments(ctx), "text": "meddled"})
        return await call_next(ctx)


def _chain(layers: int, passes: Passes) -> list[Any]:
    return [mm.Chain(*[passes] * layers)]


def _separate(layers: int, passes: Passes) -> list[Any]:
    return [passes] * layers


def _stack(passes: Passes) -> list[Any]:
    """All packages in the recommended order, each as permissive as it can be made."""
    everything = mcp_rbac.Subject("anybody", {"anything"})
    return [
        mm.Chain(
            passes,
            mcp_metrics.MetricsMiddleware(mcp_metrics.Registry(), native=3, exemplars=True, sizes=True),
            mcp_rbac.RBACMiddleware(
                mcp_rbac.Policy(roles={"anything": {"allow": ["**"]}}), local=everything, anonymous=everything
            ),
            mcp_ratelimit.RateLimitMiddleware("1000000/s", post_charge=True),
            mcp_cache.CacheMiddleware(tools={"nothing": 60}),
            mcp_retry.RetryMiddleware(mcp_retry.Retry(on=ConnectionError)),
            mcp_circuit.CircuitMiddleware(lambda tool: mcp_circuit.CircuitBreaker(name=tool)),
            Pooled(),
        )
    ]


COUNTS = (1, 3, 20)
ARRANGEMENTS: dict[str, Callable[[Passes], list[Any]]] = {
    "bare": lambda passes: [],
    **{f"chain-{count}": partial(_chain, count) for count in COUNTS},
    **{f"separate-{count}": partial(_separate, count) for count in COUNTS},
    "nested": lambda passes: [mm.Chain(mm.Chain(passes), mm.Chain(), passes)],
    "rewriting": lambda passes: [mm.Chain(Rewriter(), passes)],
    "stack": _stack,
    "asgi-3": lambda passes: [],  # these three stand before the HTTP application
    "meddling": lambda passes: [mm.Chain(Meddler(), passes)],
}


def arrangements_for(transport: str) -> tuple[str, ...]:
    """Return what is tried: everything in memory; over a wire, which costs seconds, each number of layers once."""
    if transport == "memory":
        return tuple(name for name in ARRANGEMENTS if name not in ("bare", "asgi-3", "meddling"))
    return "chain-1", "separate-3", "chain-20", "stack", *(["asgi-3"] if transport.startswith("http") else [])
