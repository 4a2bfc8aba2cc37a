"""One breaker per key, for a bounded number of keys.

A flood of new keys must not push out a breaker that protects something: one that is not CLOSED gets another turn when
it is the least recently used, and only a row of ``TURNS`` such breakers lets the oldest of them go.

``quick`` is a short way in for the middleware, which may look there first.  It notes no use, and so is empty once more
than half of the places are taken: what is not used from then on until they are full is old enough to go.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

from .breaker import CircuitBreaker
from .checks import check_count
from .core import Core
from .states import State

__all__ = ["KeyedBreakers"]

TURNS = 16  # keeps eviction O(1), however many breakers are open


class KeyedBreakers:
    """Makes and keeps the breakers of the most recently used keys.

    Args:
        factory: Called with each new key; returns a new breaker.
        max_keys: How many breakers to keep.

    Raises:
        ValueError: For fewer than 1 key.
        TypeError: For a factory that is not callable.
    """

    def __init__(self, factory: Callable[[Any], CircuitBreaker], *, max_keys: int = 1024) -> None:
        if not callable(factory):
            raise TypeError(
                f"KeyedBreakers needs a factory, a function of the key that returns a breaker, got {factory!r}"
            )
        self._factory = factory
        self._max_keys = check_count("KeyedBreakers", "max_keys", max_keys)
        self._breakers: OrderedDict[Hashable, CircuitBreaker] = OrderedDict()
        self.quick: dict[Any, Core] = {}
        self._lock = threading.Lock()

    def __getitem__(self, key: Hashable) -> CircuitBreaker:
        """Return the breaker of *key*, made if need be.  Raises TypeError when the factory returns something else."""
        try:
            self._breakers.move_to_end(key)
            return self._breakers[key]
        except KeyError:  # a new one, or evicted by another thread just now
            return self._add(key)

    def __len__(self) -> int:
        return len(self._breakers)

    def __contains__(self, key: object) -> bool:
        return key in self._breakers

    def forget(self, key: Hashable) -> None:
        """Drop the breaker of *key* if it has never counted anything; calls in flight keep theirs."""
        breaker = self._breakers.get(key)
        if breaker is not None and breaker.statistics().calls == breaker.statistics().transitions == 0:
            self._breakers.pop(key, None)
            self.quick.pop(key, None)

    def _add(self, key: Hashable) -> CircuitBreaker:
        breaker: Any = self._factory(key)
        if not isinstance(breaker, CircuitBreaker):
            raise TypeError(f"the factory of KeyedBreakers must return a CircuitBreaker, but returned {breaker!r}")
        with self._lock:
            kept = self._breakers.setdefault(key, breaker)
            if len(self._breakers) > self._max_keys:
                self._evict()
            if 2 * len(self._breakers) > self._max_keys:
                self.quick.clear()
            else:
                self.quick[key] = kept.core
        return kept

    def _evict(self) -> None:
        row: list[Hashable] = []
        for _ in range(min(TURNS, self._max_keys)):
            key, breaker = self._breakers.popitem(last=False)  # in one step, since other threads move keys meanwhile
            if breaker.state is State.CLOSED:
                return
            self._breakers[key] = breaker
            row.append(key)
        del self._breakers[row[0]]
