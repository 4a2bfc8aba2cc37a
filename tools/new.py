"""Lay out a new package after the pattern of mcp-middleware: `nox -s new -- mcp-NAME`."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PATTERN = ROOT / "packages/mcp-middleware"
INIT = '''"""One sentence: what it does for the caller; it becomes the description on PyPI."""

from __future__ import annotations

__version__ = "0.1.0"

__all__: list[str] = []
'''
CHANGELOG = """# Changelog

All notable changes to {package}, newest first.
Versions follow [Semantic Versioning](https://semver.org).

## 0.1.0 (unreleased)

- First version.
"""


def main(package: str) -> None:
    """Write the package's folder and its folder of tests; raise SystemExit if the name will not do."""
    if not re.fullmatch(r"mcp-[a-z][a-z0-9]*", package):
        raise SystemExit(f"a package is called mcp-NAME, in small letters and digits, not {package!r}")
    folder, module = ROOT / "packages" / package, package.replace("-", "_")
    if folder.exists():
        raise SystemExit(f"{folder.relative_to(ROOT)} is there already")
    project = (PATTERN / "pyproject.toml").read_text("utf-8").replace("mcp-middleware", package)
    files = {
        folder / "pyproject.toml": project.replace('"middleware"', f'"{package.removeprefix("mcp-")}"'),
        folder / "LICENSE": (PATTERN / "LICENSE").read_text("utf-8"),
        folder / "CHANGELOG.md": CHANGELOG.format(package=package),
        folder / "README.md": f"# {package}\n",
        folder / f"src/{module}/__init__.py": INIT,
        folder / f"src/{module}/py.typed": "",
        ROOT / f"tests/{package.removeprefix('mcp-')}/test_{package.removeprefix('mcp-')}.py": "",
    }
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
        print(path.relative_to(ROOT))
    subprocess.run([sys.executable, ROOT / "tools/seam.py"], check=True)


if __name__ == "__main__":
    main(*sys.argv[1:2] or [""])
