"""Make the page of numbers, its pictures and the README's table of what the benchmarks have written down.

    nox -s bench                                runs them all, then this
    python benchmarks/write_numbers.py FOLDER         FOLDER holds a NAME.json of each program bench_NAME.py

Figures are of the machine that ran them: ratios survive a change of machine, nanoseconds do not. A row is a peer's if
its name begins with that of a distribution that was installed beside ours.
"""

from __future__ import annotations

import json
import math
import re
import sys
from html import escape
from pathlib import Path

from _ratio import BASE, Figure, Row, Table

DOCS = Path(__file__).resolve().parent.parent / "docs"
README = DOCS.parent / "README.md"
ORDER = ("middleware", "metrics", "rbac", "ratelimit", "cache", "retry", "circuit", "pool", "stack")
WIDTH, BAR, LABEL, OURS, THEIRS = 720, 20, 250, "#1b6ca8", "#b0bec5"
HEAD = """# The numbers

`nox -s bench` runs each `benchmarks/bench_NAME.py` beside its peers, in one environment, and makes this page.
A ratio is CPU time over that of `await noop()` in the same process.
All candidates take turns in each round; the median of the rounds stands beside the tenth percentile.
Where a peer is better, its row says so; where a target of ours is missed, it says MISSED.

"""


def read(path: Path) -> tuple[list[Table], list[Figure]]:
    """Return the tables and figures of one program."""
    found = json.loads(path.read_text("utf-8"))
    tables = [Table(t["title"], t["versions"], [Row(**row) for row in t["rows"]]) for t in found["tables"]]
    return tables, [Figure(**each) for each in found["figures"]]


def is_peer(row: Row, table: Table) -> bool:
    """Whether *row* is of a distribution that *table* names."""
    word = re.split(r"[\s,.:-]", row.name.lower())[0]
    names = [name.lower() for name in table.versions]
    return any((len(word) > 2 and name.startswith(word)) or word.startswith(name) for name in names)


def section(name: str, tables: list[Table], figures: list[Figure]) -> str:
    """Return what the page says of one program."""
    lines = [f"## {title_of(name)}", "", f"![{escape(tables[0].title)}](pictures/numbers-{name}.svg)", ""]
    for table in tables:
        lines += [f"**{table.title or 'Cost'}** ({', '.join(map(' '.join, table.versions.items()))})", ""]
        lines += ["| | ratio | p10 | ns |", "|---|---:|---:|---:|"]
        for row in table.rows:
            lines.append(f"| {row.name} | {row.ratio:.2f} | {row.ratio_p10:.2f} | {row.nanoseconds:,.0f} |")
        lines.append("")
    if figures:
        lines += ["| figure | | target |", "|---|---:|---|"]
        lines += [f"| {each.name} | {each.value:.4g} {each.unit} | {each.target} |" for each in figures]
        lines.append("")
    return "\n".join(lines)


def title_of(name: str) -> str:
    """Return the heading of a program's section."""
    return "All of them together" if name == "stack" else f"mcp-{name}"


def picture(table: Table) -> str:
    """Draw the rows of *table* as bars, on a logarithmic scale."""
    rows = [row for row in table.rows if row.name != BASE]
    most = math.log10(max(row.ratio for row in rows) * 1.1)
    height = BAR * len(rows) + 30
    bars: list[str] = []
    for place, row in enumerate(rows):
        y = 24 + place * BAR
        length = max(math.log10(max(row.ratio, 1.0)) / most, 0.002) * (WIDTH - LABEL - 90)
        colour = THEIRS if is_peer(row, table) else OURS
        bars.append(f'<text x="{LABEL - 8}" y="{y + 13}" text-anchor="end">{escape(row.name)}</text>')
        bars.append(f'<rect x="{LABEL}" y="{y + 3}" width="{length:.1f}" height="{BAR - 6}" fill="{colour}"/>')
        bars.append(f'<text x="{LABEL + length + 6:.1f}" y="{y + 13}">{plain(row.ratio)}</text>')
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif">'
    style = "<style>text { font-size: 12px }</style>"
    sheet = f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>'
    title = f'<text x="{LABEL}" y="14">{escape(table.title)}: multiples of a bare await, logarithmic</text>'
    return "\n".join([head, style, sheet, title, *bars, "</svg>\n"])


def short(name: str, table: Table) -> str | None:
    """Return the README's line for one program: ours, the cheapest and the dearest peer."""
    rows = [row for row in table.rows if row.name != BASE]
    ours = [row for row in rows if not is_peer(row, table) and not row.name.startswith("bare")]
    peers = sorted((row for row in rows if is_peer(row, table)), key=lambda row: row.ratio)
    if name == "stack" or not ours or not peers:  # the stack stands before two SDKs, which cannot be compared
        return None
    cells = [f"{plain(row.ratio)} ({row.name})" for row in (ours[0], peers[0], peers[-1])]
    return f"| {' | '.join([title_of(name), table.title, *cells])} |"


def plain(ratio: float) -> str:
    """Return three digits of *ratio*, or all of it before the point."""
    return f"{ratio:,.0f}" if ratio >= 100 else f"{ratio:.3g}"


def main(folder: Path) -> None:
    """Write the page, the pictures and the README's table."""
    page, lines = [HEAD], []
    for name in ORDER:
        if not (folder / f"{name}.json").exists():
            continue
        tables, figures = read(folder / f"{name}.json")
        page.append(section(name, tables, figures))
        (DOCS / f"pictures/numbers-{name}.svg").write_text(picture(tables[0]), "utf-8")
        lines += [line] if (line := short(name, tables[0])) else []
    (DOCS / "numbers.md").write_text("\n".join(page), "utf-8")
    table = "\n".join(["| | what | ours | cheapest peer | dearest peer |", "|---|---|---|---|---|", *lines])
    marked = r"(?s)(?<=<!-- numbers -->\n).*?(?=\n<!-- /numbers -->)"
    README.write_text(re.sub(marked, lambda _: table, README.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
