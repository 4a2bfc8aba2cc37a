"""The example of mcp-metrics runs as its reader would run it, and prints what it promises."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples/metrics/stdio_server.py"


def test_a_server_on_stdio_is_scraped() -> None:
    """A tool that works, one that fails, and one that does not exist."""
    if importlib.util.find_spec("mcp") is None or not version("mcp").startswith("2."):
        pytest.skip("this is for mcp 2")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, EXAMPLE], env=environment, capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 0, done.stderr
    assert sorted(line.split() for line in done.stdout.splitlines()) == [
        ["_OTHER", "tool_error", "1"],
        ["add", "ok", "1"],
        ["divide", "tool_error", "1"],
    ]
