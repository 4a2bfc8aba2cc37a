"""The language of permissions: what is asked for, the patterns that grant it, and the index that finds them.

    permission   tools/call:delete_file    resources/read:docs://a/b    tools/list
    pattern      tools/call:delete_*       resources/read:docs://**     **

A permission is an action, which is an MCP method or a word of your own, and after the first colon an object.  Both are
compared segment by segment, split at ``/``.  In a pattern one ``*`` a segment stands for any characters, ``**`` as the
last segment of the object for one segment or more, and ``**`` alone for everything.  There are no regular expressions,
no case folding and no escapes: a pattern without a star is compared literally.

``Patterns`` is a trie over segments.  A segment with a star is found by slicing, one look-up for each length that the
parts around a star have at that place, so the cost of a search does not grow with the number of patterns.

Invariant, a property in ``tests/rbac``: ``Patterns.find`` returns what comparing with every pattern in turn returns.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any, Generic, TypeVar

__all__ = ["LONGEST", "Patterns", "fault_in"]

V = TypeVar("V")
_NOTHING: list[Any] = []  # found often, and never changed
LONGEST = 4096  # characters of a permission or URI; a longer one is nobody's
_ACTION_SEGMENT = re.compile(r"(?=.)[A-Za-z0-9_.$-]*\*?[A-Za-z0-9_.$-]*")
_PLAIN = re.compile(r"[A-Za-z0-9_.$-]+(?:/[A-Za-z0-9_.$-]+)*(?::[!-)+-~]+)?")  # a short cut past what follows


def fault_in(pattern: object) -> str | None:
    """Say what is wrong with *pattern*, or None."""
    if not isinstance(pattern, str):
        return f"a permission is a string such as 'tools/call:search', not {pattern!r}"
    if pattern == "**" or _PLAIN.fullmatch(pattern):
        return None
    action, colon, object_ = pattern.partition(":")
    if not all(map(_ACTION_SEGMENT.fullmatch, action.split("/"))):
        return f"{pattern!r} needs an action such as 'tools/call' before the colon, with one '*' a segment at most"
    if colon and not object_:
        return f"{pattern!r} names no object after the colon; '**' stands for any"
    return _fault_in_stars(pattern, object_.split("/")) or _fault_in_text(pattern)


def _fault_in_stars(pattern: str, segments: list[str]) -> str | None:
    if "**" in segments[:-1]:
        return f"{pattern!r} has '**' before the last segment; it stands for all that follows"
    if any(segment.count("*") > 1 for segment in segments if segment != "**"):
        return f"{pattern!r} has more than one '*' in a segment"
    return None


def _fault_in_text(pattern: str) -> str | None:
    if not pattern.isprintable() or pattern != pattern.strip():
        return f"{pattern!r} holds invisible characters, or white space at an end"
    if not unicodedata.is_normalized("NFC", pattern):
        return f"{pattern!r} is not in Unicode's form NFC, so it would look like a name and not match it"
    return None


class _Names(Generic[V]):
    """Patterns for objects of one segment, as names are: by the parts before and after the star, and their lengths."""

    __slots__ = ("any", "both", "parts")

    def __init__(self) -> None:
        self.any: list[V] = []
        self.parts: dict[int, tuple[slice, dict[str, list[V]]]] = {}  # by the length, that of an end negative
        self.both: dict[tuple[int, int], dict[tuple[str, str], list[V]]] = {}

    def filed(self, segment: str) -> list[V]:
        """Return the list under the pattern *segment*, made if need be."""
        if segment in ("*", "**"):
            return self.any
        before, after = segment.split("*")
        if before and after:
            return self.both.setdefault((len(before), len(after)), {}).setdefault((before, after), [])
        length = len(before) or -len(after)
        _, table = self.parts.setdefault(length, (slice(length) if before else slice(length, None), {}))
        return table.setdefault(before or after, [])

    def find(self, name: str) -> list[V]:
        """Return the values of all patterns that match."""
        return [value for part, table in self.parts.values() for value in table.get(name[part], ())] + self.rest(name)

    def rest(self, name: str) -> list[V]:
        """Return those of a star alone, and of one with something on both sides."""
        found = [*self.any]
        for (before, after), table in self.both.items():
            if before + after <= len(name):
                found += table.get((name[:before], name[-after:]), ())
        return found


class _Node(Generic[V]):
    """A place in the trie: what ends here, and what may follow."""

    __slots__ = ("below", "ending", "literal", "starred")

    def __init__(self) -> None:
        self.below: list[V] = []  # of patterns that end here with ``**``
        self.ending: list[V] = []
        self.literal: dict[str, _Node[V]] = {}
        self.starred: _Names[tuple[str, _Node[V]]] = _Names()  # each list has one entry

    def child(self, segment: str) -> _Node[V]:
        """Return the node behind *segment*, made if need be."""
        if "*" not in segment:
            return self.literal.setdefault(segment, _Node())
        filed = self.starred.filed(segment)
        if not filed:
            filed.append((segment, _Node()))
        return filed[0][1]

    def behind(self, segment: str) -> list[_Node[V]]:
        """Return the nodes behind all patterns of a segment that match *segment*."""
        found = [node for _, node in self.starred.find(segment)]
        return [self.literal[segment], *found] if segment in self.literal else found


class Patterns(Generic[V]):
    """Values under patterns, found by a permission in a time that does not depend on how many there are."""

    def __init__(self, pairs: Iterable[tuple[str, V]] = ()) -> None:
        self._exact: dict[str, list[V]] = {}
        self._everything: list[V] = []
        self._is_wide = False  # whether there are patterns with a star in the action
        # Of patterns with a star in the object alone, by their action: for objects of one segment, and of several.
        self._names: dict[str, _Names[V]] = {}
        self._paths: dict[str, _Node[V]] = {}
        # And with one in the action, by its shape: a star spans neither a slash nor the colon.
        self._actions: dict[tuple[int, str], _Node[V]] = {}
        for pattern, value in pairs:
            self.add(pattern, value)

    def add(self, pattern: str, value: V) -> None:
        """File *value* under *pattern*, in which ``fault_in`` finds nothing wrong."""
        if "*" not in pattern:
            self._exact.setdefault(pattern, []).append(value)
            return
        action, colon, object_ = pattern.partition(":")
        self._is_wide |= "*" in action
        if pattern == "**":
            self._everything.append(value)
        elif "*" in action:
            root = self._actions.setdefault((action.count("/"), colon), _Node())
            _filed(root, [*action.split("/"), *object_.split("/")]).append(value)
        else:
            names = self._names.setdefault(action, _Names())
            if "/" not in object_:
                names.filed(object_).append(value)
            if "/" in object_ or object_ == "**":
                _filed(self._paths.setdefault(action, _Node()), object_.split("/")).append(value)

    def find(self, permission: str) -> Sequence[V]:
        """Return the values of all patterns that match, in no particular order; not to be changed."""
        # Flat, because every decision that is not remembered comes through here: two thirds of the time of four calls.
        found = self._exact.get(permission, _NOTHING)
        if self._is_wide:
            found = found + self._everything + self._found_by_action(permission)
        action, colon, object_ = permission.partition(":")
        names = self._names.get(action)
        if names is None or not colon:
            return found
        if "/" in object_:
            return found + self._found_on_path(action, object_)
        for part, table in names.parts.values():
            if hits := table.get(object_[part]):
                found = found + hits if found else hits
        return found + names.rest(object_) if names.any or names.both else found

    def _found_on_path(self, action: str, object_: str) -> list[V]:
        root = self._paths.get(action)
        return [] if root is None else _walk(root, object_.split("/"))

    def _found_by_action(self, permission: str) -> list[V]:
        action, colon, object_ = permission.partition(":")
        root = self._actions.get((action.count("/"), colon))
        return [] if root is None else _walk(root, [*action.split("/"), *object_.split("/")])


def _filed(node: _Node[V], segments: list[str]) -> list[V]:
    for segment in segments:
        if segment == "**":
            return node.below
        node = node.child(segment)
    return node.ending


def _walk(root: _Node[V], segments: list[str]) -> list[V]:
    found: list[V] = []
    nodes = [root]
    for segment in segments:
        found += [value for node in nodes for value in node.below]
        nodes = [following for node in nodes for following in node.behind(segment)]
        if not nodes:
            break
    return found + [value for node in nodes for value in node.ending]
