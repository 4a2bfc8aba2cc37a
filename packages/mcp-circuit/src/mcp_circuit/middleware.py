"""The breaker in front of the tools of an MCP server, or of the calls of an MCP client.

What counts: a result marked ``isError`` and an exception are failures, as the breaker's ``failures``, ``ignored`` and
``failed_result`` say.  What says nothing about the tool counts as nothing: a cancellation, arguments that do not fit,
an unknown tool, a request for input, and a refusal by another middleware.

Security: a key is a name that the caller writes.  It decides which breaker counts the call, never whether one does;
names that no tool has leave no breaker behind, and open breakers are the last to be evicted.  The text of an
``isError`` result is looked at only to see that the *caller* was at fault; who forges that spares the tool a failure
of their own making.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Hashable
from functools import partial
from typing import Any, ClassVar, TypeVar, cast

from ._seam import CallContext, is_internal, is_notification, is_stream, outcome, refuse, target
from .breaker import CircuitBreaker
from .checks import check_async, check_callable
from .core import Core, Verdicts
from .eras import Era
from .judge import CircuitOpen
from .keyed import KeyedBreakers
from .states import Verdict

__all__ = ["CIRCUIT_OPEN", "CircuitMiddleware", "by_tool"]

C = TypeVar("C", bound=CallContext)
R = TypeVar("R")

CIRCUIT_OPEN = -31103
"""The JSON-RPC code of a refusal; its data holds ``name``, ``state`` and, in seconds, ``retryAfter``."""


def by_tool(ctx: Any) -> str | None:
    """Return the name of the tool that is called; None for everything else."""
    return target(ctx) if ctx.method == "tools/call" else None


class CircuitMiddleware:
    """Refuse calls of a tool while it keeps failing.

    Args:
        breaker: One breaker for all calls, or a factory that is called with each new key.
        key: Which breaker a call belongs to; None lets the call pass.  What the SDK asks itself, notifications and
            streams always pass.
        max_keys: How many breakers a factory's are kept.
        fallback: Awaited with the context and the refusal, to answer in the tool's place.

    Raises:
        ValueError: For a number out of range, naming it.
        TypeError: For a value of the wrong kind, naming it.
    """

    layer: ClassVar[str] = "circuit"

    def __init__(
        self,
        breaker: CircuitBreaker | Callable[[Any], CircuitBreaker],
        *,
        key: Callable[[Any], Hashable | None] = by_tool,
        max_keys: int = 1024,
        fallback: Callable[[Any, CircuitOpen], Awaitable[Any]] | None = None,
    ) -> None:
        if isinstance(breaker, type) or not callable(breaker):
            raise TypeError(f"CircuitMiddleware needs a CircuitBreaker, or a function of the key, got {breaker!r}")
        check_callable("CircuitMiddleware", "key", key)
        if fallback is not None:
            check_async(fallback)
        factory = partial(_always, breaker) if isinstance(breaker, CircuitBreaker) else breaker
        self.breakers: KeyedBreakers = KeyedBreakers(factory, max_keys=max_keys)
        self._by_name: dict[Any, Core] = self.breakers.quick if key is by_tool else {}
        self._key = key if key is by_tool else _unless_exempt(key)
        self._fallback = fallback

    # Flat, as the decorator's wrapper is, because most calls go through it: by `_core_of` and `outcome` alone it would
    # add twice as much to them.  For the same reason there are ignores where `cast`, a call, would do.
    async def __call__(self, ctx: C, call_next: Callable[[C], Awaitable[R]]) -> R:
        """Call on, or refuse with the code ``CIRCUIT_OPEN``."""
        core: Core | None
        if ctx.method == "tools/call":
            try:
                name = ctx.params["name"]  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]  # tried
                core = self._by_name[name]
            except (AttributeError, KeyError, TypeError):  # not in the quick table, or another kind of context
                core = self._core_of(ctx)
        else:
            core = self._core_of(ctx)
        if core is None:
            return await call_next(ctx)
        era = core.machine.era
        if not era.quick:
            return await self._guarded(core, ctx, call_next)
        began = core.clock() if core.is_slow_aware else 0.0
        try:
            result = await call_next(ctx)
        except BaseException as error:
            self._settle(ctx, core, era, error, began)
            raise
        try:  # nearly every result is the wire's plain success; `outcome` knows all kinds, far slower
            is_plain = result["isError"] is False  # type: ignore[index]  # pyright: ignore[reportIndexIssue]  # tried
        except Exception:  # noqa: BLE001  # whatever a foreign object does when it is looked into
            is_plain = False
        if core.is_timed:
            clock = core.clock  # as a method call, `core.clock()` would be looked for in the class first
            now = clock()
            is_plain = is_plain and now < era.edge and not (core.is_slow_aware and now - began >= core.slow_after)
        if is_plain and not core.is_judged:
            era.calls += 1
        else:
            self._settle(ctx, core, era, result, began)
        return result

    async def _guarded(self, core: Core, ctx: C, call_next: Callable[[C], Awaitable[R]]) -> R:
        try:
            return await core.run(McpVerdicts(core.judge), call_next, ctx)
        except CircuitOpen as error:
            if not core.has_raised(error):
                raise
            refusal = error.with_traceback(None)  # which would hold this frame, and this frame holds it
        if self._fallback:
            return cast("R", await self._fallback(ctx, refusal))
        facts = {"name": refusal.name, "state": refusal.state.value, "retryAfter": refusal.retry_after}
        raise refuse(CIRCUIT_OPEN, str(refusal), facts) from None

    def _core_of(self, ctx: Any) -> Core | None:
        key = self._key(ctx)
        return None if key is None else self.breakers[key].core

    def _settle(self, ctx: Any, core: Core, era: Era, end: object, began: float) -> None:
        verdicts, error = McpVerdicts(core.judge), end if isinstance(end, BaseException) else None
        verdict = verdicts.result(end) if error is None else verdicts.error(error)
        core.settle(era, verdict, core.clock() - began, error)
        if verdict == "ignored":
            self.breakers.forget(self._key(ctx))


def _always(breaker: CircuitBreaker, _: Hashable) -> CircuitBreaker:
    return breaker


def _unless_exempt(key: Callable[[Any], Hashable | None]) -> Callable[[Any], Hashable | None]:
    return lambda ctx: None if is_internal(ctx) or is_notification(ctx) or is_stream(ctx) else key(ctx)


class McpVerdicts:
    """The verdicts of a breaker's *judge*, for the ends of a call that only MCP knows."""

    def __init__(self, judge: Verdicts) -> None:
        self._judge = judge

    def error(self, error: BaseException) -> Verdict:
        """Judge a call that raised; FastMCP's ToolError stands for what caused it."""
        if outcome(error) in ("cancelled", "rejected") or _is_callers_fault(error):
            return "ignored"
        is_tool_error = type(error).__name__ == "ToolError"
        return self._judge.error(error.__cause__ if is_tool_error and error.__cause__ is not None else error)

    def result(self, result: object) -> Verdict:
        """Judge a call that returned."""
        kind = outcome(result)
        if kind == "ok":
            return self._judge.result(result)
        if kind == "tool_error":
            return "ignored" if _CALLERS_FAULT.match(_text(result)) else "failure"
        return "failure" if kind == "protocol_error" and not _is_callers_fault(result) else "ignored"


