"""The cells of the matrix: a place for a middleware, a transport, a protocol era, and what differs there.

Where a cell differs from the rule, it says why: the SDK cannot do it at all (``lacks``), the place sees another outcome
(``sees``), or a refusal loses its code (``flattens``). The reasons are printed below the matrix. ``phantoms`` counts
the calls of ``tools/list`` that the SDK makes by itself when a client calls ``add`` twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.seams import servers
from tests.seams.servers import FASTMCP, MCP

RULE = {"add": "ok", "flawed": "tool_error", "broken": "tool_error", "missing": "tool_error", "ask": "input_required"}
"""The tools that are called, and the outcomes that a middleware should see; only 2026-07-28 has ``ask``."""

ARGUMENTS = {"add": {"a": 1, "b": 2}}

NO_QUESTIONS = "a tool can ask by its result since 2026-07-28 only"
UNKNOWN = {"missing": "a decorated tool does not hear of calls of another"}
NO_REWRITE = "an extension gets validated params; a changed context does not reach the tool"
UNMARKED = {"internal": "the SDK's own tools/list looks like a client's there; install() tells them apart"}
FLATTENED = "the SDK turns every exception into a result with isError: the text arrives, code and data do not"
NEVER_STOPS = "a stateless server before 2026-07-28 cannot connect the notification with the request"


@dataclass(frozen=True, eq=False)
class Cell:
    """One place to sit, and one way to be reached."""

    place: str
    build: str
    transport: str
    modern: bool = False
    side: str = "server"
    sees: Mapping[str, str] = field(default_factory=dict)
    lacks: Mapping[str, str] = field(default_factory=dict)
    flattens: bool = False
    phantoms: int = 0

    @property
    def name(self) -> str:
        """Name the cell in the matrix."""
        era = "2026-07-28" if self.modern else "handshake"
        return f"{self.place}, {self.transport}, {era}"

    def calls(self) -> list[str]:
        """List the tools to call."""
        return [tool for tool in RULE if tool != "ask" or self.modern]

    def expected(self) -> list[tuple[str, str]]:
        """List the calls that the middleware sees, with their outcomes."""
        return [(tool, self.sees.get(tool, RULE[tool])) for tool in self.calls() if tool not in self.lacks]


def cells() -> Iterator[Cell]:
    """List the cells of the SDK that is installed."""
    if FASTMCP:
        yield from _fastmcp()
    elif MCP >= 2:
        yield from _mcp2()
    else:
        yield from _mcp1()


def _cells(place: str, build: str, reached: str, **more: Any) -> Iterator[Cell]:
    """`reached` is a list of transports, those with an asterisk in the modern era."""
    for transport in reached.split(", "):
        modern, transport_name = transport.endswith("*"), transport.rstrip("*")
        lacks = dict(more.get("lacks", {}))
        if not modern:
            lacks["ask"] = NO_QUESTIONS
        if transport_name == "http stateless" and not modern and more.get("side") != "client":
            lacks["cancelled"] = NEVER_STOPS
        yield Cell(place, build, transport_name, modern, **{**more, "lacks": lacks})


def _mcp2() -> Iterator[Cell]:
    everywhere = "memory*, memory, stdio*, stdio, http*, http, http stateless"
    raises = {"missing": "protocol_error"}
    yield from _cells("MCPServer(middleware=)", "mcpserver", everywhere)
    yield from _cells("Server.middleware", "lowlevel_2", "memory*, memory", sees=raises)
    yield from _cells("Server.middleware", "lowlevel_2", "http*", sees=raises, phantoms=2)
    yield from _cells("Extension", "extension", "memory*, memory, http*", lacks={"rewrite": NO_REWRITE})
    yield from _cells("decorated tool", "decorated_2", "memory*, stdio*, http*, http", lacks=UNKNOWN)
    yield from _cells("client dispatcher", "mcpserver", "memory*, memory, stdio*, http*, http", side="client")
    yield from _asgi("mcpserver", "http*, http, http stateless")


def _mcp1() -> Iterator[Cell]:
    yield from _cells("install(Server)", "lowlevel_1", "memory, stdio, http, http stateless", phantoms=1)
    yield from _cells("install(FastMCP)", "official_1", "memory, http", phantoms=1)
    yield from _cells("decorated tool", "decorated_1", "memory, stdio, http", lacks=UNKNOWN, flattens=True)
    yield from _cells("client session", "lowlevel_1", "memory, stdio, http", side="client")
    yield from _asgi("lowlevel_1", "http, http stateless")


def _fastmcp() -> Iterator[Cell]:
    new = FASTMCP >= 4
    short, table = ("memory*", "fastmcp_list") if new else ("memory", "fastmcp_table")
    if new:
        yield from _cells("add_middleware(as_fastmcp)", "fastmcp", "memory*, memory, stdio*, http")
        yield from _cells("add_middleware(as_fastmcp)", "fastmcp", "http*", phantoms=2)
        yield from _cells("_mcp_server.middleware", table, "memory*, memory")
        yield from _cells("_mcp_server.middleware", table, "http*", phantoms=2)
    else:
        reached = "memory, stdio, http, http stateless"
        yield from _cells("add_middleware(as_fastmcp)", "fastmcp", reached, flattens=True, lacks=UNMARKED)
        yield from _cells("install", table, "memory, http", phantoms=1)
    unmarked = {} if new else UNMARKED
    yield from _cells("add_middleware(bare)", "duck_typed", short, flattens=not new, lacks=unmarked)
    yield from _cells("mounted child", "mounted", short, flattens=not new, lacks=unmarked)
    yield from _cells("decorated tool", "decorated_fastmcp", short, lacks=UNKNOWN, flattens=True)
    yield from _cells("client", "fastmcp", short, side="client")
    yield from _asgi("fastmcp", "http*, http" if new else "http, http stateless")


def _asgi(build: str, reached: str) -> Iterator[Cell]:
    return _cells("ASGI", build, reached, side="asgi", sees=dict.fromkeys([*RULE, "slow"], "ok"))


def server_of(cell: Cell, middleware: Any) -> Any:
    """Build the server of a cell in this process, with the middleware if it sits there."""
    build = getattr(servers, cell.build)
    return build(middleware) if cell.side == "server" else build()
