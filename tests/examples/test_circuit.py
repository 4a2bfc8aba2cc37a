"""The example of mcp-circuit tells the story that it promises."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_outage():
    """It trips once, and in the end the tool answers; how many probes it takes depends on the machine."""
    pytest.importorskip("mcp.server.mcpserver", reason="the example is a server of mcp 2.x")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, str(EXAMPLES / "circuit_outage.py")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "circuit closed -> open (tripped)"
    assert lines[-2:] == ["circuit half_open -> closed (recovered)", "in the end: answered"]
