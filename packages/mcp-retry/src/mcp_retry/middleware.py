"""Retry MCP requests, and only those that may be sent again.

    failure ──▶ somebody's own first request? ──no──▶ passed on
                  │ yes
                  ├─ a refusal that says when to come back (``retry_after``) ──▶ again: it was not carried out
                  └─ a method or tool that is safe (``safety``), and worth it (the ``Retry``'s *on*) ──▶ again

The same object goes in front of a server, in front of a FastMCP server through ``as_fastmcp``, and around a client.  It
knows failures in all their forms there: the SDK's errors, errors of FastMCP by their cause, results marked ``isError``
as on the wire and as models.  Requests that answer an earlier ``input_required`` are never sent again, since they would
ask a human twice; nor is what the SDK asks itself; streams and notifications go past untouched.

State shared by tasks: what was learned about the tools, and the states of the ``Retry`` and the ``Hedge``.

Two facts here are written by the caller, continuation and ``mcp-method``; both can only prevent a retry.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from functools import partial
from typing import Any, ClassVar, TypeVar

from ._seam import CallContext, is_continuation, is_internal, outcome, refuse, target
from .checks import checked_instance
from .frames import hidden, unseen
from .hedge import Hedge
from .retry import Retry
from .run import AttemptTimeout
from .safety import READS, Safety
from .throttle import Throttled

__all__ = ["RetryMiddleware"]

C = TypeVar("C", bound=CallContext)
R = TypeVar("R")

UNAVAILABLE = -31103  # a circuit breaker's refusal, and that of a throttle: a retry stops there
TIMED_OUT = -31104
METHODS = READS | {"tools/call"}


class RetryMiddleware:
    """Send MCP requests again as *retry* says, where that is safe.

    Args:
        retry: The policy. Its *on* judges errors, wrapped ones by their cause, and its *on_result* results.
        safe: Names of tools that may run twice, besides those whose annotations say so.
        tool_errors: Whether a result marked ``isError`` of a safe tool is worth another attempt. Servers of the
            official SDK turn every exception of a tool into one, so that *on* cannot tell them apart.
        hedge: Sends safe requests that are late once more, see ``Hedge``; give it the budget of *retry*.

    Use one for each server: what is safe is remembered by the name of the tool.

    A request that the throttle held back is refused with code -31103, one that took too long with -31104.
    """

    layer: ClassVar[str] = "retry"

    def __init__(
        self, retry: Retry, *, safe: Collection[str] = (), tool_errors: bool = True, hedge: Hedge | None = None
    ) -> None:
        self.retry: Retry = checked_instance("retry", retry, Retry)
        self._safety = Safety(safe)
        self._tool_errors = tool_errors
        self._hedge = None if hedge is None else checked_instance("hedge", hedge, Hedge)
        self._loop = retry.loop(is_retryable=self._is_retryable, is_refused=self._is_refused)
        self._counter = self._loop.counter
        self._is_plain = self._loop.is_plain and hedge is None and retry.loop().is_refused is None
        self._attempts = self._loop.around(self._send)

    async def __call__(self, ctx: C, call_next: Callable[[C], Awaitable[R]]) -> R:
        """Answer the request *ctx* by ``call_next``, more than once if need be."""
        if ctx.method != "tools/call" or not self._is_plain:
            if ctx.method not in METHODS:
                return await call_next(ctx)
            with unseen:
                return await self._bounded(ctx, call_next)
        self._counter.calls += 1
        try:
            result = await call_next(ctx)
        except Exception as error:
            run = self._loop.after_error(error, (ctx,))
            if run is None:
                raise
        else:
            # What a tool usually answers, as on the wire; the general test would cost as much as all the rest.
            wire: Any = result
            if type(wire) is dict and not wire.get("isError"):  # pyright: ignore[reportUnknownMemberType]  # a dict of anything
                return result
            if not self._is_refused(result, (ctx,)):
                return result
            run = self._loop.after_refused(result)
            if run is None:
                return result
            del result, wire
        with unseen:
            return await self._loop.go_on(run, call_next, (ctx,), {})

    @hidden
    async def _bounded(self, ctx: C, call_next: Callable[[C], Awaitable[R]]) -> R:
        try:
            result: R = await self._attempts(ctx, call_next)
        except Throttled as error:
            facts = {"probability": error.probability}
            raise refuse(UNAVAILABLE, "not sent: the server accepts too little", facts) from None
        except AttemptTimeout as error:
            raise refuse(TIMED_OUT, "no answer in time", {"seconds": error.seconds}) from None
        return result

    def _send(self, ctx: C, call_next: Callable[[C], Awaitable[R]]) -> Awaitable[R]:
        if self._hedge is not None and _is_first(ctx) and self._may_repeat(ctx):
            return self._hedge.first_good(partial(call_next, ctx), self._is_bad)
        return call_next(ctx)

    def _is_bad(self, result: object) -> bool:
        kind = outcome(result)
        return kind != "input_required" and (kind != "ok" or self.retry.is_refused(result))

    def _is_retryable(self, error: Exception, args: tuple[Any, ...]) -> bool:
        return self._goes_on(args[0], error, is_worth_it=self.retry.is_retryable(error))

    def _is_refused(self, result: object, args: tuple[Any, ...]) -> bool:
        if args[0].method == "tools/list":
            self._safety.learn(result)
        kind = outcome(result)
        is_unwanted = kind != "input_required" and self.retry.is_refused(result)
        is_worth_it = is_unwanted or (kind == "tool_error" and self._tool_errors)
        return (is_worth_it or kind == "protocol_error") and self._goes_on(args[0], result, is_worth_it=is_worth_it)

    def _goes_on(self, ctx: CallContext, failure: object, *, is_worth_it: bool) -> bool:
        if not _is_first(ctx):
            return False
        code, returns_after = _refusal(failure)
        if code == UNAVAILABLE:
            return False
        return returns_after or (is_worth_it and self._may_repeat(ctx))

    def _may_repeat(self, ctx: CallContext) -> bool:
        return self._safety.may_repeat(ctx.method, target(ctx))


def _is_first(ctx: CallContext) -> bool:
    """Say whether a caller asks for this for the first time: no SDK by itself, no answer to what a server asked."""
    return not is_internal(ctx) and not is_continuation(ctx)


def _refusal(failure: object) -> tuple[object, bool]:
    """Return the code of an SDK's error, and whether it says when to come back; FastMCP hides it in a cause.

    Only ``data`` of the error itself counts: a header further down may come from the middle of what a tool does.
    """
    if outcome(failure) not in ("rejected", "protocol_error"):
        return None, False
    for source in (failure, getattr(failure, "__cause__", None)):
        details = getattr(source, "error", source)
        data = getattr(details, "data", None)
        if isinstance(data, Mapping):
            # As others spell it, and as our own refusals do.
            return getattr(details, "code", None), "retry_after" in data or "retryAfter" in data
    return None, False
