"""The cache against a dictionary: calls, failures, hangs, cancellations, invalidations and passing time, in any order.

The model is a dictionary of what may be served, with the moment at which each value ends. Values are numbers, in the
order in which their computations began; an invalidation that has returned leaves a mark, a number, at each key that it
concerns. So "nobody is served what is older than the last completed invalidation" is a comparison of two numbers.

Between two steps of the machine, time and tasks stand still, wherever they are.
"""

from __future__ import annotations

import fnmatch
import itertools
import math
import queue
import threading
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial

import anyio
import anyio.lowlevel
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from mcp_cache import Cache, Left

from tests.support.clock import run, settle

TTL, IDLE, WINDOW, MAXSIZE = 10.0, 6.0, 5.0, 2
KEYS = ("a", "ab", "b")
MATCHES = {
    "key": lambda what, key: what == key,
    "tag": lambda what, key: what in {"all", key},
    "prefix": lambda what, key: key.startswith(what),
    "glob": lambda what, key: fnmatch.fnmatchcase(key, what),
    "where": lambda what, key: what(key),
}
HOW = [("key", "a"), ("tag", "all"), ("tag", "a"), ("prefix", "a"), ("glob", "?"), ("where", lambda key: key != "b")]
PATIENCE = 10  # seconds of real time for one step


@dataclass
class Kept:
    """What the dictionary holds under a key."""

    number: int
    failed: bool
    ends: float
    idles: float


@dataclass
class Model:
    """What may be served, and what is being computed."""

    options: dict
    remembers: bool
    now: float = 0.0
    numbers: itertools.count = field(default_factory=lambda: itertools.count(1))
    mark: dict = field(default_factory=lambda: dict.fromkeys(KEYS, 0))
    kept: dict = field(default_factory=dict)
    flights: dict = field(default_factory=dict)
    computing: set = field(default_factory=set)
    ended: dict = field(default_factory=dict)

    def begin(self, key):
        assert key not in self.flights, "two compute the same at once"
        number = self.flights[key] = next(self.numbers)
        self.computing.add(number)
        return number

    def end(self, key, number, outcome):
        """A computation has ended; what was invalidated meanwhile is not kept, nor what failed, unless it shall be."""
        self.computing.remove(number)
        self.ended[number] = self.now
        is_wanted = outcome == "succeeds" or (outcome == "fails" and self.remembers and not self.is_fallback(key))
        if self.flights.get(key) == number:
            del self.flights[key]
            if is_wanted and number > self.mark[key]:
                self.keep(key, number, failed=outcome == "fails")

    def keep(self, key, number, *, failed=False):
        self.ended[number] = self.now
        self.kept[key] = Kept(number, failed, self.now + TTL, self.now + self.options["idle"])

    def is_fallback(self, key):
        kept = self.kept.get(key)
        return kept is not None and self.is_stale(kept, self.options["stale_if_error"])

    def is_stale(self, kept, window):
        """Say whether it may be served after its time: not if it is a failure, or ended because nobody had asked."""
        return window > 0 and not kept.failed and kept.ends <= kept.idles and self.now < kept.ends + window

    def fresh(self, key):
        kept = self.kept.get(key)
        return kept if kept is not None and self.now < min(kept.ends, kept.idles) else None

    @property
    def windows(self):
        return self.options["stale_while_revalidate"], self.options["stale_if_error"]

    def touch(self, kept):
        kept.idles = self.now + self.options["idle"]

    def invalidate(self, keys, *, lands=True):
        """An invalidation has returned; by tag, what is being computed goes on, and is thrown away in the end."""
        mark = next(self.numbers)
        for key in keys:
            self.mark[key] = mark
            self.kept.pop(key, None)
            if lands:
                self.flights.pop(key, None)


