"""What both virtual clocks share: when to stop waiting, and what to say then.

Time may jump only while nothing outside the event loop can wake a task. While a worker thread runs or a socket is
watched, waiting is real: ``RealWait`` hands out short slices of it, and the virtual clock stands still until an event
arrives or the next timer is due on a real watch too. Waiting for nothing is bounded thrice: ``PATIENCE`` real seconds
without an event, ``MAX_JUMPS`` jumps a run (a task that sleeps for ever in a loop keeps any clock moving), and
``MAX_TURNS`` of the loop without a jump (a task that swallows its cancellation is cancelled anew in each of them).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType

__all__ = [
    "MAX_JUMPS",
    "MAX_TURNS",
    "PATIENCE",
    "Deadlock",
    "RealWait",
    "instead_of_its_consequences",
    "report",
    "suspended_at",
]

MAX_JUMPS = 100_000  # a simulated day of one-second heartbeats is 86 400
MAX_TURNS = 20_000  # a quarter of a second; a turn runs all that is ready, so even a crowd takes few
PATIENCE = 30.0  # seconds: a subprocess on a loaded machine needs several; half of pytest's own limit for a test
SLICE = 0.02  # seconds: a thread may end without waking the loop, so look again this often
LIBRARIES = frozenset({"anyio", "asyncio", "trio", "outcome"})


class Deadlock(Exception):
    """Nothing can ever wake the test, time runs away from it or stands still; the message lists its tasks."""


class RealWait:
    """Slices of real waiting for one due time after the other."""

    def __init__(self) -> None:
        self._due = self._since = self._quiet_since = 0.0

    def slice(self, due: float, remaining: float, *, progressed: bool) -> float:
        """How long to wait for real now, in seconds: 0 when *due*, *remaining* virtual seconds away, has come.

        *progressed* says that something happened since the last call. Raises Deadlock after PATIENCE without that.
        """
        now = time.monotonic()
        if due != self._due:
            self._due, self._since = due, now
        if progressed:
            self._quiet_since = now
        left = remaining - (now - self._since)
        if left > 0 and now - self._quiet_since > PATIENCE:
            raise Deadlock(f"waited {PATIENCE:g} real seconds for a thread or a socket, and none came")
        return min(max(left, 0), SLICE)


@contextmanager
def instead_of_its_consequences(deadlock: Callable[[], Deadlock | None]) -> Iterator[None]:
    """Raise *deadlock()*, if there is one by the end of the block, for whatever the block raised or swallowed then."""
    try:
        yield
    except BaseException as error:
        if found := deadlock():
            raise found from error
        raise
    if found := deadlock():
        raise found


def report(reason: str, tasks: Iterable[tuple[str, object]]) -> Deadlock:
    """A Deadlock that says *reason* and where each of the (name, coroutine) pairs in *tasks* waits."""
    lines = [f"  {name} waits at {suspended_at(coro)}" for name, coro in tasks]
    return Deadlock("\n".join([reason, *lines]))


def suspended_at(coro: object) -> str:
    """Where *coro* is suspended, as ``file:line in function``: its innermost frame outside the async libraries."""
    spots = _spots(coro)
    own = [spot for spot in spots if not LIBRARIES & set(Path(spot[0].co_filename).parts)]
    if not spots:
        return "an unknown place"
    code, line = (own or spots)[-1]
    return f"{code.co_filename}:{line} in {code.co_name}"


def _spots(coro: object) -> list[tuple[CodeType, int]]:
    found = []
    while coro is not None:
        frame = _first(coro, "cr_frame", "gi_frame", "ag_frame")
        if isinstance(frame, FrameType):
            found.append((frame.f_code, frame.f_lineno))
        coro = _first(coro, "cr_await", "gi_yieldfrom", "ag_await")
    return found


def _first(owner: object, *names: str) -> object:
    return next((getattr(owner, name) for name in names if hasattr(owner, name)), None)
