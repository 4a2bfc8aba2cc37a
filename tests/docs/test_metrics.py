"""The dashboard and the alert rules: valid, and about metrics and labels that are really exported."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mcp_metrics import MetricsMiddleware, Registry, openmetrics
from mcp_metrics.testing import parse

DOCS = Path(__file__).parents[2] / "docs"
RULES = DOCS / "metrics-alerts.yml"
DASHBOARD = json.loads((DOCS / "metrics-dashboard.json").read_text("utf-8"))
METRIC = re.compile(r"\bmcp_(?:server|client|metrics)_\w+")
BY = re.compile(r"by \(([^)]*)\)")
MATCHER = re.compile(r'(\w+)(?:=~|!=|!~|=)"')
FROM_PROMETHEUS = {"job", "instance"}


class Context:
    method, params, protocol_version, request = "tools/call", {"name": "add"}, "2026-07-28", None


class Listen(Context):
    method = "subscriptions/listen"


async def exported() -> dict[str, set[str]]:
    """Let everything happen once; the labels of every sample, by its name."""
    registry = Registry(max_series=1)
    both = [MetricsMiddleware(registry), MetricsMiddleware(registry, side="client")]

    async def answer(ctx: Any) -> dict[str, Any]:
        return {"isError": True}

    for metrics in both:
        with metrics.session():
            await metrics(Context(), answer)
        await metrics(Listen(), answer)
    family = registry.counter("full", "Full.", labels=["a"])
    for value in ("first", "without room"):
        family.bind(value)
    labels = {
        about.exposed.replace(".", "_"): {name.replace(".", "_") for name in about.labels}
        for about, _ in registry.collect()
    }
    names = {sample.name for each in parse("".join(openmetrics(registry))) for sample in each.samples}
    return {
        name: next(labels[base] for base in sorted(labels, reverse=True) if name.startswith(base)) for name in names
    }


def expressions() -> Iterator[str]:
    """Yield every expression of the dashboard and of the rules."""
    for panel in DASHBOARD["panels"]:
        yield from (target["expr"] for target in panel["targets"])
    yield from (variable["query"] for variable in DASHBOARD["templating"]["list"] if variable["type"] == "query")
    yield from re.findall(r"expr: (?:\|\n)?(.*?)\n +(?:for|labels):", RULES.read_text("utf-8"), re.DOTALL)


@pytest.mark.parametrize("expression", list(expressions()))
@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_expressions_are_about_what_is_exported(expression: str) -> None:
    """A panel that stays empty for a typing error is worse than none."""
    known = await exported()
    names = METRIC.findall(expression)
    assert names
    assert [name for name in names if name not in known] == []
    labels = {label.strip() for group in BY.findall(expression) for label in group.split(",")}
    labels |= set(MATCHER.findall(expression))
    assert labels <= set().union(*(known[name] for name in names)) | FROM_PROMETHEUS | {"le"}


def promtool_finds(rules: Path) -> str:
    """What Prometheus' own judge says of a file of rules."""
    promtool = shutil.which("promtool")
    if promtool is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(
            "this test needs promtool (Debian: prometheus) on the PATH"
        )
    done = subprocess.run([promtool, "check", "rules", str(rules)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_promtool_accepts_the_rules() -> None:
    """The judge is Prometheus itself."""
    assert "5 rules found" in promtool_finds(RULES)


def test_promtool_accepts_the_panels(tmp_path: Path) -> None:
    """Every expression as if it were a rule, with Grafana's variables filled in."""
    found = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    rules = [
        {"record": f"panel:{number}", "expr": expression.replace("$__rate_interval", "5m").replace("$job", "shop")}
        for number, expression in enumerate(found)
    ]
    (tmp_path / "rules.yml").write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}), "utf-8")
    assert f"{len(found)} rules found" in promtool_finds(tmp_path / "rules.yml")


def test_panels_do_not_overlap() -> None:
    """Each has a place and an id of its own."""
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in DASHBOARD["panels"]]
    assert len(set(places)) == len({panel["id"] for panel in DASHBOARD["panels"]}) == len(places)
