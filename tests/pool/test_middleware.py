"""The MCP face: one resource a request, and refusals that reach the client."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest
from mcp_pool import KeyedPool, Pool, PoolClosed, PoolMiddleware, PoolMisuse
from mcp_pool._seam import Principal, Refused

from tests.pool.world import Backend, Connection, settle_on_any
from tests.support.clock import VirtualClock, settle

pytestmark = pytest.mark.anyio


@dataclass(frozen=True)
class Call:
    """What every context has."""

    method: str = "tools/call"
    principal: Principal | None = None
    internal: bool = False
    headers: dict[str, str] = field(default_factory=dict)


async def test_a_request_has_one_resource_from_first_to_last() -> None:
    """The handler finds it; afterwards it is back, also when the handler fails."""
    async with Backend().pool() as pool:
        middleware = PoolMiddleware(pool)

        async def handler(ctx: Call) -> Connection:
            assert pool.statistics().in_use == 1
            return middleware.current()

        async def fails(ctx: Call) -> None:
            raise KeyError("mine")

        assert (await middleware(Call(), handler)).number == 1
        with pytest.raises(KeyError, match="mine"):
            await middleware(Call(), fails)
        assert pool.statistics().idle == 1
        with pytest.raises(LookupError, match=r"^no request is being handled that has a resource of this pool$"):
            middleware.current()


@pytest.mark.parametrize(
    "ctx",
    [Call("tools/list"), Call("tools/list", internal=True), Call("notifications/initialized"), Call("initialize")],
)
async def test_other_messages_take_nothing(ctx: Call) -> None:
    """What needs no resource must not wait for one."""
    async with Backend().pool() as pool:
        middleware = PoolMiddleware(pool, methods=["tools/call", "tools/list"] if ctx.internal else ["tools/call"])

        async def handler(ctx: Call) -> Call:
            assert pool.statistics().in_use == 0
            return ctx

        assert await middleware(ctx, handler) is ctx


async def test_a_stream_keeps_its_resource_till_it_ends(clock: VirtualClock) -> None:
    """As long as the handler runs."""
    async with Backend().pool() as pool, anyio.create_task_group() as tg:
        middleware = PoolMiddleware(pool, methods=["subscriptions/listen"])

        async def handler(ctx: Call) -> None:
            await anyio.sleep(60)

        tg.start_soon(middleware, Call("subscriptions/listen"), handler)
        await clock.advance(59)
        assert pool.statistics().in_use == 1
        await clock.advance(1)
        assert pool.statistics().in_use == 0


async def test_a_nested_request_shares_the_resource_of_the_outer_one() -> None:
    """A tool that calls a tool of its own server would wait for itself in a pool of one."""
    async with Backend().pool(max_size=1) as pool:
        middleware = PoolMiddleware(pool)

        async def inner(ctx: Call) -> Connection:
            return middleware.current()

        async def outer(ctx: Call) -> bool:
            return await middleware(ctx, inner) is middleware.current()

        assert await middleware(Call(), outer)


async def test_a_task_that_outlives_the_request_does_not_keep_the_resource(clock: VirtualClock) -> None:
    """It still sees the request's context, but the resource may be somebody else's by then."""
    seen: list[object] = []
    async with Backend().pool() as pool, anyio.create_task_group() as tg:
        middleware = PoolMiddleware(pool)

        async def later() -> None:
            await anyio.sleep(1)
            try:
                seen.append(middleware.current())
            except LookupError:
                seen.append("over")
            async with anyio.create_task_group():
                seen.append(await middleware(Call(), handler))

        async def handler(ctx: Call) -> int:
            return middleware.current().number

        async def starts(ctx: Call) -> None:
            tg.start_soon(later)

        await middleware(Call(), starts)
    assert seen == ["over", 1]


async def test_bind_hands_the_resource_on(clock: VirtualClock) -> None:
    """The per-request bag of mcp-middleware, or any other."""
    bag: list[Connection] = []

    @contextmanager
    def bind(connection: Connection) -> Iterator[None]:
        bag.append(connection)
        yield
        bag.clear()

    async def handler(ctx: Call) -> tuple[str, int]:
        return ctx.method, bag[0].number

    async with Backend().pool() as pool:
        assert await PoolMiddleware(pool, bind=bind)(Call(), handler) == ("tools/call", 1)
    assert bag == []


async def test_keys_come_from_the_verified_principal() -> None:
    """No two principals share a resource, unless a key of the program's own says so."""

    async def connect(key: object) -> Connection:
        return Connection(key)  # type: ignore[arg-type]

    async def close(connection: Connection) -> None: ...

    async with KeyedPool(connect, close=close) as pools:
        middleware = PoolMiddleware(pools)
        shared = PoolMiddleware(pools, key=lambda ctx: "all")

        async def handler(ctx: Call) -> object:
            return middleware.current().number

        async def handler_of_shared(ctx: Call) -> object:
            return shared.current().number

        ann = Principal("app", "issuer", "ann", ("read",))
        assert await middleware(Call(principal=ann), handler) == ("app", "issuer", "ann")
        assert await middleware(Call(), handler) is None
        assert await shared(Call(principal=ann), handler_of_shared) == "all"


async def refusal(middleware: PoolMiddleware[Any], ctx: Call | None = None) -> tuple[int, str, Any]:
    async def handler(ctx: Call) -> None:
        raise AssertionError("must not run")

    with pytest.raises(Refused) as caught:
        await middleware(ctx or Call(), handler)
    return caught.value.code, caught.value.message, caught.value.data


