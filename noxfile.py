# /// script
# requires-python = ">=3.10"
# dependencies = ["nox[uv]>=2026.1"]
# ///
"""Everything that can be run on this workspace: `nox -l` lists it, `nox -s NAME` runs it.

Plain `pip install nox` is enough: the block above makes nox fetch uv by itself. What is tested is never the source tree
but the wheels built from it. Nothing here names a package: what lies in `packages/` is found, and `mcp-NAME` has its
tests in `tests/NAME/`.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import sysconfig
from pathlib import Path

import nox

PACKAGES = sorted(folder.parent.name for folder in Path("packages").glob("*/pyproject.toml"))
MODULES = {package: package.replace("-", "_") for package in PACKAGES}
TESTS = {package: f"tests/{package.removeprefix('mcp-')}" for package in PACKAGES}
NEEDS_AN_SDK = {"docs", "examples", "seams", "typing"}  # folders of tests that other sessions than `tests` run
FOLDERS = {path.parent.name for path in Path("tests").glob("*/test_*.py")}
SUITE = sorted(f"tests/{name}" for name in FOLDERS - NEEDS_AN_SDK)

PYTHONS = ["3.10", "3.11", "3.12", "3.13"]
COVERED = "3.11"
# A machine that has only a newer Python runs that.
HERE = f"{sys.version_info.major}.{sys.version_info.minor}" + "t" * bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
SDKS = {
    "mcp2": ["mcp>=2,<3"],
    "mcp1": ["mcp>=1.20,<2"],
    "fastmcp4": ["fastmcp>=4,<5"],
    "fastmcp3": ["fastmcp>=3,<4"],
    "fastmcp2": ["fastmcp>=2.14,<3"],
}
WHEELS = Path(".nox/built")
CHECKED = Path(".nox/checked")  # the sdists and wheels that `dist` found good
ANYIO_NEEDS = {"anyio", "exceptiongroup", "idna", "sniffio", "typing_extensions"}
WHEEL_LIMIT = 80_000  # bytes; a library that does one thing is small

nox.needs_version = ">=2026.1"
nox.options.default_venv_backend = "uv"
nox.options.download_python = "never"  # a missing interpreter is reported, and an error when CI is set
nox.options.sessions = ["tests"]
nox.options.allow_parallel = True  # nox -j 2; sessions share no state but the wheels, which come first

# pyenv's shims answer for every version and then refuse to start most of them; the interpreters themselves do not.
PYENV = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
os.environ["PATH"] = os.pathsep.join([*map(str, PYENV.glob("versions/3.1[0-9].*/bin")), os.environ["PATH"]])


def install(session: nox.Session, *requirements: str, packages: list[str] = PACKAGES) -> None:
    """Install the packages' wheels and *requirements*; none of ours is ever looked up by name."""
    session.install(*requirements, *(str(next(WHEELS.glob(f"{MODULES[package]}-*.whl"))) for package in packages))


def build(session: nox.Session, source: Path, out: Path, *options: str) -> None:
    """Build every package found in *source* into a fresh folder *out*, without a trace of the time of the build."""
    shutil.rmtree(out, ignore_errors=True)
    epoch = {"SOURCE_DATE_EPOCH": "1767225600"}  # 2026-01-01; zip files need some date
    session.run("uv", "build", "--quiet", "--all-packages", *options, "--out-dir", str(out), str(source), env=epoch)


def stage(session: nox.Session, package: str) -> Path:
    """Lay the tests of *package*, and what they lean on, into a fresh folder and return it."""
    project = Path(session.create_tmp(), package)
    shutil.rmtree(project, ignore_errors=True)
    for part in ["tests/support", TESTS[package]]:
        shutil.copytree(part, project / part, ignore=shutil.ignore_patterns("__pycache__"))
    for part in ["pyproject.toml", "tests/conftest.py"]:
        shutil.copy(part, project / part)
    return project


@nox.session
def wheels(session: nox.Session) -> None:
    """Build the wheels that the other sessions install."""
    build(session, Path(), WHEELS, "--wheel")


