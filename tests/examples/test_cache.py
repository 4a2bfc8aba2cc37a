"""The example of mcp-cache tells its story."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parent.parent.parent / "examples/cache_weather.py"


def test_story() -> None:
    """One call for a hundred callers, and a failure that nobody sees."""
    told = subprocess.run([sys.executable, EXAMPLE], check=True, capture_output=True, text=True).stdout
    assert told.splitlines() == [
        "100 callers, 1 call",
        "a moment too old: sunny in Paris, refreshed behind our back",
        "the service is down: sunny in Paris",
        "2 stale answers, 1 failure that nobody saw",
    ]
