"""Attempts at a block of code: ``async for attempt in retry: async with attempt: ...``.

The loop ends after the first block that did not fail; what a block that is given up raises comes out of its ``async
with``.  A block that is left by ``break`` or ``return`` was a success.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

from .run import AttemptTimeout, Run

__all__ = ["Attempt", "Attempts"]


class Attempts:
    """The attempts of one call; ask for the next only when the last one is over."""

    def __init__(self, run: Run, is_retryable: Callable[[Exception], bool]) -> None:
        self._run = run
        self._is_retryable = is_retryable
        self._number = 0
        self._goes_on = True

    def __aiter__(self) -> Attempts:
        return self

    async def __anext__(self) -> Attempt:
        if not self._goes_on:
            raise StopAsyncIteration
        self._goes_on = False  # an attempt that nobody enters must not be followed by another, for ever
        if self._number:
            await self._run.sleep()
        self._number += 1
        return Attempt(self, self._number)

    def begin(self) -> None:
        """Begin an attempt."""
        self._run.__enter__()

    def end(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        """End an attempt, and say whether its failure is dealt with."""
        if self._run.__exit__(kind, error, traceback):
            self._end_timed_out()
            return True
        if error is None:
            self._run.succeeded()
        elif isinstance(error, Exception):
            self._goes_on = self._run.goes_on_after(error, retryable=self._is_retryable(error))
        return self._goes_on

    def _end_timed_out(self) -> None:
        try:
            self._run.check()
        except AttemptTimeout as error:
            self._goes_on = self._run.goes_on_after(error, retryable=self._is_retryable(error))
            if not self._goes_on:
                raise


class Attempt:
    """One attempt, to be entered at once; ``number`` is 1 for the first."""

    def __init__(self, attempts: Attempts, number: int) -> None:
        self.number: int = number
        self._attempts = attempts

    async def __aenter__(self) -> None:
        self._attempts.begin()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        return self._attempts.end(kind, error, traceback)
