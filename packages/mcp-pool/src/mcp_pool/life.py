"""The life of what is opened once, with ``async with``, and has tasks of its own until it is closed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import TYPE_CHECKING

import anyio
from anyio.abc import TaskGroup

from .errors import PoolMisuse

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Life"]


class Life(ABC):
    """Opened and closed once; what it does in between is up to ``_start``, and what is left to do, to ``close``."""

    _is_spent = False
    _task_group: TaskGroup

    async def __aenter__(self) -> Self:
        """Start the pool's own tasks; waits for no resource.  Raises PoolMisuse the second time, or when closed."""
        if self._is_spent:
            raise PoolMisuse(f"this {type(self).__name__} was opened or closed before; it lives once, make another")
        self._is_spent = True
        self._task_group = await anyio.create_task_group().__aenter__()
        self._start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close it, see ``close``."""
        try:
            await self.close()
        finally:
            # Owners are shielded and end by themselves; what came out of the block is not the group's business.
            self._task_group.cancel_scope.cancel()
            await self._task_group.__aexit__(None, None, None)

    @abstractmethod
    def _start(self) -> None: ...

    @abstractmethod
    async def close(self, *, drain_timeout: float | None = None) -> None:
        """End what it does; allowed at any time, and more than once."""
