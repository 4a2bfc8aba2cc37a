"""The private Redis answers, fails in the ways that stores must survive, and comes back."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import servers
from tests.support.servers import RedisServer


def test_it_keeps_and_flushes(redis_server: RedisServer) -> None:
    """flush() is how one test leaves nothing to the next."""
    redis_server.command("SET key value")
    assert redis_server.command("EXISTS key") == ":1"
    redis_server.flush()
    assert redis_server.command("EXISTS key") == ":0"


def test_a_restart_is_an_empty_server_on_the_same_port(redis_server: RedisServer) -> None:
    """Nothing is kept on disk."""
    redis_server.command("SET key value")
    redis_server.restart()
    assert redis_server.command("EXISTS key") == ":0"
    assert redis_server.url == f"redis://127.0.0.1:{redis_server.port}/0"
    assert [path.name for path in redis_server.folder.iterdir()] == ["log"]


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_an_ended_server_refuses(redis_server: RedisServer, end: str) -> None:
    """stop() and kill() end the process before they return, and may be repeated."""
    for _ in range(2):
        getattr(redis_server, end)()
    with pytest.raises(ConnectionRefusedError):
        redis_server.command("PING")
    with pytest.raises(RuntimeError, match="not running"):
        redis_server.freeze()


def test_a_frozen_server_accepts_and_says_nothing(redis_server: RedisServer) -> None:
    """The failure that only a timeout notices; thaw() ends it."""
    redis_server.freeze()
    with pytest.raises(TimeoutError):
        redis_server.command("PING", timeout=0.1)
    redis_server.thaw()
    assert redis_server.command("PING") == "+PONG"


def test_a_frozen_server_can_be_ended(redis_server: RedisServer) -> None:
    """A test that fails while the server is frozen leaves no process behind."""
    redis_server.freeze()
    redis_server.stop()
    with pytest.raises(ConnectionRefusedError):
        redis_server.command("PING")


def test_a_program_that_ends_at_once_shows_its_log(tmp_path: Path) -> None:
    """A server that cannot start says why, instead of a timeout."""

    class Broken(RedisServer):
        def arguments(self) -> list[str]:
            return ["--port", "nonsense"]

    with pytest.raises(RuntimeError, match=r"(?s)did not start:.*nonsense"):
        Broken(tmp_path).start()


@pytest.mark.parametrize(("ci", "outcome"), [("", pytest.skip.Exception), ("true", pytest.fail.Exception)])
def test_a_missing_program_skips_or_fails(
    monkeypatch: pytest.MonkeyPatch, ci: str, outcome: type[BaseException]
) -> None:
    """Nobody needs Redis to work on the project, but the CI may not go without."""
    monkeypatch.setenv("CI", ci)
    with pytest.raises(outcome, match="needs no-such-program on the PATH"):
        servers.find_program(("no-such-program",))
