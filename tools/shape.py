"""Print how long and how deep the code of each package is, and fail where it is longer or deeper than we let it be.

Lines of a function are those of its body that hold code: no docstring, no comment, no blank line, no signature.
"""

from __future__ import annotations

import ast
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

PACKAGES = Path(__file__).resolve().parent.parent / "packages"
BLOCKS = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.With, ast.AsyncWith, ast.Try, ast.Match)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)

MODULE, MEDIAN, NINTH_DECILE, LONGEST, NESTING = 300, 4, 16, 40, 3


class Function(NamedTuple):
    """One function: where it stands, its lines of code, and how deep blocks lie in each other."""

    place: str
    lines: int
    nesting: int


def code_lines(function: ast.FunctionDef | ast.AsyncFunctionDef, source: list[str]) -> int:
    """Count the lines of the body that hold code."""
    body = function.body[1:] if ast.get_docstring(function, clean=False) is not None else function.body
    lines = source[body[0].lineno - 1 : body[-1].end_lineno] if body else []
    return sum(1 for line in lines if line.strip() and not line.lstrip().startswith("#"))


def nesting(node: ast.AST) -> int:
    """Return how many blocks lie in each other below *node*; `elif` is no deeper than its `if`."""
    deepest = 0
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (*FUNCTIONS, ast.ClassDef)):
            continue
        is_elif = isinstance(node, ast.If) and isinstance(child, ast.If) and node.orelse == [child]
        deepest = max(deepest, nesting(child) + (isinstance(child, BLOCKS) and not is_elif))
    return deepest


def functions(module: Path) -> Iterator[Function]:
    """Measure every function of *module*, inner ones too."""
    text = module.read_text("utf-8")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, FUNCTIONS):
            place = f"{module.relative_to(PACKAGES)}:{node.lineno} {node.name}"
            yield Function(place, code_lines(node, text.splitlines()), nesting(node))


def report(package: Path) -> list[str]:
    """Print one line of figures; return what is over the limits."""
    modules = {path: len(path.read_text("utf-8").splitlines()) for path in sorted(package.glob("src/**/*.py"))}
    found = [function for module in modules for function in functions(module)]
    lengths = sorted(function.lines for function in found)
    median, decile = statistics.median(lengths), lengths[int(len(lengths) * 0.9)]
    deepest = max(function.nesting for function in found)
    print(
        f"{package.name:16} {len(modules):7} {max(modules.values()):7} {len(found):9}"
        f" {median:6.0f} {decile:4} {lengths[-1]:4} {deepest:7}"
    )
    return [
        *(f"{path.relative_to(PACKAGES)}: {size} lines > {MODULE}" for path, size in modules.items() if size > MODULE),
        *(f"{place}: {lines} lines > {LONGEST}" for place, lines, _ in found if lines > LONGEST),
        *(f"{place}: {depth} blocks deep > {NESTING}" for place, _, depth in found if depth > NESTING),
        *([f"{package.name}: median function {median} > {MEDIAN}"] if median > MEDIAN else []),
        *([f"{package.name}: ninth decile of functions {decile} > {NINTH_DECILE}"] if decile > NINTH_DECILE else []),
    ]


def main() -> int:
    """Measure every package; return the exit code."""
    print(f"{'package':16} modules longest functions median  p90  max deepest")
    faults = [fault for package in sorted(PACKAGES.glob("*/")) for fault in report(package)]
    print("\n".join(faults))
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