class Loop:
    """An event loop in virtual time, in a thread of its own, that stands still but for the steps it is told to do."""

    def __init__(self, backend, around):
        self._around = around
        self._steps, self._done = queue.SimpleQueue(), queue.SimpleQueue()
        threading.Thread(target=self._run, args=(backend,), daemon=True).start()

    def do(self, step, *args):
        """Return what the async function *step* returns, or raise what it or any task has raised."""
        self._steps.put(partial(step, *args))
        result, error = self._done.get(timeout=PATIENCE)
        if error is not None:
            raise error
        return result

    def stop(self):
        self._steps.put(None)
        _, error = self._done.get(timeout=PATIENCE)
        if error is not None:
            raise error

    def _run(self, backend):
        error = None
        try:
            run(self._serve, backend=backend)
        except BaseException as caught:  # noqa: BLE001  # raised in the other thread
            error = caught
        self._done.put((None, error))

    async def _serve(self):
        async with self._around, anyio.create_task_group() as self.tasks:
            while (step := self._steps.get()) is not None:
                self._done.put((await step(), None))


class Caller:
    """One who asks for *key*, until cancelled."""

    def __init__(self, machine, key, seconds, outcome):
        self.cache, self.model, self.pending = machine.cache, machine.model, machine.pending
        self.key, self.seconds, self.outcome = key, seconds, outcome
        self.scope, self.own, self.is_cancelled = anyio.CancelScope(), [], False

    async def run(self):
        model, key = self.model, self.key
        began, mark, kept, expected = model.now, model.mark[key], model.kept.get(key), model.fresh(key)
        if expected is not None:
            model.touch(expected)
        with self.scope:
            number, failed = await self._answer()
            assert number > mark or number in self.own, "older than an invalidation that had returned before the call"
            assert expected is None or (expected.number, expected.failed, began) == (number, failed, model.now)
            if expected is None and kept is not None and number == kept.number:
                assert model.is_stale(kept, max(model.windows)), "after its time"
            assert model.now - model.ended[number] < TTL + max(model.windows), "long after its time"
        assert self.is_cancelled or not self.scope.cancelled_caught, "somebody else's cancellation"
        self.pending.remove(self)

    async def _answer(self):
        try:
            value = await self.cache.get_or_compute(self.key, self._compute, tags=("all", self.key))
        except LookupError as error:
            (number,) = error.args[0]
            error.args[0].append("seen")
            return number, True
        (number,) = value
        if self.cache.isolation == "copy":
            value.append("seen")
        return number, False

    async def _compute(self):
        number, outcome = self.model.begin(self.key), "cancelled"
        self.own.append(number)
        try:
            await anyio.sleep(math.inf if self.outcome == "hangs" else self.seconds)
            outcome = self.outcome
        finally:
            self.model.end(self.key, number, outcome)
        if outcome == "fails":
            raise LookupError([number])
        return [number]

    @property
    def waits_for_somebody(self):
        return self.key in self.model.flights or bool(self.own and self.own[-1] in self.model.computing)


