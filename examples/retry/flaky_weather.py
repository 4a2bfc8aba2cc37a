"""A server whose upstream fails now and then, with one retry in front of it and around a plain function.

Run it: python examples/retry/flaky_weather.py
"""

from __future__ import annotations

import logging

import anyio
from mcp import Client
from mcp.server import MCPServer
from mcp.types import TextContent, ToolAnnotations
from mcp_retry import Backoff, Budget, Event, Fallback, GaveUp, Recovered, Retry, RetryMiddleware


def log(event: Event) -> None:
    """Print what an operator would want to know."""
    if isinstance(event, (Recovered, GaveUp)):
        print("event  ", event)


logging.getLogger("mcp").setLevel("CRITICAL")  # it prints a traceback for each tool that raises

upstream = Budget(ratio=0.1, burst=10)  # one purse for all that calls the same upstream
retry = Retry(on=ConnectionError, backoff=Backoff([0.01, 0.02], jitter="full"), budget=upstream, on_event=log)
server = MCPServer("weather", middleware=[RetryMiddleware(retry)])
requests: list[str] = []


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
async def forecast(city: str) -> str:
    """Tell the weather; the first request for each city fails."""
    requests.append(city)
    if requests.count(city) == 1:
        raise ConnectionError("upstream is restarting")
    return f"sunny in {city}"


@server.tool()
async def book(city: str) -> str:
    """Book a trip: not annotated as safe, so it is tried once."""
    requests.append(f"booking {city}")
    raise ConnectionError("upstream is restarting")


@Fallback(on=ConnectionError, value="no forecast today")
@retry
async def plain(city: str) -> str:
    """Do the same outside of MCP, with something to say when all is lost."""
    raise ConnectionError(f"no upstream for {city}")


async def ask(client: Client, tool: str) -> None:
    """Call a tool and print the answer."""
    result = await client.call_tool(tool, {"city": "Oslo"})
    texts = [block.text for block in result.content if isinstance(block, TextContent)]
    print("client ", tool, "failed" if result.is_error else texts[0])


async def main() -> None:
    """Ask through the server, and directly."""
    async with Client(server) as client:
        await client.list_tools()  # from which the middleware learns what is safe
        await ask(client, "forecast")
        await ask(client, "book")
    print("caller ", await plain("Rome"))
    print("budget ", f"{upstream.statistics().spent} retries spent,", requests.count("booking Oslo"), "booking tried")


if __name__ == "__main__":
    anyio.run(main)
