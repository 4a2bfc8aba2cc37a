"""The benchmark harness orders candidates by their work and writes down what it saw."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks._ratio import Figure, compare, figure


def test_more_work_has_a_higher_ratio(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Async and sync candidates stand beside the bare await, in the order given, in rows, table and JSON."""
    monkeypatch.setenv("BENCH_RECORD", str(tmp_path / "record"))

    async def heavy() -> None:
        sum(range(3000))

    rows = compare(
        {"heavy": heavy, "light": lambda: None}, title="work", rounds=5, calls=300, peers=["anyio", "absent"]
    )
    figure("memory", 52, "bytes", at_most=70)
    assert [row.name for row in rows] == ["await noop()", "heavy", "light"]
    bare, heavy_row, light = rows
    assert bare.ratio == 1
    assert heavy_row.ratio > 20 > light.ratio
    printed, written = capsys.readouterr().out, json.loads((tmp_path / "record").read_text())
    assert "absent not installed" in printed
    assert "memory: 52 bytes  at most 70: kept" in printed
    assert written["tables"][-1]["versions"]["anyio"][0].isdigit()
    assert [row["nanoseconds"] for row in written["tables"][-1]["rows"]] == [row.nanoseconds for row in rows]
    assert written["figures"][-1]["value"] == 52


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        ({}, ""),
        ({"at_most": 3}, "at most 3: kept"),
        ({"at_most": 2}, "at most 2: MISSED"),
        ({"at_least": 3}, "at least 3: kept"),
        ({"at_least": 4}, "at least 4: MISSED"),
    ],
)
def test_a_missed_limit_says_so(limits: dict[str, float], says: str) -> None:
    """Nobody has to compare two figures by eye."""
    assert Figure("f", 3, "", **limits).target == says
