"""Retry an async generator until it has yielded its first item; from then on it is on its own.

What the consumer does (``asend``, ``athrow``, ``aclose``) reaches the generator, so that one under
``contextlib.asynccontextmanager`` retries what comes before its ``yield``, and sees what happens in the block.

A limit of time is a cancel scope around the way to the first item.  A generator that yields inside a scope or a task
group of its own cannot have one: scopes close like brackets.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Any

from .loop import Loop

__all__ = ["until_first_item"]


def until_first_item(  # noqa: C901  # because of the function inside
    loop: Loop, fn: Callable[..., AsyncGenerator[Any, Any]]
) -> Callable[..., AsyncGenerator[Any, Any]]:
    """Return an async generator function that starts *fn* anew when it fails before its first item."""

    async def stream(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:  # noqa: C901  # one function, one frame
        loop.counter.calls += 1
        run, item = loop.begin(), None
        while True:
            source = fn(*args, **kwargs)
            try:
                with run:
                    item = await source.__anext__()
                run.check()
            except StopAsyncIteration:
                run.succeeded()
                return
            except Exception as error:
                if not run.goes_on_after(error, retryable=loop.is_retryable(error, args)):
                    raise
            else:
                run.succeeded()
                break
            await run.sleep()
        try:
            while True:
                try:
                    sent = yield item
                except GeneratorExit:
                    raise
                except BaseException as thrown:  # noqa: BLE001  # the generator decides what becomes of it
                    item = await source.athrow(thrown)
                else:
                    item = await source.asend(sent)
        except StopAsyncIteration:
            return
        finally:
            await source.aclose()

    return stream
