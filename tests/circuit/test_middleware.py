"""The breaker in front of tools: what counts, what does not, and what the client is told."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from mcp_circuit import (
    CIRCUIT_OPEN,
    CircuitBreaker,
    CircuitMiddleware,
    CircuitOpen,
    State,
    by_tool,
    consecutive,
    failure_rate,
    from_error,
    slow_rate,
)
from mcp_circuit._seam import Refused, refuse

from tests.support.measure import count_instructions
from tests.support.sweep import sweep


@dataclass(frozen=True)
class Context:
    method: str = "tools/call"
    params: Any = field(default_factory=lambda: {"name": "search"})
    headers: Any = field(default_factory=dict)


class Rude:
    """A result of somebody's own, which does not like to be looked into."""

    def __getitem__(self, name):
        raise RuntimeError(name)

    def __repr__(self):
        return "Rude()"


OK = {"content": [], "isError": False, "resultType": "complete"}
BAD = {"content": [{"type": "text", "text": "Error executing tool search"}], "isError": True}


def failing(text="boom"):
    return {"content": [{"type": "text", "text": text}], "isError": True}


def per_tool(**options):
    """A middleware whose breakers open at the first failure."""
    return CircuitMiddleware(lambda tool: CircuitBreaker(name=tool, **{"trip": consecutive(1), **options}))


def ending(end):
    """A handler that returns *end*, or raises it."""

    async def call_next(ctx):
        if isinstance(end, BaseException):
            raise end
        return end

    return call_next


async def calls(middleware, end, ctx=None):
    """Make one call that ends like that, and return what the caller gets."""
    try:
        return await middleware(ctx or Context(), ending(end))
    except BaseException as error:  # noqa: BLE001  # which is the point
        return error


def foreign(name, module, base=Exception):
    """An exception class as another package has it."""
    return type(name, (base,), {"__module__": module})


def protocol_error(code):
    error = foreign("MCPError", "mcp.shared.exceptions")("no")
    error.error = SimpleNamespace(code=code, message="no")
    return error


def tool_error(cause):
    error = foreign("ToolError", "fastmcp.exceptions")("Error calling tool")
    error.__cause__ = cause
    return error


def model(**fields):
    """A result of the 2.x models, or of those of 1.x where it has their ``isError``."""
    usual = {"content": []} if "isError" in fields else {"content": [], "is_error": False}
    return SimpleNamespace(**{**usual, **fields})


FAILURES = [
    BAD,
    model(is_error=True),
    SimpleNamespace(root=model(isError=True)),
    ConnectionError(),
    TimeoutError(),
    tool_error(ConnectionError()),
    tool_error(None),
    tool_error(foreign("ValidationError", "pydantic_core")()),
    protocol_error(-32603),
    protocol_error(-31500),
    SimpleNamespace(code=-32603, message="internal"),
    {"isError": True},
    {"isError": True, "content": [{"type": "image"}]},
    {"isError": True, "content": "text"},
    failing("Error executing tool search: it has 1 validation error for someone\n"),
    failing("Error executing tool search: 1 validation error for OtherArguments\n"),
    failing("The tool said: Unknown tool: x"),
]
NEUTRAL = [
    asyncio.CancelledError(),
    KeyboardInterrupt(),
    tool_error(tool_error(asyncio.CancelledError())),
    refuse(-31029, "slow down"),
    protocol_error(-32602),
    protocol_error(-32601),
    SimpleNamespace(code=-32602, message="bad parameters"),
    foreign("NotFoundError", "fastmcp.exceptions")(),
    foreign("NotFoundError", "fastmcp.server.errors")(),
    foreign("ValidationError", "pydantic.main")(),
    foreign("ValidationError", "fastmcp.exceptions")(),
    foreign("ValidationError", "pydantic_core._pydantic_core")(),
    foreign("DisabledError", "fastmcp.exceptions")(),
    failing("Unknown tool: serach"),
    failing("Input validation error: 'x' is a required property"),
    failing("Error executing tool search: 2 validation errors for searchArguments\na\n"),
    failing("Error executing tool search: 1 validation error for searchArguments\na\n"),
    SimpleNamespace(root=model(isError=True, content=[SimpleNamespace(text="Unknown tool: serach")])),
    {"resultType": "input_required", "inputRequests": {}},
    model(result_type="input_required"),
    CircuitOpen("inner", State.OPEN, 1.0),
]
SUCCESSES = [OK, {}, {"isError": None}, model(), None, "text", [], SimpleNamespace(root=model()), Rude()]
EVERY_PATH = pytest.mark.parametrize("state", ["closed", "half_open"])


