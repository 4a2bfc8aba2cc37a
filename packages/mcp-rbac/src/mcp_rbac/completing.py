"""The answer to a completion that is denied: nothing, in the server's own wrapping, and no handler has run.

A server is asked for the unknown under another name (``hiding.py``) because it looks that name up.  A handler of
completions need not: it may go by the name of the argument alone, and then answers anything, to anybody.  So it is not
asked.  What is around an answer of the server, and whether it completes at all, is what it says of itself: mcp 2.x is
asked that in place of the completion, FastMCP 4 has it at hand, and to 1.x handlers alone come, and they wrap nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from .conditions import mapping_of
from .hiding import field_of, not_found, params_of

__all__ = ["nothing_completed"]

_META = "io.modelcontextprotocol/"
_HELLO = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "mcp-rbac", "version": "1"}}


async def nothing_completed(ctx: Any, call_next: Any) -> dict[str, Any]:
    """Answer like a handler that has nothing to offer; raise what the server answers if it has no handler."""
    described = await _description(ctx, call_next)
    if "completions" not in mapping_of(described.get("capabilities", _COMPLETES)):
        raise not_found(ctx.method)
    return {
        "completion": {"values": []},
        **{key: described[key] for key in ("resultType", "_meta") if key in described},
    }


_COMPLETES: Mapping[str, Any] = {"completions": {}}


async def _description(ctx: Any, call_next: Any) -> Mapping[str, Any]:
    """Return what the server says of itself: ``capabilities``, and what is around its results."""
    meta = mapping_of(field_of(params_of(ctx), "_meta"))
    is_modern = f"{_META}protocolVersion" in meta
    lowlevel: Any = getattr(getattr(getattr(ctx, "fastmcp_context", None), "fastmcp", None), "_mcp_server", None)
    if hasattr(lowlevel, "get_request_handler"):
        capabilities = _COMPLETES if lowlevel.get_request_handler(ctx.method) else dict[str, Any]()
        stamp = {"resultType": "complete", "_meta": {f"{_META}serverInfo": lowlevel.server_info_stamp}}
        return {"capabilities": capabilities, **(stamp if is_modern else {})}
    if not hasattr(ctx, "protocol_version"):
        return {}
    if is_modern:
        return mapping_of(await call_next(replace(ctx, method="server/discover", params={"_meta": meta})))
    return mapping_of(await call_next(replace(ctx, method="initialize", params=_HELLO)))
