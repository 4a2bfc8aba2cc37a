"""What lies in this checkout, for tests that hold for every package of it."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PACKAGES = sorted(path.parent.name for path in ROOT.glob("packages/*/pyproject.toml"))
MODULES = {package: package.replace("-", "_") for package in PACKAGES}
FILES = sorted(path for package in PACKAGES for path in ROOT.glob(f"packages/{package}/src/**/*.py"))
FILE_IDS = [path.relative_to(ROOT / "packages").as_posix() for path in FILES]
