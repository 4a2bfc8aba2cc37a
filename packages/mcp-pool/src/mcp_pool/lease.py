"""Borrowing for a block, on the shortest way: what every use of a pool pays for.

``Lease`` goes past the functions of ``desk`` and ``shelf`` where nothing is to be waited for, checked or noted, and
falls back on them everywhere else.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from .desk import Desk
from .entry import IN_USE, Entry
from .errors import PoolMisuse

__all__ = ["Lease", "lend_idle"]

T = TypeVar("T")

_COMING: Any = object()


class Lease(Generic[T]):
    """One borrowing: ``async with lease as resource``.  Made by ``pool.acquire()``, to be entered once at a time."""

    __slots__ = ("_desk", "_entry", "_shown", "_timeout")

    def __init__(self, desk: Any, timeout: float | None) -> None:  # made by the pool; what a desk is, is its affair
        self._desk: Desk[Any] = desk
        self._timeout = timeout
        self._entry: Entry[Any] | None = None

    async def _obtain(self, entry: Entry[Any] | None) -> T:
        if self._entry is not None:
            raise PoolMisuse("this lease is in use already; call acquire() for each block")
        self._entry = _COMING
        try:
            entry = await self._desk.obtain(self._timeout, entry)
        except BaseException:
            self._entry = None
            raise
        self._entry = entry
        self._shown = self._desk.show(entry)  # held here, since the block need not hold it
        return cast("T", self._shown)

    if TYPE_CHECKING:

        async def __aenter__(self) -> T: ...

        async def __aexit__(
            self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
        ) -> None: ...

    else:
        # Where nothing is to be waited for, these return what was made once and can be awaited again and again: two
        # coroutines for each use would be a third of the whole.
        def __aenter__(self):
            desk, entry = self._desk, None
            if desk.idle and desk.lends_plainly and self._entry is None:
                now = desk.clock()
                entry = desk.pick()  # as ``shelf.take`` would; another call is a twentieth of the whole
                if now >= entry.retire_at:
                    desk.shelf.drop(entry)
                    return self._obtain(None)
                entry.state = IN_USE
                entry.taken_at = now
                if now - entry.used_at < desk.check_after or (self._timeout is None and desk.start_check(entry)):
                    self._entry = entry
                    return entry.ready
            return self._obtain(entry)

        def __aexit__(self, kind, error, traceback):
            desk, entry, self._entry = self._desk, self._entry, None
            if error is not None or not desk.takes_plainly or entry.state is not IN_USE:
                return desk.release(entry, error)
            if desk.resets and not desk.start_reset(entry):
                return desk.release(entry)
            desk.give(entry, desk.clock())
            return desk.returned


@asynccontextmanager
async def lend_idle(desk: Desk[T]) -> AsyncGenerator[T | None]:
    """Lend what is idle for a block, or None."""
    entry = await desk.obtain_idle()
    if entry is None:
        yield None
        return
    shown = desk.show(entry)
    try:
        yield shown
    except BaseException as error:
        await desk.release(entry, error)
        raise
    await desk.release(entry)
