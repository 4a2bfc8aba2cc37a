"""Packages stand alone: what a module may import, read from its source."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.monorepo.checkout import FILE_IDS, FILES, MODULES

ALLOWED = {*sys.stdlib_module_names, "anyio"}
# The MCP side, which is several modules in some packages; all others are primitives, and work without the protocol.
FACES = {"__init__.py", "middleware.py", "hiding.py", "identity.py", "outcomes.py", "stepup.py"}


def imported(node: ast.AST) -> list[str]:
    """Return what one statement imports; a name of the own package begins with a dot."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return ["." + (node.module or alias.name) if node.level else str(node.module) for alias in node.names]
    return []


def at_import_time(node: ast.AST) -> Iterator[ast.AST]:
    """Walk what runs when the module is imported: no function's body, nothing for type checkers only."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            continue
        if not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            yield child
            yield from at_import_time(child)


def strangers(tree: ast.Module) -> set[str]:
    """Return the foreign top-level packages that importing the module imports."""
    names = {name.partition(".")[0] for node in at_import_time(tree) for name in imported(node) if name[0] != "."}
    return names - ALLOWED


def siblings(tree: ast.Module, own: str) -> set[str]:
    """Return the packages of ours, other than *own*, that the module imports anywhere, be it late or for types."""
    names = {name.partition(".")[0] for node in ast.walk(tree) for name in imported(node)}
    return names & set(MODULES.values()) - {own}


@pytest.mark.parametrize("path", FILES, ids=FILE_IDS)
def test_module_imports_only_what_it_may(path: Path) -> None:
    """A dependency that slips in is somebody's broken install; a sibling would tie releases together."""
    tree = ast.parse(path.read_bytes())
    assert strangers(tree) == set()
    assert siblings(tree, path.parent.name) == set()


@pytest.mark.parametrize("path", FILES, ids=FILE_IDS)
def test_primitive_knows_nothing_of_the_protocol(path: Path) -> None:
    """A primitive must work as one copied file; only mcp-middleware has the protocol for its subject."""
    names = {name for node in ast.walk(ast.parse(path.read_bytes())) for name in imported(node)}
    assert "._seam" not in names or path.name in FACES or path.parent.name == "mcp_middleware"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import anyio.abc, asyncio\nfrom . import core", set()),
        ("import redis", {"redis"}),
        ("try:\n    from jwt import decode\nexcept ImportError:\n    pass", {"jwt"}),
        ("class A:\n    import redis", {"redis"}),
        ("def late():\n    import redis", set()),
        ("if TYPE_CHECKING:\n    from typing_extensions import Self", set()),
    ],
)
def test_strangers(source: str, expected: set[str]) -> None:
    """The check itself: late imports and those for type checkers cost a user nothing, all others count."""
    assert strangers(ast.parse(source)) == expected


def test_siblings() -> None:
    """The check itself: even a late import of another package of ours counts."""
    assert siblings(ast.parse("def late():\n    import mcp_middleware.chain"), "mcp_other") == {"mcp_middleware"}
    assert siblings(ast.parse("import mcp_middleware"), "mcp_middleware") == set()
