"""What a process knows of a key without asking: that it is out, or that tokens were leased for it."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, NamedTuple

from .decision import Decision

__all__ = ["Asked", "Known"]

REMEMBERED = 10_000
"""Keys; of more, the oldest are forgotten, at the cost of a round trip."""

Keys = tuple[str, ...]


class Asked(NamedTuple):
    """What the store was asked, and when, by this process's clock: the earliest time at which it can have decided."""

    keys: Keys
    cost: int
    since: float


@dataclass(frozen=True)
class _Refused:
    cost: int
    until: float
    decision: Decision


@dataclass
class _Leased:
    tokens: int
    until: float
    decision: Decision


class Known:
    """Refusals that still hold and leases that still run; all times are the caller's clock, in seconds.

    A refusal holds exactly: without a refund a key cannot have room earlier than it was told.
    """

    def __init__(self, ttl: float) -> None:
        self.refused: OrderedDict[Keys, _Refused] = OrderedDict()
        self.leased: OrderedDict[Keys, _Leased] = OrderedDict()
        self._ttl = ttl

    def decide(self, keys: Keys, cost: int, now: float) -> Decision | None:
        """Return the decision if it is known, and spend the lease."""
        lease = self.leased.get(keys)
        if lease is not None and lease.until <= now:
            del self.leased[keys]
        elif lease is not None and lease.tokens >= cost:
            lease.tokens -= cost
            return lease.decision
        refused = self.refused.get(keys)
        if refused is not None and refused.until <= now:
            del self.refused[keys]
        elif refused is not None and refused.cost <= cost:
            return refused.decision._replace(retry_after=refused.until - now)
        return None

    def learn(self, asked: Asked, granted: int, decision: Decision) -> None:
        """Note what the store said.

        A lease is added to what is left of the one before, and both end when that would have ended.
        """
        keys, cost, since = asked
        if not decision.allowed:
            _note(self.refused, keys, _Refused(cost, since + decision.retry_after, decision))
        elif granted > cost:
            left = self.leased.get(keys)
            tokens, until = (left.tokens, left.until) if left is not None and left.tokens else (0, since + self._ttl)
            _note(self.leased, keys, _Leased(tokens + granted - cost, until, decision))

    def forget(self, keys: Keys) -> None:
        """Forget that *keys* are out, because something was given back."""
        self.refused.pop(keys, None)


def _note(table: OrderedDict[Keys, Any], keys: Keys, what: object) -> None:
    table[keys] = what
    if len(table) > REMEMBERED:
        table.popitem(last=False)
