"""tools/seam.py: copies of the common protocol stay equal to their original, whole."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.monorepo.checkout import ROOT
from tools import seam

BLOCK = "# --- preserve_signature: marked\nold = 1\n# --- end preserve_signature\n"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A checkout of two packages, the second of which has never been synchronised."""
    original = tmp_path / seam.ORIGINAL
    original.parent.mkdir(parents=True)
    (original.parent / "__init__.py").touch()
    original.write_bytes((ROOT / seam.ORIGINAL).read_bytes())
    package = tmp_path / "packages/mcp-other/src/mcp_other"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "primitive.py").write_text(f"before = 1\n{BLOCK}after = 1\n", "utf-8")
    return package


def test_this_checkout_is_in_step() -> None:
    """Every package talks the same protocol."""
    assert seam.main(check=True) == 0


def test_copying_brings_all_in_step(copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The check names what differs, copying repairs it, and touches nothing around the block."""
    assert seam.main(tmp_path, check=True) == 1
    assert {line.partition(":")[0] for line in capsys.readouterr().out.splitlines()} == {
        "packages/mcp-other/src/mcp_other/_seam.py",
        "packages/mcp-other/src/mcp_other/primitive.py",
    }
    assert seam.main(tmp_path, check=False) == 0
    assert seam.main(tmp_path, check=True) == 0
    block = seam.BLOCK.findall((ROOT / seam.ORIGINAL).read_bytes())[0]
    assert (copy / "primitive.py").read_bytes() == b"before = 1\n" + block + b"\nafter = 1\n"


@pytest.mark.parametrize(("pattern", "replacement"), [(rb".{40}\Z", b""), (rb"\Z", b"\n"), (rb"\n", b"\r\n")])
def test_whole_contents_are_compared(copy: Path, tmp_path: Path, pattern: bytes, replacement: bytes) -> None:
    """A missing tail, an added line or other line ends are differences too."""
    seam.main(tmp_path, check=False)
    damaged = re.sub(pattern, replacement, (copy / "_seam.py").read_bytes(), flags=re.DOTALL)
    (copy / "_seam.py").write_bytes(damaged)
    assert seam.main(tmp_path, check=True) == 1


@pytest.mark.parametrize("kept", [slice(0, 2), slice(1, 3), slice(0, 4)], ids=["no end", "no begin", "begun twice"])
def test_marker_without_partner_is_named(copy: Path, tmp_path: Path, kept: slice) -> None:
    """A block whose end is lost must not pass as one that is not there."""
    (copy / "primitive.py").write_text("\n".join((BLOCK * 2).splitlines()[kept]), "utf-8")
    with pytest.raises(SystemExit, match=r"primitive\.py: a preserve_signature marker without its partner"):
        seam.main(tmp_path, check=True)
