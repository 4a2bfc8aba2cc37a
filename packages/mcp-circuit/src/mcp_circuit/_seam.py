"""What every MCP seam has in common, read without importing any SDK.

The official SDK (1.x, 2.x) and FastMCP (2, 3, 4) hand a middleware different objects, in wire or in Python spelling:

    ctx.params  ── a mapping, a model or None            official SDK, and the ``Call`` of mcp-middleware
    ctx.message ── a model, a raw mapping or None        FastMCP, whose HTTP request hides in ``ctx.fastmcp_context``

Rules of this file, each tested in ``tests/middleware``:

1. An accessor never raises, whatever a peer sent: it answers None, an empty value or False.
2. Identity comes from the verified token of *this* request, never from anything that the caller can write.
3. Nothing here imports an SDK; what an SDK must supply is looked up in ``sys.modules``.

The file is the same, byte for byte, in every package: none depends on another, and no copy can clash with its twin.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
import sys
import typing
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal, NamedTuple, Protocol, TypeVar


class CallContext(Protocol):
    """What the contexts of all SDKs have in common."""

    @property
    def method(self) -> str | None:
        """The JSON-RPC method, such as ``tools/call``; FastMCP types it as optional."""


C = TypeVar("C", bound=CallContext)
R = TypeVar("R")
W = TypeVar("W", bound=Callable[..., Any])

CallNext = Callable[[C], Awaitable[R]]  # the rest of the chain, which may be awaited never, once or many times


class Middleware(Protocol):
    """An object that fits every seam; the parameters must have exactly these names."""

    async def __call__(self, ctx: C, call_next: CallNext[C, R]) -> R: ...


class Principal(NamedTuple):
    """Who is calling, as the verified token says: unique only as the triple of the first three fields."""

    client_id: str | None
    issuer: str | None = None
    subject: str | None = None
    scopes: tuple[str, ...] = ()


def target(ctx: object) -> str | None:
    """Return the name of the tool or prompt, or the URI of the resource; of a completion, what its ``ref`` names.

    Only the field that the method goes by is read: a caller may send both, to be taken for somebody else's call.
    """
    params = _params(ctx)
    ref = _get(params, "ref")
    kind = _method(ctx).partition("/")[0] if ref is None else f"{_get(ref, 'type')}"
    for field in _TARGET_FIELDS.get(kind, ("name", "uri")):
        value = _get(params if ref is None else ref, field)
        if isinstance(value, str):
            return value
        if _attr(value, "unicode_string"):  # pydantic's AnyUrl, in the 1.x models
            return str(value)
    return None


def arguments(ctx: object) -> Mapping[str, Any]:
    """Return the arguments of a tool or prompt; an empty mapping where there are none.  Do not change it in place."""
    value: Any = _get(_params(ctx), "arguments")
    return _mapping(value) if isinstance(value, Mapping) else {}


def with_arguments(ctx: C, arguments: Mapping[str, Any]) -> C:
    """Return a copy of *ctx* that calls with other arguments, to be handed to ``call_next``.

    Raises TypeError when *ctx* is not a dataclass, as every context of an SDK and ``Call`` is.
    """
    field, changed = "params" if hasattr(ctx, "params") else "message", {"arguments": dict(arguments)}
    old: Any = getattr(ctx, field, None)
    new: Any = old.model_copy(update=changed) if hasattr(old, "model_copy") else {**_mapping(old or {}), **changed}
    return typing.cast("C", dataclasses.replace(typing.cast("Any", ctx), **{field: new}))


def headers(ctx: object) -> Mapping[str, str]:
    """Return the HTTP headers, names in lower case; an empty mapping over stdio and in memory."""
    for source in (ctx, _own_request(ctx)):
        found = _attr(source, "headers")
        if isinstance(found, Mapping) and found:
            return _mapping(found)
    return {}


def session_id(ctx: object) -> str | None:
    """Return the transport's session id; None over stdio, in memory, and on stateless or 2026-07-28 connections.

    FastMCP's ``context.session_id`` is not it: that one is new for every request.
    """
    return headers(ctx).get("mcp-session-id")


def http_request(ctx: object) -> Any:
    """Return the HTTP request that brought the message; None over stdio and in memory."""
    return _own_request(ctx) or _ambient_request()


def access_token(ctx: object) -> Any:
    """Return the token of this request that the SDK's authentication has verified; None without one.

    The HTTP request is asked and, where there is one, it alone: in stateful sessions of the 1.x SDK the contextvar
    still holds the token that opened the session.
    """
    request = http_request(ctx)
    if request is not None:
        return _attr(_get(_attr(request, "scope"), "user"), "access_token")
    auth = sys.modules.get("mcp.server.auth.middleware.auth_context")
    return auth.get_access_token() if auth else None


def principal(ctx: object) -> Principal | None:
    """Return who the verified token of this request says is calling; None without one.

    ``_meta.client_id`` and ``clientInfo`` are the caller's own words, and not looked at.
    """
    own = _attr(ctx, "principal")
    if type(own).__name__ == "Principal":  # of this package, or of a sibling that has the same lines
        return typing.cast("Principal", own)
    token = access_token(ctx)
    return None if token is None else _principal_of(token)


def request_id(ctx: object) -> str | int | None:
    """Return the JSON-RPC id; None for a notification and for a call that did not come over a connection."""
    value = _attr(_sdk_context(ctx), "request_id")
    return value if isinstance(value, (str, int)) else None


def is_notification(ctx: object) -> bool:
    """Say whether the message is a notification: nobody waits for an answer, a refusal is only logged."""
    return _attr(ctx, "type") == "notification" or _method(ctx).startswith("notifications/")


def is_internal(ctx: object) -> bool:
    """Say whether the SDK itself asks, as it does with a ``tools/list`` before each ``tools/call`` on some stacks.

    Only that one pair counts: the header that betrays it is written by the caller, who must not be able to smuggle
    another method past a limit with it.
    """
    if _attr(ctx, "internal") is True:
        return True
    return _method(ctx) == "tools/list" and headers(ctx).get("mcp-method") == "tools/call"


def is_continuation(ctx: object) -> bool:
    """Say whether the request answers an earlier ``input_required``: never cache, repeat or hedge it.

    The caller writes these fields, so this is a reason to do less for a request, never to trust it more.
    """
    params = _params(ctx)
    return any(_get(params, field) is not None for field in _CONTINUATION_FIELDS)


def is_stream(ctx: object) -> bool:
    """Say whether ``call_next`` lasts as long as the client listens: no deadline, no place in a latency figure."""
    return _method(ctx) == "subscriptions/listen"


Outcome = Literal["ok", "tool_error", "input_required", "rejected", "protocol_error", "cancelled", "timeout"]


def outcome(value: object) -> Outcome:
    """Classify what ``call_next`` returned or raised.

    ``tool_error`` is a result marked ``isError`` or an exception of the handler's own, ``rejected`` an error made by
    ``refuse``, ``protocol_error`` another error of the SDK or a malformed request, ``cancelled`` any BaseException that
    is no Exception: neither success nor failure.  FastMCP's ToolError counts as what caused it.
    """
    if isinstance(value, BaseException):
        return _failure(value)
    kind: Any
    failed: Any
    if isinstance(value, dict):
        wire = _mapping(value)
        kind, failed = wire.get("resultType"), wire.get("isError")
    else:
        inner = _attr(value, "root")
        root = value if inner is None else inner
        kind, failed = _attr(root, "result_type"), _attr(root, "is_error")
        if failed is None:  # FastMCP 4 has the spelling of 1.x too, and warns who reads it
            failed = _attr(root, "isError")
        if _attr(root, "input_required") is not None:  # FastMCP's ToolResult of a tool that asks
            return "input_required"
        if _is_error_object(root):  # the SDK lets a handler return its ErrorData
            return "protocol_error"
    if kind is not None and isinstance(kind, str) and kind == "input_required":  # another type compares as it likes
        return "input_required"
    return "tool_error" if failed is True else "ok"


class Refused(Exception):  # noqa: N818  # the field's word, like Cancelled
    """A refusal in a program that has loaded no MCP SDK; with one, ``refuse`` makes the SDK's own error instead."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.code: int = code
        self.message: str = message
        self.data: Any = data