def brought_to(state):
    """A middleware whose one breaker is in *state*, and that breaker."""
    now = 0.0
    middleware = per_tool(cooldown=1, clock=lambda: now)
    breaker = middleware.breakers["search"]
    if state == "half_open":
        breaker.acquire().fail()
        now = 1.0
        breaker.acquire().ignore()
        assert breaker.state is State.HALF_OPEN
    return middleware, breaker


@EVERY_PATH
@pytest.mark.parametrize("end", FAILURES, ids=repr)
async def test_failure(end, state):
    """Opens the circuit, and reaches the caller unchanged."""
    middleware, breaker = brought_to(state)
    assert await calls(middleware, end) is end
    assert breaker.state is State.OPEN


@EVERY_PATH
@pytest.mark.parametrize("end", NEUTRAL, ids=repr)
async def test_neutral(end, state):
    """Counts as nothing: the tool was not called, or nobody waited for its answer."""
    middleware, breaker = brought_to(state)
    before = breaker.statistics()
    assert await calls(middleware, end) is end
    assert breaker.statistics() == before
    assert breaker.snapshot().in_flight == 0


@EVERY_PATH
@pytest.mark.parametrize("end", SUCCESSES, ids=repr)
async def test_success(end, state):
    """Counts, whatever it looks like, and closes what was half open."""
    middleware, breaker = brought_to(state)
    assert await calls(middleware, end) is end
    assert breaker.statistics().calls == (1 if state == "closed" else 2)
    assert breaker.state is State.CLOSED


async def test_refusal_tells_the_client_when_to_come_back():
    """Code, message and typed fields, and nothing of the error that opened it."""
    middleware = per_tool(cooldown=30, clock=lambda: 0.0)
    await calls(middleware, ConnectionError("password in here"))
    refusal = await calls(middleware, AssertionError("called"))
    assert isinstance(refusal, Refused)
    assert (refusal.code, refusal.message) == (CIRCUIT_OPEN, "circuit 'search' is open, retry after 30 s")
    assert refusal.data == {"name": "search", "state": "open", "retryAfter": 30.0}
    assert refusal.refused
    assert refusal.__cause__ is None
    assert refusal.__suppress_context__
    middleware.breakers["search"].force("isolated")
    assert (await calls(middleware, AssertionError("called"))).data["retryAfter"] is None


async def test_each_tool_has_its_own_breaker():
    """One broken tool is no reason to refuse another."""
    middleware = per_tool()
    await calls(middleware, ConnectionError())
    assert await calls(middleware, OK, Context(params={"name": "fetch"})) is OK
    assert isinstance(await calls(middleware, OK), Refused)


async def test_one_breaker_for_all_tools():
    """Where they all lean on the same service."""
    breaker = CircuitBreaker(trip=consecutive(1))
    middleware = CircuitMiddleware(breaker)
    await calls(middleware, ConnectionError())
    assert isinstance(await calls(middleware, OK, Context(params={"name": "fetch"})), Refused)
    assert middleware.breakers["anything"] is breaker


