"""Fresh, stale or absent; led, followed or refreshed: what happens to one key.

The engine knows the clock, the tasks and the exceptions; what it keeps is in a ``Table``, who waits is in a ``Flight``.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Literal

from anyio.abc import TaskGroup

from .config import Config, Tags, Ttl, checked_tags
from .entries import NEVER, PLAIN, Entry, Facts
from .events import Computed, Event, Failed, Left, NotStored, ServedStale
from .flight import (
    Answer,
    ComputationCancelled,
    Failure,
    Flight,
    Outcome,
    Space,
    Uncacheable,
    is_own_doing,
    twin,
)
from .isolation import Pickled, kept, shown
from .remote import Remote
from .table import Table

__all__ = ["Engine"]

Compute = Callable[[], Awaitable[Any]]
State = Literal["absent", "fresh", "early", "stale", "expired"]

EARLY = 10  # computing times before the end at which refreshing ahead begins to be possible: e**-10 is never


class Engine:
    """The shell around a table."""

    hits: int
    misses: int
    joins: int
    stale: int
    failures: int
    load_seconds: float

    def __init__(
        self,
        config: Config,
        clock: Callable[[], float],
        on_event: Callable[[Event], None] | None,
        remote: Remote | None,
    ) -> None:
        self.config = config
        self.clock = clock
        self.on_event = on_event
        self.remote = remote
        self.table: Table = Table(config.maxsize, config.max_weight, config.policy, config.windows)
        if on_event is not None:
            self.table.on_leave = lambda entry, why: on_event(Left(entry.key, why))
        self.needs_facts: bool = config.weigh is not None or config.idle != math.inf or config.refresh_ahead > 0
        self.group: TaskGroup | None = None
        self.refreshing: set[Flight] = set()
        self.names: dict[str, tuple[Space, Any]] = {}
        self.hit_counters: list[Callable[[], int]] = []
        self.hits = self.misses = self.joins = self.stale = self.failures = 0
        self.load_seconds = 0.0

    async def obtain(self, space: Space, key: Any, fn: Compute, ttl: Ttl = None, tags: Tags = ()) -> Any:
        """Return what is cached under *key*, or compute it: lead a flight, or follow the one in the air."""
        while True:
            entry = space.entries.get(key)
            if entry is not None:
                now = self.clock()
                state = self.state(entry, now)
                if state == "fresh":
                    return self.serve(entry, now)
                if state in ("early", "stale") and (key in space.flights or self._refresh(space, key, fn, ttl, tags)):
                    return self._serve_stale(entry, "revalidating") if state == "stale" else self.serve(entry, now)
            flight = space.flights.get(key)
            if flight is None:
                return await self._lead(Flight(space, key, self.table.tick), fn, ttl, tags)
            outcome = await self._follow(flight)
            if isinstance(outcome, Answer):
                return shown(outcome.value)
            if isinstance(outcome, Failure):
                raise twin(outcome.error)
            if outcome == "lead" and flight.is_in_the_air:
                flight.tick = self.table.tick
                return await self._lead(flight, fn, ttl, tags)

    def state(self, entry: Entry, now: float) -> State:
        """Say what *entry* is good for; what is good for nothing any more is taken out."""
        if not self.table.is_current(entry.facts.tags, entry.born):
            self.table.drop(entry)
            return "absent"
        over = now - entry.expires
        if over < 0:
            return "early" if self._is_early(entry, -over) else "fresh"
        if over < self.table.keep and entry.value.__class__ is not Failure:
            return "stale" if over < self.config.stale_while_revalidate else "expired"
        self.table.expire(entry)
        return "absent"

    def serve(self, entry: Entry, now: float) -> Any:
        """Return the value of *entry* for one caller, or raise what it remembers."""
        self.hits += 1
        entry.hits += 1
        if self.config.idle != math.inf:
            entry.expires = min(entry.facts.deadline, now + self.config.idle)
        self.table.touch(entry, self._plain_until(entry))
        if entry.value.__class__ is Failure:
            raise twin(entry.value.error)
        return shown(entry.value)

    def keep(self, space: Space, entry: Entry, seconds: float, tags: tuple[str, ...], cost: float = 0.0) -> None:
        """Store *entry*, made for *space*, for *seconds*; *cost* is the time that it took to compute."""
        now, config = self.clock(), self.config
        if self.remote is not None:
            self._name(space, entry.key)
        entry.expires = entry.fast_until = now + seconds
        if tags or self.needs_facts:
            weight = 1.0 if config.weigh is None else config.weigh(shown(entry.value))
            if not 0 <= weight <= config.max_weight:
                return self.tell(NotStored(entry.key, f"its weight is {weight!r}, of at most {config.max_weight!r}"))
            entry.facts = Facts(tags, weight, entry.expires, cost)
            entry.expires = min(entry.expires, now + config.idle)
        if entry.facts is not PLAIN or entry.value.__class__ in _SPECIAL:
            entry.fast_until = self._plain_until(entry)
        return self.table.put(entry, now)

    def doom(self, space: Space, key: Any) -> None:
        """Make what is being computed under *key* worthless: its followers start again."""
        flight = space.flights.get(key)
        if flight is not None:
            flight.end("again")

    def tell(self, event: Event) -> None:
        """Hand *event* to the callback, if there is one."""
        if self.on_event is not None:
            self.on_event(event)

    async def _lead(self, flight: Flight, fn: Compute, ttl: Ttl, tags: Tags) -> Any:
        self.misses += 1
        begun = self.clock()
        try:
            if self.remote is None:
                awaitable = fn()
                if not hasattr(awaitable, "__await__"):
                    raise _not_async(fn)  # noqa: TRY301  # like what a computation raises
                value = await awaitable
            else:
                self._name(flight.space, flight.key)
                value, ttl, tags = await self.remote.load(flight, fn, ttl, tags)
            return self._arrived(flight, value, ttl, tags, self.clock() - begun)
        except BaseException as error:
            entry = self._failed(flight, error)
            if entry is None:
                raise
            return self._serve_stale(entry, "failed")

    def _arrived(self, flight: Flight, value: Any, ttl: Ttl, tags: Tags, seconds: float) -> Any:
        """Store what was computed, tell the followers, and return what the leader gets."""
        config, key = self.config, flight.key
        lifetime = config.lifetime(value, ttl)
        names = checked_tags(tags, value) if tags != () else ()
        form = value if config.isolation == "share" else self._form(key, value)
        self.load_seconds += seconds
        if self.on_event is not None:
            self.on_event(Computed(key, seconds))
        if flight.is_in_the_air:  # else invalidated meanwhile, and the followers are gone
            is_current = form is not UNFIT and (not names or self.table.is_current(names, flight.tick))
            if is_current and lifetime > 0:
                entry = Entry(flight.space.entries, key, form, flight.tick)
                self.keep(flight.space, entry, lifetime, names, seconds)
            flight.end(Answer(form) if is_current else "again")
        return value if form is UNFIT or config.isolation == "copy" else form

    def _form(self, key: Any, value: Any) -> Any:
        try:
            return kept(value, self.config.isolation)
        except Exception as error:  # noqa: BLE001  # pickle raises whatever the value's class raises
            self.tell(NotStored(key, f"it cannot be isolated: {error!r}"))
            return UNFIT

    def _name(self, space: Space, key: Any) -> None:
        """Remember where a name of the store belongs, for what other processes will say of it."""
        if len(self.names) > 4 * self.table.maxsize:
            live = {
                name: (own, its) for name, (own, its) in self.names.items() if its in own.entries or its in own.flights
            }
            self.names = live
        assert self.remote is not None  # noqa: S101  # for type checkers
        self.names[self.remote.name(space, key)] = space, key

    def _failed(self, flight: Flight, error: BaseException) -> Entry | None:
        """End the flight, or let another lead it; return the entry to be served instead of *error*, if there is one."""
        if not isinstance(error, Exception):
            if is_own_doing(error):
                flight.end(Failure(ComputationCancelled("the computation raised CancelledError")))
            elif not flight.hand_over():
                flight.end("again")
            return None
        if isinstance(error, Uncacheable):
            flight.end(Failure(error))
            return None
        self.failures += 1
        self.tell(Failed(flight.key, error))
        entry = self._fallback(flight.space.entries.get(flight.key))
        if entry is not None:
            flight.end(Answer(entry.value))
            return entry
        seconds = self.config.failure_ttl(error)
        if seconds and flight.is_in_the_air:
            bare = Failure(twin(error).with_traceback(None))
            self.keep(flight.space, Entry(flight.space.entries, flight.key, bare, flight.tick), seconds, ())
        flight.end(Failure(twin(error)))
        return None

    def _fallback(self, entry: Entry | None) -> Entry | None:
        window = self.config.stale_if_error
        if entry is None or not window or self.clock() - entry.expires >= window or entry.value.__class__ is Failure:
            return None
        return entry if self.table.is_current(entry.facts.tags, entry.born) else None

    async def _follow(self, flight: Flight) -> Outcome | None:
        follower = flight.join()
        try:
            await follower.wait()
        except BaseException:
            flight.leave(follower)
            raise
        self.joins += isinstance(follower.outcome, tuple)
        return follower.outcome

    def _refresh(self, space: Space, key: Any, fn: Compute, ttl: Ttl, tags: Tags) -> bool:
        """Start a task that computes *key* anew; False if the cache was not opened, so that a caller has to."""
        if self.group is None:
            return False
        flight = Flight(space, key, self.table.tick)
        self.refreshing.add(flight)
        self.group.start_soon(self._refreshed, flight, fn, ttl, tags)
        return True

    async def _refreshed(self, flight: Flight, fn: Compute, ttl: Ttl, tags: Tags) -> None:
        with suppress(Exception):  # nobody waits for it, and it was told as an event
            await self._lead(flight, fn, ttl, tags)
        self.refreshing.discard(flight)

    def _serve_stale(self, entry: Entry, reason: Literal["revalidating", "failed"]) -> Any:
        self.tell(ServedStale(entry.key, reason))
        self.stale += 1
        self.hits += 1
        entry.hits += 1
        return shown(entry.value)

    def _is_early(self, entry: Entry, left: float) -> bool:
        """Roll the dice: the nearer the end, and the dearer the computation, the likelier.

        XFetch, from Vattani, Chierichetti, Lowenstein: Optimal probabilistic cache stampede prevention, VLDB 2015.
        """
        scale = entry.facts.cost * self.config.refresh_ahead
        return scale > 0 and left <= -scale * math.log(1 - self.config.random())

    def _plain_until(self, entry: Entry) -> float:
        facts = entry.facts
        if facts.tags or self.config.idle != math.inf or entry.value.__class__ in _SPECIAL:
            return NEVER
        return entry.expires - EARLY * facts.cost * self.config.refresh_ahead


UNFIT: Any = object()  # stands for a value that cannot be isolated
_SPECIAL = (Failure, Pickled)


def _not_async(fn: object) -> TypeError:
    return TypeError(f"{getattr(fn, '__qualname__', fn)}() is not async; did you forget 'async def'?")
