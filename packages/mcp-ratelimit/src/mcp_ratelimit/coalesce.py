"""Send together what is asked at the same time: while two batches are on their way, the next one gathers.

    ask ──first of a batch──▶ wait for a slot ──▶ send ──▶ wake all of the batch, and the first of the next
      └──others──────────────────────────────────────────▶ wait until it is answered

Who asks does the sending, so there is no task that could outlive its loop.  A batch has one event for all who wait for
it: an event for each would cost more than a decision does.  There are two slots, so that this process goes on with one
answer while the server is at the other batch: with one slot each waits for the other.

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
import anyio.lowlevel

from .decision import Decision
from .redis import Request

__all__ = ["Coalescer", "Unanswered"]

BATCH = 500
"""Requests in one script: it runs for a few milliseconds, and the server serves nobody else meanwhile."""

SLOTS = 2
"""Batches on their way at once, on as many connections."""

ENOUGH = 32
"""Requests that wait for no more company while there is a slot for them."""

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
    __slots__ = ("answers", "deadline", "done", "failure", "gone", "has_slot", "requests", "turn")

    def __init__(self, budget: float) -> None:
        self.deadline = anyio.current_time() + budget
        self.requests: list[Request] = []
        self.has_slot = False
        self.turn = anyio.Event()  # for the first of it: there is a slot, or no more to be sent
        self.done = anyio.Event()  # for the others: answered, or failed
        self.answers: list[Answer] = []
        self.failure: str | None = None
        self.gone: list[int] = []

    def fail(self, error: str) -> None:
        self.failure = error
        self.turn.set()
        self.done.set()


class Coalescer:
    """Asks *store*, a batch at a time for each slot; nobody waits for longer than *budget* seconds."""

    def __init__(self, store: Store, budget: float) -> None:
        self._store = store
        self._budget = budget
        self._gathered: deque[_Batch] = deque()  # not sent yet
        self._returned: list[Request] = []
        self._free = SLOTS

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
        full = ENOUGH if self._free else BATCH
        if not self._gathered or len(self._gathered[-1].requests) >= full:
            self._gathered.append(_Batch(self._budget))
        self._gathered[-1].requests.append(request)
        return self._gathered[-1]

    async def _lead(self, batch: _Batch) -> None:
        """Send *batch* when there is a slot for it, and then leave the slot."""
        try:
            if self._free:
                self._free -= 1
                batch.has_slot = True
                await anyio.lowlevel.checkpoint()  # so that who asks now goes along
            else:
                await batch.turn.wait()
            if batch.failure is None:
                await self._send(batch)
        finally:
            if batch.has_slot:
                self._leave_slot()

    async def _leave(self, batch: _Batch, place: int) -> None:
        if batch not in self._gathered:
            batch.gone.append(place)
            if batch.answers:
                self._give_back(batch, place)
        elif place:
            batch.requests[place] = batch.requests[place]._replace(op="take", cost=0, most=0)  # takes nothing
        else:
            self._gathered.remove(batch)
            batch.fail(INTERRUPTED)
        if self._returned and self._free == SLOTS:
            with anyio.CancelScope(shield=True):
                await self._lead(_Batch(self._budget))

    async def _send(self, batch: _Batch) -> None:
        """Send *batch*, and what was granted to those who are gone, if no other batch is there to take it along."""
        with anyio.CancelScope(shield=True):
            await self._send_batch(batch)
            while self._returned and not self._gathered:
                await self._send_batch(_Batch(self._budget))

    async def _send_batch(self, batch: _Batch) -> None:
        if batch in self._gathered:
            self._gathered.remove(batch)
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

    def _leave_slot(self) -> None:
        """Give a slot to the batch that has waited longest for one."""
        for batch in self._gathered:
            if not batch.has_slot:
                batch.has_slot = True
                batch.turn.set()
                return
        self._free += 1
