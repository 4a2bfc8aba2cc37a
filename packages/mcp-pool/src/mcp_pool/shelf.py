"""Where every resource of a pool is, and who gets the next one: synchronous, so that nothing can come between.

A resource that becomes free goes to the waiter that came first; only when nobody waits it becomes idle. So whoever
finds an idle resource may take it: nobody is ahead. There is no notification that could get lost, and nobody to barge
in.

Invariants, each checked after every step of ``tests/pool/test_machine.py``:

1. A resource is in exactly one state; all of them together, closing ones too, are at most *max_size*.
2. While one is idle, nobody waits.
3. Waiters are served in the order in which they came.

Rejected: a condition or semaphore (its wake-up can be lost, or overtaken by a newcomer), an order by priority (the last
may starve), not counting what is being closed (the server at the other end counts it too).
"""

from __future__ import annotations

import math
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Generator
from typing import Any, Generic, Protocol, TypeVar, cast

from .entry import CLOSING, CONNECTING, GONE, IDLE, IN_USE, SERVICED, Entry
from .events import Reason
from .settings import Settings

__all__ = ["Shelf", "Waiter"]

T = TypeVar("T")


class Waiter(Protocol):
    """Somebody who waits: awaited, it returns when ``outcome`` is set, or stays None because the time is over."""

    outcome: Any

    def give(self, outcome: Any, /) -> bool:
        """Wake it with an entry or an error; False if it has gone."""
        ...

    def __await__(self) -> Generator[Any, Any, None]: ...


