"""One state for many processes: each counts for itself, and all open, probe and close together.

    process A ──5th failure──▶ trip ──▶ ┌───────┐ ◀── admit ── process B: "is it open?", at most once per `refresh`
                                        │ store │
    process A ◀── lease ─────── admit ─▶└───────┘ ◀── admit ── process B: refused, the probe's lease is taken

What is shared is the state, its era, the end of its cooldown, and the leases of the probes.  The windows of the rules
are not: a process opens for all by what it has seen itself.  So a call while CLOSED costs no round trip, except one
per ``refresh`` and process; a refusal while OPEN costs none; a probe costs two.

Invariants, each tested in ``tests/circuit/test_shared.py`` and, with a real server, ``test_redis.py``:

1. At most ``probe_concurrency`` leases are held at any time in all; one that is not given back expires after
   ``probe_max_wait``, by the store's clock.
2. A change is made only if the era is still the one that it was decided in; otherwise nothing happens.
3. Without the store the breaker works on as a local one (or as ``on_store_error`` says), asks again after ``refresh``,
   and takes over what it then finds.
4. No call waits for the store longer than ``timeout``, and a cancelled probe gives its lease back; only a task that
   asyncio itself (not anyio) cancels while it waits for the store leaves the lease to expire.

Manual states are a matter of one process, and end sharing until ``force("closed")``.  ``ramp`` has no effect: the other
processes could not know of it.
"""

from __future__ import annotations

import inspect
import math
import uuid
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from types import TracebackType
from typing import Any, Literal, NamedTuple, ParamSpec, Protocol, TypeAlias, TypeVar, cast

import anyio

from .breaker import CircuitBreaker, Guard
from .checks import check_seconds
from .cooldown import Opening
from .core import Core, Permit, StoreBack, StoreLost, Verdicts
from .eras import Era, Policy
from .judge import CircuitOpen
from .states import AUTOMATIC, State, Verdict

__all__ = ["Probe", "Reply", "SharedCircuitBreaker", "Store", "Terms"]

P = ParamSpec("P")
R = TypeVar("R")
OnStoreError: TypeAlias = Literal["local", "allow", "deny"]


class Terms(NamedTuple):
    """What a store must know of the configuration, times in seconds."""

    probe_concurrency: int
    probe_max_wait: float
    successes_needed: int
    failures_allowed: int


class Reply(NamedTuple):
    """The shared state after an operation: CLOSED, OPEN or HALF_OPEN.

    ``era`` is 0 when nothing is stored.  ``wait`` is how many seconds are left of OPEN's cooldown, or of the lease that
    expires first; ``reopens`` as in ``Opening``; ``leased`` says whether the lease that was asked for is granted.
    """

    era: int
    state: State
    wait: float
    reopens: int
    leased: bool = False


class Probe(NamedTuple):
    """How a leased call ended; *cooldown* and *reopens* are for the case that the circuit opens because of it."""

    era: int
    lease: str
    verdict: Verdict
    cooldown: float
    reopens: int


class Store(Protocol):
    """Where the state is kept.  Each operation is atomic, is one round trip, and may raise anything."""

    async def admit(self, name: str, terms: Terms, lease: str) -> Reply:
        """Look; when the cooldown is over begin HALF_OPEN, and there grant *lease* if a place is free."""
        ...

    async def trip(self, name: str, terms: Terms, era: int, cooldown: float, reopens: int) -> Reply:
        """Open for *cooldown* seconds, if CLOSED in *era*."""
        ...

    async def settle(self, name: str, terms: Terms, probe: Probe) -> Reply:
        """Give the lease back, and count the verdict if it was held; a failure may open, a success close."""
        ...


