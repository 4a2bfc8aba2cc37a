"""Send together what is asked at the same time: one batch is on its way, the next one gathers meanwhile.

    ask ──first of a batch──▶ wait until nobody sends ──▶ send ──▶ wake all of the batch, and the first of the next
      └──others──────────────────────────────────────────────────▶ wait until it is answered

Who asks does the sending, so there is no task that could outlive its loop.  A batch has one event for all who wait for
it: an event for each would cost more than a decision does.

1. Whoever asks gets the answer to his request, or ``Unanswered``, within the budget, whatever is on its way before:
   a batch has the deadline of the first of it, and what is sent before it has an earlier one.
2. What was granted to an asker who was cancelled meanwhile is given back.
3. An asker may be cancelled at any point; the batch it sends is sent to the end all the same.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Protocol

import anyio

from .decision import Decision
from .redis import Request

__all__ = ["Coalescer", "Unanswered"]

BATCH = 500
"""Requests in one script: it runs for a few milliseconds, and the server serves nobody else meanwhile."""

INTERRUPTED = "interrupted"

Answer = tuple[int, Decision]


class Unanswered(Exception):  # noqa: N818  # never leaves the package
    """The store did not answer; the text names the class of error, and nothing of its text."""


class Store(Protocol):
    """What is asked."""

    async def send(self, requests: list[Request]) -> list[Answer]:
        """Decide *requests* in one step."""
        ...


class _Batch:
    __slots__ = ("answers", "deadline", "done", "failure", "gone", "requests", "turn")

    def __init__(self, budget: float) -> None:
        self.deadline = anyio.current_time() + budget
        self.requests: list[Request] = []
        self.turn = anyio.Event()  # for the first of it: send now
        self.done = anyio.Event()  # for the others: answered, or failed
        self.answers: list[Answer] = []
        self.failure: str | None = None
        self.gone: list[int] = []

    def fail(self, error: str) -> None:
        self.failure = error
        self.turn.set()
        self.done.set()


class Coalescer:
    """Asks *store*, at most one batch at a time; nobody waits for longer than *budget* seconds."""

    def __init__(self, store: Store, budget: float) -> None:
        self._store = store
        self._budget = budget
        self._gathered: deque[_Batch] = deque()
        self._returned: list[Request] = []
        self._sending = False

    async def ask(self, request: Request, deadline: float = math.inf) -> Answer:
        """Return the answer to *request*; raise Unanswered if there is none.

        Who has waited already asks within a scope that ends by *deadline*, which is then that of his batch too.
        """
        batch = self._joined(request)
        batch.deadline = min(batch.deadline, deadline)
        place = len(batch.requests) - 1
        try:
            if place:
                await batch.done.wait()
            else:
                await self._lead(batch)
        except BaseException:
            await self._leave(batch, place)
            raise
        if batch.answers:
            return batch.answers[place]
        if batch.failure == INTERRUPTED:  # by the cancellation of the one who sent: ask anew, in the time that is left
            with anyio.CancelScope(deadline=batch.deadline):
                return await self.ask(request, batch.deadline)
            batch.failure = TimeoutError.__name__
        raise Unanswered(batch.failure)

    def _joined(self, request: Request) -> _Batch:
        if not self._gathered or len(self._gathered[-1].requests) == BATCH:
            self._gathered.append(_Batch(self._budget))
        self._gathered[-1].requests.append(request)
        return self._gathered[-1]

    async def _lead(self, batch: _Batch) -> None:
        if self._sending:
            await batch.turn.wait()
        if batch.failure is None:
            await self._send()

    async def _leave(self, batch: _Batch, place: int) -> None:
        if batch not in self._gathered:
            batch.gone.append(place)
            if batch.answers:
                self._give_back(batch, place)
        elif place:
            batch.requests[place] = batch.requests[place]._replace(op="take", cost=0, most=0)  # takes nothing
        else:
            was_to_send = batch.turn.is_set()
            self._gathered.remove(batch)
            batch.fail(INTERRUPTED)
            if was_to_send:
                self._hand_over()
        if self._returned and not self._sending:
            await self._send()

    async def _send(self) -> None:
        """Send what has gathered, then what was granted to those who are gone, then leave the sending to the next."""
        self._sending = True
        try:
            with anyio.CancelScope(shield=True):
                await self._send_batch()
                while self._returned and not self._gathered:
                    await self._send_batch()
        finally:
            self._hand_over()

    async def _send_batch(self) -> None:
        batch = self._gathered.popleft() if self._gathered else _Batch(self._budget)
        returned, self._returned = self._returned, []
        failure: str | None = INTERRUPTED
        try:
            with anyio.fail_after(batch.deadline - anyio.current_time()):
                batch.answers = await self._store.send(batch.requests + returned)
                failure = None
        except Exception as error:  # noqa: BLE001  # whatever the client raises, the store has not answered
            failure = type(error).__name__
            while self._gathered:  # who asks a store that is gone need not try for himself
                self._gathered.popleft().fail(failure)
        finally:
            batch.failure = failure
            batch.done.set()
            for place in batch.gone if batch.answers else ():
                self._give_back(batch, place)

    def _give_back(self, batch: _Batch, place: int) -> None:
        request, granted = batch.requests[place], batch.answers[place][0]
        if request.op == "take" and granted:
            self._returned.append(request._replace(op="refund", cost=granted))

    def _hand_over(self) -> None:
        self._sending = bool(self._gathered)
        if self._gathered:
            self._gathered[0].turn.set()
