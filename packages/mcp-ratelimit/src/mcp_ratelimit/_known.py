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

    def __init__(self, lease: int, ttl: float) -> None:
        self.refused: OrderedDict[Keys, _Refused] = OrderedDict()
        self.leased: OrderedDict[Keys, list[_Leased]] = OrderedDict()
        self._low = lease // 2
        self._ttl = ttl

    def decide(self, keys: Keys, cost: int, now: float, *, renewing: bool) -> Decision | None:
        """Return the decision if it is known, and spend the lease; None sends one of many to renew it in time."""
        if leases := self.leased.get(keys):
            while leases and (leases[0].until <= now or not leases[0].tokens):
                del leases[0]
            if leases and leases[0].tokens >= cost and (renewing or len(leases) > 1 or leases[0].tokens > self._low):
                leases[0].tokens -= cost
                return leases[0].decision
        refused = self.refused.get(keys)
        if refused is not None and refused.until <= now:
            del self.refused[keys]
        elif refused is not None and refused.cost <= cost:
            return refused.decision._replace(retry_after=refused.until - now)
        return None

    def learn(self, asked: Asked, granted: int, decision: Decision) -> None:
        """Note what the store said."""
        keys, cost, since = asked
        if not decision.allowed:
            _note(self.refused, keys, _Refused(cost, since + decision.retry_after, decision))
        elif granted > cost:
            lease = _Leased(granted - cost, since + self._ttl, decision)
            _note(self.leased, keys, [*self.leased.get(keys, ()), lease])

    def forget(self, keys: Keys) -> None:
        """Forget that *keys* are out, because something was given back."""
        self.refused.pop(keys, None)


def _note(table: OrderedDict[Keys, Any], keys: Keys, what: object) -> None:
    table[keys] = what
    if len(table) > REMEMBERED:
        table.popitem(last=False)
