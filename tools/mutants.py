"""Run mutmut on one staged package, and hold its survivors against the file of those that are known and justified.

    python tools/mutants.py STAGE SURVIVORS

STAGE holds ``src/`` and ``tests/``. SURVIVORS is a TOML file with one table a module and one line a survivor:

    [breaker]
    "CircuitBreaker.call: `if now > until:` → `if now >= until:`" = "the clock never stands still between two calls"

A survivor without a reason fails, and so does a reason whose mutant is dead.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import tomllib  # type: ignore[import-not-found]  # its session runs on 3.11
from mutmut.mutation.diff_apply import get_diff_for_mutant  # type: ignore[import-not-found]  # its session has it

CAST = re.compile(r"\bcast\((?:None|\"[^\"]*\"),")  # its first argument is for type checkers alone: no test can see it
MUTMUT = Path(sys.executable).with_name("mutmut")
# A mutant may take (seconds of its tests + constant) * multiplier; mutmut's own fifteen made the few loops without an
# end take longer than all the others together.
CONFIG = """
[tool.mutmut]
source_paths = ["src"]
do_not_mutate = {skipped}
pytest_add_cli_args = ["-m", "not uninstrumented", "--hypothesis-profile=mutants"]
pytest_add_cli_args_test_selection = {tests}
timeout_constant = 2.0
timeout_multiplier = 4.0
"""


def survivor(mutant: str) -> tuple[str, str] | None:
    """Describe a mutant of the current folder by its module, function and change, which outlive its number."""
    module, function = re.findall(r"\w+\.([\w.]+)\.x_?(.+)__mutmut_\d+", mutant)[0]
    diff = [line for line in get_diff_for_mutant(mutant).splitlines() if not line.startswith(("---", "+++"))]
    before, after = (" ".join(line[1:].strip() for line in diff if line.startswith(sign)) for sign in "-+")
    if CAST.sub("", before) == CAST.sub("", after):
        return None
    return module, f"{function.strip('ǁ').replace('ǁ', '.')}: `{before}` → `{after}`"


def configure() -> None:
    """Tell mutmut what to break and what to run; the copies of _seam.py are tested where their original is."""
    packages = [path.name for path in Path("src").iterdir()]
    skipped = [] if packages == ["mcp_middleware"] else ["*/_seam.py"]
    tests = sorted({str(path.parent) for path in Path("tests").glob("*/test_*.py")})
    with Path("pyproject.toml").open("a", encoding="utf-8") as file:
        file.write(CONFIG.format(skipped=skipped, tests=tests))


def main(stage: Path, justified: Path) -> int:
    """Mutate, compare, print; return the exit code."""
    tables = tomllib.loads(justified.read_text("utf-8")) if justified.exists() else {}
    reasons = {
        (module, change) for module, table in tables.items() for change, reason in table.items() if reason.strip()
    }
    os.chdir(stage)
    configure()
    subprocess.run([MUTMUT, "run"], check=True, env={**os.environ, "TEST_BACKENDS": "asyncio"})
    results = subprocess.run([MUTMUT, "results"], check=True, stdout=subprocess.PIPE, text=True).stdout
    left = re.findall(r"^\s*(\S+): (?:survived|no tests)$", results, re.MULTILINE)
    survivors = {found for mutant in left if (found := survivor(mutant))}
    for module, change in sorted(survivors - reasons):
        print(f'no reason in {justified}: [{module}]\n{json.dumps(change, ensure_ascii=False)} = ""')
    for module, change in sorted(reasons - survivors):
        print(f"stale in {justified}: [{module}] {change}")
    print(f"{len(survivors)} survivors, {len(reasons)} reasons")
    return int(survivors != reasons)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
