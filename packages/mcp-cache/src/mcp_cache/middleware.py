"""Answer MCP requests from a cache: by the rules of SEP-2549, never across principals, eras or capabilities.

    request ─▶ may it be cached at all? ──no──▶ call_next
                    │ yes: method, or tool that was declared; no continuation, stream, notification, internal call
                    ▼
               key: method, parameters, principal, protocol version, client capabilities
                    ▼
               computed once for all who ask ──▶ a copy of the result, its ``ttlMs`` reduced by its age

Rules, each tested in ``tests/cache/test_middleware.py``:

1. A result is kept as long as its ``ttlMs`` says, or as long as the operator says for its method; else not at all.
2. Only complete results are kept: no ``isError``, no ``input_required``, no exception; nor are they shared in flight.
3. The key carries the verified principal; without one, the session. Where a header names or proves somebody (an
   Authorization, a cookie, an API key, what a proxy has found out) and there is no principal, nothing is cached. Only
   methods and tools that were declared public are shared, and of them no result whose ``cacheScope`` is private.
4. A change notification, seen in the chain or sent by the server's session, invalidates what it is about, at once.
5. Every caller gets a copy of its own, in the form in which the SDK made it.
"""

from __future__ import annotations

import math
import re
import weakref
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import suppress
from functools import lru_cache, partial
from operator import attrgetter
from typing import Any, ClassVar, TypeVar, cast

from ._seam import (
    CallContext,
    arguments,
    headers,
    is_continuation,
    is_internal,
    is_notification,
    outcome,
    principal,
    session_id,
    target,
)
from .cache import Cache, checked_cache, engine_of
from .config import check_callable
from .events import NotStored
from .flight import Space, Uncacheable
from .keys import Unkeyable, canonical
from .results import RESULTS, Sealed
from .table import Table

__all__ = ["CACHEABLE", "CacheMiddleware"]

C = TypeVar("C", bound=CallContext)
R = TypeVar("R")

CACHEABLE = frozenset(
    {
        "server/discover",
        "tools/list",
        "prompts/list",
        "resources/list",
        "resources/templates/list",
        "resources/read",
    }
)
"""The methods whose results carry ``ttlMs`` and ``cacheScope`` in protocol 2026-07-28."""

CHANGES: dict[str, tuple[str, ...]] = {
    "notifications/tools/list_changed": ("tools/list",),
    "notifications/prompts/list_changed": ("prompts/list",),
    "notifications/resources/list_changed": ("resources/list", "resources/templates/list"),
    "notifications/resources/updated": ("resources/read",),
}
DAY = 86_400.0  # seconds; the longest that a ttlMs is believed, as in the SDK's own client cache
CALL = "tools/call"
SPACE = "mcp:results="  # no function's name has a colon
VOLATILE = frozenset({"progressToken", "traceparent", "tracestate", "baggage"})  # members of _meta with no say
PROTOCOL = "io.modelcontextprotocol/"
CREDENTIALS = re.compile(
    r"\b(api-?key|assertion|auth\w*|cert\w*|cookie|credentials?|email|identity|jwt|key|principal|secret|token|user(?!-agent))\b"
)
"""Words in the names of headers that tell who is calling, or prove it: one is enough for an answer to be private."""


