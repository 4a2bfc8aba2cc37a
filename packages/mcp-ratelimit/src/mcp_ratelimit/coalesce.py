"""Send together what is asked at the same time: one batch is on its way, the next one gathers meanwhile.

    ask ──nobody sends──▶ send ──▶ hand the answers out ──▶ next batch? its first asker sends it
      └──somebody sends──▶ join the next batch, wait

Who asks does the sending, so there is no task that could outlive its loop.  Every batch is sent once, and answered in
the order of asking.

1. Whoever asks gets the answer to his request, or ``Unanswered``; nobody waits for ever.
2. What was granted to an asker who was cancelled meanwhile is given back.
3. An asker may be cancelled at any point; the batch it sends is sent to the end all the same.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Protocol

import anyio

from .decision import Decision
from .redis import Request

__all__ = ["Coalescer", "Unanswered"]

BATCH = 500
"""Requests in one script: it runs for a few milliseconds, and the server serves nobody else meanwhile."""

INTERRUPTED = "interrupted"

Answer = tuple[int, Decision]
Send = Callable[[list[Request]], Awaitable[list[Answer]]]


class Unanswered(Exception):  # noqa: N818  # never leaves the package
    """The store did not answer; the text names the class of error, and nothing of its text."""


class Store(Protocol):
    """What is asked."""

    async def send(self, requests: list[Request]) -> list[Answer]:
        """Decide *requests* in one step."""
        ...


class _Asker:
    __slots__ = ("answer", "failure", "gone", "request", "turn")

    def __init__(self, request: Request) -> None:
        self.request = request
        self.turn = anyio.Event()
        self.answer: Answer | None = None
        self.failure: str | None = None
        self.gone = False


class Coalescer:
    """Asks *store*, at most one batch at a time, each for at most *budget* seconds."""

    def __init__(self, store: Store, budget: float) -> None:
        self._store = store
        self._budget = budget
        self._gathered: list[_Asker] = []
        self._returned: list[_Asker] = []
        self._sending = False

    async def ask(self, request: Request) -> Answer:
        """Return the answer to *request*; raise Unanswered if there is none."""
        asker = _Asker(request)
        self._gathered.append(asker)
        try:
            if self._sending:
                await asker.turn.wait()
            if asker.answer is None and asker.failure is None:
                await self._send()
        except BaseException:
            await self._leave(asker)
            raise
        if asker.failure == INTERRUPTED:  # by the cancellation of the one who sent: ask anew
            return await self.ask(request)
        if asker.answer is None:
            raise Unanswered(asker.failure)
        return asker.answer

    async def _leave(self, asker: _Asker) -> None:
        asker.gone = True
        if asker in self._gathered:
            self._gathered.remove(asker)
            if asker.turn.is_set():  # it was to send, and did not come to it
                self._hand_over()
        self._give_back(asker)
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
        batch = self._gathered[:BATCH] + self._returned
        self._gathered, self._returned = self._gathered[BATCH:], []
        failure, answers = INTERRUPTED, list[Answer]()
        try:
            with anyio.fail_after(self._budget):
                answers = await self._store.send([asker.request for asker in batch])
        except Exception as error:  # noqa: BLE001  # whatever the client raises, the store has not answered
            failure = type(error).__name__
            batch, self._gathered = batch + self._gathered, []  # who asks a store that is gone need not try for himself
        finally:
            for place, asker in enumerate(batch):
                asker.answer, asker.failure = (answers[place], None) if answers else (None, failure)
                asker.turn.set()
                if asker.gone:
                    self._give_back(asker)

    def _give_back(self, asker: _Asker) -> None:
        if asker.answer is not None and asker.request.op == "take" and asker.answer[0]:
            refund = _Asker(replace(asker.request, op="refund", cost=asker.answer[0]))
            refund.gone = True
            self._returned.append(refund)

    def _hand_over(self) -> None:
        self._sending = bool(self._gathered)
        if self._gathered:
            self._gathered[0].turn.set()
