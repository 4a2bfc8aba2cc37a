"""What is left of a traceback."""

from __future__ import annotations

import traceback

import pytest
from mcp_retry import frames
from mcp_retry.frames import hidden, unseen


def fail(*calls):
    raise LookupError


def own(call, *calls):
    call(*calls)


def guard(call, *calls):
    with unseen:
        call(*calls)


def ours(call, *calls):
    call(*calls)


def ours_too(call, *calls):
    with unseen:
        call(*calls)


@pytest.mark.parametrize(
    ("calls", "shown"),
    [
        ([fail], ["fail"]),
        ([ours, fail], ["ours", "fail"]),
        ([guard, fail], ["guard", "fail"]),
        ([guard, ours, fail], ["guard", "fail"]),
        ([guard, ours, ours, fail], ["guard", "fail"]),
        ([guard, ours, ours_too, ours, fail], ["guard", "fail"]),
        ([guard, ours, own, own, fail], ["guard", "own", "own", "fail"]),
        ([guard, own, ours, fail], ["guard", "own", "ours", "fail"]),
        ([guard, ours], ["guard"]),
    ],
)
def test_hidden_frames_right_below_vanish(monkeypatch, calls, shown):
    """And no others: what the user's function has called stays as it is."""
    monkeypatch.setattr(frames, "_HIDDEN", set())  # not yet those of a run before
    assert [hidden(ours), hidden(ours_too)] == [ours, ours_too]
    with pytest.raises((LookupError, TypeError)) as caught:
        own(*calls)
    names = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert names[2:] == shown


def test_an_error_of_the_block_itself_stays():
    """There is nothing below to be hidden; nor is there when nothing is raised."""
    with pytest.raises(LookupError) as caught, unseen:
        raise LookupError
    assert len(traceback.extract_tb(caught.value.__traceback__)) == 1
    with unseen:
        pass
