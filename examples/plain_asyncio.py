"""The same chain in an asyncio program that has nothing to do with MCP."""

from __future__ import annotations

import asyncio

from audit import chain
from mcp_middleware import Refused


@chain.around
async def add(a: int, b: int) -> int:
    """Add two numbers."""
    await asyncio.sleep(0)
    return a + b


@chain.around
def delete_everything() -> str:
    """Never runs; if it did, then in a worker thread, since it is not async."""
    return "deleted"


async def main() -> None:
    """Call both functions."""
    print("caller ", await add(40, b=2))
    try:
        await delete_everything()
    except Refused as refused:
        print("caller ", refused.code, refused.message, refused.data)


if __name__ == "__main__":
    asyncio.run(main())