class CacheMiddleware:
    """Answers what it has seen answered before.

    Args:
        cache: Must isolate by ``copy``; without one, ``Cache(isolation="copy")``.
        ttl: Seconds for every cacheable method and ``prompts/get``, or for each method by name; it outweighs what a
            result says. Methods without one are cached as long as their results' ``ttlMs`` says.
        tools: Seconds for each tool whose results may be cached, by name. No tool is cached without this.
        annotated_tools: Seconds for tools that a ``tools/list`` which came by has marked with both ``readOnlyHint`` and
            ``idempotentHint``. A server's word: only for servers that you trust.
        public: Methods whose results are the same for everybody, and are shared by all principals.
        public_tools: Tools of which that is true, by name; each must be one that may be cached.
        vary: Returns further facts of a context that the answer depends on, as a JSON value; added to the key, it does
            not make anything cacheable that would not be without.

    Raises TypeError or ValueError naming the argument. Not cached, in any case: what the key cannot be made of.
    """

    layer: ClassVar[str] = "cache"

    def __init__(
        self,
        cache: Cache | None = None,
        *,
        ttl: float | Mapping[str, float] | None = None,
        tools: Mapping[str, float] | None = None,
        annotated_tools: float | None = None,
        public: Collection[str] = (),
        public_tools: Collection[str] = (),
        vary: Callable[[Any], object] | None = None,
    ) -> None:
        self.cache: Cache = checked_cache("CacheMiddleware", Cache(isolation="copy") if cache is None else cache)
        if self.cache.isolation != "copy":
            raise ValueError(f"CacheMiddleware needs Cache(isolation='copy'), got {self.cache.isolation!r}")
        check_callable("CacheMiddleware", "vary", vary, optional=True)
        self._engine = engine_of(self.cache)
        self._space = _space_of(self._engine.table)
        methods = [*sorted(CACHEABLE), "prompts/get"]
        self._ttls = dict(ttl) if isinstance(ttl, Mapping) else dict.fromkeys(methods, ttl) if ttl is not None else {}
        self._tools = dict(tools or {})
        self._annotated_ttl = annotated_tools
        told = [*self._ttls.items(), *self._tools.items()]
        if annotated_tools is not None:
            told.append(("annotated_tools", annotated_tools))
        for name, seconds in told:
            if type(seconds) not in (int, float) or not 0 < seconds < math.inf:
                raise ValueError(f"CacheMiddleware needs 0 < seconds < inf for {name}, got {seconds!r}")
        for name in (*self._ttls, *([public] if isinstance(public, str) else public)):
            if name not in methods or isinstance(public, str):
                raise ValueError(f"CacheMiddleware can cache a collection of {', '.join(methods)}, got {name!r}")
        for name in [public_tools] if isinstance(public_tools, str) else public_tools:
            if isinstance(public_tools, str) or not (name in self._tools or annotated_tools is not None):
                raise ValueError(
                    f"CacheMiddleware needs public_tools to be a collection of names in tools=, got {name!r}"
                )
        self._answered = {*CACHEABLE, *self._ttls, *([CALL] if self._tools or annotated_tools is not None else ())}
        self._public = frozenset(public)
        self._public_tools = frozenset(public_tools)
        self._vary = vary
        self._annotated: set[str] = set()
        self._heard: dict[int, weakref.ref[Any]] = {}  # sessions by id; a WeakSet takes an await for each look

    async def __call__(self, ctx: C, call_next: Callable[[C], Awaitable[R]]) -> R:
        """Answer from the cache, or pass on and remember."""
        method = ctx.method or ""
        if method.startswith("notifications/"):
            await self.changed(method, target(ctx))
            return await call_next(ctx)
        if id(getattr(ctx, "session", None)) not in self._heard:
            self._overhear(ctx)
        if method in self._answered:  # its closures are made there, not for every request that passes
            return await self._answer(ctx, call_next, method)
        return await call_next(ctx)

    async def changed(self, method: str, uri: str | None = None) -> None:
        """Invalidate what a change notification is about: its *method*, and the *uri* of an updated resource.

        To be called for changes that no notification in the chain or from a session tells of, such as those published
        on a subscription bus.
        """
        for changed in CHANGES.get(method, ()):
            await self.cache.invalidate(tag=changed if uri is None else f"{changed} {uri}")

    async def _answer(self, ctx: C, call_next: Callable[[C], Awaitable[R]], method: str) -> R:
        name = target(ctx)
        is_public = name in self._public_tools if method == CALL else method in self._public
        ttl = self._ttl(ctx, method, name)
        key = None if ttl is None else self._key(ctx, is_public)
        if key is None:
            return await call_next(ctx)
        made: list[R] = []

        async def compute() -> Sealed:
            result = await call_next(ctx)
            made.append(result)
            self._note_tools(method, result)
            if outcome(result) != "ok" or (is_public and _field(result, "cacheScope") == "private"):
                raise _Unfit
            return self._sealed(key, result, self._lifetime(result, ttl))

        with suppress(_Unfit):
            sealed = await self._engine.obtain(self._space, key, compute, attrgetter("seconds"), _tags(method, name))
            if made:
                return cast("R", self._stamped(ctx, made[0], sealed.seconds))
            return cast("R", self._stamped(ctx, sealed.open(), max(0.0, sealed.ends - self._engine.clock())))
        return made[0] if made else await call_next(ctx)

    def _sealed(self, key: str, result: object, seconds: float) -> Sealed:
        try:
            return Sealed(result, seconds, self._engine.clock() + seconds)
        except Exception as error:  # noqa: BLE001  # pickle raises whatever a class in it raises
            self._engine.tell(NotStored(key, f"it cannot be isolated: {error!r}"))
            raise _Unfit from None

    def _ttl(self, ctx: CallContext, method: str, name: str | None) -> float | None:
        """Return the operator's seconds for a request, 0 for those of the result, None if it must not be cached."""
        if method == CALL:
            ttl = self._tools.get(name or "", self._annotated_ttl if name in self._annotated else None)
        else:
            ttl = self._ttls.get(method, 0.0)
        if ttl is None or is_notification(ctx) or is_continuation(ctx) or is_internal(ctx):
            return None
        return ttl

    def _lifetime(self, result: Any, ttl: float | None) -> float:
        if ttl:
            return ttl
        told = _field(result, "ttlMs")
        return max(0, min(told, 1000 * DAY)) / 1000 if isinstance(told, (int, float)) else 0.0

    def _key(self, ctx: CallContext, is_public: bool) -> str | None:
        """Return the key of a request, None if there is none that would be safe."""
        who = None if is_public else principal(ctx)
        if who is None and not is_public and _tells_who(" ".join(headers(ctx))):
            return None
        session = session_id(ctx) if who is None and not is_public else None
        source = _source(ctx)
        varied = None if self._vary is None else self._vary(ctx)
        try:
            return canonical(
                [
                    ctx.method,
                    _parameters(ctx),
                    who and [*who],
                    session,
                    _era(source),
                    _capabilities(ctx, source),
                    varied,
                ]
            )
        except Unkeyable:
            return None

    def _stamped(self, ctx: CallContext, result: Any, seconds: float) -> Any:
        """Write into a result that has a ``ttlMs`` for how many *seconds* it may be kept, and by whom."""
        if ctx.method not in CACHEABLE or _field(result, "ttlMs") is None:
            return result
        changed: dict[str, Any] = {"ttlMs": round(1000 * seconds)}
        if ctx.method in self._public:
            changed["cacheScope"] = "public"
        if isinstance(result, dict):
            return {**cast("dict[str, Any]", result), **changed}
        return result.model_copy(update={_snake(name): value for name, value in changed.items()})

    def _note_tools(self, method: str | None, result: Any) -> None:
        """Learn from a list of tools which of them say that they may be cached."""
        if self._annotated_ttl is None or method != "tools/list":
            return
        for tool in cast("Any", result) if isinstance(result, list) else _field(result, "tools") or ():
            hints = _field(tool, "annotations")
            may = _field(hints, "readOnlyHint") is True and _field(hints, "idempotentHint") is True
            (self._annotated.add if may else self._annotated.discard)(str(_field(tool, "name")))

    def _overhear(self, ctx: CallContext) -> None:
        """Listen to what the server's session sends: there is no other place where its notifications can be seen."""
        session: Any = getattr(_source(ctx), "session", None)
        send = getattr(session, "send_notification", None)
        if send is None or id(session) in self._heard:
            return
        forget = partial(self._heard.pop, id(session))
        self._heard[id(session)] = weakref.ref(session, lambda _: forget(None))

        async def send_notification(notification: Any, *args: Any, **kwargs: Any) -> Any:
            told = getattr(notification, "root", notification)
            uri = getattr(getattr(told, "params", None), "uri", None)
            await self.changed(str(getattr(told, "method", None)), None if uri is None else str(uri))
            return await send(notification, *args, **kwargs)

        session.send_notification = send_notification


