"""Read the objects of any SDK, whose properties may raise."""

from __future__ import annotations

from typing import Any

__all__ = ["field", "sdk_context"]


def field(source: Any, name: str) -> Any:
    """Return a field of a mapping or of an object, None without one; never raises."""
    try:
        return source.get(name) if hasattr(source, "get") else getattr(source, name, None)
    except Exception:  # noqa: BLE001  # a property of a foreign object
        return None


def sdk_context(ctx: object) -> Any:
    """Return the official SDK's context of a message; None outside of a request, where FastMCP's raises."""
    outer = field(ctx, "fastmcp_context")
    return ctx if outer is None else field(outer, "request_context")
