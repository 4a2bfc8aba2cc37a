"""A retry storm in virtual time: what each policy does to a server that stood still for two seconds.

The server answers 1000 requests a second, first come, first served, and cannot see that a client has given up: it works
through its queue, dead requests included.  Calls come at a given rate and wait 250 ms for an answer.  From second 10 to
second 12 the server stands still.

Arrivals are of two kinds: all as far apart, as in the picture, where only the policies make a difference; and at random
(a Poisson process), from several seeds, as independent callers come.  Those queue even at a healthy server, and a few
more of them than usual after the outage lengthen it, so that results differ from seed to seed.

    calls ──▶ retry policy ──(sends)──▶ queue ──(1000/s)──▶ answer, good if within 250 ms

Ours are ``Backoff``, ``Budget`` and ``Throttle`` themselves, fed with virtual time.  For tenacity and stamina it is
their delays, number of attempts and limit of time by default, written down here so that the picture can be drawn
without them; ``bench_retry.py`` compares them with the installed ones before it prints the table.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from mcp_retry import Budget, Throttle, exponential

CAPACITY, TIMEOUT = 1000.0, 0.25
OUTAGE = (10.0, 12.0)
HEALTHY = 0.99  # of the calls of a second; a server has recovered when all seconds from there on are


@dataclass
class Policy:
    """Delays between attempts, and who may forbid one; made anew for each simulation."""

    attempts: int = 1
    delay: Callable[[int, float, float], float] = lambda attempt, previous, draw: 0.0
    budget: Budget | None = None
    throttle: Throttle | None = None
    max_elapsed: float = math.inf


@dataclass
class Outcome:
    """What came of one simulation: calls and good calls, by the second in which they began, and requests sent."""

    calls: list[int]
    good: list[int]
    sent: int = 0

    @property
    def shares(self) -> list[float]:
        """The share of good calls, second by second."""
        return [good / max(calls, 1) for good, calls in zip(self.good, self.calls, strict=True)]

    @property
    def success(self) -> float:
        """The share of good calls over the whole time."""
        return sum(self.good) / sum(self.calls)

    @property
    def sends_a_call(self) -> float:
        """Requests that the server got for each call."""
        return self.sent / sum(self.calls)

    @property
    def recovered_after(self) -> float:
        """Seconds from the end of the outage until all calls are well again; infinite if they never are."""
        judged = self.shares[:-1]  # calls of the last second may still be on their way
        bad = [second for second, share in enumerate(judged) if share < HEALTHY]
        last = max(bad, default=int(OUTAGE[1]) - 1) + 1
        return math.inf if last >= len(judged) else last - OUTAGE[1]


@dataclass
class Call:
    """One call of a client: when it began, how many attempts have failed, and how long it waited last."""

    start: float
    attempt: int = 0
    delay: float = 0.0


class Clock:
    """Virtual seconds."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


Make = Callable[[Clock, random.Random], Policy]


class Simulation:
    """Clients with one policy, and their server."""

    def __init__(self, make: Make, arrivals: Iterable[float], *, seconds: int = 60, seed: int = 1) -> None:
        self._clock, self._draws = Clock(), random.Random(seed)  # noqa: S311  # chance, not secrecy
        self._policy = make(self._clock, self._draws)
        self._seconds = seconds
        self._free_at = 0.0
        self._order = itertools.count()
        self._events: list[tuple[float, int, Callable[[Call], None], Call]] = []
        self.outcome = Outcome([0] * seconds, [0] * seconds)
        for start in itertools.takewhile(lambda start: start < seconds, arrivals):
            self._at(start, self._begin, Call(start))
            self.outcome.calls[int(start)] += 1

    def run(self) -> Outcome:
        """Run to the end."""
        while self._events and self._events[0][0] < self._seconds:
            self._clock.now, _, happen, call = heapq.heappop(self._events)
            happen(call)
        return self.outcome

    def _at(self, when: float, happen: Callable[[Call], None], call: Call) -> None:
        heapq.heappush(self._events, (when, next(self._order), happen, call))

    def _begin(self, call: Call) -> None:
        if self._policy.budget is not None:
            self._policy.budget.calls += 1
        if self._policy.throttle is None or self._policy.throttle.admit():
            self._send(call)

    def _send(self, call: Call) -> None:
        self.outcome.sent += 1
        now, begins = self._clock.now, max(self._clock.now, self._free_at)
        self._free_at = (OUTAGE[1] if OUTAGE[0] <= begins < OUTAGE[1] else begins) + 1 / CAPACITY
        if self._free_at > now + TIMEOUT:
            self._at(now + TIMEOUT, self._fail, call)
        else:
            self._at(self._free_at, self._answer, call)

    def _fail(self, call: Call) -> None:
        policy = self._policy
        call.attempt += 1
        call.delay = policy.delay(call.attempt, call.delay, self._draws.random())
        due = self._clock.now + call.delay
        if call.attempt >= policy.attempts or due - call.start >= policy.max_elapsed:
            return
        may_send = policy.throttle is None or policy.throttle.admit()
        if may_send and (policy.budget is None or policy.budget.spend()):
            self._at(due, self._send, call)

    def _answer(self, call: Call) -> None:
        self.outcome.good[int(call.start)] += 1
        if self._policy.throttle is not None:
            self._policy.throttle.accepted()


