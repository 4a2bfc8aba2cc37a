"""Rate limits for an MCP server: who may call how often.

    call ──▶ counted method? ──no──▶ pass
                  │yes
             earned continuation? ──yes──▶ pass, charged nothing
                  │no
             all limits allow? ──yes──▶ charge all, pass ──▶ charge what the handler reported
                  │no
             event, then refuse with the time to come back (or pass, in shadow mode)

The limits of one call are decided together: the caller's own, the one of the tool for this caller, and the one that
everybody shares.  A caller is whom the verified token names, else the peer of the connection, else one common
"anonymous"; never a session id or anything else that the caller could change to get a fresh allowance.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv6Address, IPv6Network
from typing import Any, ClassVar, Literal, TypeVar, cast

import anyio

from ._methods import COUNTED_METHODS, checked_methods
from ._rules import Limiter, Rule, Rules
from ._seam import CallContext, is_continuation, outcome, principal, refuse, target
from .asgi import note_decision
from .continuations import ROUNDS, Rides
from .decision import CostTooLarge, Decision, Key, checked_timeout
from .limit import Limit, whole
from .limiter import ONE, RateLimiter
from .memory import MemoryStore
from .refusals import refusal_data, refusal_message, refusal_result, takes_result

__all__ = ["COUNTED_METHODS", "SEP_3304", "CallRefused", "RateLimitMiddleware", "caller_of", "charge"]

C = TypeVar("C", bound=CallContext)
R = TypeVar("R")

SEP_3304 = -32023
"""The code that SEP-3304 proposes for MCP itself; reserved, so not to be sent before that is accepted."""

_extra: ContextVar[list[int] | None] = ContextVar("mcp_ratelimit_extra", default=None)


def charge(cost: int) -> None:
    """Charge the call being handled *cost* more when it ends, for what only its handler knows: tokens, bytes, rows.

    It takes what the limits have left, at most, also where others wait for that.  Without ``post_charge=True``, and
    outside of a limited call, it does nothing.
    """
    extra = _extra.get()
    whole("charge", "cost", cost, least=0)
    if extra is not None:
        extra.append(cost)


@dataclass(frozen=True)
class CallRefused:
    """Event: a call was refused; or, in shadow mode, would have been."""

    key: str
    method: str
    target: str | None
    decision: Decision
    enforced: bool


def caller_of(ctx: object) -> str:
    """Return the key of the caller: the verified principal, else the peer's address, else "anonymous".

    Addresses of IPv6 count by their /64, since that is what one customer is given.
    """
    who = principal(ctx)
    if who is not None:
        return f"principal {who.client_id!r} {who.issuer!r} {who.subject!r}"
    host = _peer(ctx)
    return f"peer {host}" if host else "anonymous"


class RateLimitMiddleware:
    """Limits for the requests that make a server work; goes, unchanged, into any SDK's server.

    Args:
        limits: What each caller may do: limits as for ``RateLimiter``, or a limiter, which is then asked with the
            caller's key and decides alone.
        tools: Further limits for single tools, for each caller and tool, by globs; the first that matches counts.
        overall: What all callers together may do.
        make: Makes the limiters, as ``RateLimiter`` does, which is the default with a ``MemoryStore`` for all of them:
            ``functools.partial(AsyncRateLimiter, store=…)``.
        methods: The JSON-RPC methods that count; a name that looks like a slip of the pen is refused.
        key: Names the caller, a non-empty string; see ``caller_of``.
        cost: Says what a call costs; a cost that can never pass is refused without a time to come back.
        post_charge: Let handlers ``charge`` more while they run.
        max_wait: Seconds that a call may be held up instead of refused.
        mode: ``"shadow"`` decides, charges and reports, but lets everything pass at once: what would have waited is
            reported as refused.
        refuse_as: ``"result"`` refuses tools with a result marked ``isError``, which the model reads, instead of an
            error, which the client reads; a decorated function and a client's own call always get the error.
        http_fields: Tell ``with_rate_limit_fields`` what was decided, except where the caller shares the limit.
        code: The error's code, outside of -32768..-32000 or ``SEP_3304``.
        on_event: Called with a ``CallRefused`` for each refusal.
    """

    layer: ClassVar[str] = "ratelimit"

    def __init__(
        self,
        limits: Limit | str | Limiter = "60/min burst 20",
        *,
        tools: Mapping[str, Limit | str] | None = None,
        overall: Limit | str | None = None,
        make: Callable[..., Limiter] | None = None,
        methods: Iterable[str] = COUNTED_METHODS,
        key: Callable[[Any], str] = caller_of,
        cost: Callable[[Any], int] | None = None,
        post_charge: bool = False,
        max_wait: float = 0.0,
        mode: Literal["enforce", "shadow"] = "enforce",
        refuse_as: Literal["error", "result"] = "error",
        http_fields: bool = False,
        code: int = -31029,
        on_event: Callable[[CallRefused], None] | None = None,
    ) -> None:
        for name, function in (("make", make), ("key", key), ("cost", cost), ("on_event", on_event)):
            if function is not None and not callable(function):
                raise TypeError(f"RateLimitMiddleware needs {name} to be a function, got {function!r}")
        for name, value, choices in (
            ("mode", mode, ("enforce", "shadow")),
            ("refuse_as", refuse_as, ("error", "result")),
            ("post_charge", post_charge, (False, True)),
            ("http_fields", http_fields, (False, True)),
        ):
            if value not in choices:
                raise ValueError(f"RateLimitMiddleware needs {name} to be one of {choices}, got {value!r}")
        _error(code, "", None)
        if isinstance(limits, (str, Limit)):
            build = partial(RateLimiter, store=MemoryStore()) if make is None else make
            self._rules = Rules.of_limits(limits, tools or {}, overall, build)
        elif tools or overall or make:
            raise TypeError("RateLimitMiddleware takes tools=, overall= and make= beside limits, not beside a limiter")
        else:
            self._rules = Rules.given(limits)
        self._only = self._rules.only
        self._http_fields = http_fields
        self._methods = checked_methods(methods)
        self._key = key
        self._cost = cost
        self._enforce = mode == "enforce"
        patience = checked_timeout(max_wait)
        self._max_wait = patience if self._enforce else 0.0
        self._as_result = refuse_as == "result"
        self._code = code
        self._on_event = on_event
        self._post_charge = post_charge
        self._rides = Rides()

    async def __call__(self, ctx: C, call_next: Callable[[C], Awaitable[R]]) -> R:
        """Pass the call on, or refuse it."""
        if ctx.method not in self._methods:
            return await call_next(ctx)
        who = self._key(ctx)
        rule: Rule
        keys: Key
        if self._only is None:
            rule, keys = self._rules.of(who, _tool(ctx))
        else:
            rule, keys = self._only, who
        rounds = self._rides.take(_asked(ctx, who)) if self._rides.open and is_continuation(ctx) else 0
        if not rounds:
            cost = 1 if self._cost is None else self._cost(ctx)
            quick = rule.quick
            if quick is None or cost is not ONE or self._http_fields or not quick.try_acquire(keys):
                refused = await self._ask(ctx, who, rule, keys, cost)
                if refused is not None:
                    return cast("R", refused)
        result: Any = await (self._charging(ctx, call_next, rule, keys) if self._post_charge else call_next(ctx))
        # The wire's form first, without the cost of telling all others apart.
        if (result.get("resultType") if result.__class__ is dict else outcome(result)) == "input_required":
            self._rides.earn(_asked(ctx, who), rounds - 1 if rounds else ROUNDS)
        return result  # type: ignore[no-any-return]  # as the handler gave it; ``cast`` would be a call

    async def _charging(self, ctx: C, call_next: Callable[[C], Awaitable[R]], rule: Rule, keys: Key) -> R:
        extra: list[int] = []
        token = _extra.set(extra)
        try:
            return await call_next(ctx)
        finally:
            _extra.reset(token)
            if extra:
                with anyio.CancelScope(shield=True):
                    await rule.take(keys, sum(extra))

    async def _ask(self, ctx: CallContext, who: str, rule: Rule, keys: Key, cost: int) -> Any:
        """Decide in full; return None if the call may pass, else the refusal as a result, or raise it."""
        try:
            decision = await rule.decide(keys, cost, self._max_wait)
        except CostTooLarge as error:
            decision = Decision(False, error.limit, 0, math.inf, 0.0, (error.limit.name,))
        shared = self._is_shared(who, decision)
        if self._http_fields and not shared:
            note_decision(decision, rule.limiter.limits)
        if decision.allowed:
            return None
        if self._on_event is not None:
            self._on_event(CallRefused(who, ctx.method or "", target(ctx), decision, self._enforce))
        return self._refuse(ctx, decision, shared=shared) if self._enforce else None

    def _is_shared(self, who: str, decision: Decision) -> bool:
        by_address = self._key is caller_of and not who.startswith("principal ")
        return by_address or decision.limit.name in self._rules.shared

    def _refuse(self, ctx: CallContext, decision: Decision, *, shared: bool) -> Any:
        data = refusal_data(decision, shared=shared)
        message = refusal_message(data)
        if self._as_result and takes_result(ctx, ctx.method):
            return refusal_result(ctx, message, data)
        raise _error(self._code, message, data)


def _error(code: int, message: str, data: Any) -> Exception:
    if code != SEP_3304:
        return refuse(code, message, data)
    error = refuse(-31029, message, data)
    details: Any = getattr(error, "error", error)
    details.code = code  # the seam lets no reserved code pass, for good reason
    return error


def _tool(ctx: CallContext) -> str:
    if ctx.method != "tools/call":
        return ""
    params: Any = getattr(ctx, "params", None)
    name: Any = params.get("name") if params.__class__ is dict else target(ctx)  # the first is five times as fast
    return name if isinstance(name, str) else ""


def _asked(ctx: CallContext, who: str) -> tuple[str, str, str]:
    return who, ctx.method or "", target(ctx) or ""


def _peer(ctx: object) -> str | None:
    context: Any = getattr(ctx, "fastmcp_context", None)
    request = getattr(getattr(context, "request_context", None) if context else ctx, "request", None)
    scope: Any = getattr(request, "scope", None) or {}
    host: Any = (scope.get("client") or (None,))[0]
    if not isinstance(host, str) or ":" not in host:
        return host
    try:
        address = IPv6Address(host)
        return str(address.ipv4_mapped or IPv6Network((int(address) >> 64 << 64, 64)))
    except ValueError:  # what a test client or a Unix socket calls itself
        return host
