"""What is counted while the breaker stays in one state, one class a state.

An era is told the time and the outcomes, and answers with the cause of the transition that follows from them, if one
does.  It is never used again, and makes no transition itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from .cooldown import Cooldown
from .rules import Rule
from .states import Cause, State, Verdict

__all__ = ["ERAS", "Era", "Open", "Policy", "passed"]


@dataclass(frozen=True)
class Policy:
    """The configuration, as ``CircuitBreaker`` documents it."""

    name: str
    rules: tuple[Rule, ...]
    cooldown: Cooldown
    forgive_after: float
    probes: int
    probe_concurrency: int
    probe_ratio: float
    probe_max_wait: float
    ramp: float
    may_be_quick: bool = True

    @property
    def probes_needed(self) -> int:
        """Successes that make the ratio certain."""
        return math.ceil(self.probes * self.probe_ratio - 1e-9)  # 10 * 0.7 is a little over 7

    @property
    def slow_after(self) -> float:
        """Seconds from which a call is slow for at least one rule; inf without such a rule."""
        return min((rule.slower_than for rule in self.rules if rule.slower_than is not None), default=math.inf)


class Era:
    """One stay in one state; this one admits all and counts nothing, which is DISABLED.

    ``calls`` is the number of outcomes counted.  A *quick* era lets the shell add a success to it without asking,
    except for a slow one, and for one that ends when ``edge`` has passed.
    """

    quick: bool = False
    edge: float = math.inf

    def __init__(self, state: State, policy: Policy, now: float) -> None:
        self.state: State = state
        self.policy: Policy = policy
        self.since: float = now
        self.calls: int = 0
        self.failures: int = 0
        self.in_flight: int = 0

    def due(self, now: float) -> Cause | None:  # noqa: ARG002  # what eras with an end override
        """Say what has become of this era by the time of the next call."""
        return None

    def wait(self, now: float) -> float | None:  # noqa: ARG002  # as every era has it
        """Return after how many seconds it is worth asking again, inf if nobody knows; None if that is not certain."""
        return None

    def refuse(self, now: float) -> float | None:
        """Take the next call in, or return what ``wait`` does."""
        return self.wait(now)

    def settle(self, verdict: Verdict, now: float, elapsed: float) -> Cause | None:  # noqa: ARG002  # as every era has it
        """Count what became of a call of this era after *elapsed* seconds, and say whether that ends the era."""
        return None


class _Isolated(Era):
    def wait(self, now: float) -> float | None:  # noqa: ARG002  # as every era has it
        return math.inf


class Open(Era):
    """Refuses all, for *cooldown* seconds."""

    def __init__(self, state: State, policy: Policy, now: float, cooldown: float) -> None:
        super().__init__(state, policy, now)
        self.cooldown: float = cooldown

    def due(self, now: float) -> Cause | None:
        """Say when the cooldown is over."""
        return "cooled" if self.wait(now) is None else None

    def wait(self, now: float) -> float | None:
        """Return what is left of the cooldown; None when it is over."""
        left = self.cooldown - passed(self.since, now)
        return left if left > 0 else None


class _HalfOpen(Era):
    def __init__(self, state: State, policy: Policy, now: float) -> None:
        super().__init__(state, policy, now)
        self._needed = policy.probes_needed
        self._latest = now

    def due(self, now: float) -> Cause | None:
        return "abandoned" if self._is_full and now - self._latest >= self.policy.probe_max_wait else None

    def refuse(self, now: float) -> float | None:
        if self._is_full:
            return self.policy.probe_max_wait - passed(self._latest, now)
        self.in_flight += 1
        self._latest = now
        return None

    def settle(self, verdict: Verdict, now: float, elapsed: float) -> Cause | None:  # noqa: ARG002  # as every era has it
        self.in_flight -= 1
        if verdict == "ignored":
            return None
        self.calls += 1
        self.failures += verdict == "failure" or elapsed >= self.policy.slow_after
        if self.failures > self.policy.probes - self._needed:
            return "relapsed"
        if self.calls - self.failures < self._needed:
            return None
        return "eased" if self.policy.ramp else "recovered"

    @property
    def _is_full(self) -> bool:
        return self.in_flight >= self.policy.probe_concurrency


class _Counting(Era):
    """CLOSED and OBSERVING: all are admitted, and the rules decide."""

    def __init__(self, state: State, policy: Policy, now: float) -> None:
        super().__init__(state, policy, now)
        self.quick = policy.may_be_quick
        self._windows = [(rule.slower_than, rule.start(now)) for rule in policy.rules]
        self.edge = min((window.edge for _, window in self._windows), default=math.inf)

    def settle(self, verdict: Verdict, now: float, elapsed: float) -> Cause | None:
        if verdict == "ignored":
            return None
        if now >= self.edge:
            self._roll(now)
        failed = verdict == "failure"
        self.calls += 1
        self.failures += failed
        marked = [window for slow, window in self._windows if (failed if slow is None else elapsed >= slow)]
        trips = [window.mark(self.calls) for window in marked]  # all of them, also after one that trips
        return "tripped" if any(trips) else None

    def _roll(self, now: float) -> None:
        for _, window in self._windows:
            window.roll(now, self.calls)
        self.edge = min(window.edge for _, window in self._windows)


class _Ramping(_Counting):
    """As CLOSED, but the share of calls admitted grows evenly from 0 to 1 over ``ramp`` seconds."""

    def __init__(self, state: State, policy: Policy, now: float) -> None:
        super().__init__(state, policy, now)
        self.quick = False
        self._credit = 1.0  # the first call is admitted: a share of nothing would keep the service waiting

    def due(self, now: float) -> Cause | None:
        return "recovered" if now - self.since >= self.policy.ramp else None

    def refuse(self, now: float) -> float | None:
        age = passed(self.since, now)
        self._credit += age / self.policy.ramp
        if self._credit < 1:
            return self.policy.ramp - age
        self._credit -= 1
        return None


ERAS: Mapping[State, type[Era]] = {
    State.CLOSED: _Counting,
    State.HALF_OPEN: _HalfOpen,
    State.RAMPING: _Ramping,
    State.ISOLATED: _Isolated,
    State.DISABLED: Era,
    State.OBSERVING: _Counting,
}


def passed(since: float, now: float) -> float:
    """Return the seconds from *since* to *now*; 0 when the clock went backwards."""
    return now - since if now > since else 0.0  # `max` takes three times as long, and refusals are to be cheap
