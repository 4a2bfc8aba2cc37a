"""Permissions that stand for all that a pattern matches, so that a few questions compare two policies.

A star that is asked for is matched by stars alone, so a pattern without ``**`` is its own witness: whoever matches it
matches all that it does.  ``**`` stands for any number of segments, and is asked for with each number that some pattern
could tell apart.  What two patterns have in common may be decided otherwise than either, and is a pattern again.
"""

from __future__ import annotations

from .permission import Patterns

__all__ = ["common", "depth_of", "instances", "overlaps"]


def depth_of(patterns: set[str]) -> int:
    """Return a number of segments that is more than any of *patterns* has, in its action or its object."""
    return 2 + max((pattern.count("/") for pattern in patterns), default=-1)


def instances(pattern: str, depth: int) -> list[str]:
    """Return witnesses of *pattern* with up to *depth* segments, that of the most last."""
    if pattern == "**":
        rows = ["/".join("*" * count) for count in range(1, depth + 1)]
        return [row + object_ for row in rows for object_ in ("", *(f":{row}" for row in rows))]
    if not pattern.endswith("**"):
        return [pattern]
    stem, taken = pattern.removesuffix("**"), pattern.partition(":")[2].count("/")
    return [stem + "/".join("*" * count) for count in range(1, max(2, depth - taken + 1))]


def overlaps(some: set[str], patterns: set[str]) -> dict[str, tuple[str, str]]:
    """Return what *some* of the *patterns* have in common with others and is no pattern itself, each with its pair."""
    starred = sorted(pattern for pattern in patterns if "*" in pattern)
    pairs = [(one, other) for one in starred if one in some for other in starred]
    found = {both: pair for pair in pairs if (both := common(*pair)) is not None}
    return {both: pair for both, pair in found.items() if both not in patterns}


def common(one: str, other: str) -> str | None:
    """Return a pattern of what *one* and *other* both match, or None."""
    if "**" in (one, other):
        return other if one == "**" else one
    (action, colon, object_), (action_too, colon_too, object_too) = one.partition(":"), other.partition(":")
    actions = _all_common(action.split("/"), action_too.split("/"))
    objects = _all_common(object_.split("/"), object_too.split("/"))
    return None if colon != colon_too or actions is None or objects is None else f"{actions}{colon}{objects}"


def _all_common(one: list[str], other: list[str]) -> str | None:
    one, other = sorted((one, other), key=len)
    if one[-1] == "**":
        one = [*one[:-1], *["*"] * (len(other) - len(one)), "**"]
    if len(one) != len(other):
        return None
    found = [both for both in map(_segment, one, other) if both is not None]
    return "/".join(found) if len(found) == len(one) else None


def _segment(one: str, other: str) -> str | None:
    if "**" in (one, other):
        return other if one == "**" else one
    if "*" not in one or "*" not in other:
        literal, pattern = (one, other) if "*" not in one else (other, one)
        return literal if Patterns([(f"x:{pattern}", pattern)]).find(f"x:{literal}") else None
    (before, after), (before_too, after_too) = one.split("*"), other.split("*")
    start, end = max(before, before_too, key=len), max(after, after_too, key=len)
    agree = all(map(start.startswith, (before, before_too))) and all(map(end.endswith, (after, after_too)))
    return f"{start}*{end}" if agree else None
