"""Show what a release would upload, and refuse what must not be.

    python tools/release.py DIST [mcp-NAME ...]

DIST holds the sdists and wheels. Without names, all packages are looked at. Exit code 1: something named may not be
uploaded, and why stands in its line.
"""

from __future__ import annotations

import re
import sys
from hashlib import sha256
from pathlib import Path

NOT_OURS = {"mcp-retry", "mcp-cache", "mcp-pool"}  # projects of other people on PyPI
PACKAGES = Path(__file__).resolve().parent.parent / "packages"


def version_of(package: str) -> str:
    """Return the version that the package's module states."""
    module = package.replace("-", "_")
    text = (PACKAGES / package / "src" / module / "__init__.py").read_text("utf-8")
    return str(re.findall(r'^__version__ = "(.+)"$', text, re.MULTILINE)[0])


def objection(package: str, files: list[Path]) -> str | None:
    """Say why *package* may not be uploaded, or None."""
    if package in NOT_OURS:
        return "the name belongs to somebody else on PyPI; publish under another distribution name"
    version, changes = version_of(package), (PACKAGES / package / "CHANGELOG.md").read_text("utf-8")
    if not re.search(rf"^## {re.escape(version)}\b", changes, re.MULTILINE):
        return f"CHANGELOG.md says nothing of {version}"
    if len(files) != 2:  # noqa: PLR2004  # a wheel and an sdist
        return f"expected one wheel and one sdist, found {[path.name for path in files]}"
    return None


def main(dist: Path, names: list[str]) -> int:
    """Print a line for each package, and its files; return the exit code."""
    known = sorted(path.parent.name for path in PACKAGES.glob("*/pyproject.toml"))
    if strangers := sorted(set(names) - set(known)):
        print(f"no such package: {', '.join(strangers)}; there are {', '.join(known)}")
        return 1
    refused = 0
    for package in names or known:
        files = sorted(dist.glob(f"{package.replace('-', '_')}-{version_of(package)}*"))
        why = objection(package, files)
        refused += why is not None
        print(
            f"{package} {version_of(package)}: {f'refused: {why}' if why else f'tag {package}/v{version_of(package)}'}"
        )
        for path in files if why is None else []:
            print(f"    {path.name}  {path.stat().st_size} bytes  sha256 {sha256(path.read_bytes()).hexdigest()}")
    return int(bool(names) and refused > 0)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