def refuse(code: int, message: str, data: Any = None) -> Exception:
    """Make the error to raise so that *code*, *message* and *data* reach the client, and nothing else does.

    Any class but the SDK's own loses code and data, and on connections before 2026-07-28 its text leaks to the client.
    Raises ValueError for a code from -32768 to -32000, which JSON-RPC 2.0 and MCP reserve.
    """
    if type(code) is not int or code in _RESERVED_CODES:
        raise ValueError(f"refuse needs an int code outside -32768..-32000, which are reserved, got {code!r}")
    sdk: Any = sys.modules.get("mcp.shared.exceptions")
    error: Any
    if hasattr(sdk, "MCPError"):
        error = sdk.MCPError(code, message, data)
    elif hasattr(sdk, "McpError"):
        error = sdk.McpError(sdk.ErrorData(code=code, message=message, data=data))
    else:
        error = Refused(code, message, data)
    error.refused = True
    return typing.cast("Exception", error)


def as_fastmcp(middleware: Callable[[Any, Any], Awaitable[Any]]) -> Any:
    """Wrap *middleware* as an instance of FastMCP's own base class, for ``server.add_middleware``.

    Imports FastMCP (2, 3 or 4), and raises ImportError without it.
    """
    base: Any = importlib.import_module("fastmcp.server.middleware").Middleware

    async def run(_self: object, context: Any, call_next: Any) -> Any:
        return await middleware(context, call_next)

    return type("FastMCPAdapter", (base,), {"__call__": run, "__doc__": middleware.__doc__})()


