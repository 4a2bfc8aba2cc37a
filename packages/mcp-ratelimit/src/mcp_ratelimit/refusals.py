"""What a refused caller is told: enough to come back at the right time, and nothing about anybody else."""

from __future__ import annotations

import math
import sys
from typing import Any

from .decision import Decision

__all__ = ["refusal_data", "refusal_message", "refusal_result", "takes_result"]

META = "mcp-ratelimit/refusal"


def refusal_data(decision: Decision, *, shared: bool) -> dict[str, Any]:
    """Return the facts for a program: seconds rounded up, so that coming back then succeeds.

    Of a limit that is *shared* by several callers only the time is told, since its count is what the others did; of a
    call that can never pass, not even that.
    """
    data: dict[str, Any] = {"policy": decision.limit.name}
    if decision.retry_after < math.inf:
        data["retryAfter"] = max(1, math.ceil(decision.retry_after))
        data["retryAfterMs"] = max(1, math.ceil(decision.retry_after * 1000))
    if shared:
        return data
    return {
        **data,
        "limit": decision.limit.amount,
        "remaining": decision.remaining,
        "resetAfter": math.ceil(decision.reset_after),
    }


def refusal_message(data: dict[str, Any]) -> str:
    """Return the facts for a person, or a model."""
    if "retryAfter" not in data:
        return f"Rate limit {data['policy']!r} can never let a call of this cost pass; make it smaller"
    return f"Rate limit {data['policy']!r} exceeded; try again in {data['retryAfter']} s"


def takes_result(ctx: object, method: str | None) -> bool:
    """Say whether a refusal can be the result of this call: if it is one of a tool, and came over a connection.

    What a decorated function returns is its own value, and what a client's session returns, the model of a result.
    """
    return method == "tools/call" and getattr(ctx, "request_id", ctx) is not None


def refusal_result(ctx: object, message: str, data: dict[str, Any]) -> Any:
    """Return the refusal as the result of a tool, marked ``isError``, which reaches the model; or raise it as such.

    FastMCP makes that result itself, of its ToolError; the 1.x SDK wants its own model; everybody else the wire's dict.
    """
    if hasattr(ctx, "fastmcp_context"):
        raise sys.modules["fastmcp.exceptions"].ToolError(message)
    wire = {"content": [{"type": "text", "text": message}], "isError": True, "_meta": {META: data}}
    types = sys.modules.get("mcp.types")
    if types is not None and hasattr(sys.modules.get("mcp.shared.exceptions"), "McpError"):
        return types.ServerResult(types.CallToolResult.model_validate(wire))
    return {**wire, "resultType": "complete"}
