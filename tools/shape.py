"""Print how long and how deep the code of each package is, and fail where it is longer or deeper than we let it be.

Lines of a module are those that are not blank. Lines of a function are those of its body that hold code: no docstring,
no comment, no blank line, no signature.
"""

from __future__ import annotations

import ast
import statistics
import sys
from pathlib import Path
from typing import NamedTuple

PACKAGES = Path(__file__).resolve().parent.parent / "packages"
BLOCKS = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.With, ast.AsyncWith, ast.Try, ast.Match)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)

MODULE, MEDIAN, NINTH_DECILE, LONGEST, NESTING = 260, 4, 16, 40, 3


class Function(NamedTuple):
    """One function: where it stands, its lines of code, and how deep blocks lie in each other."""

    place: str
    lines: int
    nesting: int


def filled(lines: list[str]) -> int:
    """Count the lines that are not blank."""
    return sum(1 for line in lines if line.strip())


def code_lines(text: str, tree: ast.Module) -> set[int]:
    """Return the numbers of the lines that hold code."""
    lines = {n for n, line in enumerate(text.splitlines(), 1) if line.strip() and not line.lstrip().startswith("#")}
    for node in ast.walk(tree):
        if (
            isinstance(node, (ast.Module, ast.ClassDef, *FUNCTIONS))
            and ast.get_docstring(node, clean=False) is not None
        ):
            lines -= span(node.body[:1])
    return lines


def span(body: list[ast.stmt]) -> set[int]:
    """Return the numbers of the lines from the first to the last statement."""
    return set(range(body[0].lineno, (body[-1].end_lineno or 0) + 1))


def nesting(node: ast.AST) -> int:
    """Return how many blocks lie in each other below *node*; `elif` is no deeper than its `if`."""
    deepest = 0
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (*FUNCTIONS, ast.ClassDef)):
            continue
        is_elif = isinstance(node, ast.If) and isinstance(child, ast.If) and node.orelse == [child]
        deepest = max(deepest, nesting(child) + (isinstance(child, BLOCKS) and not is_elif))
    return deepest


def measure(module: Path) -> tuple[int, list[Function]]:
    """Return the lines of *module*, and each of its functions, inner ones too."""
    text = module.read_text("utf-8")
    tree = ast.parse(text)
    lines = code_lines(text, tree)
    return len(lines), [
        Function(
            f"{module.relative_to(PACKAGES)}:{node.lineno} {node.name}", len(lines & span(node.body)), nesting(node)
        )
        for node in ast.walk(tree)
        if isinstance(node, FUNCTIONS)
    ]


def report(package: Path) -> list[str]:
    """Print one line of figures; return what is over the limits."""
    measures = {path.relative_to(PACKAGES): measure(path) for path in sorted(package.glob("src/**/*.py"))}
    modules = {path: lines for path, (lines, _) in measures.items()}
    found = [function for _, functions in measures.values() for function in functions]
    lengths = sorted(function.lines for function in found) or [0]
    median, decile = statistics.median(lengths), lengths[int(len(lengths) * 0.9)]
    deepest = max((function.nesting for function in found), default=0)
    print(
        f"{package.name:16} {len(modules):7} {max(modules.values()):7} {len(found):9}"
        f" {median:6.0f} {decile:4} {lengths[-1]:4} {deepest:7}"
    )
    return [
        *(f"{path}: {lines} lines > {MODULE}" for path, lines in modules.items() if lines > MODULE),
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
