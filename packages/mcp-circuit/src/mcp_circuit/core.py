"""The machine with a clock, a lock and a voice: what the breaker, its decorator and its middleware all call.

All tasks and threads share one ``Machine``.  It is changed under a lock, which is never held across an await or a
callback.  Only the success of a call in a quick era is counted without it: two threads at once may lose such a success,
and never anything else.

Invariants, each tested in ``tests/circuit/test_core.py``:

1. A permit is settled once, however often and in whichever way it is told; a probe's place is free from then on.
2. A refusal is a new exception each time, and leaves nothing behind.
3. Callbacks run after the transition, in order and outside the lock; what they raise is logged and reaches no caller.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, ParamSpec, Protocol, TypeAlias, TypeVar

from .eras import Era, Policy
from .judge import CircuitOpen, Judge
from .machine import Machine
from .states import Cause, State, Transition, Verdict

__all__ = ["Core", "Event", "Permit", "Rejected", "StoreBack", "StoreLost", "Verdicts"]

P = ParamSpec("P")
R = TypeVar("R")


class Verdicts(Protocol):
    """What ``Judge`` does, and what a middleware may do in its place; it must not raise."""

    def error(self, error: BaseException) -> Verdict:
        """Judge a call that raised."""
        ...

    def result(self, result: object) -> Verdict:
        """Judge a call that returned."""
        ...


@dataclass(frozen=True)
class Rejected:
    """An event: the breaker *name* refused a call; the fields are those of the ``CircuitOpen`` that is raised."""

    name: str
    state: State
    retry_after: float | None


@dataclass(frozen=True)
class StoreLost:
    """An event: the store of the shared breaker *name* failed; *error* is the name of the exception's class."""

    name: str
    error: str


@dataclass(frozen=True)
class StoreBack:
    """An event: the store of the shared breaker *name* answers again."""

    name: str


Event: TypeAlias = Transition | Rejected | StoreLost | StoreBack


class Core:
    """One machine, and all that may be done to it."""

    def __init__(
        self,
        policy: Policy,
        judge: Judge,
        on_event: Callable[[Event], object] | None,
        clock: Callable[[], float],
    ) -> None:
        self.machine: Machine = Machine(policy, clock())
        self.judge: Judge = judge
        self.clock: Callable[[], float] = clock
        self.is_judged: bool = judge.failed_result is not None
        self.slow_after: float = policy.slow_after
        self.is_slow_aware: bool = self.slow_after < math.inf
        self.is_timed: bool = self.is_slow_aware or self.machine.era.edge < math.inf
        self.rejected: int = 0
        self.on_event: Callable[[Event], object] | None = on_event
        self._lock = threading.RLock()  # a cooldown policy runs inside, and might look at the breaker all the same

    def acquire(self) -> Permit:
        """Admit a call, or raise CircuitOpen."""
        now = self.clock()
        era = self.machine.era
        wait = era.wait(now)  # needs no lock, and refusing has to be cheap
        if wait is None:
            with self._lock:
                wait = self.machine.refuse(now)
                era = self.machine.era
            if self.machine.pending:
                self._publish()
            if wait is None:
                return Permit(self, era, now)
        raise self.refusal(era.state, wait) from None

    def wait(self, era: Era) -> float | None:
        """Return after how many seconds *era* may admit a call; None where it takes ``run`` to find out."""
        return era.wait(self.clock())

    def refusal(self, state: State, wait: float) -> CircuitOpen:
        """Count and report a refused call, and make the exception to raise."""
        self.rejected += 1
        name, retry_after = self.machine.policy.name, wait if wait < math.inf else None
        if self.on_event:
            self.tell(Rejected(name, state, retry_after))
        refusal = CircuitOpen(name, state, retry_after)
        refusal.source = self
        return refusal

    def settle(self, era: Era, verdict: Verdict, elapsed: float, error: BaseException | None = None) -> None:
        """Count what became of a call that *era* admitted."""
        with self._lock:
            self.machine.settle(era, verdict, self.clock(), elapsed, error)
        if self.machine.pending:
            self._publish()

    def has_raised(self, refusal: CircuitOpen) -> bool:
        """Say whether *refusal* is one of this breaker, and not of another one further inside."""
        return getattr(refusal, "source", None) is self

    def fire(self, cause: Cause, cooldown: float | None = None) -> None:
        """Make a transition that neither a call nor time has brought about."""
        with self._lock:
            self.machine.fire(cause, self.clock(), cooldown=cooldown)
        self._publish()

    def run(
        self, judge: Verdicts, fn: Callable[P, Awaitable[R]], *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, R]:
        """Await ``fn(*args, **kwargs)`` under a permit, and settle it by the verdict of *judge*.

        Raises CircuitOpen before there is anything to await: a refusal costs no coroutine.
        """
        return _run(self.acquire(), judge, fn, *args, **kwargs)

    def _publish(self) -> None:
        with self._lock:
            events, self.machine.pending = self.machine.pending, []
        for event in events:
            self.tell(event)

    def tell(self, event: Event) -> None:
        """Call back, if anyone listens."""
        try:
            if self.on_event:
                self.on_event(event)
        except Exception:
            logging.getLogger(__name__).exception("on_event of the circuit breaker failed")


class Permit:
    """The right to make one call, to be settled by exactly one of its methods; later ones do nothing.

    A permit that is never settled keeps its place in HALF_OPEN until ``probe_max_wait`` is over; one of no *era* counts
    nowhere.
    """

    __slots__ = ("_began", "_core", "_era")

    def __init__(self, core: Core, era: Era | None, began: float) -> None:
        self._core = core
        self._era = era
        self._began = began

    def succeed(self) -> None:
        """Count the call as a success; as a slow one if it took that long."""
        self.settle("success")

    def fail(self, error: BaseException | None = None) -> None:
        """Count the call as a failure; *error* is for the cooldown policy, and is not kept."""
        self.settle("failure", error)

    def ignore(self) -> None:
        """Count the call as nothing, and give its place back."""
        self.settle("ignored")

    def record(self, result: object = None, *, error: BaseException | None = None) -> None:
        """Count the call as the breaker's configuration says of its *result*, or of its *error* if there is one."""
        judge = self._core.judge
        self.settle(judge.result(result) if error is None else judge.error(error), error)

    def settle(self, verdict: Verdict, error: BaseException | None = None) -> None:
        """Count the call by a verdict already made."""
        era, self._era = self._era, None
        if era is not None:
            self._core.settle(era, verdict, self._core.clock() - self._began, error)


async def _run(permit: Permit, judge: Verdicts, fn: Callable[P, Awaitable[R]], *args: P.args, **kwargs: P.kwargs) -> R:
    try:
        result = await fn(*args, **kwargs)
    except BaseException as error:
        permit.settle(judge.error(error), error)
        raise
    permit.settle(judge.result(result))
    return result
