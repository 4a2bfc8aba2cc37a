"""Three servers share one Redis; one is killed, Redis is restarted, and the limit holds to the last call."""

from __future__ import annotations

from tests.examples.test_examples import need, run
from tests.support.servers import RedisServer, find_program


def test_a_crash_and_a_restart_cost_neither_answers_nor_the_limit() -> None:
    """What several processes share must be counted exactly, or it is not shared."""
    need("mcp", 2)
    need("rich")
    need("redis")
    find_program(RedisServer.programs)
    done = run("-m", "examples.demo.cluster")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "9 of 9 claims held" in done.stdout
