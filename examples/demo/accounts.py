"""The last act: what the layers of all servers have counted, added up, written to a file and checked."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from mcp_metrics import Snapshot, openmetrics, read
from mcp_metrics.testing import find

from .stage import Stage, milliseconds
from .status import latencies

COUNT = "mcp_server_operation_duration_seconds_count"


def play(stage: Stage) -> None:
    """Add up, write, check, and show."""
    stage.act("The accounts", "What the layers of all servers have counted, added up and checked.")
    metrics = read(stage.folder / "accounts")
    layers = [json.loads(path.read_text("utf-8")) for path in sorted((stage.folder / "accounts").glob("*.json"))]
    text = "".join(openmetrics(metrics))
    stage.metrics.write_text(text, "utf-8")
    calls = int(sum(sample.value for sample in find(text, COUNT, mcp_method_name="tools/call")))
    ledger = stage.ledger_lines("tools/call")
    stage.claim(f"{stage.metrics.name} holds every call that the ledger knows", calls, len(ledger))
    refused = Counter[tuple[str, str]]()
    for row in (row for facts in layers for row in facts["refusals"]):
        refused[row["by"], row["why"]] += row["times"]
    rejected = sum(line["outcome"] == "rejected" for line in ledger)
    hidden = refused["rbac", "default"]
    stage.claim("every refusal has its layer and its reason", refused.total() - hidden, rejected)
    stage.table("calls", ["tool", "calls", "errors", "p50", "p99"], _calls(metrics))
    stage.table("refused", ["by", "why", "times"], _refusals(refused))
    stage.table("layers", ["layer", "what", "times"], _layers(layers, stage.cost))
    stage.tell(f"the metrics of the day are in {stage.metrics}")


def _calls(metrics: Snapshot) -> list[list[str]]:
    return [
        [row["tool"], f"{row['calls']}", f"{row['errors']}", milliseconds(row["p50"]), milliseconds(row["p99"])]
        for row in latencies(metrics)
    ]


def _refusals(refused: Counter[tuple[str, str]]) -> list[list[str]]:
    return [[by, why, f"{times}"] for (by, why), times in refused.items() if times]


def _layers(layers: list[dict[str, Any]], cost: float) -> list[list[str]]:
    def total(kind: str, name: str) -> str:
        return f"{sum(facts[kind][0][name] for facts in layers)}"

    return [
        ["cache", "answered", total("caches", "hits")],
        ["cache", "computed", total("caches", "misses")],
        ["retry", "tried again", total("retries", "retries")],
        ["retry", "recovered", total("retries", "recovered")],
        ["circuit", "changed its state", total("circuits", "transitions")],
        ["pool", "connections opened", total("pools", "connects")],
        ["pool", "lent", total("pools", "uses")],
        ["pool", "waited for", total("pools", "waits")],
        ["all", "add to a call", milliseconds(cost)],
    ]
