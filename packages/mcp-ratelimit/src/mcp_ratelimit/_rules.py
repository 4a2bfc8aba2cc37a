"""Which limits apply to a call, and under which keys."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from fnmatch import translate
from typing import Protocol, cast

from .decision import GLOBAL, LONGEST_KEY, Decision, Key, RateLimited
from .limit import Limit, parse_limits
from .limiter import RateLimiter

__all__ = ["Limiter", "Rule", "Rules"]


class Limiter(Protocol):
    """What ``RateLimiter`` and ``AsyncRateLimiter`` have in common."""

    @property
    def limits(self) -> tuple[Limit, ...]:
        """The limits, as they are now."""
        ...

    def check(self, key: Key, cost: int = 1) -> Decision | Awaitable[Decision]:
        """Charge *cost* if it may pass now."""
        ...

    def take_up_to(self, key: Key, most: int, *, past_line: bool = False) -> int | Awaitable[int]:
        """Charge as much as may pass now, before or behind those who wait."""
        ...

    async def acquire(self, key: Key, cost: int = 1, *, timeout: float | None = None) -> Decision:
        """Wait until *cost* has been charged."""
        ...


KNOWN = 10_000
"""Callers and tools for whom rule and keys are remembered, which is faster than to match globs and join names.

Only while their names are no longer than a key: they are the caller's words, and 10,000 long ones would be gigabytes.
"""


class Rule:
    """A limiter, and how many of its limits are for the caller, for the caller and tool, and for all."""

    __slots__ = ("_for_all", "_for_tool", "_own", "limiter", "quick")

    def __init__(self, limiter: Limiter, own: int = 1, for_tool: int = 0, for_all: int = 0) -> None:
        self.limiter = limiter
        self.quick = limiter if isinstance(limiter, RateLimiter) else None
        self._own = own
        self._for_tool = for_tool
        self._for_all = for_all

    def keys(self, who: str, tool: str) -> tuple[str, ...]:
        """Return a key for each limit; what ends the caller's name is no part of any."""
        return (who,) * self._own + (f"{who}\0{tool}",) * self._for_tool + (GLOBAL,) * self._for_all

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
        """Charge *cost* that was used already, or what is left, whoever waits."""
        taken = self.limiter.take_up_to(keys, cost, past_line=True)
        if not isinstance(taken, int):
            await taken


class Rules:
    """The rule for every call: the first of *tools* whose glob matches, else the usual one."""

    def __init__(self, usual: Rule, tools: Mapping[str, Rule], shared: frozenset[str] = frozenset()) -> None:
        self.usual = usual
        self.shared = shared
        self.only = None if tools or shared else usual
        self._known: dict[tuple[str, str], tuple[Rule, Key]] = {}
        self._by_tool = [(re.compile(translate(glob)).match, rule) for glob, rule in tools.items()]

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
        tools: object,
        overall: Limit | str | None,
        make: Callable[..., Limiter],
    ) -> Rules:
        """Return rules with limiters of their own, made by *make*."""
        own, shared = parse_limits(limits), () if overall is None else parse_limits(overall)

        def rule(*extra: Limit) -> Rule:
            return Rule(make(*own, *extra, *shared), len(own), len(extra), len(shared))

        rules = {glob: rule(*_named_for(glob, limit)) for glob, limit in _by_glob(tools).items()}
        return cls(rule(), rules, frozenset(limit.name for limit in shared))

    def of(self, who: str, tool: str) -> tuple[Rule, Key]:
        """Return the rule for calls of *tool*, "" for what is no tool, and the keys of its limits for caller *who*."""
        known = self._known.get((who, tool))
        if known is None:
            rule = next((rule for matches, rule in self._by_tool if tool and matches(tool)), self.usual)
            known = rule, rule.keys(who, tool)
            if len(who) + len(tool) > LONGEST_KEY:
                return known
            if len(self._known) >= KNOWN:  # callers invent names
                self._known.clear()
            self._known[who, tool] = known
        return known


def _named_for(glob: str, limits: Limit | str) -> list[Limit]:
    return [limit.renamed(ascii(f"{limit.name} for {glob}")[1:-1][:64]) for limit in parse_limits(limits)]


def _by_glob(tools: object) -> Mapping[str, Limit | str]:
    globs = tuple(cast("Mapping[object, object]", tools)) if isinstance(tools, Mapping) else (None,)
    if not all(isinstance(glob, str) for glob in globs):
        raise TypeError(f"RateLimitMiddleware needs tools to be limits by glob, as {{'x_*': '5/min'}}, got {tools!r}")
    return cast("Mapping[str, Limit | str]", tools)
