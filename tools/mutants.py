"""Run mutmut on one staged package, and hold its survivors against the file of those that are known and justified.

    python tools/mutants.py STAGE SURVIVORS

STAGE holds ``src/`` and ``tests/``. SURVIVORS is a TOML file with one table a module and one line a survivor:

    [breaker]
    "CircuitBreaker.call: `if now > until:` → `if now >= until:`" = "the clock never stands still between two calls"

A survivor without a reason fails, and so does a reason whose mutant is dead.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import tomllib  # type: ignore[import-not-found]  # the session runs on 3.11

MUTMUT = Path(sys.executable).with_name("mutmut")
CONFIG = """
[tool.mutmut]
source_paths = ["src"]
do_not_mutate = {skipped}
pytest_add_cli_args_test_selection = {tests}
"""


def mutmut(stage: Path, *arguments: str) -> str:
    """Run mutmut in *stage* and return what it prints."""
    return subprocess.run([MUTMUT, *arguments], cwd=stage, check=True, stdout=subprocess.PIPE, text=True).stdout


def survivor(stage: Path, mutant: str) -> tuple[str, str]:
    """Describe a mutant by its module, function and change, which outlive its number."""
    module, function = re.findall(r"\w+\.([\w.]+)\.x_?(.+)__mutmut_\d+", mutant)[0]
    diff = [line for line in mutmut(stage, "show", mutant).splitlines() if not line.startswith(("---", "+++"))]
    before, after = (" ".join(line[1:].strip() for line in diff if line.startswith(sign)) for sign in "-+")
    return module, f"{function.strip('ǁ').replace('ǁ', '.')}: `{before}` → `{after}`"


def main(stage: Path, justified: Path) -> int:
    """Mutate, compare, print; return the exit code."""
    packages = [path.name for path in (stage / "src").iterdir()]
    tests = sorted(str(path.parent.relative_to(stage)) for path in stage.glob("tests/*/test_*.py"))
    skipped = [] if packages == ["mcp_middleware"] else ["*/_seam.py"]  # the copies are tested where the original is
    with (stage / "pyproject.toml").open("a", encoding="utf-8") as file:
        file.write(CONFIG.format(skipped=skipped, tests=sorted(set(tests))))
    print(mutmut(stage, "run").splitlines()[-1])
    left = re.findall(r"^\s*(\S+): (?:survived|no tests)$", mutmut(stage, "results"), re.MULTILINE)
    survivors = {survivor(stage, mutant) for mutant in left}
    tables = tomllib.loads(justified.read_text("utf-8")) if justified.exists() else {}
    reasons = {(module, change): reason for module, table in tables.items() for change, reason in table.items()}
    for module, change in sorted(survivors - {key for key, reason in reasons.items() if reason.strip()}):
        print(f"survived without a reason in {justified}:\n[{module}]\n{change!r} = ''")
    for module, change in sorted(set(reasons) - survivors):
        print(f"stale in {justified}: [{module}] {change}")
    print(f"{len(survivors)} survivors, {len(reasons)} reasons")
    return int(survivors != {key for key, reason in reasons.items() if reason.strip()})


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
