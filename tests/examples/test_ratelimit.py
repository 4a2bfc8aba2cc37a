"""The example of mcp-ratelimit runs, and prints what it promises."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples/ratelimit_server.py"


@pytest.mark.skipif(find_spec("mcp.server.mcpserver") is None, reason="the example needs mcp 2")
def test_a_refused_client_comes_back_in_time() -> None:
    """It believes retryAfterMs, and is let through."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, str(EXAMPLE)], capture_output=True, text=True, timeout=50, check=False, env=environment
    )
    assert done.stdout.splitlines() == [
        "client  {'result': 2}",
        "client  refused by '30/min burst 1 for slow_*'",
        "client  {'result': 3}",
    ], done.stderr
