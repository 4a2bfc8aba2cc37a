"""The site has a place for every page, and pages for every package."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = sorted(path.parent.name for path in (ROOT / "packages").glob("*/pyproject.toml"))
IN_MENU = re.findall(r'"([\w/-]+\.md)"', (ROOT / "zensical.toml").read_text("utf-8").partition("[project.theme]")[0])


def test_the_menu_has_each_page_once() -> None:
    """What is in no menu is found by nobody."""
    assert sorted(IN_MENU) == sorted(str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md"))


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_is_presented(package: str) -> None:
    """Its page, its names, and a line wherever all are listed."""
    name = package.removeprefix("mcp-")
    assert {f"{name}.md", f"api/{name}.md"} <= set(IN_MENU)
    for page in ("README.md", "docs/index.md", "docs/which.md"):
        assert f"[{package}](" in (ROOT / page).read_text("utf-8"), page
