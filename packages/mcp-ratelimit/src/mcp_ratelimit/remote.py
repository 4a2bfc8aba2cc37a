"""Limits over many machines: every decision is one round trip, or less, and none is lost when the store is.

    key known to be out? ──yes──▶ refuse, no round trip
      │no
    tokens leased? ──yes──▶ spend one, no round trip
      │no
    store answering? ──yes──▶ ask it, together with all who ask now ──▶ answer within the budget? ──▶ decision
      │no                                                                  │no: event
      └──────────────▶ decide by ``on_store_error`` ◀──────────────────────┘

After a failure the store is left alone for ``RETRY`` seconds; then one call tries it, and if it answers, all is well.

Invariants, each tested against a real server:

1. A decision is one round trip at most; a refusal that is known to hold is none, for a second: it is exact but for
   what other processes give back, or the server loses, in that second.
2. Without leases, an answer is what the script decides (see ``redis``).
3. With leases, at most burst + rate x (W + lease_ttl) passes in any window of W seconds, over any number of processes:
   what is spent in a window was charged in it or less than lease_ttl before.
4. No call waits for the store, or for who asks it, for longer than *budget*; while the store is known not to answer,
   none waits at all.
5. A cancelled call loses nothing that it was granted, and leaves nothing behind.
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

import anyio
import anyio.lowlevel

from ._known import BELIEVED, Arrival, Asked, Known
from .coalesce import Coalescer, Unanswered
from .decision import (
    LONGEST_KEY,
    CostTooLarge,
    Decision,
    Key,
    RateLimited,
    Refusal,
    StoreFailed,
    StoreRecovered,
    checked_key,
    checked_timeout,
)
from .limit import Limit, parse_limits, share, whole
from .limiter import ONE, RateLimiter
from .lines import Lines, undecided
from .redis import RedisStore, Request
from .slots import Acquiring

__all__ = ["AsyncRateLimiter", "RemoteStatistics"]

RETRY = 0.5
"""Seconds between two tries of a store that does not answer."""


@dataclass(frozen=True)
class RemoteStatistics:
    """What a limiter holds at this moment."""

    waiting: int
    """Callers that wait."""
    is_store_answering: bool
    refused_keys: int
    """Keys that are known to be out, and are refused without asking."""
    leased_keys: int


class AsyncRateLimiter(Acquiring):
    """Limits on what passes for each key, shared through a server; the methods of ``RateLimiter``, awaited.

    Args:
        limits: As for ``RateLimiter``.
        store: A ``RedisStore``.
        on_store_error: What decides while the store does not answer: ``"local"``, limits of this process at its share,
            kept warm while all is well; ``"open"``, nothing, all passes; ``"closed"`` refuses all that costs anything.
        workers: How many processes share the limits, for the share of one.
        budget: Seconds that a call may wait for the store, for a round trip that is on its way already too: so twice
            the time that one usually takes, at the least.
        lease: Tokens to take at once for a key, to be spent without asking; 0 for none.  What is not spent within
            *lease_ttl* seconds is lost, and the bound of invariant 3 is a little wider.
        max_waiters: How many calls of ``acquire`` may wait at once; None for any number.
        on_event: Called with each ``Refusal``, ``StoreFailed`` and ``StoreRecovered``.
        clock: Seconds that never step back, for leases and tries; decisions are by the server's clock.
    """

    def __init__(
        self,
        *limits: Limit | str,
        store: RedisStore,
        on_store_error: Literal["local", "open", "closed"] = "local",
        workers: int = 1,
        budget: float = 0.05,
        lease: int = 0,
        lease_ttl: float = 0.1,
        max_waiters: int | None = 1000,
        on_event: Callable[[Refusal | StoreFailed | StoreRecovered], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits = parse_limits(*limits)
        if isinstance(store, type) or not hasattr(store, "send"):
            raise TypeError(f"AsyncRateLimiter needs a store such as RedisStore(client), got {store!r}")
        if on_store_error not in ("local", "open", "closed"):
            raise ValueError(
                f"AsyncRateLimiter needs on_store_error 'local', 'open' or 'closed', got {on_store_error!r}"
            )
        for name, seconds in (("budget", budget), ("lease_ttl", lease_ttl)):
            if not 0 < checked_timeout(seconds) < math.inf:
                raise ValueError(f"AsyncRateLimiter needs 0 < {name} < inf seconds, got {seconds!r}")
        for name, function in (("clock", clock), ("on_event", on_event)):
            if function is not None and not callable(function):
                raise TypeError(f"AsyncRateLimiter needs {name} to be a function, got {function!r}")
        if max_waiters is not None:
            whole("AsyncRateLimiter", "max_waiters", max_waiters, least=0)
        self._workers = whole("AsyncRateLimiter", "workers", workers)
        self._lease = whole("AsyncRateLimiter", "lease", lease, least=0)
        self._lease_ttl = lease_ttl
        self._mark = store.mark
        self._budget = budget
        self._coalescer = Coalescer(store, budget)
        self._policy = on_store_error
        self._local = RateLimiter(*(share(limit, workers) for limit in self._limits))
        self._known = Known(self._lease, self._lease_ttl)
        self._lines = Lines(max_waiters, nap=BELIEVED)
        self._undecided = undecided(self._limits)
        self._on_event = on_event
        self._clock = clock
        self._failed_at: float | None = None
        self._next_try = 0.0
        self._arrivals: dict[tuple[str, ...], Arrival] = {}

    @property
    def limits(self) -> tuple[Limit, ...]:
        """The limits, as they are now."""
        return self._limits

    async def try_acquire(self, key: Key, cost: int = 1) -> bool:
        """Charge *cost* if it may pass now, and say whether it did."""
        if self._lease and not self._lines.waiting:  # a leased token, without a further coroutine
            known = self._known.decide(self._checked(key, cost), cost, self._clock())
            if known is not None and known.allowed:
                return True
        return (await self.check(key, cost)).allowed

    async def check(self, key: Key, cost: int = 1) -> Decision:
        """Charge *cost* if it may pass now, and tell all about it; a cost of 0 always passes, and charges nothing.

        Raises CostTooLarge if *cost* can never pass, TypeError or ValueError for what is no cost or no key.
        """
        keys = self._checked(key, cost)
        decision = await (self._decide_behind(keys, cost) if self._lines.waiting else self._take(keys, cost))
        if not decision.allowed:
            self._tell(Refusal(key, cost, decision))
        return decision

    async def peek(self, key: Key, cost: int = 1) -> Decision:
        """Tell whether *cost* would pass now; charges nothing."""
        keys = self._checked(key, cost)
        return (await self._ask(Request(self._limits, keys, cost)))[1]

    async def take_up_to(self, key: Key, most: int, *, past_line: bool = False) -> int:
        """Charge as much as may pass now, at most *most*, and return how much it was; nothing while others wait.

        With *past_line* they wait on behind it, for what has been used before it could be counted.
        """
        whole("take_up_to", "most", most, least=0)
        keys = self._checked(key, 0)
        if not past_line and self._lines.ahead(self._names(keys)):
            return 0
        return (await self._ask(Request(self._limits, keys, most=most)))[0]

    async def refund(self, key: Key, cost: int = 1) -> None:
        """Give back *cost* that was charged under *key*; what has been forgotten by now cannot be given back."""
        whole("refund", "cost", cost, least=0)
        keys = self._checked(key, 0)
        self._local.refund(keys, cost)
        await self._change(Request(self._limits, keys, cost, op="refund"))

    async def reset(self, key: Key) -> None:
        """Forget everything charged under *key*, except for what other processes hold on lease."""
        keys = self._checked(key, 0)
        self._local.reset(keys)
        self._known.leased.pop(keys, None)
        await self._change(Request(self._limits, keys, op="reset"))

    def set_limit(self, limit: Limit | str, *, name: str | None = None) -> None:
        """Change the figures of a limit in this process, as ``RateLimiter.set_limit`` does; what was used is kept.

        Each process has to be told; until then each decides by the figures that it knows, about the same state.
        """
        (changed,) = parse_limits(limit)
        self._local.set_limit(share(changed, self._workers), name=name)
        old = self._limits[0].name if name is None else name
        self._limits = tuple(changed.renamed(old) if each.name == old else each for each in self._limits)
        self._known = Known(self._lease, self._lease_ttl)
        self._lines.wake()

    async def acquire(self, key: Key, cost: int = 1, *, timeout: float | None = None) -> Decision:  # noqa: ASYNC109  # anyio's scopes are no limit in a queue
        """Wait until *cost* may pass, charge it, and return the decision; first come, first served in this process.

        Raises RateLimited as soon as it is clear that it cannot pass within *timeout* seconds, or if too many wait;
        CostTooLarge if it can never pass.
        """
        keys = self._checked(key, cost)
        patience = checked_timeout(timeout)
        names = self._names(keys)
        if cost and patience == math.inf and self._lines.is_behind(names):
            decision = self._undecided
        else:
            decision = await self._decide_behind(keys, cost)
            if decision.allowed:
                return decision

        async def attempt() -> Decision:
            return await self._take(self._checked(key, cost), cost)  # ``set_limit`` may have made the cost too large

        try:
            return await self._lines.wait(names, cost, patience, decision, attempt)
        except RateLimited as refusal:
            self._tell(Refusal(key, cost, refusal.decision))
            raise

    def statistics(self) -> RemoteStatistics:
        """Return what the limiter holds now."""
        leased = sum(map(bool, self._known.leased.values()))
        return RemoteStatistics(self._lines.waiting, self._failed_at is None, len(self._known.refused), leased)

    async def _give_back(self, key: Key, cost: int) -> None:
        with anyio.CancelScope(shield=True):
            await self.refund(key, cost)

    def _checked(self, key: Key, cost: int) -> tuple[str, ...]:
        if cost is ONE and isinstance(key, str) and "" < key < "~" and len(key) <= LONGEST_KEY:
            return (key,) * len(self._limits)  # what follows, in the usual case, in a fifth of the time
        whole("a limiter", "cost", cost, least=0)
        for limit in self._limits:
            if cost > limit.burst:
                raise CostTooLarge(cost, limit)
        return checked_key(key, self._limits, self._mark)

    def _names(self, keys: tuple[str, ...]) -> list[tuple[str, str]]:
        return [(limit.name, key) for limit, key in zip(self._limits, keys, strict=True)]

    async def _decide_behind(self, keys: tuple[str, ...], cost: int) -> Decision:
        """Decide as if after all who wait."""
        ahead = self._lines.ahead(self._names(keys)) if self._lines.waiting and cost else {}
        if not ahead:
            return await self._take(keys, cost)
        decision = (await self._ask(Request(self._limits, keys, cost)))[1]
        lines = {self._limits[place]: costs for place, costs in ahead.items()}
        later = max(costs * limit.period / limit.amount for limit, costs in lines.items())
        names = tuple(limit.name for limit in lines)
        return decision._replace(allowed=False, retry_after=decision.retry_after + later, violated=names)

    async def _take(self, keys: tuple[str, ...], cost: int) -> Decision:
        if not cost:
            return (await self._ask(Request(self._limits, keys)))[1]
        known = self._known.decide(keys, cost, since := self._clock())
        if known is None and keys in self._arrivals:
            known = await self._arrived(keys, cost)  # without a timer: who has gone is back within his earlier budget
            if known is None:
                known = await self._take_behind(keys, cost, anyio.current_time() + self._budget + since - self._clock())
        return await self._fetch(keys, cost) if known is None else known

    async def _take_behind(self, keys: tuple[str, ...], cost: int, deadline: float) -> Decision:
        """Wait for what others have gone for, so long as it is not enough, and then go."""
        with anyio.CancelScope(deadline=deadline):
            while keys in self._arrivals:
                if (known := await self._arrived(keys, cost)) is not None:
                    return known
            return await self._fetch(keys, cost, deadline)
        self._failed(TimeoutError.__name__)
        return self._without_store(Request(self._limits, keys, cost, cost))[1]

    async def _arrived(self, keys: tuple[str, ...], cost: int) -> Decision | None:
        await self._arrivals[keys].wait(cost)
        return self._known.decide(keys, cost, self._clock())

    def _fetch(self, keys: tuple[str, ...], cost: int, deadline: float = math.inf) -> Awaitable[Decision]:
        asked = Asked(keys, cost, self._clock(), self._known.forgotten, deadline)
        return self._take_lease(asked) if self._lease > cost else self._take_from_store(asked)

    async def _take_from_store(self, asked: Asked, arrival: Arrival | None = None) -> Decision:
        known = self._known  # a change of the limits replaces it, so that what they were is learned for nobody
        most = asked.cost if arrival is None else self._lease + arrival.waiting
        granted, decision = await self._ask(Request(self._limits, asked.keys, asked.cost, most), asked.deadline)
        if self._failed_at is None:
            known.learn(asked, granted, decision, arrival)
        return decision

    async def _take_lease(self, asked: Asked) -> Decision:
        arrival = self._arrivals[asked.keys] = Arrival()
        self._known.renewing(asked.keys)
        try:
            await anyio.lowlevel.checkpoint()  # so that who asks now waits for this lease too, which is made larger
            return await self._take_from_store(asked, arrival)
        finally:
            del self._arrivals[asked.keys]
            arrival.event.set()

    async def _change(self, request: Request) -> None:
        """Have the store give back or forget, and wake who waits; also a caller who leaves may have changed it."""
        try:
            await self._ask(request)
        finally:
            self._known.forget(request.keys)
        self._lines.wake()

    async def _ask(self, request: Request, deadline: float = math.inf) -> tuple[int, Decision]:
        now = self._clock()
        if self._failed_at is None or now >= self._next_try:
            self._next_try = now + RETRY
            try:
                answer = await self._coalescer.ask(request, deadline)
            except Unanswered as error:
                self._failed(str(error))
            else:
                self._answered()
                if self._policy == "local" and request.op == "take" and answer[0]:
                    self._keep_warm(request.keys, answer[0])
                return answer
        return self._without_store(request)

    def _keep_warm(self, keys: tuple[str, ...], granted: int) -> None:
        if granted == 1:  # the usual case, and the limiter's fast one
            self._local.try_acquire(keys[0] if len(keys) == 1 else keys)
        else:
            self._local.take_up_to(keys, granted)

    def _without_store(self, request: Request) -> tuple[int, Decision]:
        if self._policy == "local":
            return self._locally(request)
        limit = self._limits[0]
        if self._policy == "open":
            return request.most, Decision(True, limit, limit.burst, 0.0, 0.0)
        if not request.cost:
            return 0, Decision(True, limit, 0, 0.0, 0.0)
        names = tuple(limit.name for limit in self._limits)
        return 0, Decision(False, limit, 0, max(0.001, self._next_try - self._clock()), 0.0, names)

    def _locally(self, request: Request) -> tuple[int, Decision]:
        """Decide by this process's share, of which a cost that is larger takes all."""
        cost = min(request.cost, *(limit.burst for limit in self._local.limits))
        if request.op != "take" or not request.most:
            return 0, self._local.peek(request.keys, cost)
        if request.cost:
            decision = self._local.check(request.keys, cost)
            return request.cost if decision.allowed else 0, decision
        return self._local.take_up_to(request.keys, request.most), self._local.peek(request.keys, 0)

    def _failed(self, error: str) -> None:
        self._next_try = self._clock() + RETRY
        if self._failed_at is None:
            self._failed_at = self._clock()
            self._tell(StoreFailed(error))

    def _answered(self) -> None:
        if self._failed_at is not None:
            since, self._failed_at = self._failed_at, None
            self._tell(StoreRecovered(self._clock() - since))

    def _tell(self, event: Refusal | StoreFailed | StoreRecovered) -> None:
        if self._on_event is not None:
            self._on_event(event)
