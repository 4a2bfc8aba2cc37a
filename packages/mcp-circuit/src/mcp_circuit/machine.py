"""The breaker without time, tasks and threads: it is told when and what, and changes its state.

Each transition begins a new *era*, an object that holds all that is counted in it.  A call carries the era that
admitted it; when that one is no longer the machine's, what became of the call is nobody's business any more.

Invariants; ``tests/circuit/test_model.py`` walks every reachable state of a small machine to check them:

1. The outcome of a call from an older era changes nothing.
2. In one HALF_OPEN era never more than ``probe_concurrency`` calls are in flight; an ignored one gives its place back.
3. From every state that is not a manual one, calls that succeed lead on to CLOSED, without waiting for longer than the
   cooldown and ``probe_max_wait``: a probe that hangs blocks nobody for longer.
4. OPEN admits nothing before its cooldown is over, and does so then.
5. A manual state ends only by hand.

Rejected: era numbers (comparing two costs as much, and a number that was reset lies), a timer for OPEN → HALF_OPEN (a
task to own; the next call can tell that it is time), and OPEN after a hung probe (the service may be back: ask it).
"""

from __future__ import annotations

from .cooldown import Opening
from .eras import ERAS, Era, Open, Policy, passed
from .states import TRANSITIONS, Cause, State, Transition, Verdict

__all__ = ["Machine"]


class Machine:
    """The current era, how it came about, and the transitions that nobody has been told of yet."""

    def __init__(self, policy: Policy, now: float) -> None:
        self.policy: Policy = policy
        self.era: Era = ERAS[State.CLOSED](State.CLOSED, policy, now)
        self.number: int = 0
        self.reopens: int = 0
        self.calls: int = 0
        self.failures: int = 0
        self.pending: list[Transition] = []

    def refuse(self, now: float) -> float | None:
        """Admit the next call to ``era``, the current one, or return after how many seconds to ask again."""
        cause = self.era.due(now)
        if cause:
            self.fire(cause, now)
        return self.era.refuse(now)

    def settle(self, era: Era, verdict: Verdict, now: float, elapsed: float, error: BaseException | None) -> None:
        """Count what became of a call that *era* had admitted; of a past era, nothing."""
        if era is not self.era:
            return
        cause = era.settle(verdict, now, elapsed)
        if cause:
            self.fire(cause, now, error)

    def fire(self, cause: Cause, now: float, error: BaseException | None = None, cooldown: float | None = None) -> None:
        """Leave the current era for the state that the table names, OPEN for *cooldown* seconds where it is given.

        Raises KeyError for a cause that cannot be in the current state.
        """
        past, target = self.era, TRANSITIONS[self.era.state, cause]
        if target is State.OPEN:
            cooldown = self._cooldown(past, now, error) if cooldown is None else cooldown
            self.reopens += 1
            self.era = Open(target, self.policy, now, cooldown)
        else:
            self.era = ERAS[target](target, self.policy, now)
        if cause == "reset":
            self.reopens = 0
        self.number += 1
        self.calls += past.calls
        self.failures += past.failures
        self.pending.append(Transition(self.policy.name, cause, past.state, target, cooldown))

    def _cooldown(self, past: Era, now: float, error: BaseException | None) -> float:
        if past.state is not State.HALF_OPEN:
            self.reopens = max(self.reopens - int(passed(past.since, now) / self.policy.forgive_after), 0)
        return self.policy.cooldown(Opening(self.reopens, error))
