"""Stop calling what keeps failing, and probe it until it recovers.

The states, the rules and the verdicts are in ``machine``, ``rules`` and ``judge``, which know neither time nor tasks;
``core`` gives them a clock and a lock.  This module calls.

Invariants, each tested in ``tests/circuit/test_breaker.py``:

1. What is called ends as it would alone: the same result, the same exception object, no reference kept to either.
2. However a call ends (result, error, cancellation, a predicate that raises), it is settled.
3. A refusal calls nothing.

Rejected: a context manager on the way of every call (three times the cost of the lines it would save), reading the
clock when no rule looks at time (a third of the cost), and deciding by ``iscoroutinefunction`` what to await (``call``
awaits).
"""

from __future__ import annotations

import functools
import inspect
import time
import typing
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Concatenate, Literal, ParamSpec, TypeAlias, TypeVar

from .checks import check_async, check_callable, check_count, check_seconds, check_share
from .cooldown import Cooldown, sound
from .core import Core, Event, Permit
from .eras import Policy, passed
from .judge import CircuitOpen, ErrorFilter, Judge
from .rules import Rule, consecutive
from .states import MANUAL, State

__all__ = ["CircuitBreaker", "Guard", "Snapshot", "Statistics"]

P = ParamSpec("P")
R = TypeVar("R")
W = TypeVar("W", bound=Callable[..., Any])
AsyncFunction: TypeAlias = Callable[P, Coroutine[Any, Any, R]]


@dataclass(frozen=True)
class Snapshot:
    """The current era: its number, age in seconds, counts and probes in flight; and re-openings not yet forgiven."""

    name: str
    state: State
    era: int
    age: float
    calls: int
    failures: int
    in_flight: int
    reopens: int


@dataclass(frozen=True)
class Statistics:
    """Totals since the breaker was made: outcomes counted, failures among them, calls refused, transitions."""

    state: State
    calls: int
    failures: int
    rejected: int
    transitions: int


class CircuitBreaker:
    """Refuse calls while what they call is failing.

    Args:
        name: For events and errors.
        trip: When to open: one rule, or several of which any trips; ``consecutive(5)`` by default.
        cooldown: Seconds to stay open, or a policy such as ``growing`` or ``from_error``.
        forgive_after: For that many seconds closed, the breaker forgets one re-opening (for growing cooldowns).
        probes: Outcomes that HALF_OPEN looks at.
        probe_concurrency: Probes in flight at once, at most.
        probe_ratio: The share of the probes that must succeed; decided as soon as it is certain.
        probe_max_wait: Seconds after which probes that hang give their places to others.
        ramp: Seconds over which calls are admitted again gradually after HALF_OPEN; 0 for at once.
        failures: Exceptions that count as failures; others count as nothing.
        ignored: Exceptions among them that count as nothing.
        failed_result: Says of a result that it counts as a failure.
        on_event: Called with each ``Transition`` and ``Rejected``, in the thread that calls.
        clock: Seconds that never go backwards.

    Raises:
        ValueError: For a number out of range, naming it.
        TypeError: For a value of the wrong kind, naming it.
    """

    def __init__(
        self,
        *,
        name: str = "",
        trip: Rule | Iterable[Rule] | None = None,
        cooldown: float | Cooldown = 30.0,
        forgive_after: float = 60.0,
        probes: int = 1,
        probe_concurrency: int = 1,
        probe_ratio: float = 1.0,
        probe_max_wait: float = 30.0,
        ramp: float = 0.0,
        failures: ErrorFilter = Exception,
        ignored: ErrorFilter = (),
        failed_result: Callable[[Any], bool] | None = None,
        on_event: Callable[[Event], object] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        where = type(self).__name__
        rules = _rules(trip)
        policy = Policy(
            name=name,
            rules=rules,
            cooldown=sound(cooldown),
            forgive_after=check_seconds(where, "forgive_after", forgive_after),
            probes=check_count(where, "probes", probes),
            probe_concurrency=check_count(where, "probe_concurrency", probe_concurrency),
            probe_ratio=check_share(where, "probe_ratio", probe_ratio),
            probe_max_wait=check_seconds(where, "probe_max_wait", probe_max_wait),
            ramp=check_seconds(where, "ramp", ramp, zero=True),
        )
        check_callable(where, "on_event", on_event, optional=True)
        check_callable(where, "clock", clock)
        self.core: Core = Core(policy, Judge(failures, ignored, failed_result), on_event, clock)

    @property
    def name(self) -> str:
        """The name it was given."""
        return self.core.machine.policy.name

    @property
    def state(self) -> State:
        """The state as of the last call: OPEN turns into HALF_OPEN when a call comes after the cooldown."""
        return self.core.machine.era.state

    async def call(self, fn: Callable[P, Awaitable[R]], *args: P.args, **kwargs: P.kwargs) -> R:
        """Await ``fn(*args, **kwargs)`` and count how it ends.  Raises CircuitOpen at once, instead of calling."""
        return await self.core.run(self.core.judge, fn, *args, **kwargs)

    def __call__(self, fn: AsyncFunction[P, R]) -> AsyncFunction[P, R]:
        """Decorate an async function or method, keeping its signature.  Raises TypeError for anything else."""
        check_async(fn)
        core, machine, judge, clock = self.core, self.core.machine, self.core.judge, self.core.clock
        is_judged, is_timed, is_slow_aware = core.is_judged, core.is_timed, core.is_slow_aware
        slow_after = core.slow_after

        # `run` does the same in 2 µs; this is flat because most calls go through it.
        async def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
            era = machine.era
            if not era.quick:
                if (wait := core.wait(era)) is not None:  # `run` would refuse too, two frames and half a µs later
                    raise core.refusal(era.state, wait) from None
                return await core.run(judge, fn, *args, **kwargs)
            began = clock() if is_slow_aware else 0.0
            try:
                result = await fn(*args, **kwargs)
            except BaseException as error:
                core.settle(era, judge.error(error), clock() - began, error)
                raise
            if is_judged and judge.result(result) == "failure":
                core.settle(era, "failure", clock() - began)
                return result
            if is_timed and ((now := clock()) >= era.edge or (is_slow_aware and now - began >= slow_after)):
                core.settle(era, "success", now - began)
                return result
            era.calls += 1
            return result

        return preserve_signature(wrapper, fn)

    def with_fallback(
        self, fallback: Callable[Concatenate[CircuitOpen, P], Awaitable[R]]
    ) -> Callable[[AsyncFunction[P, R]], AsyncFunction[P, R]]:
        """Decorate, and await ``fallback(refusal, *args, **kwargs)`` for each call that this breaker refuses."""
        check_async(fallback)

        def decorate(fn: AsyncFunction[P, R]) -> AsyncFunction[P, R]:
            guarded = self(fn)

            async def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
                try:
                    return await guarded(*args, **kwargs)
                except CircuitOpen as error:
                    if not self.core.has_raised(error):
                        raise
                    refusal = error.with_traceback(None)  # which would hold this frame, and this frame holds it
                return await fallback(refusal, *args, **kwargs)

            return preserve_signature(wrapper, fn)

        return decorate

    def acquire(self) -> Permit:
        """Admit a call that cannot be wrapped, to be settled through the permit.  Raises CircuitOpen instead."""
        return self.core.acquire()

    def guard(self) -> Guard:
        """Guard a block: ``async with breaker.guard() as g``; entering raises CircuitOpen instead of admitting it."""
        return Guard(self.core)

    def force(self, state: Literal["closed", "isolated", "disabled", "observing"]) -> None:
        """Begin a new era by hand, from whatever state.

        ``closed`` starts afresh, ``isolated`` refuses all calls, ``disabled`` lets all pass uncounted, ``observing``
        lets all pass and only reports, as an event, when it would have opened.  All but ``closed`` last until the next
        ``force``.
        """
        if state not in _FORCIBLE:
            raise ValueError(f"force needs one of {', '.join(_FORCIBLE)}, got {state!r}")
        self.core.fire(MANUAL[State(state)])

    def snapshot(self) -> Snapshot:
        """Return what the current era has counted."""
        machine = self.core.machine
        era, age = machine.era, passed(machine.era.since, self.core.clock())
        counted = era.calls, era.failures, era.in_flight
        return Snapshot(self.name, era.state, machine.number, age, *counted, machine.reopens)

    def statistics(self) -> Statistics:
        """Return the totals; of calls that ended after their era, none."""
        machine, era = self.core.machine, self.core.machine.era
        calls, failures = machine.calls + era.calls, machine.failures + era.failures
        return Statistics(era.state, calls, failures, self.core.rejected, machine.number)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} {self.state.value}>"