def evenly(rate: float) -> Iterator[float]:
    """Yield the seconds at which calls begin, *rate* of them a second, all as far apart."""
    return (number / rate for number in itertools.count())


def at_random(rate: float, seed: int) -> Iterator[float]:
    """Yield the seconds at which calls begin, *rate* of them a second on average, independent of each other."""
    dice = random.Random(seed)  # noqa: S311  # chance, not secrecy
    return itertools.accumulate(dice.expovariate(rate) for _ in itertools.count())


def no_retries(clock: Clock, draws: random.Random) -> Policy:
    """One attempt, for comparison."""
    return Policy()


def ours(clock: Clock, draws: random.Random) -> Policy:
    """The defaults of ``Retry``: three attempts, full jitter, and the budget."""
    return Policy(3, exponential().delay, Budget(clock=clock))


def ours_without_budget(clock: Clock, draws: random.Random) -> Policy:
    """The same with ``budget=False``: jitter alone."""
    return Policy(3, exponential().delay)


def ours_with_throttle(clock: Clock, draws: random.Random) -> Policy:
    """The defaults, and a throttle with its own."""
    return Policy(3, exponential().delay, Budget(clock=clock), Throttle(clock=clock, random=draws.random))


def tenacity_defaults(clock: Clock, draws: random.Random) -> Policy:
    """``@tenacity.retry``: at once, for ever."""
    return Policy(10**9, lambda attempt, previous, draw: 0.0)


def stamina_delay(attempt: int, draw: float) -> float:
    """Return stamina's delay: exponential from 0.1 s with up to a second of jitter on top, cut off at 5 s."""
    return min(5.0, 0.1 * 2.0 ** (attempt - 1) + draw)


def stamina_defaults(clock: Clock, draws: random.Random) -> Policy:
    """``@stamina.retry(on=...)``: ten attempts within 45 s."""
    return Policy(10, lambda attempt, previous, draw: stamina_delay(attempt, draw), max_elapsed=45.0)


POLICIES: dict[str, Make] = {
    "no retries": no_retries,
    "tenacity, defaults": tenacity_defaults,
    "stamina, defaults": stamina_defaults,
    "Retry without budget": ours_without_budget,
    "Retry, defaults": ours,
    "Retry with throttle": ours_with_throttle,
}
LOADS = (500, 700, 900)
SEEDS = range(1, 9)
AT_RANDOM = ("no retries", "Retry, defaults", "Retry with throttle")


def main() -> None:
    """Print both tables."""
    print("targets at 500 and 700: success 86.0%, sends a call 1.05, recovered after 7 s; at 900 with throttle: ever")
    print(f"{'calls a second, evenly':<26}{'success':>12}{'sends a call':>13}{'recovered after':>16}")
    for offered in LOADS:
        for name, make in POLICIES.items():
            show(offered, name, [Simulation(make, evenly(offered)).run()])
    print(f"{f'at random, {len(SEEDS)} seeds':<26}{'min - max':>12}{'max':>13}{'max':>16}")
    for offered in LOADS:
        for name in AT_RANDOM:
            runs = [Simulation(POLICIES[name], at_random(offered, seed), seed=seed).run() for seed in SEEDS]
            show(offered, name, runs)


def show(offered: int, name: str, outcomes: list[Outcome]) -> None:
    """Print what came of one policy: the range of successes, and the worst of the rest."""
    successes = sorted({f"{outcome.success:.1%}" for outcome in outcomes})
    sends = max(outcome.sends_a_call for outcome in outcomes)
    seconds = max(outcome.recovered_after for outcome in outcomes)
    after = f"{seconds:.0f} s" if seconds < math.inf else "never"
    print(f"{offered:>4} {name:<21}{' - '.join(successes[:: len(successes) - 1 or 1]):>12}{sends:>13.2f}{after:>16}")


if __name__ == "__main__":
    main()