@lru_cache(64)  # most requests have the headers of the one before
def _tells_who(names: str) -> bool:
    return CREDENTIALS.search(names) is not None


def _space_of(table: Table) -> Space:
    """Return the space of all middlewares that share a cache."""
    space = next((space for space in table.spaces if space.name == SPACE), None) or table.new_space(SPACE)
    space.codec = RESULTS
    return space


class _Unfit(Uncacheable):
    """A result that is one caller's own; a class apart, since a handler may raise Uncacheable itself."""


def _tags(method: str, name: str | None) -> tuple[str, ...]:
    return (method, f"{method} {name}") if method == "resources/read" else (method,)


def _field(source: Any, name: str) -> Any:
    """Read a member of a wire mapping, or the attribute of a model, whichever spelling it has."""
    if isinstance(source, dict):
        return cast("dict[str, Any]", source).get(name)
    usual = _snake(name)  # FastMCP 4 has the other one there too, and warns who reads it
    return getattr(source, usual) if hasattr(source, usual) else getattr(source, name, None)


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)


def _source(ctx: Any) -> Any:
    outer = getattr(ctx, "fastmcp_context", None)
    return ctx if outer is None else outer.request_context


def _parameters(ctx: Any) -> Any:
    """Return what the answer depends on; of ``_meta``, what neither the protocol nor tracing has put there."""
    params = getattr(ctx, "params", None)
    if params is None:
        params = getattr(ctx, "message", None)
    if isinstance(params, Mapping):
        members = {name: value for name, value in cast("Mapping[str, Any]", params).items() if name != "_meta"}
    else:
        inner = getattr(params, "params", params)
        members = {"target": target(ctx), "arguments": dict(arguments(ctx)), "cursor": getattr(inner, "cursor", None)}
    return [members, dict(_meta(params))]


