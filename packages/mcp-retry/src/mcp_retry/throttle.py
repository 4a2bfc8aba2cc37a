"""Send less to a server that answers less: the client-side throttle of Google's SRE book.

    drop probability = max(0, (requests - k * accepts) / (requests + 1))

*requests* counts what callers wanted to send, *accepts* what the server answered, both over the recent past.  While it
answers all, nothing is dropped; when it answers nothing, all but a trickle is, and that trickle notices the recovery.
With k = 2 the server sees up to twice what it accepts; a smaller k drops sooner.

The recent past is a decay: both counts shrink by a factor e every *window* seconds, so there is no list to keep.  The
book remembers two minutes, and holds calls back long after a server that stood still is well again.  With 5 s that
takes two thirds of the time it takes with 10 s (``benchmarks/retry_storm.py``), and a client with one call a second of
which a fifth fails at random has one in 500 dropped for nothing; with 2 s, one in 30.

Invariants, each a property in ``tests/retry/test_throttle.py``:

1. While every request is accepted, none is dropped.
2. The drop probability is in [0, 1): a trickle always passes.

Source: Beyer et al., "Site Reliability Engineering" (O'Reilly, 2016), chapter 21, "Client-Side Throttling".
"""

from __future__ import annotations

import inspect
import math
import random as stdlib_random
import sys
import time
from collections.abc import Callable

__all__ = ["Throttle", "Throttled"]


class Throttled(Exception):  # noqa: N818  # the field's word
    """The call was not sent, because the server has lately accepted too little; ``probability`` of such a drop."""

    def __init__(self, probability: float) -> None:
        super().__init__(f"not sent: the server accepts too little, {probability:.0%} of the calls are held back")
        self.probability: float = probability


class Throttle:
    """Drop a part of the calls, the larger the less of them the server accepts.

    *k* is how many requests are sent for each accepted one, *window* the seconds that are remembered.

    Raises ValueError or TypeError unless 1 <= k < inf and 0 < window < inf.
    """

    __slots__ = ("_accepts", "_clock", "_k", "_random", "_requests", "_updated", "_window")

    def __init__(
        self,
        *,
        k: float = 2.0,
        window: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
        random: Callable[[], float] = stdlib_random.random,
    ) -> None:
        self._k = _number("k", k)
        self._window = _number("window", window)
        if k < 1:
            raise ValueError(f"Throttle needs k >= 1, got {k!r}: it would drop calls that the server accepts")
        self._clock = _function("clock", clock)
        self._random = _function("random", random)
        self._requests = self._accepts = 0.0
        self._updated = clock()

    @property
    def probability(self) -> float:
        """How likely the next call is to be dropped, in [0, 1)."""
        self._decay()
        return max(0.0, (self._requests - self._k * self._accepts) / (self._requests + 1))

    def admit(self) -> bool:
        """Count one request, and say whether to send it.  Never waits."""
        probability = self.probability
        self._requests += 1
        return self._random() >= probability

    def accepted(self) -> None:
        """Count one answer: anything but a failure of the server itself."""
        self._decay()
        self._accepts += 1

    def cancelled(self) -> None:
        """Take one request back: it was given up by the caller, which says nothing of the server."""
        self._decay()
        self._requests = max(0.0, self._requests - 1)

    def _decay(self) -> None:
        now = max(self._clock(), self._updated)
        kept = math.exp((self._updated - now) / self._window)
        self._requests *= kept
        self._accepts *= kept
        self._updated = now


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"Throttle needs {name} as a number, got {value!r}")
    if not 0 < value <= sys.float_info.max:
        raise ValueError(f"Throttle needs 0 < {name} < inf, got {value!r}")
    return float(value)


def _function(name: str, value: Callable[[], float]) -> Callable[[], float]:
    given: object = value
    if not callable(given) or any(map(inspect.iscoroutinefunction, (given, type(given).__call__))):
        raise TypeError(f"Throttle needs {name} as a function that is not async, got {value!r}")
    return value
