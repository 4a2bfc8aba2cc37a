"""Names, units and attributes of the OpenTelemetry semantic conventions for MCP, as far as metrics go.

They are in development: the tables are arguments of ``MetricsMiddleware``, and change here when they change there.

Of their attributes of metrics two are never written: ``jsonrpc.protocol.version``, which is for versions other than the
2.0 that every SDK speaks, and ``mcp.resource.uri``, which is opt-in and has as many values as there are resources.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["CODES", "METHODS", "PROTOCOL_VERSIONS", "attributes", "is_client_error", "is_server_error"]

METHODS = frozenset(
    {
        "completion/complete",
        "elicitation/create",
        "initialize",
        "logging/setLevel",
        "notifications/cancelled",
        "notifications/elicitation/complete",
        "notifications/initialized",
        "notifications/message",
        "notifications/progress",
        "notifications/prompts/list_changed",
        "notifications/resources/list_changed",
        "notifications/resources/updated",
        "notifications/roots/list_changed",
        "notifications/subscriptions/acknowledged",
        "notifications/tasks/status",
        "notifications/tools/list_changed",
        "ping",
        "prompts/get",
        "prompts/list",
        "resources/list",
        "resources/read",
        "resources/subscribe",
        "resources/templates/list",
        "resources/unsubscribe",
        "roots/list",
        "sampling/createMessage",
        "server/discover",
        "subscriptions/listen",
        "tasks/cancel",
        "tasks/get",
        "tasks/list",
        "tasks/result",
        "tools/call",
        "tools/list",
    }
)
"""Methods that get a series of their own; any other is ``_OTHER``."""

PROTOCOL_VERSIONS = frozenset({"2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28"})

CALLERS_FAULT = frozenset({-32700, -32600, -32601, -32602, -32002})
"""Parse error, invalid request, unknown method, invalid parameters, unknown resource."""

CODES = tuple(str(code) for code in (*sorted(CALLERS_FAULT), -32603, -32000, -32001, -32020, -32021, -32022, 408))
"""Codes that are always told apart: those of JSON-RPC, of MCP, and of the clients' own time limits."""


def is_server_error(code: int) -> bool:
    """Say whether a server that answers with this JSON-RPC code has failed: not where the caller has."""
    return code not in CALLERS_FAULT


def is_client_error(code: int) -> bool:  # noqa: ARG001  # the shape of such tables
    """Say whether a client that is answered with this code has failed: with every one."""
    return True


def attributes(labels: Iterable[str], values: Iterable[str]) -> dict[str, str | int]:
    """Return what OpenTelemetry is told: nothing that is empty, and a port, unless it is ``_OTHER``, as a number."""
    pairs = zip(labels, values, strict=True)
    return {
        label: int(value) if label == "server.port" and value.isdecimal() else value for label, value in pairs if value
    }
