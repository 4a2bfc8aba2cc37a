"""Copy a package, or one of its modules, into another project, and say later how the copy has fared.

    python tools/vendor.py mcp-NAME DEST           the whole package becomes the folder DEST
    python tools/vendor.py mcp-NAME/MODULE DEST    the module, with those it imports, goes into the folder DEST;
                                                   one that imports none of them may become the file DEST.py
    python tools/vendor.py --check DEST            was the copy changed, and does this checkout have another version?

Each copied file begins with four lines that say where it comes from and with which content. The licence goes beside it.
A copy that was changed is never overwritten. Exit code 0: all is well; 1: something was changed, or is not current.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

PACKAGES = Path(__file__).resolve().parent.parent / "packages"
HEADER = re.compile(
    rb"# Vendored from (?P<package>\S+) (?P<version>\S+): (?P<module>\S+)\n"
    rb"# SPDX-License-Identifier: MIT\n"
    rb"# The licence's text is in \S+, beside this file.\n"
    rb"# sha256 of what follows: (?P<digest>\w+)\n"
)


def folder(package: str) -> Path:
    """Return the folder of modules of *package*."""
    return PACKAGES / package / "src" / package.replace("-", "_")


def version(package: str) -> str:
    """Read the version of *package* without importing it."""
    text = (folder(package) / "__init__.py").read_text("utf-8")
    return str(re.findall(r'^__version__ = "(.+)"$', text, re.MULTILINE)[0])


def siblings(module: Path) -> Iterator[Path]:
    """Yield the modules of its own package that *module* imports."""
    for node in ast.walk(ast.parse(module.read_bytes())):
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            for name in [node.module] if node.module else [alias.name for alias in node.names]:
                yield module.parent / f"{name}.py"


def closure(module: Path) -> list[Path]:
    """Return *module* and everything of its package that it needs, itself first."""
    found = [module]
    for each in found:  # grows while it is walked
        found += sorted(set(siblings(each)) - set(found))
    return found


def header(package: str, module: str, content: bytes) -> bytes:
    """Return the lines that stand above a copy of *content*."""
    lines = (
        f"# Vendored from {package} {version(package)}: {module}",
        "# SPDX-License-Identifier: MIT",
        f"# The licence's text is in {package}.LICENSE, beside this file.",
        f"# sha256 of what follows: {sha256(content).hexdigest()}",
    )
    return "".join(f"{line}\n" for line in lines).encode()


def parse(path: Path) -> tuple[re.Match[bytes] | None, bytes]:
    """Split a vendored file into its header, None if it has none, and its content."""
    content = path.read_bytes()
    found = HEADER.match(content)
    return found, content[found.end() :] if found else content


def is_changed(path: Path) -> bool:
    """Say whether the file at *path* is anything but an untouched copy."""
    found, content = parse(path)
    return found is None or found["digest"].decode() != sha256(content).hexdigest()


def wanted(what: str) -> tuple[str, Path, list[Path]]:
    """Return the package that *what* names, its folder, and the files to copy."""
    package, _, module = what.partition("/")
    source = folder(package)
    named = source / f"{module}.py" if module else source
    if not named.exists():
        raise SystemExit(f"{what}: there is no {named}")
    everything = (path for path in source.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return package, source, closure(named) if module else sorted(everything)


def vendor(what: str, dest: Path) -> None:
    """Copy *what* to *dest*, or raise SystemExit before anything was written."""
    package, source, files = wanted(what)
    one = dest.suffix == ".py"
    if one and len(files) > 1:
        raise SystemExit(f"{what} needs {', '.join(p.name for p in files[1:])} too: DEST must be a folder, not {dest}")
    targets = {path: dest if one else dest / path.relative_to(source) for path in files}
    if changed := [path for path in targets.values() if path.suffix == ".py" and path.exists() and is_changed(path)]:
        raise SystemExit(f"{changed[0]} was changed since it was copied: move it away first")
    for path, target in targets.items():
        content = path.read_bytes()
        head = header(package, path.relative_to(source).as_posix(), content) if path.suffix == ".py" else b""
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(head + content)
    licence = (dest.parent if one else dest) / f"{package}.LICENSE"
    licence.write_bytes((PACKAGES / package / "LICENSE").read_bytes())


def verdict(path: Path, found: re.Match[bytes]) -> str:
    """Return what is to be said of one vendored file, empty if nothing is."""
    package, module, digest = (found[name].decode() for name in ("package", "module", "digest"))
    original = folder(package) / module
    if is_changed(path):
        return "was changed"
    if not original.exists():
        return f"is no longer part of {package}"
    if sha256(original.read_bytes()).hexdigest() != digest:
        return f"is {package} {found['version'].decode()}; this checkout has {version(package)}, which differs"
    return ""


def check(dest: Path) -> int:
    """Print what is to be said of the copies at *dest*; return the exit code."""
    paths = [dest] if dest.is_file() else sorted(dest.rglob("*.py"))
    copies = {path: found for path in paths if (found := parse(path)[0])}
    if not copies:
        raise SystemExit(f"{dest} holds nothing that was vendored from here")
    verdicts = {path: said for path, found in copies.items() if (said := verdict(path, found))}
    for path, said in verdicts.items():
        print(f"{path} {said}")
    print(f"{len(copies)} vendored files, {len(copies) - len(verdicts)} of them untouched and current")
    return int(bool(verdicts))


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare instead of copying")
    parser.add_argument("what", nargs="?", metavar="mcp-NAME[/MODULE]")
    parser.add_argument("dest", type=Path, metavar="DEST")
    options = parser.parse_args(arguments)
    if options.check:
        return check(options.dest)
    if not options.what:
        parser.error("what is to be copied?")
    vendor(options.what, options.dest)
    return 0


if __name__ == "__main__":
    sys.exit(main())
