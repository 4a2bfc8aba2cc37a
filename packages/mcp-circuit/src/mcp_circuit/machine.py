"""The breaker without time, tasks and threads: it is told when and what, and says what to do.

    CLOSED ──tripped──▶ OPEN ──cooled──▶ HALF_OPEN ──recovered──▶ CLOSED
                         ▲                │  │  └─────eased─────▶ RAMPING ──recovered──▶ CLOSED
                         ├────relapsed────┘  └──abandoned──▶ HALF_OPEN (anew)
                         └────tripped──── RAMPING

``TRANSITIONS`` is that picture and the rest of it, and the only place that knows which state follows.  Each transition
begins a new *era*, an object that holds all that is counted in it.  A call carries the era that admitted it; when that
one is no longer the machine's, what became of the call is nobody's business any more.

Invariants; ``tests/circuit/test_model.py`` walks every reachable state of a small machine to check them:

1. The outcome of a call from an older era changes nothing.
2. In one HALF_OPEN era never more than ``probe_concurrency`` calls are in flight, and an ignored one gives its place back.
3. From every state that is not a manual one, one call that succeeds leads on towards CLOSED, at the latest after the
   cooldown or ``probe_max_wait``: a probe that hangs blocks nobody for longer.
4. OPEN admits nothing before its cooldown is over, and everything that comes after it decides anew.
5. A manual state ends only by hand.

Rejected: era numbers (comparing two ints costs what comparing two objects does, and a wrapped or reset number lies), a timer
for OPEN → HALF_OPEN (a task to own; the next call can tell that it is time), and OPEN after a hung probe (the service
may have recovered: the next probe finds out).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Literal, TypeAlias

from .cooldown import Cooldown, Opening
from .rules import Rule

__all__ = ["MANUAL", "TRANSITIONS", "Cause", "Era", "Machine", "Policy", "State", "Transition", "Verdict"]

Verdict: TypeAlias = Literal["success", "failure", "ignored"]
Cause: TypeAlias = Literal[
    "tripped",
    "cooled",
    "abandoned",
    "relapsed",
    "eased",
    "recovered",
    "isolated",
    "disabled",
    "observed",
    "reset",
    "opened_elsewhere",
    "closed_elsewhere",
]


class State(str, Enum):
    """What the breaker does with calls."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    RAMPING = "ramping"
    ISOLATED = "isolated"
    DISABLED = "disabled"
    OBSERVING = "observing"


MANUAL: Mapping[State, Cause] = {
    State.CLOSED: "reset",
    State.ISOLATED: "isolated",
    State.DISABLED: "disabled",
    State.OBSERVING: "observed",
}
"""The states that ``force`` can bring about, and the cause that does."""

AUTOMATIC = (State.CLOSED, State.OPEN, State.HALF_OPEN, State.RAMPING)
"""The states that outcomes and time lead through."""

TRANSITIONS: Mapping[tuple[State, Cause], State] = {
    (State.CLOSED, "tripped"): State.OPEN,
    (State.OPEN, "cooled"): State.HALF_OPEN,
    (State.HALF_OPEN, "abandoned"): State.HALF_OPEN,
    (State.HALF_OPEN, "relapsed"): State.OPEN,
    (State.HALF_OPEN, "recovered"): State.CLOSED,
    (State.HALF_OPEN, "eased"): State.RAMPING,
    (State.RAMPING, "tripped"): State.OPEN,
    (State.RAMPING, "recovered"): State.CLOSED,
    (State.OBSERVING, "tripped"): State.OBSERVING,
    **{(source, cause): target for target, cause in MANUAL.items() for source in State},
    **{(source, "opened_elsewhere"): State.OPEN for source in AUTOMATIC},
    **{(source, "closed_elsewhere"): State.CLOSED for source in AUTOMATIC},
}
"""Which state follows, by state and cause.  OBSERVING trips in name only; *elsewhere* is another process, see ``shared``."""


@dataclass(frozen=True)
class Transition:
    """An event: the breaker *name* went from one state to another.  ``cooldown`` is set in seconds when it opened."""

    name: str
    cause: Cause
    source: State
    target: State
    cooldown: float | None = None


@dataclass(frozen=True)
class Policy:
    """The configuration, see ``CircuitBreaker``; frozen, and shared by all machines of one breaker factory."""

    name: str
    rules: tuple[Rule, ...]
    cooldown: Cooldown
    forgive_after: float
    probes: int
    probe_concurrency: int
    probe_ratio: float
    probe_max_wait: float
    ramp: float
    may_be_quick: bool

    @property
    def slow_after(self) -> float:
        """Seconds from which a call is slow for at least one rule; inf without such a rule."""
        return min((rule.slower_than for rule in self.rules if rule.slower_than is not None), default=math.inf)


