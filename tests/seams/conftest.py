"""Print the matrix: a row for each cell, a column for each thing that is tried there."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import pytest

from tests.seams.cells import FLATTENED, RULE, Cell

HEADINGS = {"add": "succeeds", "flawed": "isError", "broken": "raises", "missing": "unknown", "ask": "asks"}
MATRIX = pytest.StashKey[dict[Cell, dict[str, str]]]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Enter what a test of one cell has found."""
    report: Any = yield
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    cell, row = parameters.get("cell"), parameters.get("row", "chain")
    if isinstance(cell, Cell) and item.path.name == "test_matrix.py" and (report.when == "call" or not report.passed):
        column = item.originalname.removeprefix("test_")
        found = {"passed": _found(cell, column, row), "skipped": {column: "-"}}
        failed = {column: "FAILED"}
        item.config.stash.setdefault(MATRIX, {}).setdefault(cell, {}).update(found.get(report.outcome, failed))
    return report


def _found(cell: Cell, column: str, row: str) -> dict[str, str]:
    """Fill the columns of a test that has passed: it saw what the cell says."""
    if column == "outcomes" and row != "chain":
        return {row: "fits"}
    if column == "outcomes":
        return {HEADINGS[tool]: dict(cell.expected()).get(tool, "-") for tool in RULE}
    if column == "cancelled":
        return {column: cell.sees.get("slow", column)}
    return {column: ("text" if cell.flattens else "code, data") if column == "refuse" else "yes"}


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print the matrix, the reasons for its gaps, and its size."""
    matrix = config.stash.get(MATRIX, {})
    if not matrix:
        return
    columns = list(dict.fromkeys(column for found in matrix.values() for column in found))
    table = [
        ["", *columns],
        *([cell.name, *(found.get(name, "") for name in columns)] for cell, found in matrix.items()),
    ]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    terminalreporter.section("seams")
    for line in table:
        terminalreporter.line("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())
    for reason, cells in _reasons(list(matrix)).items():
        terminalreporter.line(f"\n{reason}:\n    {'; '.join(cells)}")
    versions = ", ".join(f"{package} {found}" for package in ("mcp", "fastmcp") if (found := _version(package)))
    terminalreporter.line(f"\n{len(matrix)} cells, {versions}")


def _reasons(cells: list[Cell]) -> dict[str, list[str]]:
    reasons: dict[str, list[str]] = {}
    for cell in cells:
        for what, why in (*cell.lacks.items(), *([("code, data", FLATTENED)] if cell.flattens else [])):
            reasons.setdefault(f"no '{HEADINGS.get(what, what)}': {why}", []).append(cell.name)
    return reasons


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
