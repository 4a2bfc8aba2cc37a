"""Fresh, stale or absent; led, followed or refreshed: what happens to one key.

The engine knows the clock, the tasks and the exceptions; what it keeps is in a ``Table``, who waits is in a ``Flight``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from types import CoroutineType
from typing import Any, Literal

from anyio.abc import TaskGroup

from .config import Config, Tags, Ttl, checked_options, checked_tags
from .entries import NEVER, Entry, Facts
from .events import Computed, Event, Failed, Left, NotStored, ServedStale
from .flight import (
    Answer,
    ComputationCancelled,
    Compute,
    Failure,
    Flight,
    Follower,
    Outcome,
    Space,
    Uncacheable,
    computed,
    is_own_doing,
    refuse_coroutine,
    refuse_if_not_async,
    twin,
)
from .isolation import Pickled, kept, shown
from .remote import Remote
from .table import Table

__all__ = ["UNFIT", "Engine"]

State = Literal["fresh", "early", "stale"]

EARLY = 10  # computing times before the end at which refreshing ahead begins to be possible: e**-10 is never


class Engine:
    """The shell around a table."""

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
        self.plain_ttl: float | None = config.plain_ttl
        self.needs_facts: bool = config.weigh is not None or config.idle != math.inf or config.refresh_ahead > 0
        self.is_plain: bool = not self.needs_facts and config.isolation != "copy"  # then put() will do for keep()
        self.group: TaskGroup | None = None
        self.refreshing: dict[tuple[Space, Any], Flight] = {}
        self.hit_counters: list[Callable[[], int]] = []
        self.hits: int = 0
        self.misses: int = 0
        self.joins: int = 0
        self.stale: int = 0
        self.failures: int = 0
        self.loads: int = 0
        self.load_seconds: float = 0.0

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
                return await self.lead(space, key, fn, ttl, tags)
            tags = checked_options(ttl, tags)  # before it may be told to lead, and hold up everybody else
            outcome = await self._follow(space, key, flight)
            if isinstance(outcome, Answer):
                return shown(outcome.value)
            if isinstance(outcome, Failure):
                raise twin(outcome.error)
            if outcome == "lead" and space.flights.get(key) is flight:
                return await self.lead(space, key, fn, ttl, tags, flight)

    async def lead(  # noqa: PLR0917  # as for _arrived
        self, space: Space, key: Any, fn: Compute, ttl: Ttl, tags: Tags, flight: Flight | None = None
    ) -> Any:
        """Compute *key* in this task, on a *flight* that was handed over or, if none is in the air, on a new one."""
        if flight is None:
            if ttl is not None or tags != ():
                tags = checked_options(ttl, tags)
            flight = space.flights[key] = []
        self.misses += 1
        tick, begun = self.table.tick, self.clock()
        try:
            if self.remote is None:  # computed(), without its coroutine
                awaitable = fn()
                if awaitable.__class__ is not CoroutineType:
                    refuse_if_not_async(fn, awaitable)
                value = await awaitable
                if value.__class__ is CoroutineType:
                    refuse_coroutine(fn, value)
                seconds = self.plain_ttl if ttl is None and self.plain_ttl else self.config.lifetime(value, ttl)
            else:
                self.remote.remember(space, key)
                value, seconds, tags = await self.remote.load(space, key, partial(computed, fn), ttl, tags)
            return self._arrived(space, key, flight, value, seconds, tags, tick, begun)
        except BaseException as error:
            entry = self._failed(space, key, flight, error, tags, tick)
            if entry is None:
                raise
            return self._serve_stale(entry, "failed")

    def state(self, entry: Entry, now: float) -> State | None:
        """Say what *entry* may be served as, None if not at all; what is good for nothing any more is taken out."""
        if not self.table.is_current(entry.facts.tags, entry.born):
            self.table.drop(entry)
            return None
        over = now - entry.expires
        if over < 0:
            return "early" if self._is_early(entry, -over) else "fresh"
        if over < self.table.keep and entry.value.__class__ is not Failure and not entry.has_idled(now):
            return "stale" if over < self.config.stale_while_revalidate else None
        self.table.expire(entry)
        return None

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

    def keep(self, space: Space, entry: Entry, now: float, tags: tuple[str, ...] = (), cost: float = 0.0) -> None:
        """Store *entry*, made for *space*; *cost* is the time that it took to compute."""
        if self.remote is not None:
            self.remote.remember(space, entry.key)
        if tags or self.needs_facts:
            config = self.config
            weight = 1.0 if config.weigh is None else config.weigh(shown(entry.value))
            if not 0 <= weight <= config.max_weight:
                if entry.key in space.entries:  # an older value must not outlive it
                    self.table.drop(space.entries[entry.key])
                return self.tell(NotStored(entry.key, f"its weight is {weight!r}, of at most {config.max_weight!r}"))
            entry.facts = Facts(tags, weight, entry.expires, cost)
            entry.expires = min(entry.expires, now + config.idle)
            entry.fast_until = self._plain_until(entry)
        elif entry.value.__class__ is Pickled:
            entry.fast_until = NEVER
        return self.table.put(entry, now)

    def remove(self, space: Space, key: Any) -> bool:
        """Take *key* out, and defeat what is being computed under it; say whether it was there."""
        space.doom(key)
        if (entry := space.entries.get(key)) is None:
            return False
        self.table.drop(entry)
        return True

    def tell(self, event: Event) -> None:
        """Hand *event* to the callback, if there is one."""
        if self.on_event is not None:
            self.on_event(event)

    def _arrived(  # noqa: PLR0917  # what a flight would hold if it did not have to be cheap
        self, space: Space, key: Any, flight: Flight, value: Any, seconds: float, tags: Tags, tick: int, begun: float
    ) -> Any:
        """Store what was computed, tell the followers, and return what the leader gets."""
        config, now = self.config, self.clock()
        names = checked_tags(tags, value) if tags != () else ()
        form = value if config.isolation == "share" else self.form(key, value)
        self.loads += 1
        self.load_seconds += now - begun
        if self.on_event is not None:
            self.on_event(Computed(key, now - begun))
        if space.flights.get(key) is flight:  # else invalidated meanwhile, and the followers are gone
            is_current = form is not UNFIT and (not names or self.table.is_current(names, tick))
            if is_current and seconds > 0:
                entry = Entry(space.entries, key, form, tick, now + seconds)
                self.keep(space, entry, now, names, now - begun)
            if flight:
                space.land(key, flight, Answer(form) if is_current else "again")
            else:
                del space.flights[key]
        return value if form is UNFIT or config.isolation == "copy" else form

    def form(self, key: Any, value: Any) -> Any:
        """Return the form in which *value* is kept, UNFIT if it cannot be isolated."""
        try:
            return kept(value, self.config.isolation)
        except Exception as error:  # noqa: BLE001  # pickle raises whatever the value's class raises
            self.tell(NotStored(key, f"it cannot be isolated: {error!r}"))
            return UNFIT

    def _failed(  # noqa: PLR0917  # as for _arrived
        self, space: Space, key: Any, flight: Flight, error: BaseException, tags: Tags, tick: int
    ) -> Entry | None:
        """End the flight, or let another lead it; return the entry to be served instead of *error*, if there is one."""
        if not isinstance(error, Exception):
            if is_own_doing(error):
                space.land(key, flight, Failure(ComputationCancelled("the computation raised CancelledError")))
            else:
                space.hand_over(key, flight)
            return None
        if isinstance(error, Uncacheable):
            space.land(key, flight, Failure(twin(error)))
            return None
        entry = self._fallback(space.entries.get(key))
        told = self._remembered(space, key, flight, error, tags, tick) if entry is None else Answer(entry.value)
        space.land(key, flight, told)
        self.failures += 1
        self.tell(Failed(key, error))
        return entry

    def _remembered(  # noqa: PLR0917  # as for _arrived
        self, space: Space, key: Any, flight: Flight, error: Exception, tags: Tags, tick: int
    ) -> Outcome:
        """Store *error* if it has a TTL, and return what the followers are told."""
        table, names = self.table, () if callable(tags) else tuple(tags)
        if not (table.tick == tick if callable(tags) else table.is_current(names, tick)):
            return "again"
        seconds = self.config.failure_ttl(error)
        if seconds and space.flights.get(key) is flight:
            now, bare = self.clock(), Failure(twin(error).with_traceback(None))
            entry = Entry(space.entries, key, bare, tick, now + seconds)
            entry.fast_until = NEVER
            self.keep(space, entry, now, names)
        return Failure(twin(error))

    def _fallback(self, entry: Entry | None) -> Entry | None:
        now, window = self.clock(), self.config.stale_if_error
        if entry is None or not window or now - entry.expires >= window or entry.value.__class__ is Failure:
            return None
        return entry if self.table.is_current(entry.facts.tags, entry.born) and not entry.has_idled(now) else None

    async def _follow(self, space: Space, key: Any, flight: Flight) -> Outcome | None:
        follower = Follower()
        flight.append(follower)
        try:
            await follower.wait()
        except BaseException:
            if follower.outcome == "lead":
                space.land(key, flight)
            elif follower.outcome is None:
                flight.remove(follower)
            raise
        self.joins += isinstance(follower.outcome, tuple)
        return follower.outcome

    def _refresh(self, space: Space, key: Any, fn: Compute, ttl: Ttl, tags: Tags) -> bool:
        """Start a task that computes *key* anew; False if the cache was not opened, so that a caller has to."""
        if self.group is None:
            return False
        tags = checked_options(ttl, tags)
        flight = self.refreshing[space, key] = space.take_off(key)
        self.group.start_soon(self._refreshed, space, key, fn, ttl, tags, flight)
        return True

    async def _refreshed(  # noqa: PLR0917  # as for _arrived
        self, space: Space, key: Any, fn: Compute, ttl: Ttl, tags: Tags, flight: Flight
    ) -> None:
        with suppress(Exception):  # nobody waits for it, and it was told as an event
            if space.flights.get(key) is flight:
                await self.lead(space, key, fn, ttl, tags, flight)
        if self.refreshing.get((space, key)) is flight:
            del self.refreshing[space, key]

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