_CALLERS_CODES = (-32700, -32600, -32601, -32602, -32002, -32020, -32021, -32022)
"""Malformed, invalid, unknown method, bad parameters, unknown resource; wrong header, capability and version."""

_CALLERS_ERRORS = ("ValidationError", "NotFoundError", "DisabledError", "AuthorizationError", "InsufficientScopeError")
"""What FastMCP, and pydantic inside it, raise before the tool is called."""

_CALLERS_FAULT = re.compile(
    r"Unknown tool: |Input validation error: |Error executing tool (.+): \d+ validation errors? for \1Arguments\n"
)
"""How the texts begin by which the official SDKs (1.x and 2.x) tell an unknown tool and bad arguments."""


def _is_callers_fault(end: object) -> bool:
    code = getattr(getattr(end, "error", end), "code", None)
    package = type(end).__module__.partition(".")[0]
    is_refused_early = package in ("fastmcp", "pydantic", "pydantic_core") and type(end).__name__ in _CALLERS_ERRORS
    return code in _CALLERS_CODES or is_refused_early


def _text(result: object) -> str:
    content = _field(getattr(result, "root", result), "content")  # the root of the 1.x ServerResult
    text = _field(content[0] if isinstance(content, (list, tuple)) and content else None, "text")
    return text if isinstance(text, str) else ""


def _field(source: Any, name: str) -> Any:
    return cast("Any", source).get(name) if isinstance(source, dict) else getattr(source, name, None)
