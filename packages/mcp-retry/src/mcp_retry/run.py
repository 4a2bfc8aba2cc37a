"""One call on its way through its attempts: told what happened, it says whether and when to go on.

    failed? ──▶ worth it? ──▶ attempts left? ──▶ time left? ──▶ throttle ──▶ budget ──▶ sleep, then the next attempt
                   └──────────────┴────────────────┴──────────────┴────────────┴──▶ give up, and say why

All of it is decided before the sleep: nobody waits for a refusal.  The budget is asked last, since it alone pays.
A ``Run`` exists only from the first failure on, unless attempts are timed or throttled.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import anyio

from .backoff import Backoff
from .budget import Budget
from .events import AttemptFailed, BudgetRefused, Event, GaveUp, Reason, Recovered, Sleeping, report
from .failures import Failures, note
from .throttle import Throttle, Throttled

__all__ = ["AttemptTimeout", "Counts", "Run", "Settings"]

HISTORY = 100  # attempts of one call that are remembered for the notes


class AttemptTimeout(TimeoutError):  # noqa: N818  # as TimeoutError itself
    """The attempt was cancelled after *seconds*: by ``attempt_timeout``, or because ``max_elapsed`` was over."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"no answer within {seconds:.3g} s")
        self.seconds: float = seconds


@dataclass
class Counts:
    """Counts of one ``Retry``, added up here and read through its ``statistics``."""

    failures: int = 0
    retries: int = 0
    recovered: int = 0
    gave_up: int = 0
    budget_refusals: int = 0
    throttled: int = 0


@dataclass(frozen=True)
class Settings:
    """The configuration of one ``Retry``, checked, with its shared state."""

    failures: Failures
    attempts: int | None
    backoff: Backoff
    max_elapsed: float | None
    attempt_timeout: float | None
    retry_after: Callable[[Any], float | None]
    retry_after_cap: float
    budget: Budget | None
    throttle: Throttle | None
    on_event: Callable[[Event], object] | None
    clock: Callable[[], float]
    sleep: Callable[[float], Awaitable[None]]
    random: Callable[[], float]
    counts: Counts = field(default_factory=Counts)

    @property
    def is_plain(self) -> bool:
        """Whether nothing needs to be done before or around an attempt."""
        return self.max_elapsed is None and self.attempt_timeout is None and self.throttle is None