@nox.session(requires=["wheels"])
def demo(session: nox.Session) -> None:
    """Real servers and a real client behind a chain, and the story of what the chain saw."""
    install(session, "--group", "demo", *SDKS["mcp2"])
    session.run("python", "-m", "examples.demo", *session.posargs)


@nox.session(python=sorted({*PYTHONS, HERE}), requires=["wheels"])
def tests(session: nox.Session) -> None:
    """The packages' own tests; on one Python the examples among them must reach every branch by themselves."""
    install(session, "--group", "test")
    if session.python != COVERED or session.posargs:
        session.run("pytest", *(session.posargs or SUITE))
        return
    source = ",".join(MODULES.values())
    session.run("coverage", "run", f"--source={source}", "-m", "pytest", "-m", "not hypothesis", *SUITE)
    copies = ",".join(f"*/{module}/_seam.py" for module in MODULES.values() if module != "mcp_middleware")
    session.run("coverage", "report", f"--omit={copies}")  # the original is what its tests test
    session.run("pytest", "-m", "hypothesis", *SUITE)


@nox.session(requires=["wheels"])
@nox.parametrize("sdk", list(SDKS), ids=list(SDKS))
def seams(session: nox.Session, sdk: str) -> None:
    """Every middleware at every seam of one SDK, and the examples written for it."""
    install(session, "--group", "seams", *SDKS[sdk])
    session.run("pytest", *(session.posargs or ["tests/seams", "tests/examples"]))


@nox.session(python=[PYTHONS[0], PYTHONS[-1]], requires=["wheels"])
@nox.parametrize("package", PACKAGES, ids=PACKAGES)
def alone(session: nox.Session, package: str) -> None:
    """One package in an empty environment: it brings nothing but anyio, at its lowest version on the lowest Python."""
    install(session, "--resolution=" + ("lowest" if session.python == PYTHONS[0] else "highest"), packages=[package])
    installed = {path.name.split("-")[0] for path in Path(session.virtualenv.location).rglob("*.dist-info")}
    if strangers := installed - ANYIO_NEEDS - {MODULES[package]}:
        session.error(f"{package} brings {', '.join(sorted(strangers))}")
    session.run("python", "-I", "-W", "error", "-c", f"from {MODULES[package]} import *")


@nox.session
def vendored(session: nox.Session) -> None:
    """Each package's tests against a copy of its folder inside another project, made by tools/vendor.py."""
    session.install("--group", "test", "anyio>=4.4,<5")
    for package, folder in TESTS.items():
        project = stage(session, package)
        session.run("python", "tools/vendor.py", package, str(project / "app/vendor/borrowed"))
        for test in (project / "tests").rglob("*.py"):
            test.write_text(re.sub(rf"\b{MODULES[package]}\b", "app.vendor.borrowed", test.read_text("utf-8")), "utf-8")
        with session.chdir(project):
            session.run("pytest", folder)


@nox.session(requires=["wheels"])
def typing(session: nox.Session) -> None:
    """mypy --strict, pyright strict, and every public name fully typed, beside both SDKs."""
    install(session, "--group", "typing", *SDKS["mcp2"], *SDKS["fastmcp4"])
    sources = [f"packages/{package}/src" for package in PACKAGES]
    session.run("mypy", *sources, "tests/typing", "examples", "tools", "noxfile.py")
    session.run("pyright")
    for module in MODULES.values():
        session.run("pyright", "--ignoreexternal", "--verifytypes", module)


@nox.session
def lint(session: nox.Session) -> None:
    """Style, shape, and the copied protocol file."""
    session.install("--group", "lint")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("python", "tools/shape.py")
    session.run("python", "tools/seam.py", "--check")
    session.run("zizmor", "--offline", ".github/workflows")


