"""Keep the series of one metric: find them by their labels, bound their number, and let the idle ones go.

                     labels new, room left            unchanged for *idle* s        and still unchanged
    (nothing) ──────────────────────────▶ LIVE ─────────────────────────▶ FROZEN ─────────────────────▶ (dropped)
                                           ▲ ◀──────── written to ──────────┘                              │
                                           └───────────── written to: begins again, at zero ───────────────┘

Series are swept by scrapes, each as it is read. A write that has begun when its series is frozen is seen at the next
sweep, and the series stays. A frozen series sends writes through ``live``, so a bound child may be kept for ever: it
always finds its way back.

Invariants, each tested in ``tests/metrics/test_family.py``:

1. There are never more than *max_series* series, and one more whose labels are all ``_OTHER`` for those without room.
2. Conservation: the activity of all series, and what the dropped ones had, add up to what was written.
3. A series that comes back has the time of its return for its start.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, NamedTuple, TypeVar

from .histogram import Histogram, NativeHistogram
from .series import Counter, Gauge, Info, Point, Series
from .text import OTHER, escape, label_value, unit_word

__all__ = ["ENDINGS", "SUFFIXES", "Description", "Family"]

S = TypeVar("S", bound=Series)

KINDS: dict[type[Series], str] = {
    Counter: "counter",
    Gauge: "gauge",
    Info: "info",
    Histogram: "histogram",
    NativeHistogram: "histogram",
}
SUFFIXES: dict[str, tuple[str, ...]] = {
    "counter": ("", "_total", "_created"),
    "gauge": ("",),
    "info": ("", "_info"),
    "histogram": ("", "_bucket", "_sum", "_count", "_created"),
}
ENDINGS = {"counter": "_total", "gauge": "", "histogram": "", "info": "_info"}  # a registered name does without


class Description(NamedTuple):
    """What all series of a family share; ``merge`` says how the gauges of several processes become one."""

    kind: str
    name: str
    help: str
    unit: str = ""
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()
    merge: str = "sum"

    @property
    def exposed(self) -> str:
        """The name before any escaping: with the unit at its end, without the ``_total`` of a counter."""
        word = unit_word(self.unit)
        rest = self.name.removesuffix(word)
        has_word = rest != self.name and not rest[-1:].isalnum()  # microseconds are not seconds
        return self.name if has_word or not word else f"{self.name}_{word}"

    @property
    def samples(self) -> list[str]:
        """The names that its lines may have, in any format, under the escaping scheme that confuses most."""
        exposed = escape(self.exposed, "underscores")
        return [exposed + suffix for suffix in SUFFIXES[self.kind]]


class Family(Generic[S]):
    """All series of one name; made by ``Registry``, which says what the arguments mean."""

    def __init__(
        self,
        kind: type[S],
        description: Description,
        *,
        max_series: int,
        idle: float | None,
        clock: Callable[[], float],
        now: Callable[[], float],
        on_overflow: Callable[[str], None],
        schema: int,
    ) -> None:
        self.description = description
        self.name: str = description.name
        self.bounds: list[float] = list(description.bounds)
        self.schema: int = schema
        self.now = now
        self.lock: threading.Lock = threading.Lock()
        self.retired: float = 0
        self._kind = kind
        self._series: dict[tuple[object, ...], S] = {}
        self._max_series = max_series
        self._idle = idle if issubclass(kind, (Counter, Histogram)) else None
        self._clock = clock
        self._on_overflow = on_overflow

    def __len__(self) -> int:
        return len(self._series)

    def bind(self, *values: object) -> S:
        """Return the series with these label values, in the order of the labels; keep it where it is used often.

        Values are made text, at most 128 characters of it. A series bound while the family is full is the one for all
        without room, and stays that: bind again to find room. Raises ValueError when there are too many or too few.
        """
        try:
            return self._series[values]
        except (KeyError, TypeError):
            return self._bind(values)

    def points(self) -> Iterator[Point]:
        """Yield what each series says, one read at a time; one that leaves says so for the last time.

        Idle series are looked for as they are read, so that a scrape of many does not wait for all of them at once.
        """
        now = self._clock()
        waiting = deque(self._series.values())  # to free all that leave at once, in the end, would take milliseconds
        while waiting:
            series = waiting.popleft()
            point = series.read()
            if self._idle is not None:
                self._age(series, now, self._idle)
            yield point

    def activity(self) -> float:
        """Return what counters have added up and histograms have counted, dropped series included."""
        with self.lock:
            return self.retired + sum(series.activity() for series in self._series.values())

    def live(self, series: S) -> S:
        """Return the series to write to instead of one that is not the caller's own; call it under the lock."""
        current = self._series.get(series.labels)
        if current is None:
            series.restart()
            current = self._admit(series)
            if current is not series:
                series.freeze()  # dropped, and without room to return: its next write must ask again
            return current
        current.thaw()
        return current

    def tell(self, labels: tuple[str, ...], series: S) -> None:
        """Report that *labels* found no room, if *series* is not theirs.

        Call it without the lock: a listener may write, and scrape.
        """
        if series.labels != labels:
            self._on_overflow(self.name)

    def _bind(self, values: tuple[object, ...]) -> S:
        names = self.description.labels
        if len(values) != len(names):
            raise ValueError(f"{self.name} has the labels {names}, got {len(values)} values: {values!r}")
        labels = tuple(map(label_value, values))
        with self.lock:
            found = self._series.get(labels)
            series = self._admit(self._kind(self, labels)) if found is None else found
        self.tell(labels, series)
        return series

    def _admit(self, series: S) -> S:
        """Take in a new series, or return the one for all that find no room."""
        others = (OTHER,) * len(series.labels)
        if len(self._series) - (others in self._series) < self._max_series or series.labels == others:
            return self._series.setdefault(series.labels, series)
        return self._series.setdefault(others, self._kind(self, others))

    def _age(self, series: S, now: float, idle: float) -> None:
        with self.lock:
            activity = series.activity()
            if series.marked is None or series.marked[0] != activity:
                series.marked = activity, now
            elif now - series.marked[1] < idle:
                pass
            elif not series.frozen:
                series.freeze()
            elif self._series.get(series.labels) is series:  # another scrape may have dropped it meanwhile
                self.retired += activity
                del self._series[series.labels]
