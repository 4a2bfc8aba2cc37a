"""Hold the figures of one time series, and be told of new ones at the price of a few bytecodes.

    Family.bind("tools/call") ──▶ Counter, Gauge or Histogram ──read()──▶ Point

A counter or a histogram belongs to the thread that made it, its *owner*, which writes without a lock. Any other thread
writes to a second set of figures under the family's lock; a reader adds the two up. So every field has one writer at
a time, and no total is lost, with or without a GIL. A gauge can be set, which two sets of figures cannot: it is always
written under the lock.

Invariants, each tested in ``tests/metrics/test_series.py``:

1. Totals are exact, whichever threads write.
2. What was written is never lost to an eviction: a series that is written to again joins its family again, from zero.
3. A refused value leaves no trace.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from threading import get_ident
from typing import TYPE_CHECKING, Any, NamedTuple

from .native import NativeBuckets
from .text import escape, label_value

if TYPE_CHECKING:
    from .family import Family

__all__ = ["Counter", "Exemplar", "Gauge", "Info", "Point", "Series"]

NOBODY = 0  # no thread has this identity
EXEMPLAR_LIMIT = 128  # characters of all names and values together; OpenMetrics 1.0


class Exemplar(NamedTuple):
    """One request out of those counted: the labels that lead to its trace, its value, and when it was."""

    labels: tuple[tuple[str, str], ...]
    value: float
    timestamp: float


class Point(NamedTuple):
    """What a series said at one moment.

    ``value`` is a counter's total, a gauge's value or a histogram's sum; ``counts`` are the values in each bucket, not
    cumulative, the last one above all bounds; ``exemplars`` are by bucket, a counter's under 0.
    """

    labels: tuple[str, ...]
    created: float
    value: float
    counts: Sequence[int] = ()
    exemplars: Mapping[int, Exemplar] = {}
    native: NativeBuckets | None = None


class Series:
    """What all kinds have in common; made by ``Family.bind``."""

    __slots__ = ("_exemplars", "_family", "_home", "_owner", "created", "labels", "marked")

    def __init__(self, family: Family[Any], labels: tuple[str, ...]) -> None:
        self._family = family
        self.labels: tuple[str, ...] = labels
        self.restart()

    def restart(self) -> None:
        """Begin at zero, now, owned by the calling thread."""
        self._owner = self._home = get_ident()
        self.created: float = self._family.now()
        self._exemplars: dict[int, Exemplar] | None = None
        self.marked: tuple[float, float] | None = None

    def freeze(self) -> None:
        """Send the next write through the family, which thaws the series or has dropped it."""
        self._owner = NOBODY

    def thaw(self) -> None:
        """Belong to its own thread again, whichever calls: that one may be stopped within a write it began before."""
        self._owner = self._home

    @property
    def frozen(self) -> bool:
        """Whether nobody has written since ``freeze``."""
        return self._owner == NOBODY

    def activity(self) -> float:
        """Return what grows with each write; nothing does, in what is never idle."""
        return 0

    def read(self) -> Point:
        """Return the figures of one moment."""
        return Point(self.labels, self.created, 1)

    def _keep(self, exemplar: Mapping[str, object] | None, value: float, bucket: int) -> None:
        """Keep *exemplar* as its bucket's newest; one too long for OpenMetrics, or with reserved names, is left out."""
        if not exemplar:
            return
        labels = tuple((escape(str(name), "underscores"), label_value(text)) for name, text in exemplar.items())
        names = {name for name, _ in labels if name and not name.startswith("__")}
        size = sum(len(name) + len(text) for name, text in labels)
        if len(names) == len(labels) and size <= EXEMPLAR_LIMIT:
            self._exemplars = {**(self._exemplars or {}), bucket: Exemplar(labels, value, self._family.now())}


class Counter(Series):
    """A total that only grows."""

    __slots__ = ("_others", "_value")

    def restart(self) -> None:
        """Begin at zero, now."""
        self._value: float = 0
        self._others: float = 0
        super().restart()

    def inc(self, amount: float = 1, exemplar: Mapping[str, object] | None = None) -> None:
        """Add a finite *amount* ≥ 0, or raise ValueError."""
        if exemplar is None and amount - amount == 0 <= amount and get_ident() == self._owner:  # finite, in 20 ns less
            self._value += amount
        else:
            self._inc(amount, exemplar)

    def activity(self) -> float:
        """Return the total."""
        return self._value + self._others

    def read(self) -> Point:
        """Return the total."""
        return Point(self.labels, self.created, self._value + self._others, (), self._exemplars or {})

    def _inc(self, amount: float, exemplar: Mapping[str, object] | None) -> None:
        if not amount - amount == 0 <= amount:  # NaN and infinities differ from themselves
            raise ValueError(f"{self._family.name}: inc() needs a finite amount >= 0, got {amount!r}")
        with self._family.lock:
            written = self._family.live(self)
            written.inc_locked(amount, exemplar)
        self._family.tell(self.labels, written)

    def inc_locked(self, amount: float, exemplar: Mapping[str, object] | None) -> None:
        """Add *amount* for a thread that holds the family's lock."""
        self._others += amount
        self._keep(exemplar, amount, 0)


class Gauge(Series):
    """A value that goes up and down; also NaN and infinite."""

    __slots__ = ("_running", "_value")

    def restart(self) -> None:
        """Begin at zero, now."""
        self._value: float = 0
        self._running: list[None] | None = None
        super().restart()

    def running(self) -> list[None]:
        """Return a list whose length is added to the value: append None where something begins, and pop where it ends.

        Both are atomic in every Python, and cost a tenth of ``inc`` and ``dec``, which take the family's lock.
        """
        if self._running is None:
            self._running = []
        return self._running

    def inc(self, amount: float = 1) -> None:
        """Add *amount*."""
        with self._family.lock:
            self._value += amount

    def dec(self, amount: float = 1) -> None:
        """Subtract *amount*."""
        self.inc(-amount)

    def set(self, value: float) -> None:
        """Forget what was, and hold *value*."""
        with self._family.lock:
            self._value = value + 0  # what is no number fails here, and not in every scrape

    def read(self) -> Point:
        """Return the value."""
        return Point(self.labels, self.created, self._value + len(self._running or ()))


class Info(Series):
    """Facts that are all in the labels; the value is 1."""

    __slots__ = ()
