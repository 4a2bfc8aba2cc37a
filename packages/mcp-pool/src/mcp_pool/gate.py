"""When to connect after connecting failed: later each time, and with one probe alone.

    delay = (½ … 1) min(backoff 2ⁿ⁻¹, max_backoff)        after the n-th failure in a row

Half of the delay is random, so that many pools do not come back to a recovering server in step. After *attempts*
failures the gate is shut: who finds no resource to wait for is refused at once, and the probes go on by themselves.
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Gate"]


class Gate:
    """The failures in a row, and when the next connect may begin."""

    def __init__(self, *, attempts: int, backoff: float, max_backoff: float, random: Callable[[], float]) -> None:
        self.failures: int = 0
        self.retry_at: float
        """When the next connect may begin, after a failure."""
        self.error: BaseException | None = None
        """The last failure, for those who are refused; kept only until a connect succeeds."""
        self._attempts = attempts
        self._backoff = backoff
        self._max_backoff = max_backoff
        self._random = random

    @property
    def is_shut(self) -> bool:
        """Whether so many connects have failed in a row that nobody should wait for the next."""
        return self.failures >= self._attempts

    def failed(self, error: BaseException, now: float) -> float:
        """Count a failure; return the seconds until the next connect may begin."""
        doublings = 2.0 ** min(self.failures, 1023)  # 2¹⁰²³ is the largest power that a float can hold
        delay = min(self._backoff * doublings, self._max_backoff)
        self.failures += 1
        self.error = error
        delay *= (1 + self._random()) / 2
        self.retry_at = now + delay
        return delay

    def succeeded(self) -> int:
        """Forget the failures; return how many there were."""
        failures, self.failures = self.failures, 0
        self.error = None
        return failures

    def allowed(self, wanted: int, connecting: int, now: float) -> int:
        """How many of the *wanted* connects may begin while *connecting* are in flight."""
        if not self.failures:
            return wanted
        return min(wanted, 1) if now >= self.retry_at and not connecting else 0
