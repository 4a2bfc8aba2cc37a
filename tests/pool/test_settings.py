"""What cannot be meant is refused when the pool is made, with the argument's name and value in the message."""

from __future__ import annotations

import math
import re
from collections.abc import AsyncIterator
from dataclasses import asdict
from functools import partial
from typing import Any

import anyio
import pytest
from mcp_pool import Pool

NAN = math.nan
NO_NUMBERS = ["debug", "refuse_early", "check_on_return", "clock", "random", "broken", "on_event", "check", "reset"]
TIMES = ["connect_timeout", "check_timeout", "reset_timeout", "close_timeout", "check_interval", "max_lifetime"]
TIMES += ["idle_timeout", "leak_after"]


async def connect() -> object:
    return object()


async def hook(resource: object) -> bool:
    return True


def sync(resource: object = None) -> bool:
    return True


def promising(resource: object = None) -> Any:
    return hook(resource)


class AsyncCallable:
    async def __call__(self, *_: object) -> bool:
        return True


ASYNC_OBJECT = AsyncCallable()


async def generator() -> AsyncIterator[object]:
    yield object()


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *((name, value) for name in ("min_size",) for value in (-1, True, 1.0, NAN, "1", None)),
        *((name, value) for name in ("max_size", "max_connecting", "connect_attempts") for value in (0, -1, True, 2.0)),
        *((name, value) for name in TIMES for value in (0, -1, NAN, -math.inf, True, "1", None)),
        *((name, value) for name in ("timeout", "check_after", "drain_timeout") for value in (-1, NAN, True, None)),
        *((name, value) for name in ("backoff", "max_backoff") for value in (0, math.inf, NAN, True)),
        *(("jitter", value) for value in (-0.1, 1.1, NAN, True)),
        *(("max_waiters", value) for value in (-1, True, math.inf)),
        *(("max_uses", value) for value in (0, True, 1.5)),
        *((name, value) for name in ("debug", "refuse_early", "check_on_return") for value in (1, None)),
        ("order", "random"),
        ("name", None),
        *((name, 3) for name in ("clock", "random", "broken", "on_event", "check", "reset")),
        *((name, value) for name in ("clock", "random", "broken", "on_event") for value in (hook, ASYNC_OBJECT)),
        *((name, value) for name in ("check", "reset") for value in (sync, generator, partial(generator), Pool)),
    ],
)
def test_nonsense(option: str, value: Any) -> None:
    """Each option by itself."""
    options = {"max_size": 1, option: value} if option == "min_size" else {option: value}
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    fits = option == "order" or (is_number and option not in NO_NUMBERS)
    with pytest.raises(ValueError if fits else TypeError) as caught:
        Pool(connect, **options)
    assert re.search(rf"^{option}=| as {option}, got ", str(caught.value))
    assert getattr(value, "__qualname__", repr(value)) in str(caught.value)


def test_min_above_max() -> None:
    """Both are named."""
    with pytest.raises(ValueError, match=r"^Pool needs min_size <= max_size, got min_size=3 and max_size=2$"):
        Pool(connect, min_size=3, max_size=2)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (3, "Pool needs an async function as connect, got 3"),
        (sync, "connect=sync is not async; did you forget 'async def'?"),
        (generator, "connect=generator is a generator; decorate it with @asynccontextmanager, for Pool.from_context"),
        (dict, "Pool needs an async function as connect, got the class dict; is it for Pool.from_context?"),
    ],
)
def test_connect(value: Any, message: str) -> None:
    """The likely slip is named."""
    with pytest.raises(TypeError) as caught:
        Pool(value)
    assert str(caught.value) == message


def test_other_callables() -> None:
    """What may be async, though it cannot be seen, is accepted; close is looked at as well."""
    for returns in ("Awaitable[bool]", "Coroutine[None, None, bool]", "asyncio.Future[bool]"):
        promising.__annotations__["return"] = returns
        Pool(lambda: anyio.sleep(1), check=promising)
    with pytest.raises(TypeError, match="close=sync is not async"):
        Pool(connect, close=sync)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="needs a function that returns a context manager, got 3"):
        Pool.from_context(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="max_sise"):
        Pool(connect, max_sise=3)  # type: ignore[call-arg]


def test_a_pool_is_made_outside_any_event_loop() -> None:
    """As module-level configuration does."""
    pool = Pool(connect, name="db")
    states = {"idle": 0, "in_use": 0, "connecting": 0, "serviced": 0, "closing": 0, "waiting": 0, "available": True}
    uses = {"uses": 0, "use_seconds": 0, "waits": 0, "wait_seconds": 0, "longest_wait": 0}
    connects = {"connects": 0, "connect_failures": 0, "connect_seconds": 0, "closed": {}}
    rest = {"timeouts": 0, "refusals": 0, "leaks": 0}
    assert pool.name == "db"
    assert asdict(pool.statistics()) == {
        "name": "db",
        "min_size": 0,
        "max_size": 10,
        **states,
        **uses,
        **connects,
        **rest,
    }
