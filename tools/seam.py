"""Keep the copies of the common protocol equal to their originals in mcp-middleware.

    python tools/seam.py            copy
    python tools/seam.py --check    compare only; exit code 1, naming every file that differs

Two things are copied: ``_seam.py``, whole, into every package, and its block between the two ``preserve_signature``
marker lines into every module that has such lines (a primitive must work as one copied file, and so carries it itself).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ORIGINAL = Path("packages/mcp-middleware/src/mcp_middleware/_seam.py")
BLOCK = re.compile(rb"^# --- preserve_signature\b.*?^# --- end preserve_signature$", re.DOTALL | re.MULTILINE)
MARKER = re.compile(rb"^# --- (?:end )?preserve_signature", re.MULTILINE)


def copies(root: Path) -> Iterator[tuple[Path, bytes]]:
    """Yield every file below *root* that holds a copy, with the whole content that it ought to have."""
    original = (root / ORIGINAL).read_bytes()
    block = BLOCK.findall(original)[0]
    for package in sorted(path.parent for path in root.glob("packages/*/src/*/__init__.py")):
        yield package / ORIGINAL.name, original
        for module in sorted(set(package.rglob("*.py")) - {package / ORIGINAL.name}):
            content = module.read_bytes()
            if len(MARKER.findall(content)) != 2 * len(BLOCK.findall(content)):
                raise SystemExit(f"{module.relative_to(root)}: a preserve_signature marker without its partner")
            yield module, BLOCK.sub(lambda _: block, content)


def main(root: Path = ROOT, *, check: bool) -> int:
    """Copy, or only compare; return the exit code."""
    stale = [(path, content) for path, content in copies(root) if not path.exists() or path.read_bytes() != content]
    for path, content in stale:
        if not check:
            path.write_bytes(content)
        print(f"{path.relative_to(root)}: {'not the original; run `nox -s seam`' if check else 'written'}")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main(check="--check" in sys.argv[1:]))
