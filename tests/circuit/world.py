"""A small breaker with a clock of whole seconds and up to three calls in flight, to be walked exhaustively.

``World`` is one state of it: real ``Core``, real ``Permit`` objects, and beside them what an observer would know
without looking inside: who is in flight, and when it opened. ``steps`` lists what can happen next.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Iterator
from typing import Any

from mcp_circuit import CircuitBreaker, CircuitOpen, State, consecutive

CALLS = 3
COMMANDS = ("closed", "isolated", "disabled", "observing")
COOLDOWN, MAX_WAIT = 2.0, 2.0
AUTOMATIC = {State.CLOSED, State.OPEN, State.HALF_OPEN, State.RAMPING}


class OddError(Exception):
    """Makes the predicate of the breaker raise."""


def _is_failure(error: Exception) -> bool:
    if isinstance(error, OddError):
        raise error
    return True


class World:
    """One reachable state."""

    def __init__(self, **options: Any) -> None:
        self.now = 0.0
        self.events: list[Any] = []
        self.breaker = CircuitBreaker(
            trip=consecutive(2),
            cooldown=COOLDOWN,
            probe_max_wait=MAX_WAIT,
            failures=_is_failure,
            on_event=self.events.append,
            clock=lambda: self.now,
            **options,
        )
        self.core = self.breaker.core
        self.calls: list[Any] = []
        self.opened_at = 0.0

    def copy(self) -> World:
        """A twin that shares nothing that changes."""
        twin = copy.copy(self)
        twin.events = []
        twin.core = copy.copy(self.core)
        twin.core.clock = lambda: twin.now
        twin.core.on_event = twin.events.append
        twin.core.machine = copy.copy(self.core.machine)
        twin.core.machine.pending = []
        eras = {id(era): _twin_era(era) for era in [self.era, *(permit._era for permit in self.calls)]}
        twin.core.machine.era = eras[id(self.era)]
        twin.calls = [copy.copy(permit) for permit in self.calls]
        for permit in twin.calls:
            permit._core, permit._era = twin.core, eras[id(permit._era)]
        twin.breaker = copy.copy(self.breaker)
        twin.breaker.core = twin.core
        return twin

    @property
    def era(self) -> Any:
        """The current era."""
        return self.core.machine.era

    @property
    def state(self) -> State:
        """The current state."""
        return self.breaker.state

    def key(self) -> tuple[Any, ...]:
        """All that can make a difference to what happens later, with times relative to now."""
        calls = sorted((permit._era is self.era, permit._era.state) for permit in self.calls)
        return (*_era_key(self.era, self.now), tuple(calls))

    def facts(self) -> tuple[Any, ...]:
        """Everything that is counted anywhere, to tell that nothing has changed."""
        return self.breaker.snapshot(), self.breaker.statistics(), *_era_key(self.era, self.now)

    def in_flight(self) -> int:
        """Calls that the current era admitted and that have not ended."""
        return sum(permit._era is self.era for permit in self.calls)

    def start(self) -> CircuitOpen | None:
        """Begin a call, or return the refusal."""
        try:
            self.calls.append(self.breaker.acquire())
        except CircuitOpen as refusal:
            return refusal
        return None

    def tick(self) -> None:
        """A second passes; calls in flight hang."""
        self.now += 1.0


ENDS: dict[str, Callable[[Any], None]] = {
    "ok": lambda permit: permit.record("result"),
    "fail": lambda permit: permit.record(error=ConnectionError()),
    "ignore": lambda permit: permit.ignore(),
    "cancel": lambda permit: permit.record(error=asyncio.CancelledError()),
    "predicate raises": lambda permit: permit.record(error=OddError()),
}


def steps(world: World) -> Iterator[tuple[str, Any]]:
    """Yield what can happen next, as (kind, detail)."""
    yield "tick", None
    if len(world.calls) < CALLS:
        yield "start", None
    for place, permit in enumerate(world.calls):
        if permit._era not in [other._era for other in world.calls[:place]]:  # calls of one era are all alike
            yield from (("end", (place, end)) for end in ENDS)
    yield from (("force", command) for command in COMMANDS)


def _twin_era(era: Any) -> Any:
    twin = copy.copy(era)
    if hasattr(era, "_windows"):
        twin._windows = [(slow, copy.copy(window)) for slow, window in era._windows]
    return twin


def _era_key(era: Any, now: float) -> tuple[Any, ...]:
    age = min(now - era.since, max(COOLDOWN, MAX_WAIT, era.policy.ramp))
    if era.state is State.HALF_OPEN:
        waiting = min(now - era._latest, MAX_WAIT)
        return era.state, era.in_flight, era.calls, era.failures, waiting
    if era.state in (State.CLOSED, State.OBSERVING, State.RAMPING):
        streak = era._windows[0][1]
        length = streak._length if streak._last == era.calls else 0
        ramping = (age, era._credit) if era.state is State.RAMPING else ()
        return era.state, length, *ramping
    return era.state, age if era.state is State.OPEN else 0
