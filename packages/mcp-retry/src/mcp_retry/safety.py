"""Which MCP requests may be sent twice.

    a method that reads      lists, resources/read, prompts/get, completion/complete
    tools/call               a tool that is *safe*: annotated ``readOnlyHint`` or ``idempotentHint``, or named by you
    anything else            never

Annotations are learned from each ``tools/list`` that passes by, the one included that some SDKs run by themselves.  A
tool that was never listed, or is listed without them, is not safe.  They are the server's own word: at a server, that
is yours; at a client, a server that lies has its own tool called twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, cast

__all__ = ["READS", "Safety"]

READS = frozenset(
    {
        "completion/complete",
        "prompts/get",
        "prompts/list",
        "resources/list",
        "resources/read",
        "resources/templates/list",
        "server/discover",
        "tools/list",
    }
)
LIMIT = 10_000  # tools that are remembered; a peer that lists more is not to fill the memory

# The spelling of the 2.x models comes first: FastMCP 4 has the other one there too, and warns who reads it.
_HINTS = (("read_only_hint", "readOnlyHint"), ("idempotent_hint", "idempotentHint"))


class Safety:
    """What is known of the tools of one server."""

    def __init__(self, safe: object) -> None:
        if isinstance(safe, str):
            raise TypeError(f"safe needs a collection of tool names, got the string {safe!r}; did you mean [{safe!r}]?")
        names: list[Any] = list(safe) if isinstance(safe, Iterable) else [safe]  # pyright: ignore[reportUnknownArgumentType]  # looked at below
        if not all(isinstance(name, str) and name for name in names):
            raise TypeError(f"safe needs a collection of names of tools, got {safe!r}")
        self._named = frozenset[str](names)
        self._learned: set[str] = set()

    def learn(self, listing: object) -> None:
        """Take note of the tools in the result of a ``tools/list``, in any SDK's form."""
        root: Any = _field(listing, "root") or listing
        tools = root if _is_list(root) else _field(root, "tools")
        for tool in tools if _is_list(tools) else ():
            name, annotations = _field(tool, "name"), _field(tool, "annotations")
            if isinstance(name, str):
                self._learned.discard(name)
                if len(self._learned) < LIMIT and any(_field(annotations, *hint) is True for hint in _HINTS):
                    self._learned.add(name)

    def may_repeat(self, method: str | None, tool: str | None) -> bool:
        """Say whether the request may be sent again although it may have been carried out."""
        return method in READS or (method == "tools/call" and (tool in self._named or tool in self._learned))


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _field(source: object, *names: str) -> Any:
    """Read the first of these fields that there is, of a mapping or a model."""
    for name in names:
        with suppress(Exception):  # a property of a foreign object may raise anything
            return cast("Any", source)[name] if isinstance(source, Mapping) else getattr(source, name)
    return None
