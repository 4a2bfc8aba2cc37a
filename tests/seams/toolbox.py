"""Tools of every shape that a server takes: async and sync, functions and methods, with injected parameters.

``toolbox`` runs this very text again: as it stands, or as if ``from __future__ import annotations`` stood on top, which
leaves annotations as strings that only the module itself can resolve.
"""

import __future__

import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

from pydantic import BaseModel, Field

from tests.seams.servers import FASTMCP, MCP

if FASTMCP:
    from fastmcp import Context
    from fastmcp.dependencies import Depends
elif MCP >= 2:
    from mcp.server.mcpserver import Context
else:
    from mcp.server.fastmcp import Context


class Place(BaseModel):
    """A structured argument and result."""

    name: str
    height: float = 0.0


async def coroutine(place: Place, factor: Annotated[int, Field(ge=1, description="how often")] = 2) -> Place:
    """Make a place higher."""
    return Place(name=place.name, height=place.height * factor)


def synchronous(place: Place) -> str:
    """Say a name, and whether the event loop must wait for it."""
    return f"{place.name} {threading.current_thread() is threading.main_thread()}"


async def contextual(question: str, ctx: Context) -> str:
    """Use the injected context."""
    return f"{question} {type(ctx).__name__} {ctx.request_id is not None}"


class Tools:
    """Methods."""

    factor = 3

    async def method(self, number: int) -> int:
        """Multiply."""
        return number * self.factor

    @classmethod
    async def of_class(cls, number: int) -> int:
        """Multiply for a class."""
        return number * cls.factor

    @staticmethod
    async def static(number: int) -> int:
        """Add one."""
        return number + 1


if FASTMCP:

    def secret() -> str:
        """What is injected."""
        return "injected"

    async def dependent(word: str, found: str = Depends(secret)) -> str:
        """Use a dependency."""
        return f"{word} {found}"


def toolbox(*, postponed: bool) -> Any:
    """Run this text afresh."""
    flags = __future__.annotations.compiler_flag if postponed else 0
    module = ModuleType(f"{__name__}_{'postponed' if postponed else 'eager'}")
    sys.modules[module.__name__] = module
    code = compile(Path(__file__).read_text("utf-8"), __file__, "exec", flags=flags, dont_inherit=True)
    exec(code, module.__dict__)
    return module
