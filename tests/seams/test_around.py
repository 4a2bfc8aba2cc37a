"""A decorated tool is the tool that it was: schema, description, injected parameters and answer, in every SDK."""

from __future__ import annotations

from typing import Any

import mcp_middleware as mm
import pytest
from mcp_pool import Pool, PoolMiddleware

from tests.seams import pool_row
from tests.seams.clients import Answer, connect
from tests.seams.servers import FASTMCP, MCP
from tests.seams.toolbox import toolbox

pytestmark = pytest.mark.parametrize("anyio_backend", ["uvloop"], indirect=True)  # worker threads and real time

MODERN = MCP >= 2
CALLS: dict[str, dict[str, Any]] = {
    "coroutine": {"place": {"name": "hill", "height": 1.5}},
    "synchronous": {"place": {"name": "hill"}},
    "contextual": {"question": "who?"},
    "method": {"number": 5},
    "of_class": {"number": 5},
    "static": {"number": 5},
    "dependent": {"word": "it is"},
}
TOOLS = [name for name in CALLS if name != "dependent" or FASTMCP]


def tool(module: Any, name: str) -> Any:
    """Find a tool in its module, or at an instance there."""
    return getattr(module, name, None) or getattr(module.Tools(), name)


def decorated(module: Any, name: str, chain: mm.Chain) -> Any:
    """Decorate a tool as its author would: a method where it is defined, anything else as it is."""
    raw = vars(module.Tools).get(name)
    if raw is None:
        return chain.around(getattr(module, name))
    return getattr(type("Tools", (module.Tools,), {name: chain.around(raw)})(), name)


async def shown(function: Any, name: str) -> tuple[dict[str, Any], Answer]:
    """Register one tool on a new server; return what a client is told of it, and what the tool answers."""
    async with connect(_server(function, name), "memory", modern=MODERN) as client:
        (listed,) = (await client.session.list_tools()).tools
        return listed.model_dump(by_alias=True, mode="json"), await client.call(name, CALLS[name])


def _server(function: Any, name: str) -> Any:
    if FASTMCP:
        from fastmcp import FastMCP as Server
    elif MCP >= 2:
        from mcp.server.mcpserver import MCPServer as Server
    else:
        from mcp.server.fastmcp import FastMCP as Server
    server: Any = Server("toolbox")
    server.tool()(function) if FASTMCP else server.tool(name=name)(function)
    return server


class Witness:
    """Remembers what the middleware around a tool is told."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    async def __call__(self, ctx: Any, call_next: Any) -> Any:
        """Pass on."""
        self.calls.append((ctx.method, mm.target(ctx), sorted(mm.arguments(ctx))))
        return await call_next(ctx)


@pytest.mark.parametrize("postponed", [False, True], ids=["eager", "postponed"])
@pytest.mark.parametrize("name", TOOLS)
async def test_a_decorated_tool_is_told_and_answers_as_before(name: str, postponed: bool) -> None:
    """Clients, schemas and injected parameters must not notice a decorator; FastMCP 2.14 cannot even do without it."""
    witness = Witness()
    eager, module = toolbox(postponed=False), toolbox(postponed=postponed)
    bare_told, bare_answer = await shown(tool(eager, name), name)
    told, answer = await shown(decorated(module, name, mm.Chain(witness)), name)
    assert told == bare_told
    assert not answer.is_error, answer
    if name == "synchronous":
        assert answer.text == "hill False", "a sync tool leaves the event loop to others"
    else:
        assert answer == bare_answer
    ((method, target, arguments),) = witness.calls
    assert (method, target) == ("tools/call", name)
    assert set(CALLS[name]) <= set(arguments) <= {*CALLS[name], "factor", "found"}


@pytest.mark.parametrize("in_thread", [False, True])
async def test_a_tool_finds_the_resource_that_is_held_around_it(in_thread: bool) -> None:
    """Also in a worker thread; afterwards the resource is back."""
    pool = Pool(pool_row.connect)
    held = PoolMiddleware(pool)

    async def ask() -> str:
        return type(held.current()).__name__

    def ask_in_thread() -> str:
        return type(held.current()).__name__

    function: Any = ask_in_thread if in_thread else ask
    name = function.__name__
    server = _server(mm.Chain(held).around(function), name)
    async with pool, connect(server, "memory", modern=MODERN) as client:
        assert (await client.call(name, {})).text == "Resource"
        assert (pool.statistics().uses, pool.statistics().in_use) == (1, 0)
