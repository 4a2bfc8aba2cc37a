"""The middleware that all examples share: a log of every tool call, and a rule that nothing is deleted."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from mcp_middleware import CallContext, Chain, arguments, for_methods, for_tools, outcome, refuse, target

C = TypeVar("C", bound=CallContext)
R = TypeVar("R")


async def audit(ctx: C, call_next: Callable[[C], Awaitable[R]]) -> R:
    """Print what was called and how it ended."""
    ending = "cancelled"
    try:
        result = await call_next(ctx)
        ending = outcome(result)
        return result
    except Exception as error:
        ending = outcome(error)
        raise
    finally:
        print(f"audit   {target(ctx)} {dict(arguments(ctx))}: {ending}")


async def read_only(ctx: C, call_next: Callable[[C], Awaitable[R]]) -> R:  # noqa: ARG001  # it never calls on
    """Refuse, with a code and data that reach the client."""
    raise refuse(-31001, f"{target(ctx)} is not allowed here", {"policy": "read-only"})


chain = Chain(for_methods("tools/call", audit), for_tools("delete_*", read_only))
