"""A headless Chromium, driven over a pair of pipes by the DevTools protocol: no driver, no library, no port.

fd 3: commands  ──▶  chromium  ──▶  fd 4: answers and events, each a JSON text that ends with a zero byte
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
import time
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["PROGRAMS", "Page", "browser"]

PATIENCE = 30.0  # seconds for one answer, on a loaded machine
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--no-first-run",
    "--remote-debugging-pipe",
)


PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
"""Names of programs that will do, best first."""


EXEC = """
import fcntl, os, sys
pipes = [fcntl.fcntl(int(pipe), fcntl.F_DUPFD, 10) for pipe in sys.argv[1:3]]
for pipe, wanted in zip(pipes, (3, 4)):
    os.dup2(pipe, wanted)
os.execv(sys.argv[3], sys.argv[3:])
"""
"""Becomes the browser, with the pipes where the protocol wants them; this process may have other things there."""


class Page:
    """One page: what it shows, and what it complained about."""

    def __init__(self, commands: int, answers: int) -> None:
        self._commands, self._answers = commands, answers
        self._number = 0
        self._session: str | None = None
        self._received = b""
        self.complaints: list[str] = []
        """Exceptions, console errors and blocked requests, since the page was opened."""
        self.requests: list[str] = []
        """The addresses it has asked for."""

    def attach(self) -> None:
        """Open an empty page."""
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def open(self, url: str) -> None:
        """Go to *url*."""
        self.send("Page.navigate", url=url)

    def run(self, expression: str) -> Any:
        """Return the value of an expression of JavaScript, a promise's when it is kept."""
        answer = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def wait(self, expression: str, seconds: float = PATIENCE) -> Any:
        """Return the value of *expression* as soon as it is true; TimeoutError with the text of the page if never."""
        deadline = time.monotonic() + seconds
        while not (value := self.run(expression)):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{expression} is still {value!r} on\n{self.run('document.body.innerText')}")
            time.sleep(0.1)
        return value

    def picture(self, *, scheme: str = "light", width: int = 1240, scale: float = 1.0) -> bytes:
        """Return the whole page as PNG, in the *scheme* "light" or "dark"."""
        self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self._resize(width, 800, scale)
        self._resize(width, int(self.run("document.documentElement.scrollHeight")), scale)
        return b64decode(self.send("Page.captureScreenshot", format="png")["data"])

    def _resize(self, width: int, height: int, scale: float) -> None:
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=False
        )

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command of the DevTools protocol, and return its result."""
        self._number += 1
        session = {"sessionId": self._session} if self._session else {}
        message = json.dumps({"id": self._number, "method": method, "params": params, **session})
        os.write(self._commands, message.encode() + b"\0")
        while (answer := self._receive()).get("id") != self._number:
            self._note(answer)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        result: dict[str, Any] = answer["result"]
        return result

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._received:
            if not select.select([self._answers], [], [], PATIENCE)[0]:
                raise TimeoutError(f"the browser has said nothing for {PATIENCE:g} s")
            if not (chunk := os.read(self._answers, 65536)):
                raise EOFError("the browser has ended")
            self._received += chunk
        text, _, self._received = self._received.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        return message

    def _note(self, event: dict[str, Any]) -> None:
        method, params = event.get("method"), event.get("params", {})
        if method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(str(params["exceptionDetails"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.complaints.append(params["entry"]["text"])
        elif method == "Runtime.consoleAPICalled" and params["type"] == "error":
            self.complaints.append(str(params["args"]))


@contextmanager
def browser(program: str) -> Iterator[Page]:
    """Start *program*, a Chromium, with a profile of its own, and end it with the block."""
    (theirs_in, commands), (answers, theirs_out) = os.pipe(), os.pipe()
    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile:
        flags = [*FLAGS, f"--user-data-dir={profile}", "about:blank"]
        command = [sys.executable, "-c", EXEC, str(theirs_in), str(theirs_out), program, *flags]
        with Path(profile, "log").open("wb") as log:
            process = subprocess.Popen(command, stderr=log, stdout=log, pass_fds=(theirs_in, theirs_out))
        os.close(theirs_in)
        os.close(theirs_out)
        try:
            page = Page(commands, answers)
            page.attach()
            yield page
        finally:
            os.close(commands)  # for which it ends, with all its children
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            os.close(answers)