class SharedCircuitBreaker(CircuitBreaker):
    """A breaker whose state is kept in a store, under the name of the local breaker that it is made from.

    Args:
        local: The configuration; must have a name.  It is not to be used by itself.
        store: A ``RedisStore``, or what behaves like one.
        refresh: Seconds between two looks at the store while CLOSED, and before a failed store is asked again.
        timeout: Seconds that a call waits for the store, at most.
        on_store_error: Without the store: ``local`` decides alone, ``allow`` lets all calls pass, ``deny`` refuses all.

    Raises:
        ValueError: For a number out of range, a breaker without a name, an unknown ``on_store_error``.
        TypeError: For a store that is none.
    """

    def __init__(
        self,
        local: CircuitBreaker,
        store: Store,
        *,
        refresh: float = 1.0,
        timeout: float = 0.25,
        on_store_error: OnStoreError = "local",
    ) -> None:
        where = "SharedCircuitBreaker"
        given: Any = local
        if not isinstance(given, CircuitBreaker):
            raise TypeError(f"{where} needs a CircuitBreaker as local, got {local!r}")
        if not local.name:
            raise ValueError(f"{where} needs local to have a name, under which to share it, got {local!r}")
        operations = [getattr(store, name, None) for name in ("admit", "trip", "settle")]
        if isinstance(store, type) or not all(map(inspect.iscoroutinefunction, operations)):
            raise TypeError(f"{where} needs a store with async methods such as RedisStore(client), got {store!r}")
        if on_store_error not in ("local", "allow", "deny"):
            raise ValueError(f"{where} needs on_store_error 'local', 'allow' or 'deny', got {on_store_error!r}")
        check_seconds(where, "refresh", refresh)
        check_seconds(where, "timeout", timeout)
        self.core: Core = SharedCore(local.core, store, refresh=refresh, timeout=timeout, on_store_error=on_store_error)

    def acquire(self) -> Permit:
        """Raise TypeError: the store must be awaited."""
        raise TypeError("a shared breaker asks its store, which takes an await; use guard() or call()")

    def guard(self) -> Guard:
        """Guard a block, as ``CircuitBreaker.guard``."""
        return _SharedGuard(self.core)


class SharedCore(Core):
    """The local machine, led by the store."""

    def __init__(
        self, local: Core, store: Store, *, refresh: float, timeout: float, on_store_error: OnStoreError
    ) -> None:
        policy = replace(local.machine.policy, may_be_quick=False, ramp=0.0)
        super().__init__(policy, local.judge, local.on_event, local.clock)
        needed = policy.probes_needed
        self._terms = Terms(policy.probe_concurrency, policy.probe_max_wait, needed, policy.probes - needed)
        self._store = store
        self._refresh = refresh
        self._timeout = timeout
        self._on_store_error = on_store_error
        self._era = 0  # of the store, as last heard
        self._ask_at = self._refuse_until = -math.inf
        self._is_lost = self._has_tripped = False

    def run(
        self, judge: Verdicts, fn: Callable[P, Awaitable[R]], *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, R]:
        """As ``Core.run``, but that a refusal comes only when it is awaited."""
        return self._run(judge, fn, *args, **kwargs)

    async def _run(self, judge: Verdicts, fn: Callable[P, Awaitable[R]], *args: P.args, **kwargs: P.kwargs) -> R:
        permit = await self.enter()
        try:
            result = await fn(*args, **kwargs)
        except BaseException as error:
            permit.settle(judge.error(error), error)
            await self.leave(permit)
            raise
        permit.settle(judge.result(result))
        await self.leave(permit)
        return result

    def wait(self, era: Era) -> float | None:  # noqa: ARG002  # only the store knows, or that it is gone
        """Return None: ``enter`` must be asked."""
        return None

    async def enter(self) -> Permit:
        """Admit a call, or raise CircuitOpen."""
        now = self.clock()
        if self._must_ask(now):
            lease = uuid.uuid4().hex
            reply = await self._ask(self._store.admit, lease)
            self._adopt(reply)
            if reply and reply.leased:
                return _Lease(self, reply, lease)
            if reply and reply.state is State.HALF_OPEN:
                self._refuse_until = self.clock() + min(reply.wait, self._refresh)
        era = self.machine.era
        if era.state not in AUTOMATIC:
            return self.acquire()
        if self._is_lost and self._on_store_error != "local":
            return self._without_store()
        if era.state is State.OPEN and not self._is_lost:
            raise self._refusal(era, now) from None
        return self.acquire()

    async def leave(self, permit: Permit) -> None:
        """Tell the store what it must know of a call that has been settled."""
        if isinstance(permit, _Lease):
            self._adopt(await self._ask(self._store.settle, permit.report(self.machine.policy)))
        elif self._has_tripped:
            self._has_tripped = False
            await self._ask(self._store.trip, self._era, self._left(), self.machine.reopens)

    def settle(self, era: Era, verdict: Verdict, elapsed: float, error: BaseException | None = None) -> None:
        """As ``Core.settle``, remembering that the store must be told if that opened the circuit."""
        before = self.machine.era
        super().settle(era, verdict, elapsed, error)
        if self.machine.era is not before and self.machine.era.state is State.OPEN:
            self._has_tripped = True

    def _must_ask(self, now: float) -> bool:
        era = self.machine.era
        if era.state not in AUTOMATIC or (self._is_lost and now < self._ask_at):
            return False
        if era.state is State.OPEN:
            return era.wait(now) is None and now >= self._refuse_until
        return now >= self._ask_at

    def _refusal(self, era: Era, now: float) -> CircuitOpen:
        """Make the refusal of an OPEN that is not over, or that is HALF_OPEN in the store.

        By the time at which it was decided that the store need not be asked: a moment later ``acquire`` might find the
        cooldown over, and let a probe through to which the store has lent no place.
        """
        wait = era.wait(now)
        if wait is None:
            return self.refusal(State.HALF_OPEN, self._refuse_until - now)
        return self.refusal(State.OPEN, wait)

    def _left(self) -> float:
        """Return the seconds that are left of OPEN, 0 in another state."""
        return self.machine.era.wait(self.clock()) or 0.0

    async def _ask(self, operation: Callable[..., Awaitable[Reply]], *arguments: Any) -> Reply | None:
        """Return the store's reply; None if there is none.

        Shielded, because a lease that was granted must be known to be given back; and so never longer than the timeout.
        """
        self._ask_at = self.clock() + self._refresh
        error: type[Exception] = TimeoutError
        reply = None
        with anyio.move_on_after(self._timeout, shield=True):
            try:
                reply = await operation(self.machine.policy.name, self._terms, *arguments)
            except Exception as failure:  # noqa: BLE001  # of whatever client the store has
                error = type(failure)
        self._note(None if reply else error)
        if reply:
            self._era = reply.era
        return reply

    def _note(self, error: type[Exception] | None) -> None:
        name, was_lost, self._is_lost = self.machine.policy.name, self._is_lost, error is not None
        if error and not was_lost:
            self.tell(StoreLost(name, error.__name__))
        if was_lost and not error:
            self.tell(StoreBack(name))

    def _adopt(self, reply: Reply | None) -> None:
        """Follow the store; its HALF_OPEN is an OPEN here that is over, so that each call asks for a lease."""
        state = self.machine.era.state
        if reply is None or state not in AUTOMATIC:
            return
        cooldown = reply.wait if reply.state is State.OPEN else 0.0
        if reply.state is State.CLOSED:
            if state is not State.CLOSED:
                self.fire("store_closed")
        elif state is not State.OPEN or cooldown > self._left():
            self.fire("store_opened", cooldown)
        self.machine.reopens = reply.reopens

    def _without_store(self) -> Permit:
        if self._on_store_error == "deny":
            raise self.refusal(self.machine.era.state, max(self._ask_at - self.clock(), 0.0)) from None
        return Permit(self, None, self.clock())


