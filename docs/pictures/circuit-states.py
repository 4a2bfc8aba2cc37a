"""Draw the states of mcp-circuit from its own table of transitions, as SVG on standard output."""

from __future__ import annotations

from mcp_circuit import TRANSITIONS, State

PLACES = {
    State.CLOSED: (110, 60),
    State.OPEN: (560, 60),
    State.HALF_OPEN: (560, 230),
    State.RAMPING: (110, 230),
    State.ISOLATED: (110, 370),
    State.DISABLED: (335, 370),
    State.OBSERVING: (560, 370),
}
WIDTH, HEIGHT = 150, 44
BY_HAND = {"reset", "isolated", "disabled", "observed"}
BY_STORE = {"store_opened", "store_closed"}
HEAD = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 700 440" font-family="sans-serif" font-size="14">
<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto-start-reverse">
<path d="M0 0L8 4L0 8z"/></marker></defs>"""


def edge(source: State, target: State) -> tuple[float, float, float, float]:
    """Where the arrow leaves one box and meets the other, moved aside so that two opposite arrows stay apart."""
    (x1, y1), (x2, y2) = PLACES[source], PLACES[target]
    span = max(abs(x2 - x1) / (WIDTH / 2), abs(y2 - y1) / (HEIGHT / 2))
    dx, dy = (x2 - x1) / span, (y2 - y1) / span
    aside_x, aside_y = (9 if dy else 0) * (1 if dy > 0 else -1), (9 if dx and not dy else 0) * (1 if dx > 0 else -1)
    return x1 + dx + aside_x, y1 + dy + aside_y, x2 - dx + aside_x, y2 - dy + aside_y


def arrow(source: State, target: State, cause: str) -> str:
    """One transition, with its cause beside it."""
    if source is target:
        x, y = PLACES[source]
        x += WIDTH / 2
        path = f"M{x} {y - 10}C{x + 40} {y - 24} {x + 40} {y + 24} {x} {y + 10}"
        anchor, text = "end", (x - 4, y + 38)
    else:
        x1, y1, x2, y2 = edge(source, target)
        path = f"M{x1:.0f} {y1:.0f}L{x2:.0f} {y2:.0f}"
        anchor = "start" if x1 == x2 and y2 > y1 else "end" if x1 == x2 else "middle"
        beside = (7 if anchor == "start" else -7 if anchor == "end" else 0, 0 if x1 == x2 else -7 if y1 == y2 else -16)
        part = 0.5 if x1 == x2 or y1 == y2 else 0.25  # of the way: the diagonals cross in their middle
        text = x1 + (x2 - x1) * part + beside[0], y1 + (y2 - y1) * part + beside[1]
    line = f'<path d="{path}" fill="none" stroke="black" marker-end="url(#tip)"/>'
    return f'{line}<text x="{text[0]:.0f}" y="{text[1]:.0f}" text-anchor="{anchor}">{cause}</text>'


def box(state: State) -> str:
    """One state."""
    x, y = PLACES[state]
    corner = f'x="{x - WIDTH / 2:.0f}" y="{y - HEIGHT / 2:.0f}" width="{WIDTH}" height="{HEIGHT}" rx="9"'
    label = f'<text x="{x}" y="{y + 5}" text-anchor="middle" font-weight="bold">{state.name}</text>'
    return f'<rect {corner} fill="#eef3fb" stroke="black"/>{label}'


def main() -> None:
    """Print the picture."""
    drawn = {pair: target for pair, target in TRANSITIONS.items() if pair[1] not in BY_HAND | BY_STORE}
    by_hand = ", ".join(
        sorted({f"{cause} → {target.name}" for (_, cause), target in TRANSITIONS.items() if cause in BY_HAND})
    )
    print(HEAD)
    for (source, cause), target in drawn.items():
        print(arrow(source, target, cause))
    for state in State:
        print(box(state))
    print(f'<text x="335" y="430" text-anchor="middle" font-size="11">from every state, by hand: {by_hand}</text>')
    print("</svg>")


if __name__ == "__main__":
    main()
