"""What decides about a key whose state cannot be had, because its store does not answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

from ._core import KeysExhausted
from .limit import Limit, share
from .memory import MemoryTable

__all__ = ["OnStoreError", "stand_in"]

OnStoreError: TypeAlias = Literal["local", "open", "closed"]

MAX_KEYS = 1000
"""Keys of the few buckets that stopped processes hold."""
OVERFLOW = "~overflow"  # no key that comes from outside begins like that
RETRY = 0.1
"""Seconds after which a refused caller may ask again; whether the store answers by then, nobody knows."""


def stand_in(policy: OnStoreError, limit: Limit, workers: int, clock: Callable[[], float]) -> MemoryTable:
    """Return a table of this process that decides, by *policy*, in place of the store's."""
    if policy == "local":
        return _Local(limit, workers, clock)
    return (_Open if policy == "open" else _Closed)(limit, clock, MAX_KEYS, OVERFLOW)


class _Local(MemoryTable):
    """The share of one of *workers*; what is used of it stays used when the store fails again."""

    def __init__(self, limit: Limit, workers: int, clock: Callable[[], float]) -> None:
        super().__init__(share(limit, workers), clock, MAX_KEYS, OVERFLOW)
        self._workers = workers

    def change(self, limit: Limit) -> None:
        super().change(share(limit, self._workers))


class _Open(MemoryTable):
    """Keep nothing, so that nothing is ever used up."""

    def write(self, key: str, state: Any) -> None:
        pass


class _Closed(MemoryTable):
    """Take no key."""

    def place(self, key: str) -> str:  # noqa: ARG002  # as the protocol has it
        raise KeysExhausted(RETRY)