async def test_refusals(clock: VirtualClock) -> None:
    """Codes and data that a client can act upon; never the text of a foreign error."""
    backend = Backend()
    pool = backend.pool(max_size=1, max_waiters=1, connect_attempts=1, backoff=4.0)
    middleware = PoolMiddleware(pool, timeout=2)
    assert await refusal(middleware) == (-31103, "the pool lends nothing", {"reason": "closed"})
    async with pool, anyio.create_task_group() as tg:

        async def slow(ctx: Call) -> None:
            await anyio.sleep(9)

        tg.start_soon(middleware, Call(), slow)
        await settle()
        late = (-31008, "no resource became free in time", {"reason": "timeout", "timeout": 2})
        assert await refusal(middleware) == late
        tg.start_soon(middleware, Call(), slow, name="waits")
        await settle()
        assert await refusal(middleware) == (-31008, "too many requests wait for a resource", {"reason": "full"})
        tg.cancel_scope.cancel()
    backend.default = OSError("refused by 10.0.0.1")
    down = (-31103, "the backend is unavailable", {"reason": "unavailable", "retryAfter": 4.0})
    async with backend.pool(connect_attempts=1, backoff=4.0) as pool:
        assert await refusal(PoolMiddleware(pool)) == down


async def test_the_timeout_holds_for_the_pool_of_a_key(clock: VirtualClock) -> None:
    """As for a single pool."""

    async def connect(key: object) -> Connection:
        return await Backend(takes=9).connect()

    async with KeyedPool(connect, close=Backend().close, drain_timeout=0) as pools:
        assert await refusal(PoolMiddleware(pools, timeout=2))
        assert clock() == 2


async def test_what_comes_out_of_the_handler_tells_whether_the_resource_is_broken() -> None:
    """The pool hears of it, as if the handler were a block of its own."""
    async with Backend().pool(broken=lambda error: str(error) == "pipe") as pool:

        async def handler(ctx: Call) -> None:
            raise OSError(ctx.headers["error"])

        for error, broken in (("other", {}), ("pipe", {"broken": 1})):
            with pytest.raises(OSError, match=error):
                await PoolMiddleware(pool)(Call(headers={"error": error}), handler)
            await settle_on_any()
            assert pool.statistics().closed == broken


async def test_the_handler_s_own_pool_errors_pass_unchanged() -> None:
    """Only what taking the resource raised is ours to translate."""
    other = Backend().pool()
    async with Backend().pool() as pool:

        async def handler(ctx: Call) -> None:
            await other.take()

        with pytest.raises(PoolClosed):
            await PoolMiddleware(pool)(Call(), handler)


async def test_a_slip_of_the_program_is_no_refusal() -> None:
    """Two of them around one pool of one: the client cannot do anything about it."""
    async with Backend().pool(max_size=1) as pool:

        async def inner(ctx: Call) -> object:
            return await PoolMiddleware(pool)(ctx, inner)

        with pytest.raises(PoolMisuse, match="has the only resource"):
            await PoolMiddleware(pool)(Call(), inner)
        assert pool.statistics().idle == 1


async def is_async(ctx: object) -> object: ...


def is_generator(connection: object) -> Iterator[None]:
    yield


@asynccontextmanager
async def is_async_context(connection: object) -> AsyncIterator[None]:
    yield


METHODS = "PoolMiddleware needs a collection of method names as methods, got "
KEY = "PoolMiddleware needs a function of ctx as key, which is not async, and a KeyedPool for it, got "
BIND = "PoolMiddleware needs a function that returns a context manager as bind, got "


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"pool": Pool}, TypeError, f"PoolMiddleware needs a Pool or a KeyedPool, got {Pool!r}"),
        ({"pool": 3}, TypeError, "PoolMiddleware needs a Pool or a KeyedPool, got 3"),
        ({"key": len}, TypeError, f"{KEY}{len!r}"),
        ({"key": 3, "pool": "keyed"}, TypeError, f"{KEY}3"),
        ({"key": is_async, "pool": "keyed"}, TypeError, f"{KEY}{is_async!r}"),
        ({"methods": "tools/call"}, ValueError, f"{METHODS}'tools/call'"),
        ({"methods": []}, ValueError, f"{METHODS}[]"),
        ({"methods": 3}, TypeError, f"{METHODS}3"),
        ({"methods": None}, TypeError, f"{METHODS}None"),
        ({"methods": (3,)}, TypeError, f"{METHODS}(3,)"),
        ({"timeout": -1}, ValueError, "Pool needs 0 to inf seconds as timeout, got -1"),
        ({"timeout": True}, TypeError, "Pool needs 0 to inf seconds as timeout, got True"),
        *(({"bind": value}, TypeError, f"{BIND}{value!r}") for value in (3, is_async, is_generator, is_async_context)),
    ],
)
def test_nonsense(options: dict[str, Any], error: type[Exception], message: str) -> None:
    """Refused when the server is put together."""
    pools = {"keyed": KeyedPool(is_async), "single": Backend().pool()}
    given = {"pool": "single", **options}
    with pytest.raises(error) as caught:
        PoolMiddleware(**{**given, "pool": pools.get(given["pool"], given["pool"])})
    assert str(caught.value) == message


async def test_a_key_that_cannot_be_one_is_named() -> None:
    """A slip of the program, which it hears of with the first request."""
    async with KeyedPool(is_async) as pools:
        with pytest.raises(TypeError, match=r"^KeyedPool needs a hashable key, got \['acme'\]$"):
            await PoolMiddleware(pools, key=lambda ctx: ["acme"])(Call(), is_async)
        assert pools.statistics() == {}
