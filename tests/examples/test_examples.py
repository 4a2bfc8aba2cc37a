"""Every example runs as its reader would run it, and prints what it promises.

Each session of the seam matrix has one SDK, so each runs the examples it can; the others say what they would need.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
AUDIT = ["audit   add {'a': 40, 'b': 2}: ok", "audit   delete_everything {}: rejected"]
REFUSED = "delete_everything is not allowed here"
DETAILS = f"-31001 {REFUSED} {{'policy': 'read-only'}}"
SHARED = {"audit.py"}
"""Files of ``examples/`` that others import, and nobody runs."""


class Example(NamedTuple):
    """A script, the package and the major versions that it is for, and what it prints beside the audit."""

    script: str
    package: str
    majors: tuple[int, ...]
    printed: tuple[str, ...]


SERVER = "client  {'result': 42}"
RUN = [
    Example("official_server.py", "mcp", (2,), (SERVER, f"client  {DETAILS}")),
    Example("mcp1_server.py", "mcp", (1,), (SERVER, f"client  {DETAILS}")),
    Example("fastmcp_server.py", "fastmcp", (2, 3, 4), (SERVER, f"client  {REFUSED}")),
    Example("plain_asyncio.py", "anyio", (4,), ("caller  42", f"caller  {DETAILS}")),
    Example("plain_trio.py", "trio", (0,), ("caller  42", f"caller  {DETAILS}")),
]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run this Python with the packages under test in its path."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "COLUMNS": "80"}
    return subprocess.run(
        [sys.executable, *arguments],
        env=environment,
        cwd=EXAMPLES.parent,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )


def need(package: str, *majors: int) -> None:
    """Skip where `package` is absent, or another version of it is installed."""
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed here")
    if majors and int(version(package).split(".")[0]) not in majors:
        pytest.skip(f"this is for {package} {' or '.join(map(str, majors))}, here is {version(package)}")


@pytest.mark.parametrize("example", RUN, ids=lambda example: example.script)
def test_an_example_prints_what_it_promises(example: Example) -> None:
    """An example that does not run is worse than none."""
    need(example.package, *example.majors)
    done = run(str(EXAMPLES / example.script))
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == sorted([*AUDIT, *example.printed])


def test_no_example_is_forgotten() -> None:
    """A new example joins the list above, or has a test of its own beside this one."""
    tests = "".join(path.read_text("utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    assert [path.name for path in EXAMPLES.glob("*.py") if path.name not in SHARED and path.name not in tests] == []


def test_the_demo_holds_every_claim(tmp_path: Path) -> None:
    """The one program that shows the whole, as ``nox -s demo`` runs it."""
    need("mcp", 2)
    need("rich")
    done = run("-m", "examples.demo", "--metrics", str(tmp_path / "day.prom"))
    assert done.returncode == 0, done.stdout + done.stderr
    held, _, claims, *_ = done.stdout.splitlines()[-2].split()
    assert held == claims
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert (tmp_path / "day.prom").read_text("utf-8").endswith("# EOF\n")


def test_a_claim_that_does_not_hold_fails_the_demo() -> None:
    """Otherwise the exit code would prove nothing; the lie is told in an act of its own."""
    need("mcp", 2)
    need("rich")
    lie = """
import sys
from examples.demo import __main__ as demo

async def play(stage):
    (stage.folder / "pids").touch()
    stage.claim("two and two make five", 2 + 2, 5)

demo.play = play
sys.exit(demo.main())
"""
    done = run("-c", lie)
    assert done.returncode == 1, done.stderr
    assert "expected 5" in done.stdout
    assert "seen     4" in done.stdout
    assert "2 of 3 claims held" in done.stdout
