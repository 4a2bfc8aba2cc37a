"""tools/vendor.py: copies work under another name, and tell what became of them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.monorepo.checkout import FILES, MODULES, PACKAGES, ROOT
from tools import vendor

SINGLE = [
    f"{path.parts[-4]}/{path.stem}" for path in FILES if vendor.closure(path) == [path] and path.stem != "__init__"
]


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of all packages, from which the tool then copies, so that they can be changed."""
    shutil.copytree(ROOT / "packages", tmp_path / "packages")
    monkeypatch.setattr(vendor, "PACKAGES", tmp_path / "packages")
    return tmp_path / "packages"


def import_without(package: str, name: str, folder: Path) -> None:
    """Import *name* from *folder* in another process, in which *package* cannot be imported."""
    code = f"import sys; sys.modules[{MODULES[package]!r}] = None; sys.path.insert(0, {str(folder)!r}); import {name}"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


@pytest.mark.parametrize("package", PACKAGES)
def test_package_works_under_another_name(package: str, tmp_path: Path) -> None:
    """Relative imports only: a copy must never reach for the installed original."""
    assert vendor.main([package, str(tmp_path / "app/borrowed")]) == 0
    assert vendor.main(["--check", str(tmp_path / "app")]) == 0
    import_without(package, "app.borrowed", tmp_path)
    assert (tmp_path / f"app/borrowed/{package}.LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert (tmp_path / "app/borrowed/py.typed").exists()


@pytest.mark.parametrize("what", SINGLE)
def test_module_works_as_one_file(what: str, tmp_path: Path) -> None:
    """A module that imports no sibling is a library in one file."""
    assert vendor.main([what, str(tmp_path / "borrowed.py")]) == 0
    assert vendor.main(["--check", str(tmp_path / "borrowed.py")]) == 0
    import_without(what.partition("/")[0], "borrowed", tmp_path)


def test_header_says_whence(tmp_path: Path) -> None:
    """Who finds the file in a foreign project must see what it is, under which licence."""
    vendor.main(["mcp-middleware/_seam", str(tmp_path)])
    lines = (tmp_path / "_seam.py").read_text("utf-8").splitlines()
    assert lines[0] == f"# Vendored from mcp-middleware {vendor.version('mcp-middleware')}: _seam.py"
    assert lines[1] == "# SPDX-License-Identifier: MIT"


def test_module_brings_what_it_imports(tmp_path: Path) -> None:
    """Half a module is none: what it imports from its package comes along, directly and indirectly."""
    vendor.main(["mcp-middleware/chain", str(tmp_path / "chain")])
    assert {"chain.py", "_seam.py"} < {path.name for path in (tmp_path / "chain").iterdir()}
    with pytest.raises(SystemExit, match=r"chain needs .*_seam\.py.* DEST must be a folder"):
        vendor.main(["mcp-middleware/chain", str(tmp_path / "chain.py")])


def test_changed_copy_is_seen_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Local changes are told, and never overwritten, not even in part."""
    vendor.main(["mcp-middleware", str(tmp_path)])
    changed, removed = tmp_path / "chain.py", tmp_path / "__init__.py"
    changed.write_text(changed.read_text("utf-8") + "\n", "utf-8")
    removed.unlink()
    assert vendor.main(["--check", str(tmp_path)]) == 1
    assert f"{changed} was changed\n" in capsys.readouterr().out
    with pytest.raises(SystemExit, match=r"chain\.py was changed since"):
        vendor.main(["mcp-middleware", str(tmp_path)])
    assert not removed.exists()


def test_newer_version_is_seen(checkout: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An untouched copy of an older version says so, and may be copied over."""
    old = vendor.version("mcp-middleware")
    vendor.main(["mcp-middleware", str(tmp_path / "copy")])
    init = checkout / "mcp-middleware/src/mcp_middleware/__init__.py"
    init.write_text(init.read_text("utf-8").replace(f'"{old}"', '"99.0"'), "utf-8")
    assert vendor.main(["--check", str(tmp_path / "copy")]) == 1
    assert f"__init__.py is mcp-middleware {old}; this checkout has 99.0, which differs\n" in capsys.readouterr().out
    assert vendor.main(["mcp-middleware", str(tmp_path / "copy")]) == 0
    assert vendor.main(["--check", str(tmp_path / "copy")]) == 0


def test_module_that_is_gone_is_seen(checkout: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A copy of what the project dropped is on its own from now on."""
    vendor.main(["mcp-middleware/_seam", str(tmp_path / "copy")])
    (checkout / "mcp-middleware/src/mcp_middleware/_seam.py").unlink()
    assert vendor.main(["--check", str(tmp_path / "copy")]) == 1
    assert "_seam.py is no longer part of mcp-middleware\n" in capsys.readouterr().out


@pytest.mark.parametrize("what", ["mcp-nothing", "mcp-middleware/nothing"])
def test_unknown_name_is_refused(what: str, tmp_path: Path) -> None:
    """A slip of the pen must not leave half a copy."""
    with pytest.raises(SystemExit, match=f"{what}: there is no "):
        vendor.main([what, str(tmp_path / "copy")])
    assert not (tmp_path / "copy").exists()


def test_foreign_files_are_no_copies(tmp_path: Path) -> None:
    """A check that finds nothing to check must not pass."""
    (tmp_path / "own.py").write_text("x = 1\n", "utf-8")
    with pytest.raises(SystemExit, match="holds nothing that was vendored"):
        vendor.main(["--check", str(tmp_path)])