class Run:
    """The attempts of one call; entering it as a context begins an attempt, and bounds its time."""

    __slots__ = ("_hint", "_history", "_scope", "_seconds", "_settings", "_started", "_wait", "delay", "failed")

    delay: float
    """Seconds to wait before the next attempt, once there is to be one."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._history: deque[str] = deque(maxlen=HISTORY)
        self._started = settings.clock()
        self._scope: anyio.CancelScope | None = None
        self._wait = 0.0
        self.failed: int = 0
        """Attempts that have failed."""

    def admit(self) -> None:
        """Let the first attempt through the throttle, or raise ``Throttled``."""
        throttle = self._settings.throttle
        if throttle is not None and not throttle.admit():
            self._settings.counts.throttled += 1
            raise Throttled(throttle.probability)

    async def sleep(self) -> None:
        """Wait before the next attempt, which is none if the call is cancelled meanwhile."""
        try:
            await self._settings.sleep(self.delay)
        except BaseException:
            if self._settings.throttle is not None:
                self._settings.throttle.cancelled()
            raise

    def __enter__(self) -> None:
        timeout = self._settings.attempt_timeout
        self._seconds = min(math.inf if timeout is None else timeout, self._left())
        if self._seconds < math.inf:
            self._scope = anyio.CancelScope(deadline=anyio.current_time() + self._seconds)
            self._scope.__enter__()

    # Not ``bool`` alone: for type checkers, a block might then end half-way.  ``check`` sees to it that none does.
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        is_cut = self._scope is not None and bool(self._scope.__exit__(kind, error, traceback))
        if self._settings.throttle is not None and kind is not None and not (is_cut or issubclass(kind, Exception)):
            self._settings.throttle.cancelled()
        return is_cut

    def check(self) -> None:
        """Raise ``AttemptTimeout`` if the attempt was cut short; outside of ``with``, so that it has no context."""
        if self._scope is not None and self._scope.cancelled_caught:
            raise AttemptTimeout(self._seconds)

    def goes_on_after(self, error: Exception, *, retryable: bool) -> bool:
        """Say whether to try again after *error*; if so, ``delay`` is set, and if not, *error* has its notes."""
        if self._settings.throttle is not None and not self._settings.failures(error):
            self._settings.throttle.accepted()  # the server has answered, if only to say no
        if self._goes_on(error, type(error), retryable=retryable):
            return True
        if self.failed > 1 or retryable:
            for line in self._history:
                note(error, f"retry: {line}")
        return False

    def goes_on_with(self, result: object, *, is_good: bool) -> bool:
        """Say whether to try again because *result* is not good; if so, ``delay`` is set."""
        if is_good:
            self.succeeded()
            return False
        return self._goes_on(result, None, retryable=True)

    def succeeded(self) -> None:
        """Take note that the last attempt was good."""
        if self._settings.throttle is not None:
            self._settings.throttle.accepted()
        if self.failed:
            self._settings.counts.recovered += 1
            self._report(Recovered, self.failed + 1)

    def _goes_on(self, outcome: object, kind: type[BaseException] | None, *, retryable: bool) -> bool:
        self.failed += 1
        self._settings.counts.failures += 1
        self._report(AttemptFailed, self.failed, kind)
        reason = self._decide(outcome) if retryable else "not retryable"
        what = f"attempt {self.failed} " + (
            "returned a value to be retried" if kind is None else f"raised {kind.__name__}"
        )
        if reason is None:
            self._history.append(f"{what}, then waited {self.delay:.3g} s")
            self._settings.counts.retries += 1
            self._report(Sleeping, self.failed, self.delay, self._hint)
            return True
        self._history.append(f"{what}, then gave up: {reason}")
        self._settings.counts.gave_up += 1
        self._report(GaveUp, self.failed, reason, kind)
        return False

    def _decide(self, outcome: object) -> Reason | None:
        """Set ``delay``, or return why there is no further attempt."""
        settings = self._settings
        if settings.attempts is not None and self.failed >= settings.attempts:
            return "attempts"
        if not self._set_delay(outcome):
            return "not retryable"
        if self.delay >= min(self._left(), anyio.current_effective_deadline() - anyio.current_time()):
            return "deadline"
        if settings.throttle is not None and not settings.throttle.admit():
            settings.counts.throttled += 1
            return "throttle"
        if settings.budget is not None and not settings.budget.spend():
            settings.counts.budget_refusals += 1
            self._report(BudgetRefused, self.failed)
            return "budget"
        return None

    def _set_delay(self, outcome: object) -> bool:
        """Set ``delay``; False, noted on the error, if a function of the user's raises."""
        settings = self._settings
        try:
            asked = settings.retry_after(outcome)
            # The backoff comes on top of what was asked for: all who were told the same must not return together.
            self._wait = settings.backoff.delay(self.failed, self._wait, settings.random())
            self._hint = None if asked is None or not 0 <= asked < math.inf else min(asked, settings.retry_after_cap)
        except Exception as fault:  # noqa: BLE001  # it must not take the place of the error
            if isinstance(outcome, Exception):
                note(outcome, f"not retried: backoff or retry_after raised {type(fault).__name__}: {fault}")
            return False
        self.delay = self._wait + (self._hint or 0.0)
        return True

    def _left(self) -> float:
        limit = self._settings.max_elapsed
        return math.inf if limit is None else max(0.0, limit - (self._settings.clock() - self._started))

    def _report(self, event: Callable[..., Event], *facts: object) -> None:
        if self._settings.on_event is not None:
            report(self._settings.on_event, event(*facts))
