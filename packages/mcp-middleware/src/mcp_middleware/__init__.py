"""Write a cross-cutting concern once, and put it in front of any MCP server, client or function."""

from __future__ import annotations

from ._seam import (
    CallContext,
    CallNext,
    Middleware,
    Outcome,
    Principal,
    Refused,
    access_token,
    arguments,
    as_fastmcp,
    headers,
    http_request,
    is_continuation,
    is_internal,
    is_notification,
    is_stream,
    outcome,
    preserve_signature,
    principal,
    refuse,
    request_id,
    session_id,
    target,
    with_arguments,
)
from .chain import Chain
from .checked import AnyMiddleware, checked
from .context import Call, RequestValue, State
from .install import install
from .order import NEIGHBOURS, RECOMMENDED_ORDER, Neighbours, OrderWarning
from .scope import for_methods, for_tools, skip, when

__version__ = "0.1.0"

__all__ = [
    "NEIGHBOURS",
    "RECOMMENDED_ORDER",
    "AnyMiddleware",
    "Call",
    "CallContext",
    "CallNext",
    "Chain",
    "Middleware",
    "Neighbours",
    "OrderWarning",
    "Outcome",
    "Principal",
    "Refused",
    "RequestValue",
    "State",
    "access_token",
    "arguments",
    "as_fastmcp",
    "checked",
    "for_methods",
    "for_tools",
    "headers",
    "http_request",
    "install",
    "is_continuation",
    "is_internal",
    "is_notification",
    "is_stream",
    "outcome",
    "preserve_signature",
    "principal",
    "refuse",
    "request_id",
    "session_id",
    "skip",
    "target",
    "when",
    "with_arguments",
]
