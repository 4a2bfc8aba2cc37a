"""Start workers that hammer one key together, and count what passed in the worst window."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
DEFAULTS = {"skew": 0, "lease": 0, "lease_ttl": 0.1, "policy": "closed", "budget": 5}


def start(job):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    return subprocess.Popen(
        [sys.executable, "-m", "tests.ratelimit.hammer", json.dumps({**DEFAULTS, **job})],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment,
    )


def hammer(job, skews):
    """Run a worker for each of *skews*, seconds by which its clocks are wrong; return what passed."""
    return passed(answers(job, skews))


def answers(job, skews, meanwhile=lambda: None):
    """Run the workers, and *meanwhile*; return what each has to tell."""
    workers = [start({**job, "skew": skew}) for skew in skews]
    assert all(worker.stdout.readline() == "ready\n" for worker in workers)
    for worker in workers:
        worker.stdin.write("\n")
        worker.stdin.flush()
    meanwhile()
    told = [json.loads(worker.communicate(timeout=60)[0]) for worker in workers]
    assert all(worker.returncode == 0 for worker in workers)
    return told


def passed(answers):
    """What passed in all workers, as (before, after)."""
    return sorted((tuple(span) for answer in answers for span in answer["passed"]), key=lambda span: span[0])


def worst(passed, window):
    """The most that was decided for certain within any *window* seconds, boundaries not counted."""
    return max((sum(s <= before and after < s + window for before, after in passed) for s, _ in passed), default=0)
