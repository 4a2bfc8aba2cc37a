"""Private servers for tests: real programs on a free loopback port, in a temporary folder, ended by their own pid.

``Server`` is what they have in common: the life of one process, and the ways to make it fail. A subclass says which
program, with which arguments, and how to tell that it answers. A missing program skips the test with one line, and
fails it where ``CI`` is set.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlencode

import pytest

__all__ = [
    "PostgresServer",
    "PrometheusServer",
    "RedisServer",
    "Server",
    "client_of",
    "find_program",
    "private_postgres",
]

START_LIMIT = 20.0  # seconds until it answers, on a loaded machine


class Server(ABC):
    """One process that listens on ``port`` of ``host``; the port stays the same over restarts."""

    programs: ClassVar[tuple[str, ...]]
    """Names of programs that will do, best first."""

    host = "127.0.0.1"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = _free_port()
        self._program = find_program(self.programs)
        self._process: subprocess.Popen[bytes] | None = None

    _user: str | None = None
    """Whom the program runs as; None for whoever runs the tests."""

    @abstractmethod
    def arguments(self) -> Sequence[str]:
        """The command line behind the program's name; the server must stay in the foreground."""

    @abstractmethod
    def answers(self) -> bool:
        """Whether it serves requests now; OSError means no."""

    def start(self) -> None:
        """Start it, unless it runs, and wait until it answers."""
        if self._is_running():
            return
        log = (self.folder / "log").open("ab")
        with log:
            command = [self._program, *self.arguments()]
            self._process = subprocess.Popen(command, stdout=log, stderr=log, user=self._user)
        deadline = time.monotonic() + START_LIMIT
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"{self._program} did not start:\n{(self.folder / 'log').read_text()[-2000:]}")
            time.sleep(0.02)

    def stop(self) -> None:
        """End it in good order: connections are closed, and new ones refused."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once, as a crash would; also while frozen, and when it has ended already."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stop it, and start it again on the same port."""
        self.stop()
        self.start()

    def freeze(self) -> None:
        """Stop it from answering while its connections stay open (SIGSTOP)."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on after ``freeze`` (SIGCONT)."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if not self._is_running():
            raise RuntimeError(f"{self._program} is not running; start() it first")
        self._process.send_signal(number)

    def _is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _end(self, how: signal.Signals) -> None:
        if not self._is_running():
            return
        self._process.send_signal(how)
        self._process.send_signal(signal.SIGCONT)  # a frozen process takes no SIGTERM
        try:
            self._process.wait(START_LIMIT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _is_ready(self) -> bool:
        try:
            return self.answers()
        except OSError:
            return False


class RedisServer(Server):
    """Redis or Valkey, in memory alone: after a restart it is empty."""

    programs = ("redis-server", "valkey-server")

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"redis://{self.host}:{self.port}/0"

    def arguments(self) -> Sequence[str]:
        """No configuration file, no snapshots, no log of commands."""
        options = {"bind": self.host, "port": self.port, "dir": self.folder, "save": "", "appendonly": "no"}
        return [text for name, value in options.items() for text in (f"--{name}", str(value))]

    def answers(self) -> bool:
        """Whether it replies to PING."""
        return self.command("PING") == "+PONG"

    def flush(self) -> None:
        """Forget all keys, all loaded scripts, and what was counted."""
        for command in ("FLUSHALL", "SCRIPT FLUSH", "CONFIG RESETSTAT"):
            reply = self.command(command)
            assert reply == "+OK", reply

    def command(self, line: str, *, timeout: float = 2.0) -> str:
        """Send one inline command, and wait up to *timeout* seconds for the first line of the reply, as on the wire."""
        with socket.create_connection((self.host, self.port), timeout) as connection:
            connection.sendall(f"{line}\r\n".encode())
            return connection.makefile("rb").readline().decode().rstrip()


class PostgresServer(Server):
    """PostgreSQL without passwords; its data outlives a restart, though not a crash of the machine."""

    programs = ("postgres", *sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin/postgres")), reverse=True))

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"postgresql://tester@{self.host}:{self.port}/postgres"

    def arguments(self) -> Sequence[str]:
        """A fresh cluster on the first start; no sockets but the port."""
        cluster = self.folder / "cluster"
        if not cluster.exists():
            self._initialise(cluster)
        options = {"port": self.port, "listen_addresses": self.host, "unix_socket_directories": "", "fsync": "off"}
        return ["-D", str(cluster), *(text for name, value in options.items() for text in ("-c", f"{name}={value}"))]

    def answers(self) -> bool:
        """Whether it would talk about encryption, as the first message of every client asks it to."""
        with socket.create_connection((self.host, self.port), 2.0) as connection:
            connection.sendall((8).to_bytes(4, "big") + (80877103).to_bytes(4, "big"))  # SSLRequest
            return connection.recv(1) in (b"S", b"N")

    def _initialise(self, cluster: Path) -> None:
        initdb = Path(self._program).resolve().with_name("initdb")
        options = ["--auth=trust", "--username=tester", "--encoding=UTF8", "--locale=C", "--no-sync"]
        cluster.mkdir()
        if self._user:
            shutil.chown(cluster, self._user)
        subprocess.run([initdb, "-D", cluster, *options], check=True, stdout=subprocess.DEVNULL, user=self._user)

    _user = "postgres" if os.geteuid() == 0 else None  # it refuses to run as root


class PrometheusServer(Server):
    """Prometheus that scrapes *target*, ``host:port``, five times a second, native histograms and exemplars too."""

    programs = ("prometheus",)

    def __init__(self, folder: Path, target: str) -> None:
        super().__init__(folder)
        job = {"job_name": "test", "scrape_interval": "200ms", "static_configs": [{"targets": [target]}]}
        config = {"global": {"evaluation_interval": "1h"}, "scrape_configs": [job]}
        (folder / "prometheus.yml").write_text(json.dumps(config), "utf-8")  # JSON is YAML

    def arguments(self) -> Sequence[str]:
        """A configuration and a database of its own, in its folder."""
        return [
            f"--config.file={self.folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={self.folder / 'tsdb'}",
            f"--web.listen-address={self.host}:{self.port}",
            "--enable-feature=native-histograms,exemplar-storage",
        ]

    def answers(self) -> bool:
        """Whether it is ready for queries."""
        return self._get("/-/ready")[0] == HTTPStatus.OK

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """Evaluate PromQL now: the labels and the value of each series."""
        found = self._api("query", query=expression)["result"]
        return [(series["metric"], float(series["value"][1])) for series in found]

    def exemplars(self, expression: str) -> list[dict[str, str]]:
        """List the labels of the exemplars of the last minute."""
        now = time.time()
        found = self._api("query_exemplars", query=expression, start=str(now - 60), end=str(now + 1))
        return [exemplar["labels"] for series in found for exemplar in series["exemplars"]]

    def _api(self, method: str, **parameters: str) -> Any:
        status, body = self._get(f"/api/v1/{method}?{urlencode(parameters)}")
        if status != HTTPStatus.OK:
            raise ValueError(f"{method} {parameters}: {status} {body!r}")
        return json.loads(body)["data"]

    def _get(self, path: str) -> tuple[int, bytes]:
        connection = HTTPConnection(self.host, self.port, timeout=5)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()


@contextmanager
def private_postgres() -> Iterator[PostgresServer]:
    """Run a PostgreSQL in a folder of its own, which the server's own user may enter."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        server = PostgresServer(Path(folder))
        server.start()
        yield server
        server.kill()


def client_of(library: str, backend: str, server: RedisServer) -> Any:
    """Make the async client of "redis", "valkey" or "coredis"; skip where it does not run, or is not installed."""
    if "trio" in backend and library != "coredis":
        pytest.skip(f"{library}-py runs on asyncio alone")
    module = pytest.importorskip({"coredis": "coredis"}.get(library, f"{library}.asyncio"), reason=f"no {library} here")
    name = {"redis": "Redis", "valkey": "Valkey", "coredis": "Redis"}[library]
    return getattr(module, name)(host=server.host, port=server.port)


def find_program(programs: tuple[str, ...]) -> str:
    """Return the path of the first of *programs* that there is; without one the test is skipped, or fails in CI."""
    found = next((path for path in map(shutil.which, programs) if path), None)
    if found:
        return found
    message = f"this test needs {' or '.join(programs)} on the PATH"
    if os.environ.get("CI"):
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((Server.host, 0))
        return int(probe.getsockname()[1])
