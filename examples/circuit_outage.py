"""An MCP server lives through the outage of a service that one of its tools needs.

A client calls the tool ten times a second. The service is down for a second: three calls fail, the rest of the outage
costs the client nothing but refusals that say when to come back, and one probe finds out that it is over.

Needs: mcp 2.x, mcp-circuit
"""

from __future__ import annotations

from collections import Counter
from functools import partial

import anyio
from mcp import Client, MCPError
from mcp.server import MCPServer
from mcp_circuit import CircuitBreaker, CircuitMiddleware, Event, Transition, consecutive, growing

OUTAGE = range(3, 13)  # tenths of a second


class Weather:
    """A service that can be down; it counts the calls that reach it then."""

    is_down = False
    suffered = 0

    async def ask(self, city: str) -> str:
        """Answer, or fail."""
        if self.is_down:
            self.suffered += 1
            raise ConnectionError("no route to the weather")
        return f"{city}: sun"


def report(event: Event) -> None:
    """Print transitions, not every refusal."""
    if isinstance(event, Transition):
        print(f"circuit {event.source.value} -> {event.target.value} ({event.cause})")


def build(weather: Weather) -> MCPServer:
    """A server with one tool, behind one breaker a tool."""
    new_breaker = partial(CircuitBreaker, trip=consecutive(3), cooldown=growing(0.3), on_event=report)
    circuit = CircuitMiddleware(lambda tool: new_breaker(name=tool))
    server = MCPServer("travel", middleware=[circuit], log_level="CRITICAL")

    @server.tool()
    async def forecast(city: str) -> str:
        """Tomorrow's weather."""
        return await weather.ask(city)

    return server


async def call(client: Client) -> str:
    """Call the tool once, and say in a word how it ended."""
    try:
        result = await client.call_tool("forecast", {"city": "Oslo"})
    except MCPError as error:
        return f"refused with code {error.code}"
    return "failed" if result.is_error else "answered"


async def main() -> None:
    """Two seconds of calls, the service being down from 0.3 s to 1.3 s."""
    weather, ends = Weather(), Counter[str]()
    async with Client(build(weather)) as client:
        for tenth in range(25):
            weather.is_down = tenth in OUTAGE
            ends[await call(client)] += 1
            await anyio.sleep(0.1)
        print("in the end:", await call(client))
    assert ends["refused with code -31103"] > weather.suffered
    assert ends["failed"] == weather.suffered


if __name__ == "__main__":
    anyio.run(main)
