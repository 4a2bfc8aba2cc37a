"""The tables of defaults on the page of mcp-retry say what the code does."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import mcp_retry
import pytest

PAGE = (Path(__file__).parents[2] / "docs/retry.md").read_text("utf-8")
TABLES = dict(re.findall(r"^\| `(\w+)` \| default \| \|\n\|[-|]+\n((?:\|.*\n)+)", PAGE, re.MULTILINE))
ROW = re.compile(r"^\| (.+?) \| (.+?) \|", re.MULTILINE)
TOLD_OF_RETRY = {"clock", "sleep", "random", "on_event"}
ELSEWHERE: dict[str, set[str]] = {"Retry": set(), "RetryMiddleware": {"retry"}}


@pytest.mark.parametrize("name", ["Retry", "RetryMiddleware", "Budget", "Throttle", "Hedge", "Quantile", "Fallback"])
def test_every_argument_is_told_with_its_default(name: str) -> None:
    """A default that changes, or an argument that is new, has to be told."""
    told = {word: default for names, default in ROW.findall(TABLES[name]) for word in re.findall(r"`(\w+)`", names)}
    arguments = inspect.signature(getattr(mcp_retry, name)).parameters
    assert set(arguments) - set(told) <= ELSEWHERE.get(name, TOLD_OF_RETRY)
    numbers = {word: arguments[word].default for word in told if type(arguments[word].default) in (int, float)}
    assert {word: told[word] for word in numbers} == {word: f"{value:g}" for word, value in numbers.items()}


@pytest.mark.parametrize("name", ["exponential", "linear", "constant", "Backoff"])
def test_every_backoff_is_told_with_its_defaults(name: str) -> None:
    """As they would be written in a call."""
    arguments = inspect.signature(getattr(mcp_retry, name)).parameters.values()
    defaults = [(argument.name, argument.default) for argument in arguments if argument.default is not argument.empty]
    shown = [f"{word}={value:g}" if isinstance(value, float) else f'{word}="{value}"' for word, value in defaults]
    assert f"| `{name}` | `{', '.join(shown)}` |" in PAGE
