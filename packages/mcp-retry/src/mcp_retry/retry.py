"""Retry what may succeed the next time, without ever making an outage worse.

    attempt ──ok──▶ result
      │ fails
      ▼
    worth it, and attempts, time and budget left? ──no──▶ the failure itself, unchanged, with a note for each attempt
      │ yes
      ▼
    sleep (backoff, jitter, Retry-After) ──▶ next attempt

Invariants, each a property in ``tests/retry/test_properties.py``, the last one in ``test_stream.py``:

1. At most *attempts* attempts; no sleep that would end after ``max_elapsed`` or after an enclosing deadline of anyio.
2. Every attempt after the first has cost one token of the budget.
3. What is no ``Exception`` passes at once: a cancelled call is cancelled, whatever *on* says.
4. Calls share nothing but the budget, the throttle and the counts: each has its own backoff.
5. Nothing of a failed attempt is kept alive by the next, and one frame is added to a traceback.
6. An async generator is started anew only until its first item; afterwards its consumer has seen it.

State shared by tasks: ``Settings.budget``, ``throttle``, ``counts``; all are changed between two awaits.

A deadline shared by nested retries is the cancel scope around them: ``anyio.fail_after``, or the ``max_elapsed`` or
``attempt_timeout`` of an outer retry.  Scopes nest, only shorten, and cut off a hung attempt as well.
``asyncio.timeout`` cuts off too, but cannot be seen beforehand, so that a sleep may run into it.
"""

from __future__ import annotations

import logging
import random as stdlib_random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, ParamSpec, TypeVar, cast, overload

import anyio

from .attempts import Attempts
from .backoff import Backoff, BackoffLike, constant, exponential
from .budget import Budget, BudgetStatistics
from .checks import checked_budget, checked_count, checked_function, checked_instance, checked_seconds
from .decoration import checked_async, is_async_generator, preserve_signature
from .events import Event
from .failures import Failures, On
from .loop import Call, Loop
from .retry_after import retry_after as read_retry_after
from .run import AttemptTimeout, Run, Settings
from .stream import until_first_item
from .throttle import Throttle

__all__ = ["Retry", "RetryStatistics"]

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S", bound=AsyncIterator[Any])


@dataclass(frozen=True)
class RetryStatistics:
    """What a ``Retry`` has done so far; first attempts are counted by its budget.

    ``failures`` counts failed attempts, ``retries`` those after the first, ``recovered`` calls that a retry saved,
    ``gave_up`` calls whose failure was handed on; ``budget_refusals`` of these for want of a token.  ``throttled``
    counts attempts that the throttle held back, first ones too.
    """

    failures: int
    retries: int
    recovered: int
    gave_up: int
    budget_refusals: int
    throttled: int
    budget: BudgetStatistics | None