class Guard:
    """One guarded block: settled by ``fail`` or ``ignore`` inside of it, else by how it ends."""

    __slots__ = ("_core", "_is_used", "_permit")

    def __init__(self, core: Core) -> None:
        self._core = core
        self._is_used = False

    async def __aenter__(self) -> Permit:
        if self._is_used:
            raise RuntimeError("a guard is for one block; call guard() again for each")
        self._is_used = True
        self._permit = await self._enter()
        return self._permit

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._settle(error)

    async def _enter(self) -> Permit:
        return self._core.acquire()

    def _settle(self, error: BaseException | None) -> None:
        if error is None:
            self._permit.succeed()
        else:
            self._permit.record(error=error)


def _rules(trip: Any) -> tuple[Rule, ...]:
    if trip is None:
        return (consecutive(5),)
    rules: tuple[Any, ...] = tuple(trip) if hasattr(trip, "__iter__") else (trip,)
    if not rules or not all(hasattr(rule, "start") and hasattr(rule, "slower_than") for rule in rules):
        raise TypeError(f"CircuitBreaker needs a rule such as consecutive(5), or several, as trip, got {trip!r}")
    return rules


_FORCIBLE = tuple(state.value for state in MANUAL)


# --- preserve_signature: the same lines in every module that decorates
def preserve_signature(wrapper: W, fn: Callable[..., Any]) -> W:
    """Make *wrapper* look like *fn* to every framework that reads signatures, and return it.

    The annotations are resolved, since no SDK can do that in a foreign module, and ``__wrapped__`` is removed, since
    FastMCP looks through it and finds an unbound ``self``.
    """
    functools.update_wrapper(wrapper, fn)
    del wrapper.__wrapped__  # type: ignore[attr-defined]  # update_wrapper has just set it
    signature = inspect.signature(fn)
    try:
        hints = typing.get_type_hints(fn, include_extras=True)
    except (NameError, TypeError):  # a name that exists for type checkers only, or an object that has no hints
        hints = dict(getattr(fn, "__annotations__", {}))
    parameters = [p.replace(annotation=hints.get(p.name, p.annotation)) for p in signature.parameters.values()]
    returns = hints.get("return", signature.return_annotation)
    shown = signature.replace(parameters=parameters, return_annotation=returns)
    wrapper.__signature__ = shown  # type: ignore[attr-defined]  # what inspect reads
    wrapper.__annotations__ = hints
    return wrapper


# --- end preserve_signature