_End: TypeAlias = tuple[Verdict, BaseException | None]
_IGNORED: _End = ("ignored", None)


class _Lease(Permit):
    """A probe's permit: what becomes of it is for the store."""

    __slots__ = ("_lease", "_reply", "_settled")

    def __init__(self, core: SharedCore, reply: Reply, lease: str) -> None:
        super().__init__(core, None, core.clock())
        self._reply = reply
        self._lease = lease
        self._settled: _End | None = None

    def settle(self, verdict: Verdict, error: BaseException | None = None) -> None:
        """Remember the first verdict until the store is told; a slow probe is a failed one."""
        if self._settled is None:
            is_slow = self._core.clock() - self._began >= self._core.slow_after
            found: Verdict = "failure" if verdict == "success" and is_slow else verdict
            self._settled = found, error

    def report(self, policy: Policy) -> Probe:
        """Return what the store must know."""
        (verdict, error), self._settled = self._settled or _IGNORED, _IGNORED  # the error is not to be kept
        cooldown = policy.cooldown(Opening(self._reply.reopens, error)) if verdict == "failure" else 0.0
        return Probe(self._reply.era, self._lease, verdict, cooldown, self._reply.reopens + 1)


class _SharedGuard(Guard):
    """A block that the store knows of."""

    __slots__ = ()

    async def _enter(self) -> Permit:
        return await self._shared.enter()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._settle(error)
        await self._shared.leave(self._permit)

    @property
    def _shared(self) -> SharedCore:
        return cast("SharedCore", self._core)
