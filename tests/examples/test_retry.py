"""The example of mcp-retry prints what it promises, and the storm comes out as the page says."""

from __future__ import annotations

import importlib.util
import math
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PRINTED = """\
event   Recovered(attempts=2)
client  forecast sunny in Oslo
client  book failed
event   GaveUp(attempts=3, reason='attempts', error=<class 'ConnectionError'>)
caller  no forecast today
budget  3 retries spent, 1 booking tried
"""


def test_the_example_prints_what_it_promises() -> None:
    """An example that does not run is worse than none."""
    if importlib.util.find_spec("mcp") is None or not version("mcp").startswith("2."):
        pytest.skip("this is for mcp 2, which is not installed here")
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples/retry/flaky_weather.py")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert (done.stdout, done.stderr) == (PRINTED, "")


@pytest.fixture(scope="module")
def storm() -> Any:
    """The simulation, which lies among the benchmarks."""
    spec = importlib.util.spec_from_file_location("retry_storm", ROOT / "benchmarks/retry_storm.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["retry_storm"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("offered", [500, 700])
def test_the_defaults_survive_the_storm(storm: Any, offered: int) -> None:
    """At half and at seven tenths of the capacity, the server recovers as if nobody had retried."""
    outcome = storm.Simulation(storm.ours, storm.evenly(offered)).run()
    assert outcome.success >= 0.86
    assert outcome.sends_a_call <= 1.05
    assert outcome.recovered_after <= 7


def test_the_throttle_survives_at_nine_tenths(storm: Any) -> None:
    """Where ten per cent more is already too much."""
    assert storm.Simulation(storm.ours, storm.evenly(900)).run().recovered_after == math.inf
    assert storm.Simulation(storm.ours_with_throttle, storm.evenly(900)).run().recovered_after <= 12
    assert storm.Simulation(storm.ours_with_throttle, storm.at_random(900, seed=1)).run().recovered_after <= 15


@pytest.mark.parametrize("policy", ["stamina_defaults", "ours_without_budget"])
def test_without_a_budget_it_never_ends(storm: Any, policy: str) -> None:
    """The simulation would show it if a budget did nothing; tenacity's default is the same, and slow to compute."""
    outcome = storm.Simulation(getattr(storm, policy), storm.evenly(500), seconds=40).run()
    assert outcome.recovered_after == math.inf
    assert outcome.shares[-2] < 0.1
