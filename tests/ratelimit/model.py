"""What each algorithm promises, in exact rational numbers and from nothing but the history of what passed."""

from __future__ import annotations

from fractions import Fraction
from math import floor


class Bucket:
    """GCRA told as what it is equal to: a bucket that leaks one unit an interval."""

    def __init__(self, interval, capacity):
        self.interval, self.capacity = Fraction(interval), capacity
        self.level, self.at = Fraction(0), Fraction(0)

    def used(self, now):
        return max(Fraction(0), self.level - (Fraction(now) - self.at) / self.interval)

    def fits(self, now, cost):
        return self.used(now) + cost <= self.capacity

    def charge(self, now, cost):
        self.level, self.at = self.used(now) + cost, Fraction(now)

    def refund(self, now, cost):
        self.level, self.at = max(Fraction(0), self.used(now) - cost), Fraction(now)


class History:
    """What passed, one entry a unit; the oldest is given back first."""

    def __init__(self, window, capacity):
        self.window, self.capacity = Fraction(window), capacity
        self.passed = []

    def since(self, now):
        """The first instant that still counts."""
        raise NotImplementedError

    def live(self, now):
        since = self.since(now)
        return [at for at in self.passed if at >= since]

    def used(self, now):
        return Fraction(len(self.live(now)))

    def fits(self, now, cost):
        return self.used(now) + cost <= self.capacity

    def charge(self, now, cost):
        self.passed = self.live(now) + [Fraction(now)] * cost

    def refund(self, now, cost):
        self.passed = self.live(now)[cost:]


class Log(History):
    def since(self, now):
        return Fraction(now) - self.window + Fraction(1, 2)  # ticks are whole: what is a window old no longer counts


class Buckets(History):
    def since(self, now):
        return (floor(now / (self.window / 16)) - 16) * (self.window / 16)


class Fixed(History):
    def __init__(self, bounds, capacity):
        super().__init__(0, capacity)
        self.bounds = bounds

    def since(self, now):
        return self.bounds(now)[0]


class Counter(History):
    def since(self, now):
        return (floor(now / self.window) - 1) * self.window

    def used(self, now):
        live = self.live(now)
        edge = self.since(now) + self.window
        latest = sum(at >= edge for at in live)
        return latest + (len(live) - latest) * (edge + self.window - now) / self.window


def model_of(limit, algorithm):
    """The model of *limit*, counting in the ticks of *algorithm*, once these have been compared to the limit."""
    if limit.algorithm in ("gcra", "strict_gcra"):
        back = limit.amount - limit.burst if limit.algorithm == "strict_gcra" else limit.amount
        assert_seconds(algorithm.interval, algorithm, Fraction(limit.period) / back)
        return Bucket(algorithm.interval, limit.burst)
    if limit.algorithm == "fixed_window":
        return Fixed(algorithm.bounds, limit.amount)
    assert_seconds(algorithm.window, algorithm, Fraction(limit.period))
    kind = {"sliding_log": Log, "bucketed": Buckets, "sliding_counter": Counter}[limit.algorithm]
    return kind(algorithm.window, limit.amount)


def assert_seconds(ticks, algorithm, seconds):
    """Ticks are of any length, but so many of them last as long as the limit says, to the last bit of a float."""
    assert abs(Fraction(ticks) / Fraction(algorithm.hz) / seconds - 1) < Fraction(1, 2**51)
