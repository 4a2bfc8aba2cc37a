"""The benchmark harness orders candidates by their work and writes down what it saw."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks._ratio import compare


def test_more_work_has_a_higher_ratio(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Async and sync candidates stand beside the bare await, in the order given, in rows, table and JSON."""

    async def heavy() -> None:
        sum(range(3000))

    rows = compare(
        {"heavy": heavy, "light": lambda: None}, rounds=5, calls=300, peers=["anyio", "absent"], path=tmp_path / "rows"
    )
    assert [row.name for row in rows] == ["await noop()", "heavy", "light"]
    bare, heavy_row, light = rows
    assert bare.ratio == 1
    assert heavy_row.ratio > 20 > light.ratio
    printed, written = capsys.readouterr().out, json.loads((tmp_path / "rows").read_text())
    assert "absent not installed" in printed
    assert written["versions"]["anyio"][0].isdigit()
    assert [row["nanoseconds"] for row in written["rows"]] == [row.nanoseconds for row in rows]
