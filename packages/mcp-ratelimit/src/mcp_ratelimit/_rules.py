"""Which limits apply to a call, and under which keys."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from fnmatch import translate
from typing import Protocol, cast

from .decision import GLOBAL, Decision, Key, RateLimited
from .limit import Limit, parse_limits
from .limiter import RateLimiter

__all__ = ["Limiter", "Rule", "Rules"]


class Limiter(Protocol):
    """What ``RateLimiter`` and ``AsyncRateLimiter`` have in common."""

    def check(self, key: Key, cost: int = 1) -> Decision | Awaitable[Decision]:
        """Charge *cost* if it may pass now."""
        ...

    def take_up_to(self, key: Key, most: int) -> int | Awaitable[int]:
        """Charge as much as may pass now."""
        ...

    async def acquire(self, key: Key, cost: int = 1, *, timeout: float | None = None) -> Decision:
        """Wait until *cost* has been charged."""
        ...


KNOWN = 1000
"""Names of tools for which the rule is remembered, which is faster than to match globs."""


class Rule:
    """A limiter, and how many of its limits are for the caller, for the tool, and for all."""

    __slots__ = ("_own", "_tool", "limiter", "quick", "shared")

    def __init__(self, limiter: Limiter, own: int = 1, *, tool: bool = False, everybody: int = 0) -> None:
        self.limiter = limiter
        self.quick = limiter if isinstance(limiter, RateLimiter) else None
        self._own = own
        self._tool = tool
        self.shared = (GLOBAL,) * everybody

    def keys(self, who: str, name: str) -> Key:
        """Return the key of caller *who*, or one for each limit where they differ."""
        if not self._tool:
            return (who,) * self._own + self.shared if self.shared else who
        return (*(who,) * self._own, f"{who} {name}", *self.shared)

    async def decide(self, keys: Key, cost: int, max_wait: float) -> Decision:
        """Charge *cost*, waiting up to *max_wait* seconds for it."""
        if max_wait:
            try:
                return await self.limiter.acquire(keys, cost, timeout=max_wait)
            except RateLimited as refusal:
                return refusal.decision
        decision = self.limiter.check(keys, cost)
        return decision if isinstance(decision, Decision) else await decision

    async def take(self, keys: Key, cost: int) -> None:
        """Charge *cost*, or what is left."""
        taken = self.limiter.take_up_to(keys, cost)
        if not isinstance(taken, int):
            await taken


class Rules:
    """The rule for every call: the first of *tools* whose glob matches, else the usual one."""

    def __init__(self, usual: Rule, tools: Mapping[str, Rule], shared: frozenset[str] = frozenset()) -> None:
        self.usual = usual
        self.shared = shared
        self._known: dict[str, Rule] = {}
        self.by_tool = [(re.compile(translate(glob)).match, rule) for glob, rule in tools.items()]

    @classmethod
    def given(cls, limiter: object) -> Rules:
        """Return rules that leave everything to one limiter."""
        if isinstance(limiter, type) or not hasattr(limiter, "acquire"):
            raise TypeError(f"RateLimitMiddleware needs limits such as '60/min', or a limiter, got {limiter!r}")
        return cls(Rule(cast("Limiter", limiter)), {})

    @classmethod
    def of_limits(
        cls,
        limits: Limit | str,
        tools: Mapping[str, Limit | str],
        overall: Limit | str | None,
        make: Callable[..., Limiter],
    ) -> Rules:
        """Return rules with limiters of their own, made by *make*."""
        own, shared = parse_limits(limits), () if overall is None else parse_limits(overall)

        def rule(glob: str = "", *extra: Limit) -> Rule:
            named = tuple(limit.renamed(f"{limit.name} for {glob}"[:64]) for limit in extra)
            return Rule(make(*own, *named, *shared), len(own), tool=bool(named), everybody=len(shared))

        rules = {glob: rule(glob, *parse_limits(limit)) for glob, limit in tools.items()}
        return cls(rule(), rules, frozenset(limit.name for limit in shared))

    def of(self, tool: str) -> Rule:
        """Return the rule for calls of *tool*."""
        rule = self._known.get(tool)
        if rule is None:
            rule = next((rule for matches, rule in self.by_tool if matches(tool)), self.usual)
            if len(self._known) < KNOWN:  # callers invent names
                self._known[tool] = rule
        return rule
