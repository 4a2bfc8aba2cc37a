"""Where the story is told: headings, what the chain saw, a progress bar, and claims that are checked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from .world import Ledger

COLOURS = {"ok": "green", "tool_error": "yellow", "input_required": "cyan", "rejected": "red", "cancelled": "magenta"}


class Stage:
    """What an act is given: the folder, the ledger of the chain, and a way to speak to the audience.

    *metrics* is the file for the metrics of the day.
    """

    def __init__(self, folder: Path, console: Console, metrics: Path) -> None:
        self.folder, self.metrics = folder, metrics
        self.claims = self.failed = 0
        self.cost = 0.0  # seconds that the stack adds to a call
        self._acts = 0
        self._ledger = Ledger(folder)
        self._console = console
        self._right, self._wrong = "+x" if console.options.ascii_only else "✓✗"

    def act(self, title: str, text: str) -> None:
        """Begin an act."""
        self._acts += 1
        self._console.print()
        self._console.rule(Text.assemble(f"{self._acts}  ", (title, "bold")), align="left", style="dim")
        self.tell(text)

    def tell(self, text: str) -> None:
        """Say something that is no claim."""
        self._console.print(Padding(Text(text, style="dim"), (0, 0, 0, 3), expand=False))

    @contextmanager
    def waiting(self, text: str) -> Iterator[None]:
        """Show on a terminal that something takes a moment."""
        with self._console.status(f"[dim]{text}"):
            yield

    @contextmanager
    def progress(self, text: str) -> Iterator[Callable[[float, float], None]]:
        """Show a bar that moves on a terminal, and is printed once elsewhere; the block reports (done, total)."""
        columns = TextColumn("   {task.description}"), BarColumn(30), TextColumn("{task.completed:g} of {task.total:g}")
        with Progress(*columns, console=self._console) as bar:
            task = bar.add_task(text, total=1)
            yield lambda done, total: bar.update(task, completed=done, total=total)

    async def ledger(self, *expected: tuple[str | None, str, str]) -> list[dict[str, Any]]:
        """Show what the chain has seen since last asked, and claim that its calls are these (who, tool, outcome)."""
        page = await self._ledger.page(len(expected))
        self._show(page)
        calls = [(entry["who"], entry["target"], entry["outcome"]) for entry in page if entry["method"] == "tools/call"]
        text = f"the chain saw these {len(expected)} calls, and no others"
        self.claim(text, sorted(calls, key=str), sorted(expected, key=str))
        return page

    def ledger_lines(self, method: str) -> list[dict[str, Any]]:
        """Return everything that the chain has seen of one method, from the first act on."""
        return self._ledger.all(method)

    def _show(self, page: list[dict[str, Any]]) -> None:
        groups: dict[tuple[str, ...], list[float]] = {}
        for entry in page:
            key = entry["who"] or "local", entry["target"] or entry["method"], entry["outcome"]
            groups.setdefault(key, []).append(entry["seconds"])
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
        for title, width in (("who", 5), ("what", 15), ("outcome", 14)):
            table.add_column(title, width=width)
        table.add_column("times", justify="right")
        table.add_column("took at most", justify="right")
        for (who, what, ending), times in groups.items():
            style = "dim" if "/" in what else ""
            outcome = Text(ending, style=COLOURS.get(ending, "red"))
            table.add_row(who, what, outcome, f"{len(times)}", milliseconds(max(times)), style=style)
        self._console.print()
        self._console.print(Padding(table, (0, 0, 0, 5), expand=False))
        self._console.print()

    def table(self, title: str, columns: list[str], rows: list[list[str]]) -> None:
        """Show a table; all but its first two columns are figures."""
        table = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
        for place, column in enumerate(columns):
            table.add_column(column, style="" if place else "dim", justify="right" if place > 1 else "left")
        for row in rows:
            table.add_row(*row)
        self._console.print()
        self._console.print(Padding(table, (0, 0, 0, 5), expand=False))

    def claim(self, text: str, seen: object, expected: object) -> None:
        """Check one claim, and say so; a claim that fails shows both sides, and makes the demo fail."""
        self.claims += 1
        held = seen == expected
        self._console.print(
            Text.assemble((f"   {self._right} ", "green") if held else (f"   {self._wrong} ", "red"), text)
        )
        if not held:
            self.failed += 1
            both = f"expected {expected!r}\nseen     {seen!r}"
            self._console.print(Padding(Text(both, style="red"), (0, 0, 0, 5), expand=False))


def milliseconds(seconds: float) -> str:
    """Write a time as people read it."""
    return f"{seconds * 1000:.1f} ms"