# --- preserve_signature: the same lines in every module that decorates
def preserve_signature(wrapper: W, fn: Callable[..., Any]) -> W:
    """Make *wrapper* look like *fn* to every framework that reads signatures, and return it.

    The annotations are resolved, since no SDK can do that in a foreign module, and ``__wrapped__`` is removed, since
    FastMCP looks through it and finds an unbound ``self``.
    """
    functools.update_wrapper(wrapper, fn)
    del wrapper.__wrapped__  # type: ignore[attr-defined]  # update_wrapper has just set it
    signature = inspect.signature(fn)
    try:
        hints = typing.get_type_hints(fn, include_extras=True)
    except (NameError, TypeError):  # a name that exists for type checkers only, or an object that has no hints
        hints = dict(getattr(fn, "__annotations__", {}))
    parameters = [p.replace(annotation=hints.get(p.name, p.annotation)) for p in signature.parameters.values()]
    returns = hints.get("return", signature.return_annotation)
    shown = signature.replace(parameters=parameters, return_annotation=returns)
    wrapper.__signature__ = shown  # type: ignore[attr-defined]  # what inspect reads
    wrapper.__annotations__ = hints
    return wrapper


# --- end preserve_signature

_NAME, _URI = ("name",), ("uri",)
_TARGET_FIELDS = {"tools": _NAME, "prompts": _NAME, "ref/prompt": _NAME, "resources": _URI, "ref/resource": _URI}
_CONTINUATION_FIELDS = ("inputResponses", "requestState", "input_responses", "request_state")
_RESERVED_CODES = range(-32768, -31999)
_TIMEOUT_CODES = (-32001, 408)  # what the 2.x and the 1.x client raise when a request takes too long


def _mapping(value: Any) -> Mapping[str, Any]:
    return typing.cast("Mapping[str, Any]", value)


def _get(source: Any, name: str) -> Any:
    """Read a field of what came over the wire, a mapping or a model of it."""
    return _mapping(source).get(name) if isinstance(source, (dict, Mapping)) else _attr(source, name)


def _attr(source: Any, name: str) -> Any:
    try:
        return getattr(source, name, None)
    except Exception:  # noqa: BLE001  # a property of a foreign object; FastMCP's raise outside a request
        return None


def _method(ctx: object) -> str:
    value = _attr(ctx, "method")
    return value if isinstance(value, str) else ""


def _params(ctx: object) -> object:
    params = _attr(ctx, "params")
    return _attr(ctx, "message") if params is None else params


def _sdk_context(ctx: object) -> object:
    outer = _attr(ctx, "fastmcp_context")
    return ctx if outer is None else _attr(outer, "request_context")


def _own_request(ctx: object) -> Any:
    request = _attr(_sdk_context(ctx), "request")
    if request is None and _attr(ctx, "fastmcp_context") is not None:
        # FastMCP up to 3 has no request context during initialize.
        http = sys.modules.get("fastmcp.server.http")
        request = http._current_http_request.get(None) if http else None  # noqa: SLF001  # there is no public way
    return request


def _ambient_request() -> Any:
    """Find the request being served when *ctx* does not carry it, as in a decorated function under the 1.x SDK."""
    lowlevel = sys.modules.get("mcp.server.lowlevel.server")
    current = getattr(lowlevel, "request_ctx", None)
    return _attr(current.get(None), "request") if current else None


def _principal_of(token: object) -> Principal:
    claims = _attr(token, "claims")
    names = _attr(token, "client_id"), _get(claims, "iss"), _attr(token, "subject") or _get(claims, "sub")
    client_id, issuer, subject = (None if name is None else str(name) for name in names)
    scopes: Any = _attr(token, "scopes")
    return Principal(client_id, issuer, subject, tuple(map(str, scopes)) if type(scopes) in (list, tuple) else ())


def _failure(error: BaseException) -> Outcome:
    error = _unwrapped(error)
    if not isinstance(error, Exception):
        return "cancelled"
    if getattr(error, "refused", False) is True:
        return "rejected"
    names = {cls.__name__ for cls in type(error).__mro__}
    details = _attr(error, "error")
    if names & {"TimeoutError", "TooSlowError"} or _attr(details, "code") in _TIMEOUT_CODES:
        return "timeout"
    malformed = type(error).__module__.startswith("pydantic") and "ValidationError" in names
    return "protocol_error" if malformed or _is_error_object(details) else "tool_error"


def _unwrapped(error: BaseException) -> BaseException:
    """Follow groups of one and FastMCP's ToolError to the cause; at most 8 steps, since causes may form a ring."""
    for _ in range(8):
        members = typing.cast("tuple[BaseException, ...]", _attr(error, "exceptions"))
        inner = members[0] if type(members) is tuple and len(members) == 1 else None
        if inner is None and type(error).__name__ == "ToolError":
            inner = error.__cause__
        if not isinstance(inner, BaseException):
            break
        error = inner
    return error


def _is_error_object(value: object) -> bool:
    return isinstance(_attr(value, "code"), int) and isinstance(_attr(value, "message"), str)