@nox.session(requires=["alone"])
def dist(session: nox.Session) -> None:
    """Two builds from two copies are equal byte for byte, small, and what PyPI accepts; each works alone."""
    session.install("--group", "dist")
    outputs = []
    for copy in (Path(session.create_tmp(), name) for name in ("first", "second")):
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree("packages", copy / "packages", copy_function=shutil.copyfile)  # other paths, other times
        shutil.copyfile("pyproject.toml", copy / "pyproject.toml")
        build(session, copy, copy / "dist")
        outputs.append({path.name: path for path in sorted((copy / "dist").glob("mcp_*"))})
    first, second = outputs
    if differing := [name for name in first if first[name].read_bytes() != second[name].read_bytes()]:
        session.error(f"not reproducible: {', '.join(differing)}")
    built = {name: path for name, path in first.items() if name.endswith(".whl")}
    if big := {name: size for name, path in built.items() if (size := path.stat().st_size) > WHEEL_LIMIT}:
        session.error(f"over {WHEEL_LIMIT} bytes: {big}")
    session.run("twine", "check", "--strict", *map(str, first.values()))
    session.run("check-wheel-contents", *map(str, built.values()))
    session.run("validate-pyproject", *(f"packages/{package}/pyproject.toml" for package in PACKAGES))
    shutil.rmtree(CHECKED, ignore_errors=True)
    shutil.copytree(next(iter(first.values())).parent, CHECKED)


@nox.session(requires=["dist"])
def release(session: nox.Session) -> None:
    """Upload what dist found good: nox -s release -- mcp-NAME …; -- --dry-run only shows what would be uploaded."""
    names = [argument for argument in session.posargs if argument != "--dry-run"]
    dry = "--dry-run" in session.posargs
    if not names and not dry:
        session.error("name the packages to upload, or give --dry-run")
    session.install("--group", "dist")
    session.run("python", "tools/release.py", str(CHECKED), *names)
    if not dry:
        session.run("twine", "upload", *(str(path) for name in names for path in CHECKED.glob(f"{MODULES[name]}-*")))


@nox.session(requires=["wheels"])
def docs(session: nox.Session) -> None:
    """Run every block of every page, compare every picture with what its program draws, and build the site."""
    install(session, "--group", "docs", *SDKS["mcp2"], *SDKS["fastmcp4"])
    session.run("pytest", "tests/docs")
    for program in sorted(Path("docs").rglob("pictures/*.py")):
        if session.run("python", str(program), silent=True) != program.with_suffix(".svg").read_text("utf-8"):
            session.error(f"{program} draws another picture now: python {program} > {program.with_suffix('.svg')}")
    session.run("zensical", "build", "--strict", "--clean")


@nox.session(requires=["wheels"])
def bench(session: nox.Session) -> None:
    """Ours beside its peers, or only some, as in nox -s bench -- middleware; all together make docs/numbers.md."""
    records = Path(".nox/bench-records").resolve()
    records.mkdir(exist_ok=True)
    for name in session.posargs or sorted(path.stem[6:] for path in Path("benchmarks").glob("bench_*.py")):
        program = f"benchmarks/bench_{name}.py"
        install(session, *nox.project.load_toml(program)["dependencies"])
        session.run("python", program, env={"BENCH_RECORD": str(records / f"{name}.json")})
    if not session.posargs:
        session.run("python", "benchmarks/write_numbers.py", str(records))


@nox.session(python=COVERED)
@nox.parametrize("package", PACKAGES, ids=PACKAGES)
def mutants(session: nox.Session, package: str) -> None:
    """Break one package in every small way; each break that no test sees needs its reason in survivors.toml."""
    session.install("--group", "mutants", "anyio>=4.4,<5")
    project = stage(session, package)
    shutil.copytree(f"packages/{package}/src", project / "src")
    session.run("python", "tools/mutants.py", str(project), f"{TESTS[package]}/survivors.toml")


@nox.session(venv_backend="none")
def seam(session: nox.Session) -> None:
    """Copy the common protocol into every package; --check only compares."""
    session.run(sys.executable, "tools/seam.py", *session.posargs)


@nox.session(venv_backend="none")
def new(session: nox.Session) -> None:
    """Lay out a new package after the pattern: nox -s new -- mcp-NAME."""
    session.run(sys.executable, "tools/new.py", *session.posargs)