async def test_call_without_a_name_is_the_sdks_to_refuse():
    """It passes through the one breaker, and leaves nothing behind."""
    middleware = CircuitMiddleware(CircuitBreaker(trip=consecutive(1)))
    error = protocol_error(-32602)
    assert await calls(middleware, error, Context(params={})) is error
    assert len(middleware.breakers) == 0


@pytest.mark.parametrize(
    "ctx",
    [
        Context("tools/list", None),
        Context("resources/read", {"uri": "file:///x"}),
        Context("notifications/cancelled", {"requestId": 1}),
        Context(params=None),
        Context(params={"name": 7}),
        Context(params={"arguments": {}}),
        Context(None),
        Context(params=7),
    ],
    ids=repr,
)
async def test_what_calls_no_tool_passes(ctx):
    """Also nonsense, which the SDK refuses itself."""
    middleware = per_tool()
    for _ in range(2):
        assert isinstance(await calls(middleware, ConnectionError(), ctx), ConnectionError)
    assert len(middleware.breakers) == 0


def test_by_tool_reads_every_kind_of_context():
    """The wire mapping of the official SDK, and the models of others."""
    assert by_tool(Context()) == "search"
    assert by_tool(SimpleNamespace(method="tools/call", message=SimpleNamespace(name="search"))) == "search"
    assert by_tool(Context(params=SimpleNamespace(name="search"))) == "search"
    assert by_tool(Context("prompts/get")) is None


async def test_key_may_be_anything():
    """And what the SDK asks itself, notifications and streams pass whatever it says."""
    middleware = CircuitMiddleware(lambda key: CircuitBreaker(trip=consecutive(1)), key=lambda ctx: ctx.method)
    listing = Context("tools/list", None)
    await calls(middleware, ConnectionError(), listing)
    assert isinstance(await calls(middleware, OK, listing), Refused)
    internal = Context("tools/list", None, {"mcp-method": "tools/call"})
    for ctx in (internal, Context("notifications/progress"), Context("subscriptions/listen")):
        await calls(middleware, ConnectionError(), ctx)
        assert await calls(middleware, OK, ctx) is OK


async def test_names_of_no_tool_leave_no_breaker():
    """Whoever makes up names must not fill the table."""
    middleware = per_tool()
    for number in range(50):
        await calls(middleware, failing(f"Unknown tool: {number}"), Context(params={"name": str(number)}))
        await calls(middleware, foreign("NotFoundError", "fastmcp.exceptions")(), Context(params={"name": str(number)}))
    assert len(middleware.breakers) == 0


async def test_continuation_is_refused_like_any_call():
    """The caller writes its fields, so they must not open a closed door."""
    middleware = per_tool()
    await calls(middleware, ConnectionError())
    ctx = Context(params={"name": "search", "inputResponses": {}, "requestState": "x"})
    assert isinstance(await calls(middleware, OK, ctx), Refused)


async def test_fallback_answers_in_the_tools_place():
    """For refusals of this breaker only, with the context."""

    async def cached(ctx, refusal):
        return {"content": [], "name": ctx.params["name"], "state": refusal.state}

    middleware = CircuitMiddleware(lambda tool: CircuitBreaker(trip=consecutive(1)), fallback=cached)
    error = await calls(middleware, ConnectionError())
    assert isinstance(error, ConnectionError)
    assert await calls(middleware, OK) == {"content": [], "name": "search", "state": State.OPEN}


async def test_the_breakers_own_configuration_holds():
    """Its classes see FastMCP's cause, its predicate the result."""
    middleware = per_tool(failures=ConnectionError, failed_result=lambda result: result.get("stale"))
    assert isinstance(await calls(middleware, ValueError()), ValueError)
    assert isinstance(await calls(middleware, tool_error(ValueError())), Exception)
    assert await calls(middleware, OK) is OK
    assert middleware.breakers["search"].state is State.CLOSED
    await calls(middleware, {**OK, "stale": True})
    assert middleware.breakers["search"].state is State.OPEN
    middleware = per_tool(failures=ConnectionError)
    await calls(middleware, tool_error(ConnectionError()))
    assert middleware.breakers["search"].state is State.OPEN


