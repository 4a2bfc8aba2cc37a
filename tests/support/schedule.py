"""Run one async test under many task orders, each from a seed.

asyncio wakes tasks first come, first served, so a plain test sees one order of many, and a race waits for production.
``ShuffledLoop`` draws another: of the task steps that are ready in a turn of the loop, some are put off to the next
turn, and the rest run in random order. Both may happen to any program, whose tasks might as well have awaited once
more. Callbacks that are no task steps keep their order, which asyncio promises.
"""

from __future__ import annotations

import asyncio
import functools
import random
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from tests.support.clock import run
from tests.support.virtual_asyncio import VirtualLoop

__all__ = ["ScheduleFailed", "ShuffledLoop", "run_shuffled"]

T = TypeVar("T")
PUT_OFF = 0.25  # of the steps: enough to cross tasks that are a few awaits apart, rarely starving one


class ScheduleFailed(AssertionError):
    """A test failed under one seed, which is in the message; the failure itself is the ``__cause__``."""


class ShuffledLoop(VirtualLoop):
    """A virtual loop with a task order of its own for each *seed*."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._random = random.Random(seed)

    def _run_once(self) -> None:
        later = self._shuffle() if len(self._ready) > 1 else []
        super()._run_once()
        self._ready.extendleft(reversed(later))

    def _shuffle(self) -> list[asyncio.Handle]:
        ready = list(self._ready)
        places = [place for place, handle in enumerate(ready) if _is_step(handle)]
        for place, other in zip(places, self._random.sample(places, len(places)), strict=True):
            ready[place] = self._ready[other]
        later = {place for place in places[1:] if self._random.random() < PUT_OFF}
        self._ready.clear()
        self._ready.extend(handle for place, handle in enumerate(ready) if place not in later)
        return [ready[place] for place in sorted(later)]


def run_shuffled(fn: Callable[[], Awaitable[T]], *, seeds: Iterable[int] = range(20)) -> list[T]:
    """Run ``fn()`` once a seed, each in fresh virtual time on asyncio; the results, in the order of *seeds*.

    State that is checked belongs inside *fn*, and ``anyio.current_time`` is its clock. Raises ScheduleFailed, which
    names the seed; ``seeds=[N]`` then runs that order again.
    """
    results = []
    for seed in seeds:
        try:
            results.append(run(fn, loop=functools.partial(ShuffledLoop, seed)))
        except Exception as error:
            raise ScheduleFailed(f"fails under seed={seed} (run it alone with seeds=[{seed}]): {error!r}") from error
    if not results:
        raise ValueError("run_shuffled needs at least one seed")
    return results


def _is_step(handle: asyncio.Handle) -> bool:
    return isinstance(getattr(handle._callback, "__self__", None), asyncio.Task)