def _meta(params: Any) -> Iterator[tuple[str, Any]]:
    meta: Any = _field(params, "_meta") if isinstance(params, dict) else getattr(params, "meta", None)
    if hasattr(meta, "model_dump"):
        meta = meta.model_dump(by_alias=True, mode="json", exclude_none=True)
    for name, value in cast("dict[str, Any]", meta or {}).items():
        if name not in VOLATILE and not name.startswith(PROTOCOL):
            yield name, value


def _era(source: Any) -> str | None:
    version = getattr(source, "protocol_version", None)
    if not isinstance(version, str):
        version = headers(source).get("mcp-protocol-version")
    if isinstance(version, str):
        return version
    shaken = getattr(getattr(source, "session", None), "client_params", None)
    version = _field(shaken, "protocolVersion")
    return None if version is None else str(version)


def _capabilities(ctx: Any, source: Any) -> Any:
    """Return what the client said that it can do, since answers may be tailored to it."""
    params = getattr(ctx, "params", None)
    meta = cast("Any", params).get("_meta") if isinstance(params, Mapping) else None
    if meta is None:
        meta = getattr(source, "meta", None)
    if isinstance(meta, Mapping) and f"{PROTOCOL}clientCapabilities" in meta:
        return cast("Any", meta)[f"{PROTOCOL}clientCapabilities"]
    shaken = getattr(getattr(source, "session", None), "client_params", None)
    told = getattr(shaken, "capabilities", None)
    return told.model_dump(by_alias=True, mode="json", exclude_none=True) if told is not None else None
