"""The demo left running: the status page in a real browser, its JSON, the metrics, and an orderly end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from tests.examples.test_examples import need
from tests.support.browser import PROGRAMS, Page, browser
from tests.support.servers import find_program

ROOT = Path(__file__).parents[2]


class Serving:
    """The demo as ``nox -s demo -- --serve`` runs it."""

    def __init__(self) -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-m", "examples.demo", "--serve"]
        self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout
        self.url = self.process.stdout.readline().split()[1]

    def get(self, path: str, accept: str = "*/*") -> str:
        """Ask for a page."""
        request = Request(self.url.replace("/status", path), headers={"accept": accept})
        with urlopen(request, timeout=10) as response:
            return str(response.read().decode())

    def stop(self) -> int:
        """Interrupt it as Ctrl-C does, and return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        with self.process:
            return self.process.wait(30)


@pytest.fixture(scope="module")
def shop() -> Iterator[Serving]:
    """An open shop, with people in it."""
    need("mcp", 2)
    need("rich")
    serving = Serving()
    yield serving
    serving.stop()


@pytest.fixture(scope="module")
def page(shop: Serving) -> Iterator[Page]:
    """The status page, in Chromium."""
    with browser(find_program(PROGRAMS)) as found:
        found.open(shop.url)
        found.wait("document.querySelectorAll('#tools tbody tr').length >= 3")
        yield found


def test_the_page_shows_what_the_layers_say(shop: Serving, page: Page) -> None:
    """What is on the screen is the packages' own statistics, and nothing made up."""
    page.wait("document.querySelector('#pulse').innerText.startsWith('live')")
    facts = json.loads(shop.get("/status.json"))
    shown = page.run(
        "Object.fromEntries([...document.querySelectorAll('section > div')].map(e => [e.id, e.innerText]))"
    )
    (pool,) = facts["pools"]
    assert f"of {pool['max_size']} in use" in shown["pools"]
    assert facts["limits"][0]["limit"] in shown["limits"]
    assert {tool["tool"] for tool in facts["latencies"]} >= {"price", "search_notes"}
    assert all(tool["tool"] in shown["tools"] for tool in facts["latencies"][:1])
    assert "upstream" in shown["circuits"]


def test_it_moves(page: Page) -> None:
    """Figures grow while one looks, and the breaker opens and closes with the supplier's moods."""
    total = "[...document.querySelectorAll('#tools tbody tr')].reduce((sum, row) => sum + +row.cells[1].innerText, 0)"
    before = page.run(total)
    page.wait(f"{total} > {before}")
    page.wait("document.querySelector('#circuits .bad')?.innerText == 'upstream: open'")
    assert page.run("document.querySelector('#news').innerText") == "upstream is open"
    page.wait("document.querySelector('#circuits .good')?.innerText == 'upstream: closed'")
    assert page.run("document.querySelectorAll('#circuits rect.bad').length") > 0


def test_light_and_dark(page: Page) -> None:
    """The page follows the reader's system, and text stays readable in both: WCAG asks for a contrast of 4.5."""
    backgrounds = set()
    for scheme in ("light", "dark"):
        assert page.picture(scheme=scheme).startswith(b"\x89PNG")
        backgrounds.add(page.run("getComputedStyle(document.body).backgroundColor"))
        assert page.run(CONTRAST) >= 4.5
    assert len(backgrounds) == 2


CONTRAST = """
(() => {
  const light = (color) => {
    const linear = (share) => share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    const [r, g, b] = color.match(/[0-9.]+/g).map((value) => linear(value / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const card = light(getComputedStyle(document.querySelector("section")).backgroundColor);
  return Math.min(...[...document.querySelectorAll("section *:not(svg):not(svg *):not(meter)")].map((element) => {
    const ink = light(getComputedStyle(element).color);
    return (Math.max(ink, card) + 0.05) / (Math.min(ink, card) + 0.05);
  }));
})()
"""


def test_it_can_be_read_without_seeing_it(page: Page) -> None:
    """Every section has its heading, every picture and meter its words, every table a caption and heads."""
    assert page.run("document.documentElement.lang") == "en"
    titles = (
        "[...document.querySelectorAll('section')].map(s => document.getElementById(s.getAttribute('aria-labelledby')))"
    )
    assert page.run(f"{titles}.every(Boolean)")
    assert page.run("[...document.querySelectorAll('svg, meter')].every(e => e.getAttribute('aria-label'))")
    assert page.run("[...document.querySelectorAll('table')].every(t => t.caption && t.querySelector('th[scope=col]'))")


def test_it_asks_nobody_else(shop: Serving, page: Page) -> None:
    """One file, and one address that it asks; no complaint of the browser's."""
    asked = {url for url in page.requests if not url.startswith("data:")}
    assert asked == {shop.url, f"{shop.url}.json"}
    assert page.complaints == []


def test_prometheus_reads_it_too(shop: Serving, page: Page) -> None:
    """The metrics are beside the page."""
    from mcp_metrics.testing import find

    text = shop.get("/metrics", "application/openmetrics-text;version=1.0.0")
    assert find(text, "mcp_server_operation_duration_seconds_count", gen_ai_tool_name="price")


def test_it_ends_in_order(shop: Serving, page: Page) -> None:
    """An interrupt ends everything that was started, and a page that is still open says that nobody answers."""
    children = Path(f"/proc/{shop.process.pid}/task/{shop.process.pid}/children")
    started = children.read_text().split() if children.exists() else []
    assert shop.stop() == 0
    assert not any(Path("/proc", pid).exists() for pid in started)
    page.wait("document.querySelector('#pulse').className == 'bad'")
    assert "no answer" in page.run("document.querySelector('#pulse').innerText")
