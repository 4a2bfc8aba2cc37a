"""Every Python block of every page runs, down the page, as one program with top-level await.

    ```python                     runs
    ```python no-run: REASON      does not, and says why
    ```text                       right below a block that runs: exactly what it prints

A block without await runs outside any event loop, so that a page may show `anyio.run(main)`.
Lines in a traceback are the page's own.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import io
import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent.parent
PAGES = sorted([ROOT / "README.md", *ROOT.glob("packages/*/README.md"), *ROOT.glob("docs/**/*.md")])
BLOCK = re.compile(
    r"^(?P<indent> *)```python(?P<options>[^\n]*)\n(?P<code>.*?)^(?P=indent)```\n"
    r"(?:\n*(?P=indent)```text\n(?P<output>.*?)^(?P=indent)```$)?",
    re.DOTALL | re.MULTILINE,
)


class Block(NamedTuple):
    """A block of a page: its code, moved down to its own line, and what it must print, if that is shown."""

    code: str
    output: str | None


def blocks(page: str) -> Iterator[Block]:
    """Yield the blocks of *page* that run; one that does not must say why."""
    for found in BLOCK.finditer(page):
        indent, options, output = found["indent"], found["options"].strip(), found["output"]
        line = page.count("\n", 0, found.start("code"))
        assert not options or re.match(r"no-run: \w", options), f"line {line}: `python {options}` gives no reason"
        if not options:
            code = "\n" * line + re.sub(f"^{indent}", "", found["code"], flags=re.MULTILINE)
            yield Block(code, output and re.sub(f"^{indent}", "", output, flags=re.MULTILINE))


def run(text: str, name: str) -> None:
    """Run the blocks of a page, the module *name*, and compare what they print."""
    module = sys.modules[name] = types.ModuleType(name)  # where dataclasses and pydantic look names up
    loop = asyncio.new_event_loop()
    try:
        for block in blocks(text):
            code = compile(block.code, name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
            with contextlib.redirect_stdout(io.StringIO()) as printed:
                result = eval(code, module.__dict__)
                if inspect.iscoroutine(result):
                    loop.run_until_complete(result)
            assert block.output is None or printed.getvalue() == block.output
    finally:
        loop.close()
        del sys.modules[name]


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_page(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """What a reader copies must work, and print what the page says."""
    text = page.read_text("utf-8")
    if "REDIS_URL" in text:
        monkeypatch.setenv("REDIS_URL", request.getfixturevalue("redis_server").url)
    monkeypatch.chdir(tmp_path)
    run(text, str(page))


@pytest.mark.parametrize(
    ("page", "fault"),
    [
        ("```python\n1 / 0\n```\n", ZeroDivisionError),
        ("```python\nprint(1)\n```\n\n```text\n2\n```\n", AssertionError),
        ("- item\n\n  ```python\n  print(1)\n  ```\n  ```text\n  2\n  ```\n", AssertionError),
        ("```python no-run\n1 / 0\n```\n", AssertionError),
        (
            "```python\nx = 1\n```\n\n```python\nimport anyio\nawait anyio.sleep(0)\nassert x == 2\n```\n",
            AssertionError,
        ),
    ],
)
def test_faulty_page_fails(page: str, fault: type[BaseException]) -> None:
    """A runner that lets a fault pass would prove nothing."""
    with pytest.raises(fault):
        run(page, "faulty")


def test_sound_page_passes() -> None:
    """State flows down the page, awaits work at the top, output is compared."""
    page = "```python\nimport anyio\n\nx = 1\nawait anyio.sleep(0)\nprint(x)\n```\n\n```text\n1\n```\n"
    run(page + "```python no-run: needs a cluster\n1 / 0\n```\n```python\nassert x == 1\n```\n", "sound")


def test_traceback_has_the_line_of_the_page() -> None:
    """An author finds the faulty line at once."""
    with pytest.raises(ZeroDivisionError) as caught:
        run("# Title\n\n```python\nx = 1\n1 / 0\n```\n", "page.md")
    assert (caught.traceback[-1].path, caught.traceback[-1].lineno) == ("page.md", 4)  # counted from 0