class Cached(RuleBasedStateMachine):
    """Any sequence of steps, after each of which the cache holds what the dictionary holds."""

    backend = "asyncio"

    @initialize(
        policy=st.sampled_from(["adaptive", "lru", "s3fifo", "tinylfu"]),
        isolation=st.sampled_from(["share", "copy"]),
        remembers=st.booleans(),
        idle=st.sampled_from([math.inf, IDLE]),
        windows=st.tuples(st.sampled_from([0, WINDOW]), st.sampled_from([0, WINDOW])),
        opened=st.booleans(),
    )
    def build(self, *, policy, isolation, remembers, idle, windows, opened):
        options = {
            "negative_ttl": {LookupError: TTL} if remembers else {},
            "idle": idle,
            "stale_while_revalidate": windows[0],
            "stale_if_error": windows[1],
        }
        self.model, self.pending = Model(options, remembers), []
        self.cache = Cache(
            maxsize=MAXSIZE,
            ttl=TTL,
            policy=policy,
            isolation=isolation,
            clock=lambda: self.model.now,
            on_event=self.heard,
            **options,
        )
        self.loop = Loop(self.backend, self.cache if opened else nullcontext())

    def heard(self, event):
        """Which entries have to go is the policy's business."""
        if isinstance(event, Left) and event.reason == "evicted":
            self.model.kept.pop(event.key, None)

    @rule(
        key=st.sampled_from(["a", *KEYS]),  # one of them often, so that much happens to it
        seconds=st.sampled_from([0.0, 1.0, 3.0]),
        outcome=st.sampled_from(["succeeds", "succeeds", "succeeds", "fails", "hangs"]),
        turns=st.integers(0, 3),
    )
    def call(self, key, seconds, outcome, turns):
        async def step():
            caller = Caller(self, key, seconds, outcome)
            self.pending.append(caller)
            self.loop.tasks.start_soon(caller.run)
            await take(turns)

        self.loop.do(step)

    @precondition(lambda self: self.pending)
    @rule(data=st.data(), turns=st.integers(0, 3))
    def cancel(self, data, turns):
        caller = data.draw(st.sampled_from(self.pending))

        async def step():
            caller.is_cancelled = True
            caller.scope.cancel()
            await take(turns)

        self.loop.do(step)

    @rule(seconds=st.sampled_from([0.5, 1.0, 3.0, 7.0]))
    def wait(self, seconds):
        async def step():
            end = anyio.current_time() + seconds
            await settle()
            while anyio.current_time() < end:
                await self.pass_time(min(0.5, end - anyio.current_time()))
            return [caller for caller in self.pending if not caller.waits_for_somebody]

        assert not self.loop.do(step), "they wait for nobody"

    async def pass_time(self, seconds):
        self.model.now += seconds
        await anyio.sleep(seconds)
        await settle()

    @rule(keys=st.sampled_from([*KEYS, KEYS]))
    def get(self, keys):
        if keys == KEYS:
            assert self.read(lambda: self.cache.get_many(KEYS)) == self.expected(KEYS, lambda found: found)
        else:
            assert self.read(lambda: self.cache.get(keys)) == self.expected([keys], lambda found: found.get(keys))

    def read(self, ask):
        async def step():
            try:
                return await ask()
            except LookupError as error:
                return error.args[0]

        return self.loop.do(step)

    def expected(self, keys, answer):
        """Return what is fresh under the *keys*, or what the first failure among them carries."""
        found = {}
        for key in keys:
            kept = self.model.fresh(key)
            if kept is not None:
                self.model.touch(kept)
                found[key] = [kept.number]
                if kept.failed:
                    return found[key]
        return answer(found)

    @rule(key=st.sampled_from(KEYS))
    def set(self, key):
        self.model.invalidate([key])
        number = next(self.model.numbers)
        self.model.keep(key, number)
        self.loop.do(partial(self.cache.set, key, [number], tags=("all", key)))

    @rule(how=st.sampled_from(HOW))
    def invalidate(self, how):
        by, what = how
        forget = partial(self.cache.delete, what) if by == "key" else partial(self.cache.invalidate, **{by: what})
        self.loop.do(forget)
        self.model.invalidate([key for key in KEYS if MATCHES[by](what, key)], lands=by != "tag")

    @invariant()
    def same(self):
        async def step():
            return {key: self.cache.explain(key).state for key in KEYS}, self.cache.statistics().entries

        states, entries = self.loop.do(step)
        assert entries <= MAXSIZE
        for key, state in states.items():
            kept = self.model.fresh(key)
            assert (state in {"fresh", "failure"}) == (kept is not None), f"{key} is {state}"
            assert kept is None or (state == "failure") == kept.failed

    def teardown(self):
        """When everybody has left, nothing is left behind."""

        async def step():
            for caller in self.pending:
                caller.is_cancelled = True
                caller.scope.cancel()
            await settle()

        self.loop.do(step)
        self.loop.stop()
        assert not self.pending
        assert not self.cache._space.flights
        assert not self.cache._engine.refreshing


class CachedOnTrio(Cached):
    """The same."""

    backend = "trio"


async def take(turns):
    """Let others run, but not until all of them wait: what follows comes at any moment."""
    for _ in range(turns):
        await anyio.lowlevel.checkpoint()


TestOnAsyncio, TestOnTrio = Cached.TestCase, CachedOnTrio.TestCase
TestOnAsyncio.settings = TestOnTrio.settings = settings(max_examples=150, stateful_step_count=40)
