"""Let the answer to a server's question pass for free, and nothing that merely looks like one.

A tool may answer ``input_required``; the client then repeats the request with what was asked for.  That is one call to
its user, so it is charged once.  But the fields that mark a continuation are the caller's own words: a free ride for
whoever writes them would lift the limit.  So a ride must have been earned here:

    charged call ──input_required──▶ ride, 10 rounds ──continuation──▶ free ──input_required──▶ ride, 9 rounds ──▶ …

1. Free calls never outnumber ``ROUNDS`` times the charged ones, whatever the caller sends.
2. A ride is for its caller, method and target only, and is used once.
3. What is held is bounded: of too many rides the oldest are forgotten, and names too long to remember earn none;
   their continuations are charged.

A continuation that reaches another process than the question came from is charged: rides are not shared.
"""

from __future__ import annotations

from collections import OrderedDict

__all__ = ["Rides"]

ROUNDS = 10
"""Questions that one charged call may ask: more than any form has pages, few enough to be worth no attack."""
OPEN = 16
"""Questions that one caller may leave open for one target."""
LONGEST = 1000
"""Characters of caller, method and target together; a target is the caller's own words, and may be megabytes."""

Asked = tuple[str, ...]
"""Who was asked, and about what."""


class Rides:
    """The free rides that callers have earned; *most* is how many callers and targets are remembered."""

    def __init__(self, most: int = 10_000) -> None:
        self._most = most
        self.open: OrderedDict[Asked, list[int]] = OrderedDict()

    def take(self, asked: Asked) -> int:
        """Use a ride up and return its rounds; 0 if there is none."""
        rides = self.open.get(asked)
        if rides is None:
            return 0
        rounds = rides.pop()
        if not rides:
            del self.open[asked]
        return rounds

    def earn(self, asked: Asked, rounds: int = ROUNDS) -> None:
        """Note that a call was answered with a question; *rounds* of 0 earn nothing."""
        if sum(map(len, asked)) > LONGEST:
            return
        rides = self.open.setdefault(asked, [])
        if rounds and len(rides) < OPEN:
            rides.append(rounds)
        if not rides:
            del self.open[asked]
        while len(self.open) > self._most:
            self.open.popitem(last=False)