async def test_cooldown_from_the_cause():
    """What the service asked for, through FastMCP's wrapping."""
    error = ConnectionError()
    error.retry_after = 7
    middleware = per_tool(cooldown=from_error(30), clock=lambda: 0.0)
    await calls(middleware, tool_error(error))
    assert (await calls(middleware, OK)).data["retryAfter"] == 7


async def test_slow_tools_trip(clock):
    """And the first success of a new slot moves the window on."""
    rules = [slow_rate(1.0, slower_than=2, calls=1, min_calls=1), failure_rate(0.5, seconds=10)]
    middleware = per_tool(trip=rules, clock=clock)

    async def sleepy(ctx):
        await anyio.sleep(1.5 if ctx.params["name"] == "quick" else 2)

    await middleware(Context(params={"name": "quick"}), sleepy)
    assert middleware.breakers["quick"].state is State.CLOSED
    assert middleware.breakers["quick"].core.machine.era.edge == 2
    await middleware(Context(params={"name": "slow"}), sleepy)
    assert middleware.breakers["slow"].state is State.OPEN


@EVERY_PATH
def test_cancelled_anywhere_nothing_is_left(state):
    """At every checkpoint, on asyncio and trio."""

    async def scenario(victim):
        middleware, breaker = brought_to(state)
        await victim(middleware, Context(), lambda ctx: anyio.sleep(0.5))
        return breaker

    def check(breaker):
        assert breaker.snapshot().in_flight == 0
        assert breaker.state in (State.CLOSED, State(state))

    sweep(scenario, check)


@pytest.mark.parametrize("used", [False, True])
async def test_tool_that_was_called_last_is_forgotten_last(used):
    """From when half of the places are taken: a fifth tool takes the place of the first, unless that was used again."""
    middleware = CircuitMiddleware(lambda tool: CircuitBreaker(name=tool), max_keys=4)
    for tool in ["a", "b", "c", *["a"] * used, "d", "e"]:
        await calls(middleware, OK, Context(params={"name": tool}))
    assert [tool for tool in "abcde" if tool in middleware.breakers] == list("acde" if used else "bcde")


async def test_memory_is_bounded_by_max_keys():
    """Whatever names come."""
    middleware = CircuitMiddleware(lambda tool: CircuitBreaker(), max_keys=10)
    for number in range(100):
        await calls(middleware, OK, Context(params={"name": str(number)}))
    assert len(middleware.breakers) == 10


@pytest.mark.uninstrumented
def test_work_of_a_success():
    """The gate of the hot path, in bytecodes added to a bare call."""

    async def call_next(ctx):
        return OK

    ctx = Context()
    for trip, limit in [(consecutive(5), 85), (failure_rate(0.5, seconds=10), 105)]:
        run = partial(per_tool(trip=trip, clock=lambda: 0.0), ctx, call_next)
        added = count_instructions(run) - count_instructions(partial(call_next, ctx))
        assert added <= limit


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ([None], {}, "a CircuitBreaker, or a function of the key, got None"),
        ([CircuitBreaker], {}, "a CircuitBreaker, or a function of the key, got <class"),
        ([CircuitBreaker()], {"key": "name"}, "a callable as key, got 'name'"),
        ([CircuitBreaker()], {"key": calls}, "does not await key, which must not be async, got <function"),
        ([CircuitBreaker()], {"fallback": "cached"}, "'cached' is not async; did you forget"),
        ([CircuitBreaker()], {"fallback": brought_to}, "brought_to is not async; did you forget"),
        ([CircuitBreaker()], {"max_keys": 1.5}, "int as max_keys, got 1.5"),
    ],
)
def test_nonsense_is_refused(arguments, options, message):
    """At construction."""
    with pytest.raises(TypeError, match=message):
        CircuitMiddleware(*arguments, **options)
