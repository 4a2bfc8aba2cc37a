"""Start workers that hammer one key together, and count what passed in the worst window."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def start(job):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    worker = subprocess.Popen(
        [sys.executable, "-m", "tests.ratelimit.hammer", json.dumps({"skew": 0, "lease": 0, "lease_ttl": 0.1, **job})],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment,
    )
    assert worker.stdout.readline() == "ready\n"
    return worker


def hammer(job, skews):
    """Run a worker for each of *skews*, seconds by which its clock is wrong; return what passed as (before, after)."""
    workers = [start({**job, "skew": skew}) for skew in skews]
    for worker in workers:
        worker.stdin.write("\n")
        worker.stdin.flush()
    answers = [json.loads(worker.communicate(timeout=60)[0]) for worker in workers]
    assert all(worker.returncode == 0 for worker in workers)
    return sorted((tuple(span) for answer in answers for span in answer["passed"]), key=lambda span: span[0])


def worst(passed, window):
    """The most that was decided for certain within any *window* seconds, boundaries not counted."""
    return max((sum(s <= before and after < s + window for before, after in passed) for s, _ in passed), default=0)