class Era:
    """One stay in one state; this one admits all and counts nothing, which is DISABLED.

    ``calls`` is the number of outcomes counted.  A *quick* era lets the shell add a success to it without asking, except
    for a slow one, and for one that ends when ``edge`` has passed.
    """

    quick = True
    edge = math.inf

    def __init__(self, state: State, policy: Policy, now: float) -> None:
        self.state = state
        self.policy = policy
        self.since = now
        self.calls = 0
        self.failures = 0
        self.in_flight = 0

    def due(self, now: float) -> Cause | None:  # noqa: ARG002  # what eras with an end override
        """Say what has become of this era by the time of the next call."""
        return None

    def wait(self, now: float) -> float | None:  # noqa: ARG002
        """Return after how many seconds it is worth asking again, inf if nobody knows; None if that is not certain."""
        return None

    def refuse(self, now: float) -> float | None:
        """Take the next call in, or return what ``wait`` does."""
        return self.wait(now)

    def settle(self, verdict: Verdict, now: float, elapsed: float) -> Cause | None:  # noqa: ARG002
        """Count what became of a call of this era after *elapsed* seconds, and say whether that ends the era."""
        return None


class _Isolated(Era):
    quick = False

    def wait(self, now: float) -> float | None:  # noqa: ARG002
        return math.inf


class _Open(Era):
    quick = False

    def __init__(self, state: State, policy: Policy, now: float, cooldown: float) -> None:
        super().__init__(state, policy, now)
        self.cooldown = cooldown

    def due(self, now: float) -> Cause | None:
        return "cooled" if self.wait(now) is None else None

    def wait(self, now: float) -> float | None:
        left = self.cooldown - max(now - self.since, 0.0)
        return left if left > 0 else None


class _HalfOpen(Era):
    quick = False

    def __init__(self, state: State, policy: Policy, now: float) -> None:
        super().__init__(state, policy, now)
        self._needed = math.ceil(policy.probes * policy.probe_ratio - 1e-9)  # 10 * 0.7 is a little over 7
        self._latest = now

    def due(self, now: float) -> Cause | None:
        return "abandoned" if self._is_full and now - self._latest >= self.policy.probe_max_wait else None

    def refuse(self, now: float) -> float | None:
        if self._is_full:
            return self.policy.probe_max_wait - _passed(self._latest, now)
        self.in_flight += 1
        self._latest = now
        return None

    def settle(self, verdict: Verdict, now: float, elapsed: float) -> Cause | None:  # noqa: ARG002
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
        passed = _passed(self.since, now)
        self._credit += passed / self.policy.ramp
        if self._credit < 1:
            return self.policy.ramp - passed
        self._credit -= 1
        return None


_ERAS: Mapping[State, type[Era]] = {
    State.CLOSED: _Counting,
    State.HALF_OPEN: _HalfOpen,
    State.RAMPING: _Ramping,
    State.ISOLATED: _Isolated,
    State.DISABLED: Era,
    State.OBSERVING: _Counting,
}


class Machine:
    """The current era, how it came about, and the transitions that nobody has been told of yet."""

    def __init__(self, policy: Policy, now: float) -> None:
        self.policy = policy
        self.era: Era = _Counting(State.CLOSED, policy, now)
        self.number = 0
        self.reopens = 0
        self.calls = 0
        self.failures = 0
        self.pending: deque[Transition] = deque()

    def refuse(self, now: float) -> float | None:
        """Admit the next call to ``era``, the current one, or return after how many seconds to ask again."""
        cause = self.era.due(now)
        if cause:
            self.fire(cause, now)
        return self.era.refuse(now)

    def settle(
        self, era: Era, verdict: Verdict, now: float, elapsed: float = 0.0, error: BaseException | None = None
    ) -> None:
        """Count what became of a call that *era* had admitted; of a past era, nothing."""
        if era is not self.era:
            return
        cause = era.settle(verdict, now, elapsed)
        if cause:
            self.fire(cause, now, error)

    def fire(
        self, cause: Cause, now: float, error: BaseException | None = None, cooldown: float | None = None
    ) -> None:
        """Leave the current era for the state that the table names, OPEN for *cooldown* seconds where it is given.

        Raises KeyError for a cause that cannot be in the current state.
        """
        past, target = self.era, TRANSITIONS[self.era.state, cause]
        if target is State.OPEN:
            cooldown = self._cooldown(past, now, error) if cooldown is None else cooldown
            self.reopens += 1
            self.era = _Open(target, self.policy, now, cooldown)
        else:
            self.era = _ERAS[target](target, self.policy, now)
        if cause == "reset":
            self.reopens = 0
        self.number += 1
        self.calls += past.calls
        self.failures += past.failures
        self.pending.append(Transition(self.policy.name, cause, past.state, target, cooldown))

    def _cooldown(self, past: Era, now: float, error: BaseException | None) -> float:
        if past.state is not State.HALF_OPEN:
            self.reopens = max(self.reopens - int(_passed(past.since, now) / self.policy.forgive_after), 0)
        return self.policy.cooldown(Opening(self.reopens, error))


def _passed(since: float, now: float) -> float:
    return max(now - since, 0.0)  # a clock that goes backwards stands still
