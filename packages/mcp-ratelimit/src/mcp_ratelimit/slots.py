"""The two comfortable ways to wait for a limiter: a block, and a decorator."""

from __future__ import annotations

import functools
import inspect
import typing
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, ParamSpec, TypeVar

from .decision import GLOBAL, Decision, Key, checked_timeout
from .limit import whole

__all__ = ["Acquiring", "Slot"]

P = ParamSpec("P")
T = TypeVar("T")
W = TypeVar("W", bound=Callable[..., Any])


class Slot:
    """What has been charged for one block, and what of it is to be given back at its end."""

    def __init__(self, decision: Decision, cost: int) -> None:
        self.decision: Decision = decision
        self.cost: int = cost
        self.refunded: int = 0

    def refund(self, cost: int | None = None) -> None:
        """Give *cost* back when the block ends; all of it by default, never more than was charged."""
        self.refunded = min(
            self.cost, self.cost if cost is None else self.refunded + whole("refund", "cost", cost, least=0)
        )


class Acquiring(ABC):
    """What every limiter offers on top of its own ``acquire``."""

    @abstractmethod
    async def acquire(self, key: Key, cost: int = 1, *, timeout: float | None = None) -> Decision:
        """Wait until *cost* has been charged."""
        ...

    @abstractmethod
    def _checked(self, key: Key, cost: int) -> tuple[str, ...]:
        """Return a key for each limit; raises what ``acquire`` raises for what is no key or no cost."""
        ...

    @abstractmethod
    async def _give_back(self, key: Key, cost: int) -> None: ...

    @asynccontextmanager
    async def slot(
        self,
        key: Key,
        cost: int = 1,
        *,
        timeout: float | None = None,
        refund_if: Callable[[BaseException], bool] | None = None,
    ) -> AsyncGenerator[Slot, None]:
        """Wait for the charge, run the block, and give back what its ``Slot`` was told to.

        *refund_if* is asked about an exception that leaves the block, a cancellation too: if it says true, all is given
        back, as for ``refund_if=lambda error: isinstance(error, ConnectionError)``.
        """
        slot = Slot(await self.acquire(key, cost, timeout=timeout), cost)
        try:
            yield slot
        except BaseException as error:
            if refund_if is not None and refund_if(error):
                slot.refund()
            raise
        finally:
            if slot.refunded:
                await self._give_back(key, slot.refunded)

    def throttle(
        self, key: Key | Callable[..., Key], cost: int | Callable[..., int] = 1, *, timeout: float | None = None
    ) -> Callable[[Callable[P, Coroutine[Any, Any, T]]], Callable[P, Coroutine[Any, Any, T]]]:
        """Decorate an async function so that each call waits for its charge first.

        *key* and *cost* may be functions of the call's own arguments: ``@limiter.throttle(lambda user, text: user)``.
        Raises at once what ``acquire`` would raise for them at each call, as far as they are none.
        """
        self._checked(GLOBAL if callable(key) else key, 0 if callable(cost) else cost)
        checked_timeout(timeout)

        def decorate(fn: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
            if not inspect.iscoroutinefunction(fn):
                raise TypeError(f"{getattr(fn, '__name__', fn)}() is not async; did you forget 'async def'?")

            async def throttled(*args: P.args, **kwargs: P.kwargs) -> T:
                who = key(*args, **kwargs) if callable(key) else key
                units = cost(*args, **kwargs) if callable(cost) else cost
                await self.acquire(who, units, timeout=timeout)
                return await fn(*args, **kwargs)

            return preserve_signature(throttled, fn)

        return decorate


# --- preserve_signature: the same lines in every module that decorates
def preserve_signature(wrapper: W, fn: Callable[..., Any]) -> W:
    """Make *wrapper* look like *fn* to every framework that reads signatures, and return it.

    The annotations are resolved, since no SDK can do that in a foreign module, and ``__wrapped__`` is removed, since
    FastMCP looks through it and finds an unbound ``self``.
    """
    functools.update_wrapper(wrapper, fn)
    del wrapper.__wrapped__  # type: ignore[attr-defined]  # update_wrapper has just set it
    signature = inspect.signature(fn)
    try:
        hints = typing.get_type_hints(fn, include_extras=True)
    except (NameError, TypeError):  # a name that exists for type checkers only, or an object that has no hints
        hints = dict(getattr(fn, "__annotations__", {}))
    parameters = [p.replace(annotation=hints.get(p.name, p.annotation)) for p in signature.parameters.values()]
    returns = hints.get("return", signature.return_annotation)
    shown = signature.replace(parameters=parameters, return_annotation=returns)
    wrapper.__signature__ = shown  # type: ignore[attr-defined]  # what inspect reads
    wrapper.__annotations__ = hints
    return wrapper


# --- end preserve_signature
