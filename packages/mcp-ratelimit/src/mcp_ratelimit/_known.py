"""What a process knows of a key without asking: that it is out, or that tokens were leased for it."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, NamedTuple

import anyio

from .decision import Decision

__all__ = ["Arrival", "Asked", "Known"]

REMEMBERED = 10_000
"""Keys; of more, the oldest are forgotten, at the cost of a round trip."""

BELIEVED = 1.0
"""Seconds for which a refusal is believed at most: what other processes give back is seen no later than this.

A key that is out for long costs one round trip in that time.
"""

Keys = tuple[str, ...]


class Asked(NamedTuple):
    """What the store was asked, and when: by this process's clock, and by what had been forgotten until then."""

    keys: Keys
    cost: int
    since: float
    """The earliest time at which the store can have decided."""
    forgotten: int
    deadline: float = math.inf
    """By anyio's clock, for who has waited already."""


@dataclass(frozen=True)
class _Refused:
    cost: int
    until: float
    """When it is to be asked again."""
    room: float
    """When the store said that there would be room."""
    decision: Decision


@dataclass
class Lease:
    """Tokens to be spent without asking; *reserved* ones are for those who wait for them already."""

    tokens: int
    until: float
    decision: Decision
    low: int
    """What is left when it is to be renewed."""
    reserved: int = 0


class Arrival:
    """A lease that somebody has gone for."""

    def __init__(self) -> None:
        self.event = anyio.Event()
        self.waiting = 0
        self.lease: Lease | None = None

    async def wait(self, cost: int) -> None:
        """Wait until it is there, or is not going to come; *cost* of it is then free to be spent."""
        self.waiting += cost
        try:
            await self.event.wait()
        finally:
            self.waiting -= cost
            if self.lease is not None:
                self.lease.reserved = max(0, self.lease.reserved - cost)


class Known:
    """Refusals that still hold and leases that still run; all times are the caller's clock, in seconds.

    A refusal holds exactly while nothing is given back: no key has room earlier than it was told.  What this process
    gives back makes it forget the refusal, and one that was asked for before and is told after is not noted.  What
    others give back (a refund, a reset, a server that lost its keys) cannot be known, so a refusal is believed for
    ``BELIEVED`` seconds at most.
    """

    def __init__(self, lease: int, ttl: float) -> None:
        self.refused: OrderedDict[Keys, _Refused] = OrderedDict()
        self.leased: OrderedDict[Keys, list[Lease]] = OrderedDict()
        self.forgotten = 0
        self._low = lease // 2
        self._ttl = ttl

    def decide(self, keys: Keys, cost: int, now: float) -> Decision | None:
        """Return the decision if it is known, and spend the lease."""
        leases = self.leased.get(keys)
        while leases:
            lease = leases[0]
            if lease.until > now and lease.tokens:
                if lease.tokens - cost >= lease.reserved and lease.tokens > lease.low:
                    lease.tokens -= cost
                    return lease.decision
                break
            del leases[0]
        refused = self.refused.get(keys)
        if refused is not None and refused.until <= now:
            del self.refused[keys]
        elif refused is not None and refused.cost <= cost:
            return refused.decision._replace(retry_after=refused.room - now)
        return None

    def renewing(self, keys: Keys) -> None:
        """Let what is left of the leases be spent to the last token, now that somebody has gone for more."""
        for lease in self.leased.get(keys, ()):
            lease.low = 0

    def learn(self, asked: Asked, granted: int, decision: Decision, arrival: Arrival | None = None) -> None:
        """Note what the store said; a lease is what *arrival* brings, and has a token for each who waits for that."""
        keys, cost, since, forgotten, _ = asked
        if not decision.allowed:
            if forgotten == self.forgotten:
                room = since + decision.retry_after
                _note(self.refused, keys, _Refused(cost, min(room, since + BELIEVED), room, decision))
        elif arrival is not None and granted > cost:
            left = granted - cost
            lease = arrival.lease = Lease(left, since + self._ttl, decision, self._low, min(left, arrival.waiting))
            _note(self.leased, keys, [*self.leased.get(keys, ()), lease])

    def forget(self, keys: Keys) -> None:
        """Forget that *keys* are out, because something was given back."""
        self.forgotten += 1
        self.refused.pop(keys, None)


def _note(table: OrderedDict[Keys, Any], keys: Keys, what: object) -> None:
    table[keys] = what
    if len(table) > REMEMBERED:
        table.popitem(last=False)