class Retry:
    """Call again what has failed, as a decorator, by ``call``, or around a block.

    Times are in seconds.

    Args:
        on: What is worth another attempt: exception types and predicates, one or several. It is looked for in causes
            and groups too. There is no default: only you know what may be repeated.
        on_result: A predicate on results; if the last attempt's is refused as well, it is returned nevertheless.
        attempts: At most so many, the first included; None for no limit but time and budget.
        backoff: ``exponential(...)``, ``linear(...)``, ``constant(...)``, a ``Backoff``, a function of the number of
            failed attempts, or an iterable of seconds.
        max_elapsed: Limit for all attempts and sleeps together; it also cuts off an attempt that hangs.
        attempt_timeout: Limit for one attempt; an ``AttemptTimeout`` is worth another attempt.
        retry_after: Reads from a failure how long the other side asks to wait; the backoff comes on top of that.
        retry_after_cap: What is asked for counts up to here.
        budget: True for one of its own, a ``Budget`` to share one, False for none.
        throttle: Holds calls back, first attempts too, while the server accepts little; they raise ``Throttled``.
        on_event: Called with each event.
        clock: Seconds, for ``max_elapsed``.
        sleep: Waits for so many seconds.
        random: A number in [0, 1), for the jitter.

    Raises ValueError or TypeError for nonsense, naming the argument.
    """

    def __init__(
        self,
        *,
        on: On,
        on_result: Callable[[Any], object] | None = None,
        attempts: int | None = 3,
        backoff: BackoffLike | None = None,
        max_elapsed: float | None = None,
        attempt_timeout: float | None = None,
        retry_after: Callable[[Any], float | None] = read_retry_after,
        retry_after_cap: float = 60.0,
        budget: Budget | bool = True,
        throttle: Throttle | None = None,
        on_event: Callable[[Event], object] | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
        random: Callable[[], float] = stdlib_random.random,
    ) -> None:
        delays = exponential() if backoff is None else backoff
        shared = checked_budget(budget)
        self._failures = Failures(on)
        if attempt_timeout is not None or max_elapsed is not None:
            self._failures.types += (AttemptTimeout,)
        self._settings: Settings = Settings(
            failures=self._failures,
            attempts=None if attempts is None else checked_count("attempts", attempts, 1),
            backoff=delays if isinstance(delays, Backoff) else Backoff(delays),
            max_elapsed=None if max_elapsed is None else checked_seconds("max_elapsed", max_elapsed),
            attempt_timeout=None if attempt_timeout is None else checked_seconds("attempt_timeout", attempt_timeout),
            retry_after=checked_function("retry_after", retry_after),
            retry_after_cap=checked_seconds("retry_after_cap", retry_after_cap),
            budget=shared,
            throttle=None if throttle is None else checked_instance("throttle", throttle, Throttle),
            on_event=None if on_event is None else checked_function("on_event", on_event),
            clock=checked_function("clock", clock),
            sleep=checked_async("sleep", sleep),
            random=checked_function("random", random),
        )
        self._counter = shared or Budget()  # without a budget nobody looks at the count
        self._on_result = None if on_result is None else checked_function("on_result", on_result)
        # An attribute, since a method around it would cost a third of the whole call.
        self.call: Call = self.loop().call()
        """``await retry.call(fn, *args, **kwargs)``: one call of a function that returns an awaitable."""

    @overload
    def __call__(self, fn: Callable[P, S]) -> Callable[P, S]: ...
    @overload
    def __call__(self, fn: Callable[P, Awaitable[R]]) -> Callable[P, Coroutine[Any, Any, R]]: ...
    def __call__(self, fn: Any) -> Any:
        """Decorate *fn*: its name, signature and type stay; an async generator is retried until its first item.

        Raises TypeError for what is not async: a sync function, a class, a generator.
        """
        if isinstance(fn, (classmethod, staticmethod)):
            return type(cast("Any", fn))(self(cast("Any", fn).__func__))
        checked_async("Retry()", fn, generators=True)
        if is_async_generator(fn):
            return preserve_signature(until_first_item(self.loop(), fn), fn)
        return preserve_signature(self.loop().around(fn), fn)

    def __aiter__(self) -> Attempts:
        """Give attempts at a block: ``async for attempt in retry: async with attempt: ...``."""
        self._counter.calls += 1
        return Attempts(self._begin(), self._failures)

    def loop(
        self,
        *,
        is_retryable: Callable[[Exception, tuple[Any, ...]], bool] | None = None,
        is_refused: Callable[[Any, tuple[Any, ...]], bool] | None = None,
    ) -> Loop:
        """Return the loop that calls go through, for adapters that judge failures by the call's arguments.

        ``is_retryable(error, args)`` takes the place of *on*, ``is_refused(result, args)`` that of *on_result*; neither
        may raise.
        """
        judge = is_refused or (None if self._on_result is None else self.is_refused)
        return Loop(self._settings, self._counter, self._begin, is_retryable or self.is_retryable, judge)

    def is_retryable(self, error: Exception, _args: tuple[Any, ...] = ()) -> bool:
        """Say whether *on* asks for another attempt after *error*."""
        traceback = error.__traceback__
        if isinstance(error, TypeError) and traceback is not None and traceback.tb_next is None:
            return False  # raised in our own frame: wrong arguments, or nothing to await
        return self._failures(error)

    def is_refused(self, result: object, _args: tuple[Any, ...] = ()) -> bool:
        """Say whether *on_result* asks for another attempt after *result*."""
        try:
            return bool(self._on_result and self._on_result(result))
        except Exception:
            logging.getLogger(__name__).exception("on_result failed; its result is returned as it is")
            return False

    @contextmanager
    def testing(self, *, attempts: int = 3) -> Generator[None, None, None]:
        """Inside this block, calls do not sleep, make at most *attempts* attempts, and need no budget."""
        usual = self._settings
        capped = min(checked_count("attempts", attempts, 1), usual.attempts or attempts)
        self._settings = replace(
            usual, attempts=capped, backoff=constant(0), retry_after=_nothing, budget=None, throttle=None
        )
        try:
            yield
        finally:
            self._settings = usual

    def statistics(self) -> RetryStatistics:
        """Return the counts so far, and those of the budget."""
        budget = self._settings.budget
        return RetryStatistics(**vars(self._settings.counts), budget=None if budget is None else budget.statistics())

    def _begin(self) -> Run:
        run = Run(self._settings)
        run.admit()
        return run


def _nothing(_failure: object) -> None:
    """Find no hint."""
