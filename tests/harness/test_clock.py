"""Virtual time is exact, the same on both backends, and honest about what it cannot skip."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
import trio
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests.support import waiting
from tests.support.clock import Deadlock, VirtualClock, run, settle
from tests.support.virtual_asyncio import VirtualLoop

BACKENDS = ["asyncio", "trio"]
DAY = 86_400.0


async def test_every_backend_runs_async_tests(request: pytest.FixtureRequest) -> None:
    """A test without a clock runs on the real loop too, and each name means what it says."""
    loop = "trio" if trio.lowlevel.in_trio_task() else type(asyncio.get_running_loop()).__module__
    modules = {"asyncio": "tests.support.virtual_asyncio", "trio": "trio", "uvloop": "uvloop"}
    assert loop == modules[request.node.callspec.params["anyio_backend"]]


@pytest.mark.xfail(raises=Deadlock, strict=True)
async def test_pytest_reports_a_deadlock(clock: VirtualClock) -> None:
    """The guard is around every async test, not only around run()."""
    await anyio.Event().wait()


@pytest.mark.xfail(raises=Deadlock, strict=True)
@settings(max_examples=1, phases=[Phase.generate])  # it fails on purpose: there is nothing to shrink or to explain
@given(number=st.integers())
async def test_pytest_reports_a_deadlock_in_a_property(clock: VirtualClock, number: int) -> None:
    """Hypothesis calls the test by itself, and the guard is there too."""
    await anyio.Event().wait()


@pytest.mark.xfail(raises=AssertionError, strict=True)
@pytest.mark.parametrize("anyio_backend", ["asyncio", "uvloop"], indirect=True)
async def test_pytest_reports_a_task_left_behind() -> None:
    """Real loops are checked as well."""
    test_pytest_reports_a_task_left_behind.task = asyncio.create_task(asyncio.sleep(60))


async def test_a_day_passes_at_once(clock: VirtualClock) -> None:
    """Sleeping takes no real time (so uvloop is left out), and the clock shows exactly what was slept."""
    began = time.monotonic()
    await anyio.sleep(DAY)
    assert clock() == anyio.current_time() == DAY
    assert time.monotonic() - began < 1


async def test_timeouts_are_exact(clock: VirtualClock) -> None:
    """A timeout fires at its second, not near it."""
    with anyio.move_on_after(0.1) as scope:
        await anyio.sleep(5)
    assert scope.cancelled_caught
    assert clock() == 0.1


async def test_advance_runs_what_is_due(clock: VirtualClock) -> None:
    """After advance(1) a task that was due at 1 has run, and time has not moved further."""
    ran = []

    async def later() -> None:
        await anyio.sleep(1)
        ran.append(clock())
        await anyio.sleep(1)

    async with anyio.create_task_group() as tg:
        tg.start_soon(later)
        await settle()
        await clock.advance(1)
        assert ran == [1.0]
        assert clock() == 1.0


async def test_settle_moves_no_time(clock: VirtualClock) -> None:
    """settle() waits for tasks that take several steps, without a sleep in between."""
    steps = []

    async def several_steps() -> None:
        for step in range(10):
            steps.append(step)
            await anyio.lowlevel.checkpoint()
        await anyio.sleep(1)

    async with anyio.create_task_group() as tg:
        tg.start_soon(several_steps)
        await settle()
        assert len(steps) == 10
        assert clock() == 0


def test_traces_are_the_same_on_both_backends() -> None:
    """Tasks with unequal sleeps wake at the same times in the same order on asyncio and trio."""

    async def trace() -> list[tuple[float, int]]:
        seen: list[tuple[float, int]] = []

        async def sleeper(number: int) -> None:
            for turn in range(10):
                await anyio.sleep(0.1 + number / 997 + turn / 89)
                seen.append((anyio.current_time(), number))

        async with anyio.create_task_group() as tg:
            for number in range(50):
                tg.start_soon(sleeper, number)
        return seen

    assert run(trace, backend="asyncio") == run(trace, backend="trio")


@pytest.mark.parametrize("backend", BACKENDS)
def test_deadlock_names_the_place(backend: str) -> None:
    """A task that waits for an event nobody sets is reported with its line, and the test's clean-up still runs."""
    cleaned = []

    async def waits_for_ever() -> None:
        try:
            await anyio.Event().wait()
        finally:
            cleaned.append(True)

    with pytest.raises(Deadlock, match=r"test_clock\.py:\d+ in waits_for_ever"):
        run(waits_for_ever, backend=backend)
    assert cleaned


@pytest.mark.parametrize("backend", BACKENDS)
def test_deadlock_in_a_child_task(backend: str) -> None:
    """Two tasks that wait for each other are both named."""

    async def crossed() -> None:
        first, second = anyio.Event(), anyio.Event()

        async def left() -> None:
            await first.wait()
            second.set()

        async def right() -> None:
            await second.wait()
            first.set()

        async with anyio.create_task_group() as tg:
            tg.start_soon(left)
            tg.start_soon(right)

    with pytest.raises(Deadlock, match="in left") as caught:
        run(crossed, backend=backend)
    assert "in right" in str(caught.value)