class Shelf(Generic[T]):
    """All entries and all waiters of one pool.

    Shared by every task that uses the pool; no method waits. *wake(entry)* calls its owner.
    """

    def __init__(self, settings: Settings[T], wake: Callable[[Entry[T]], object]) -> None:
        self.min_size: int = settings.min_size
        self.max_size: int = settings.max_size
        self.max_uses: float = settings.max_uses or math.inf
        self.max_connecting: int = settings.max_connecting
        self.entries: dict[Entry[T], None] = {}  # in the order of their age
        self.idle: deque[Entry[T]] = deque()
        self.waiters: OrderedDict[Waiter, None] = OrderedDict()
        self.closed: Counter[Reason] = Counter()
        self.connecting: int = 0
        self.serviced: int = 0
        self.closing: int = 0
        self.past_uses: int = 0
        self.use_seconds: float = 0.0
        self.pick: Callable[[], Entry[T]] = self.idle.pop if settings.order == "lifo" else self.idle.popleft
        self._wake = wake

    @property
    def alive(self) -> int:
        """Resources that are connected and not being closed."""
        return len(self.entries) - self.connecting - self.closing

    @property
    def in_use(self) -> int:
        """Resources that borrowers have."""
        return self.alive - self.serviced - len(self.idle)

    @property
    def uses(self) -> int:
        """How often a resource came back."""
        return self.past_uses + sum(entry.uses for entry in self.entries)

    def wanted(self, at_least: int) -> int:
        """How many connects to start now, for those who wait and for the minimum."""
        missing = max(len(self.waiters) - self.serviced, self.min_size - self.alive, at_least)
        return min(missing - self.connecting, self.max_size - len(self.entries), self.max_connecting - self.connecting)

    def add(self) -> Entry[T]:
        """Make room for a connect that begins."""
        entry: Entry[T] = Entry(self.max_uses)
        self.entries[entry] = None
        self.connecting += 1
        return entry

    def arrive(self, entry: Entry[T], now: float) -> None:
        """Take in what was just connected; if its time is over already (``refresh``), it goes."""
        entry.used_at = entry.checked_at = now
        self.connecting -= 1
        self._place(entry, now)

    def take(self, now: float) -> Entry[T] | None:
        """Lend an idle entry, if there is one whose time is not over."""
        while self.idle:
            entry = self.pick()
            if now < entry.retire_at:
                entry.state = IN_USE
                entry.taken_at = now
                return entry
            self.drop(entry)
        return None

    def drop(self, entry: Entry[T]) -> None:
        """Close an entry that was picked, but whose time is over."""
        self._close(entry, entry.reason)

    def give(self, entry: Entry[T], now: float) -> None:
        """Take back what is in use, and hand it on."""
        self.use_seconds += now - entry.taken_at
        entry.used_at = now
        entry.uses += 1
        if now < entry.retire_at and entry.uses < entry.max_uses and not self.waiters:
            entry.state = IDLE  # as ``_place`` would; another call is a twentieth of the whole
            self.idle.append(entry)
        else:
            self._place(entry, now)

    def put_back(self, outcome: object, now: float) -> None:
        """Hand on what a waiter was given that will never use it, if that was an entry."""
        entry = cast("Entry[T]", outcome)
        if isinstance(outcome, Entry) and entry.state is IN_USE:
            self._place(entry, now)

    def _place(self, entry: Entry[T], now: float) -> None:
        if now >= entry.retire_at:
            self._close(entry, entry.reason)
            return
        if entry.uses >= entry.max_uses:
            self._close(entry, "evicted" if entry.leaving else "uses")
            return
        while self.waiters:
            waiter, _ = self.waiters.popitem(last=False)
            if waiter.give(entry):
                entry.state = IN_USE
                entry.taken_at = now
                return
        if entry.leaving:
            self._close(entry, "evicted")
            return
        entry.state = IDLE
        self.idle.append(entry)

    def evict(self, entry: Entry[T]) -> None:
        """Close an entry, because its place is wanted elsewhere: now if it is idle, otherwise after its next use."""
        if entry.state is IDLE:
            self.retire(entry, "evicted")
        else:
            entry.leaving, entry.max_uses = True, entry.uses + 1

    def service(self, entry: Entry[T]) -> None:
        """Set an entry aside for its owner, to check it when it was idle, to reset it when it was in use."""
        entry.is_dirty = entry.state is not IDLE
        if entry.state is IDLE:
            self.idle.remove(entry)
        entry.state = SERVICED
        self.serviced += 1
        self._wake(entry)

    def serviced_well(self, entry: Entry[T], now: float) -> None:
        """Take an entry back from its owner."""
        self.serviced -= 1
        self._place(entry, now)

    def retire(self, entry: Entry[T], reason: Reason) -> None:
        """Close an entry, whatever it is doing; one that is closing already keeps its reason."""
        if entry.state is CLOSING or entry.state is GONE:
            return
        self._leave(entry)
        self._close(entry, reason)

    def condemn(self, entry: Entry[T], reason: Reason) -> None:
        """Close an entry now if it is idle, otherwise when it would become so; the first reason counts."""
        if entry.state not in (CLOSING, GONE) and entry.retire_at > -math.inf:
            entry.retire_at, entry.reason = -math.inf, reason
        if entry.state is IDLE:
            self.retire(entry, reason)

    def resize(self, min_size: int, max_size: int) -> None:
        """Change the limits; what is over them goes, idle ones first."""
        self.min_size, self.max_size = min_size, max_size
        staying = [entry for entry in self.entries if entry.state != CLOSING and entry.retire_at > -math.inf]
        surplus = max(len(staying) - max_size, 0)
        for entry in sorted(staying, key=lambda entry: (entry.state != IDLE, entry.state != CONNECTING))[:surplus]:
            self.condemn(entry, "shrink")

    def _close(self, entry: Entry[T], reason: Reason) -> None:
        entry.state = CLOSING
        entry.reason = reason
        self.closing += 1
        self._wake(entry)

    def remove(self, entry: Entry[T]) -> None:
        """Forget an entry: it is closed, or was never connected."""
        self._leave(entry)
        del self.entries[entry]
        self.past_uses += entry.uses
        entry.state = GONE

    def _leave(self, entry: Entry[T]) -> None:
        if entry.state is IDLE:
            self.idle.remove(entry)
        self.connecting -= entry.state is CONNECTING
        self.serviced -= entry.state is SERVICED
        self.closing -= entry.state is CLOSING

    def join(self, waiter: Waiter, *, first: bool) -> None:
        """Let *waiter* wait, behind the others, or before them when it has had its turn and got nothing that works."""
        self.waiters[waiter] = None
        if first:
            self.waiters.move_to_end(waiter, last=False)

    def leave(self, waiter: Waiter) -> None:
        """Take *waiter* out of the queue, if it is still there."""
        self.waiters.pop(waiter, None)

    def dismiss(self, reason: Callable[[], Exception | None]) -> int:
        """Wake everybody with an error each, as long as there is a *reason*; return how many that were."""
        dismissed = 0
        while self.waiters and (error := reason()):
            waiter, _ = self.waiters.popitem(last=False)
            dismissed += waiter.give(error)
        return dismissed
