"""The client side of the seam: the same middleware around what a client sends.

    mcp 2.x, FastMCP 4      ClientSession ──▶ dispatcher ──▶ transport        wrap_dispatcher
    mcp 1.x, FastMCP 2, 3   ClientSession.send_request ──▶ transport          wrap_session

``ctx.request_id`` is None unless the caller chose an id: the SDK numbers a request further in.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar, cast

from .checked import AnyMiddleware, checked
from .context import Call

__all__ = ["wrap_dispatcher", "wrap_session"]

T = TypeVar("T")


def wrap_dispatcher(dispatcher: T, middleware: AnyMiddleware) -> T:
    """Return *dispatcher* with *middleware* around every request and notification that the 2.x client sends.

    Use it as ``ClientSession(dispatcher=...)``.  Results are as on the wire.  ``ctx.headers`` are those about to be
    sent, and computed before: over HTTP, a server refuses a call whose name, or an argument that its tool maps to a
    header, was changed here.  The client's read timeout runs anew each time ``call_next`` is awaited.

    Raises TypeError for an object that has no ``send_raw_request``.
    """
    if not hasattr(dispatcher, "send_raw_request"):
        raise TypeError(f"wrap_dispatcher takes a Dispatcher of mcp 2.x, got {dispatcher!r}; in 1.x use wrap_session")
    return cast("T", _Dispatcher(dispatcher, checked(middleware)))


def wrap_session(session: T, middleware: AnyMiddleware) -> T:
    """Run *middleware* around every request and notification of a 1.x ``ClientSession``; return that session, changed.

    Wrap it before ``initialize()`` to see the handshake; of a FastMCP 2 or 3 client pass ``client.session``.  Results
    are the SDK's models.  Of a context handed to ``call_next``, changed ``params`` are sent, and nothing else.  If the
    session is wrapped again, the later middleware is outermost.

    Raises TypeError for a client session of the 2.x SDK, and for anything that is no session.
    """
    if hasattr(session, "discover"):
        raise TypeError("a 2.x ClientSession is wrapped by its dispatcher: dispatcher=wrap_dispatcher(...)")
    if not hasattr(session, "send_request"):
        raise TypeError(f"wrap_session takes a ClientSession of mcp 1.x, got {session!r}")
    for name, keyword in (("send_request", "request"), ("send_notification", "notification")):
        setattr(session, name, _wrapped(getattr(session, name), keyword, checked(middleware)))
    return session


class _Dispatcher:
    """A dispatcher in all but the two methods that send."""

    # ClientSession hooks itself only into an instance of the SDK's own class.
    __class__ = property(lambda self: _class_of(self._inner))  # pyright: ignore[reportIncompatibleMethodOverride]  # answers for the inner one

    def __init__(self, inner: Any, middleware: AnyMiddleware) -> None:
        vars(self).update(_inner=inner, _middleware=middleware)

    def __getattr__(self, name: str) -> Any:
        return getattr(vars(self)["_inner"], name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self._inner, name, value)

    async def send_raw_request(self, method: str, params: Any, opts: Any = None) -> Any:
        return await self._run(self._inner.send_raw_request, method, params, opts)

    async def notify(self, method: str, params: Any, opts: Any = None) -> None:
        await self._run(self._inner.notify, method, params, opts)

    async def _run(self, send: Callable[..., Awaitable[Any]], method: str, params: Any, opts: Any) -> Any:
        given: Mapping[str, Any] = opts or {}
        call = Call(method, params, request_id=given.get("request_id"), headers=given.get("headers") or {})

        async def call_next(ctx: Any) -> Any:
            return await send(ctx.method, ctx.params, opts)

        return await self._middleware(call, call_next)


def _class_of(inner: object) -> type:
    return type(inner)


def _wrapped(send: Callable[..., Awaitable[Any]], keyword: str, middleware: AnyMiddleware) -> Any:
    async def wrapped(*args: Any, **kwargs: Any) -> Any:
        message, *rest = (kwargs.pop(keyword), *args) if keyword in kwargs else args
        root = getattr(message, "root", message)
        call = Call(root.method, _params(root))

        async def call_next(ctx: Any) -> Any:
            if ctx.params is call.params:
                return await send(message, *rest, **kwargs)
            changed = cast("Any", type(message)).model_validate({"method": call.method, "params": ctx.params})
            return await send(changed, *rest, **kwargs)

        return await middleware(call, call_next)

    return wrapped


def _params(message: Any) -> Mapping[str, Any] | None:
    params = message.params
    return None if params is None else params.model_dump(by_alias=True, mode="json", exclude_none=True)
