"""Fallbacks: something else when all is lost."""

from __future__ import annotations

import asyncio
import gc
import weakref

import anyio
import pytest
from mcp_retry import Fallback, Retry, constant


async def fail():
    raise ConnectionError("lost")


async def test_value():
    """The same object, every time it is needed, and counted."""
    value = []
    fallback = Fallback(on=ConnectionError, value=value)
    assert await fallback.call(fail) is value
    assert await fallback.call(anyio.sleep, delay=0) is None
    assert fallback.statistics().used == 1
    assert await fallback(fail)() is value
    assert await fallback(anyio.sleep)(delay=0) is None
    assert fallback.statistics().used == 2


async def test_none_is_a_value():
    """A fallback to nothing is a common one."""
    assert await Fallback(on=ConnectionError, value=None).call(fail) is None


async def test_function_sees_the_last_error():
    """Of a retry, that is the one it gave up with."""
    seen = []

    async def from_cache(error):
        seen.append(str(error))
        return "cached"

    @Fallback(on=ConnectionError, function=from_cache)
    @Retry(on=ConnectionError, backoff=constant(0))
    async def search(query: str) -> str:
        """Search."""
        raise ConnectionError(query)

    assert await search("x") == "cached"
    assert seen == ["x"]
    assert (search.__name__, search.__doc__) == ("search", "Search.")


async def test_other_failures_pass():
    """A bug is no outage; a cancellation is neither."""
    for error in (ValueError, asyncio.CancelledError, SystemExit):

        async def wrong(error=error):
            raise error

        outcome = None
        try:
            await Fallback(on=ConnectionError, value=1).call(wrong)
        except BaseException as raised:  # noqa: BLE001  # pytest.raises cannot take a cancellation on every backend
            outcome = type(raised)
        assert outcome is error


async def test_failing_function_has_the_failure_as_context():
    """Both are needed to understand what happened."""

    async def also_lost(error):
        raise LookupError

    with pytest.raises(LookupError) as caught:
        await Fallback(on=ConnectionError, function=also_lost).call(fail)
    assert str(caught.value.__context__) == "lost"


async def test_nothing_is_retained():
    """With the collector off, the failed call is gone when the fallback is back."""

    class Local:
        pass

    kept = []

    async def lose():
        local = Local()
        kept.append(weakref.ref(local))
        raise ConnectionError

    gc.disable()
    try:
        await Fallback(on=ConnectionError, value=1).call(lose)
        assert kept[0]() is None
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("options", "fault", "message"),
    [
        ({"on": OSError}, TypeError, "either value or function"),
        ({"on": OSError, "value": 1, "function": fail}, TypeError, "either value or function"),
        ({"on": OSError, "function": gc}, TypeError, "function needs an async function, got <module"),
        ({"on": [], "value": 1}, ValueError, "at least one exception type"),
        ({"value": 1}, TypeError, "on"),
    ],
)
def test_nonsense_is_refused(options, fault, message):
    """At construction."""
    with pytest.raises(fault, match=message):
        Fallback(**options)


def test_message_says_where():
    """Of the decorators around a function, which one."""
    with pytest.raises(TypeError, match=r"^Fallback\(\) needs an async function, got 3$"):
        Fallback(on=ConnectionError, value=1)(3)


def test_only_async_functions_are_decorated():
    """When it is decorated."""
    with pytest.raises(TypeError, match="is not async"):
        Fallback(on=OSError, value=1)(test_nonsense_is_refused)
