"""Put a middleware in front of a server of the 1.x SDK, which has a table of handlers and no chain.

    request_handlers[CallToolRequest]  ──▶  middleware ──▶ handler

The table is replaced by a view of itself that puts the middleware in front of whatever is looked up.  So a handler that
is registered later, or through an old reference to the table, is caught too, and installing twice composes.

What this seam cannot see: ``initialize`` and ``notifications/cancelled``, which the session answers itself, and methods
that have no handler.  Notifications have no HTTP request here, hence no headers and no principal.
"""

from __future__ import annotations

import importlib
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping
from functools import partial
from typing import Any

from ._seam import headers, principal
from .chain import Chain
from .checked import AnyMiddleware
from .context import Call

__all__ = ["install"]

Handler = Callable[[Any], Awaitable[Any]]


def install(server: Any, middleware: AnyMiddleware) -> None:
    """Run *middleware* around every handler of a 1.x *server*, registered now or later; the first one is outermost.

    *server* is a lowlevel ``Server`` of mcp 1.x, its ``mcp.server.fastmcp.FastMCP``, or a FastMCP 2 or 3 server.  For a
    FastMCP server this seam, and not ``add_middleware``, keeps the code and data of a refused ``tools/call``, and sees
    the SDK's internal ``tools/list``, whose context is marked ``internal``.

    A middleware that does not call on returns a result model, or a result as on the wire.  Of a context handed to
    ``call_next``, changed ``params`` reach the handler, and nothing else.  A wrapper that someone builds from a handler
    *read* from the table, and registers again, has the middleware twice.

    Raises TypeError, saying what to do instead, for a server of the 2.x SDK or of FastMCP 4.
    """
    lowlevel = _lowlevel(server)
    for name in ("request_handlers", "notification_handlers"):
        table = getattr(lowlevel, name)
        if isinstance(table, _Handlers):
            table.chain = Chain(table.chain, middleware)
        else:
            setattr(lowlevel, name, _Handlers(table, Chain(middleware), is_request=name == "request_handlers"))


def _lowlevel(server: Any) -> Any:
    lowlevel = server if hasattr(server, "request_handlers") else getattr(server, "_mcp_server", None)
    if hasattr(lowlevel, "request_handlers"):
        return lowlevel
    if hasattr(server, "add_middleware"):
        raise TypeError("FastMCP 4 has its own chain: server.add_middleware(as_fastmcp(middleware))")
    if hasattr(server, "middleware"):
        raise TypeError("an mcp 2.x server has its own chain: server.middleware.append(middleware)")
    raise TypeError(f"install takes an mcp 1.x Server or FastMCP, or a FastMCP 2 or 3 server, got {server!r}")


class _Handlers(MutableMapping[type, Handler]):
    """The server's table, seen with a chain in front of each handler; what is registered goes to the table itself."""

    def __init__(self, table: MutableMapping[type, Handler], chain: Chain, *, is_request: bool) -> None:
        self.chain = chain
        self._table = table
        self._run = self._handle_request if is_request else self._handle_notification

    def __getitem__(self, kind: type) -> Handler:
        return partial(self._run, kind, self._table[kind])

    def __setitem__(self, kind: type, handler: Handler) -> None:
        self._table[kind] = handler

    def __delitem__(self, kind: type) -> None:
        del self._table[kind]

    def __iter__(self) -> Iterator[type]:
        return iter(self._table)

    def __len__(self) -> int:
        return len(self._table)

    async def _handle_request(self, kind: Any, handler: Handler, request: Any) -> Any:
        context = importlib.import_module("mcp.server.lowlevel.server").request_ctx.get(None)
        call = Call(
            _method(kind),
            _params(request),
            request_id=getattr(context, "request_id", None),
            headers=headers(context),
            principal=principal(context),
            request=getattr(context, "request", None),
            session=getattr(context, "session", None),
            internal=request is None,
        )
        return _result(call, await self.chain(call, partial(_handle, kind, handler, request, call)))

    async def _handle_notification(self, kind: Any, handler: Handler, notification: Any) -> None:
        call = Call(_method(kind), _params(notification))
        await self.chain(call, partial(_handle, kind, handler, notification, call))


def _method(kind: Any) -> str:
    return str(kind.model_fields["method"].default)


def _params(message: Any) -> Mapping[str, Any] | None:
    params = getattr(message, "params", None)
    return None if params is None else params.model_dump(by_alias=True, mode="json", exclude_none=True)


async def _handle(kind: Any, handler: Handler, message: Any, call: Call, ctx: Any) -> Any:
    if ctx.params is not call.params:
        message = kind.model_validate({"method": call.method, "params": ctx.params})
    return await handler(message)


def _result(call: Call, value: Any) -> Any:
    """Make sure that the session can send *value*: anything else would end the session, not only the request."""
    if hasattr(value, "model_dump"):
        return value
    if isinstance(value, Mapping):
        types = importlib.import_module("mcp.types")
        return types.ServerResult(types.EmptyResult.model_validate(value))
    raise TypeError(f"the middleware of {call.method} returned {type(value).__name__}, not a result; forgot to return?")
