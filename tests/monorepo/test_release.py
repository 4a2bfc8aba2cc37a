"""What may be uploaded: our own names, both files, a version that the changelog knows."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.monorepo.checkout import PACKAGES
from tools import release

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def dist(tmp_path: Path) -> Path:
    for name in ("mcp_metrics-0.1.0-py3-none-any.whl", "mcp_metrics-0.1.0.tar.gz", "mcp_retry-0.1.0.tar.gz"):
        (tmp_path / name).write_bytes(b"content")
    return tmp_path


def test_both_files_are_shown_with_their_hashes(dist: Path, capsys: Capture) -> None:
    """What is uploaded can be compared with what was checked."""
    assert release.main(dist, ["mcp-metrics"]) == 0
    shown = capsys.readouterr().out
    assert "tag mcp-metrics/v0.1.0" in shown
    assert shown.count("sha256 ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73") == 2


@pytest.mark.parametrize("name", ["mcp-retry", "mcp-cache", "mcp-pool"])
def test_a_name_of_others_is_refused(dist: Path, capsys: Capture, name: str) -> None:
    """Those projects on PyPI are not ours."""
    assert release.main(dist, [name]) == 1
    shown = capsys.readouterr().out
    assert "belongs to somebody else" in shown


def test_half_a_release_is_refused(dist: Path, capsys: Capture) -> None:
    """An sdist without its wheel would be built again by whoever installs it."""
    (dist / "mcp_metrics-0.1.0-py3-none-any.whl").unlink()
    assert release.main(dist, ["mcp-metrics"]) == 1
    shown = capsys.readouterr().out
    assert "expected one wheel and one sdist" in shown


def test_a_slip_in_a_name_says_what_there_is(dist: Path, capsys: Capture) -> None:
    """Nothing is uploaded that was not meant."""
    assert release.main(dist, ["mcp-metric"]) == 1
    shown = capsys.readouterr().out
    assert "no such package: mcp-metric; there are mcp-cache" in shown


def test_without_names_all_are_looked_at_and_none_is_an_error(dist: Path, capsys: Capture) -> None:
    """The dry run tells of every package."""
    assert release.main(dist, []) == 0
    shown = capsys.readouterr().out
    assert shown.count("\nmcp-") + 1 == len(PACKAGES)
