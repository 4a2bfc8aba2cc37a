"""The cancellation sweep finds what is lost when a task is cancelled, and says where."""

from __future__ import annotations

import asyncio
from collections import deque

import anyio
import pytest

from tests.support.clock import Deadlock
from tests.support.sweep import WAYS, SweepFailed, Victim, sweep


class Semaphore:
    """One permit, handed to the first waiter when it is given back."""

    def __init__(self) -> None:
        self.free = 1
        self.waiters: deque[anyio.Event] = deque()

    async def acquire(self) -> None:
        if self.free:
            self.free -= 1
            return
        turn = anyio.Event()
        self.waiters.append(turn)
        try:
            await turn.wait()
        except BaseException:
            self.abandon(turn)
            raise

    def abandon(self, turn: anyio.Event) -> None:
        if turn.is_set():
            self.release()
        else:
            self.waiters.remove(turn)

    def release(self) -> None:
        if self.waiters:
            self.waiters.popleft().set()
        else:
            self.free += 1

    async def use(self) -> None:
        await self.acquire()
        try:
            await anyio.sleep(1)
        finally:
            self.release()


class LosesPermit(Semaphore):
    """Forgets that the permit may be its own already."""

    def abandon(self, turn: anyio.Event) -> None:
        if turn in self.waiters:
            self.waiters.remove(turn)


class StaysInLine(Semaphore):
    """Leaves a dead waiter behind, which is then given the permit."""

    def abandon(self, turn: anyio.Event) -> None:
        pass


async def contend(semaphore: Semaphore, victim: Victim) -> Semaphore:
    async with anyio.create_task_group() as tg:
        tg.start_soon(semaphore.use)
        await anyio.lowlevel.checkpoint()
        tg.start_soon(victim, semaphore.use)
    return semaphore


def all_given_back(semaphore: Semaphore) -> bool:
    return semaphore.free == 1 and not semaphore.waiters


def test_the_correct_semaphore_passes() -> None:
    """Every way and both backends, with the wait for the turn and the use of it as checkpoints."""
    counts = sweep(lambda victim: contend(Semaphore(), victim), all_given_back)
    assert set(counts) == set(WAYS)
    assert set(counts.values()) == {2}


def test_a_permit_lost_at_hand_over() -> None:
    """Only a cancellation that meets the wake-up shows this one; plain cancellation does not."""
    sweep(lambda victim: contend(LosesPermit(), victim), all_given_back, ways=(("asyncio", "scope"), ("trio", "scope")))
    with pytest.raises(SweepFailed, match=r"asyncio, handover: .* checkpoint 1, .*test_sweep\.py:\d+ in acquire"):
        sweep(lambda victim: contend(LosesPermit(), victim), all_given_back)


@pytest.mark.parametrize("way", WAYS[:2] + WAYS[3:4])
def test_a_dead_waiter(way: tuple[str, str]) -> None:
    """A waiter that stays in line after its cancellation is found by each plain way."""
    with pytest.raises(SweepFailed, match="struck at checkpoint 1"):
        sweep(lambda victim: contend(StaysInLine(), victim), all_given_back, ways=(way,))


@pytest.mark.parametrize("way", WAYS)
def test_a_wake_up_lost_with_its_leader(way: tuple[str, str]) -> None:
    """Followers of a cancelled leader wait for ever: the deadlock is reported with the strike that caused it."""

    async def follow_a_leader(victim: Victim) -> None:
        done = anyio.Event()

        async def lead() -> None:
            await anyio.sleep(1)
            await anyio.sleep(1)
            done.set()

        async with anyio.create_task_group() as tg:
            tg.start_soon(done.wait)
            tg.start_soon(victim, lead)

    with pytest.raises(SweepFailed, match=rf"{way[0]}, {way[1]}: .* checkpoint 1, .* in lead: Deadlock") as caught:
        sweep(follow_a_leader, ways=(way,))
    assert isinstance(caught.value.__cause__, Deadlock)


def test_each_checkpoint_is_struck_once() -> None:
    """The sweep goes on behind a checkpoint that survives, and ends with a run that is not struck."""
    interrupted = []

    async def three_steps(victim: Victim) -> Victim:
        async def steps() -> str:
            for step in range(3):
                try:
                    await anyio.sleep(1)
                except BaseException:
                    interrupted.append(step)
                    raise
            return "done"

        victim.result = await victim(steps)
        return victim

    def ended_one_way(victim: Victim) -> None:
        assert victim.cancelled == (victim.struck_at is not None)
        assert victim.result == (None if victim.cancelled else "done")

    for way in (("asyncio", "scope"), ("asyncio", "task"), ("asyncio", "handover"), ("trio", "scope")):
        interrupted.clear()
        assert sweep(three_steps, ended_one_way, ways=(way,)) == {way: 3}
        assert interrupted == [0, 1, 2]


def test_a_shielded_checkpoint_counts() -> None:
    """A cancellation inside a shield comes out behind it."""

    async def shielded(victim: Victim) -> Victim:
        async def steps() -> None:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(1)
            await anyio.sleep(1)

        await victim(steps)
        return victim

    sweep(shielded, lambda victim: victim.cancelled or not victim.struck_at, ways=(WAYS[0], WAYS[3], WAYS[4]))


def test_bare_yields_are_struck() -> None:
    """asyncio.sleep(0) suspends without a future."""

    async def yields(victim: Victim) -> Victim:
        await victim(asyncio.sleep, 0)
        return victim

    sweep(yields, lambda victim: victim.cancelled or not victim.struck_at, ways=WAYS[:3])


def test_the_victims_own_failure_is_no_group() -> None:
    """An exception of the victim reaches the scenario as itself, so that it can be expected there."""

    async def fails(victim: Victim) -> None:
        async def raises() -> None:
            await anyio.sleep(1)
            raise LookupError

        try:
            await victim(raises)
        except LookupError:
            assert not victim.cancelled
        else:
            assert victim.cancelled

    sweep(fails)


def test_async_checks_run() -> None:
    """A check may wait, and its failure counts."""

    async def naps(victim: Victim) -> None:
        await victim(anyio.sleep, 1)

    async def refuses(_: object) -> bool:
        await anyio.sleep(1)
        return False

    with pytest.raises(SweepFailed, match="the check refuses None"):
        sweep(naps, refuses)


def test_nothing_to_strike_is_an_error() -> None:
    """A scenario without a checkpoint, or without a victim, would pass whatever the code does."""

    async def no_checkpoint(victim: Victim) -> None:
        async def immediate() -> None: ...

        await victim(immediate)

    async def no_victim(victim: Victim) -> None:
        await anyio.sleep(1)

    for scenario in (no_checkpoint, no_victim):
        with pytest.raises(ValueError, match="no checkpoint"):
            sweep(scenario)


def test_an_endless_victim_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A victim with more checkpoints than LIMIT gets no endless sweep."""
    monkeypatch.setattr("tests.support.sweep.LIMIT", 5)

    async def many(victim: Victim) -> None:
        async def naps() -> None:
            for _ in range(10):
                await anyio.sleep(1)

        await victim(naps)

    with pytest.raises(ValueError, match="still runs after 5"):
        sweep(many)