@pytest.mark.parametrize("backend", BACKENDS)
def test_deadlock_behind_a_shield(backend: str) -> None:
    """A shield cannot turn a deadlock into a test run that hangs."""

    async def shielded() -> None:
        with anyio.CancelScope(shield=True):
            await anyio.Event().wait()

    with pytest.raises(Deadlock, match="in shielded"):
        run(shielded, backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_deadlock_that_swallows_its_cancellation(backend: str) -> None:
    """A test that comes back from a deadlock still fails."""

    async def swallows() -> None:
        with anyio.move_on_after(float("inf")):
            try:
                await anyio.Event().wait()
            except BaseException:  # noqa: BLE001  # as a careless program would
                return

    with pytest.raises(Deadlock):
        run(swallows, backend=backend)


def test_thread_that_ends_between_two_looks_is_heard() -> None:
    """Its wake-up came after the loop had looked for one, and its end before the loop looked for threads."""

    class Loop(VirtualLoop):
        last_words: Callable[[], object] | None = None

        def _is_awaited_outside(self) -> bool:
            if self.last_words is not None:
                self.call_soon_threadsafe(self.last_words)
                self.last_words = None
            return False

    async def waits() -> None:
        event = asyncio.Event()
        loop = asyncio.get_running_loop()
        assert isinstance(loop, Loop)
        loop.last_words = event.set
        await event.wait()
        assert loop.time() == 0

    run(waits, loop=Loop)


@pytest.mark.parametrize("backend", BACKENDS)
def test_runaway_time_ends(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A heartbeat keeps the clock moving for ever; that is a deadlock too."""
    for module in ("virtual_asyncio", "virtual_trio"):
        monkeypatch.setattr(f"tests.support.{module}.MAX_JUMPS", 1000)

    async def heartbeat() -> None:
        while True:
            await anyio.sleep(1)

    with pytest.raises(Deadlock, match="jumped 1000 times"):
        run(heartbeat, backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_standing_time_ends(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that is always ready keeps the clock where it is for ever; cancelling it ends the test."""
    for module in ("virtual_asyncio", "virtual_trio"):
        monkeypatch.setattr(f"tests.support.{module}.MAX_TURNS", 1000)

    async def spins() -> None:
        await anyio.sleep(1)
        while True:
            await anyio.lowlevel.checkpoint()

    with pytest.raises(Deadlock, match=r"livelock: 1000 turns of the loop at 1\.0 s"):
        run(spins, backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_patience_with_the_outside_ends(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket that stays silent is a deadlock after PATIENCE real seconds."""
    monkeypatch.setattr(waiting, "PATIENCE", 0.1)

    async def listens() -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            await anyio.wait_readable(ours)

    with pytest.raises(Deadlock, match="for a thread or a socket"):
        run(listens, backend=backend)


async def test_time_stands_still_while_a_thread_runs(clock: VirtualClock) -> None:
    """A worker thread finishes before a timer that is due later on a real watch."""
    with anyio.move_on_after(30) as scope:
        await anyio.to_thread.run_sync(time.sleep, 0.05)
    assert not scope.cancelled_caught
    assert clock() == 0
    await anyio.sleep(DAY)  # the thread is idle now: time jumps again
    assert clock() == DAY


async def test_a_timer_may_come_first(clock: VirtualClock) -> None:
    """A timer due before the thread ends fires at its exact time."""
    with anyio.move_on_after(0.02):
        await anyio.to_thread.run_sync(time.sleep, 0.3, abandon_on_cancel=True)
    assert clock() == 0.02


async def test_time_stands_still_while_a_socket_is_awaited(clock: VirtualClock) -> None:
    """Bytes that arrive after some real time beat a later timer."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        timer = threading.Timer(0.05, theirs.send, [b"x"])
        timer.start()
        with anyio.fail_after(30):
            await anyio.wait_readable(ours)
        timer.join()
    assert clock() == 0


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
@pytest.mark.parametrize("wait", [asyncio.to_thread, lambda *a: asyncio.get_running_loop().run_in_executor(None, *a)])
async def test_executors_are_awaited_for_real(clock: VirtualClock, wait: Callable[..., object]) -> None:
    """asyncio's own threads count as outside work, also without any timer."""
    await wait(time.sleep, 0.05)
    assert clock() == 0


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_chatter_does_not_starve_a_timer(clock: VirtualClock) -> None:
    """A socket with endless traffic cannot keep a timeout from firing."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.send(b"x")
        with anyio.move_on_after(0.1) as scope:
            while True:
                await anyio.wait_readable(ours)
                await anyio.to_thread.run_sync(time.sleep, 0.01)
    assert scope.cancelled_caught


def test_debug_mode() -> None:
    """asyncio's debug mode sees no slow callbacks and no wrong thread."""

    async def sleeps() -> float:
        await anyio.sleep(DAY)
        return anyio.current_time()

    assert run(sleeps, debug=True) == DAY


def test_a_task_left_behind_fails_the_test() -> None:
    """A background task that outlives its test is named."""

    async def leaks() -> None:
        leaks.task = asyncio.create_task(asyncio.sleep(5), name="stray")

    with pytest.raises(AssertionError, match="stray at"):
        run(leaks)


@pytest.mark.parametrize("anyio_backend", ["asyncio", "uvloop"], indirect=True)
async def test_a_task_cancelled_last_is_no_leak() -> None:
    """Cancelling without awaiting is fine as long as the task ends."""
    task = asyncio.create_task(asyncio.sleep(5))
    await asyncio.sleep(0)
    task.cancel()


@settings(max_examples=5)
@given(seconds=st.floats(0, 1e6))
async def test_each_example_of_a_property_starts_at_zero(clock: VirtualClock, seconds: float) -> None:
    """Hypothesis runs many examples in one test; each has its own time."""
    assert clock() == 0
    await anyio.sleep(seconds)
    assert clock() == seconds
