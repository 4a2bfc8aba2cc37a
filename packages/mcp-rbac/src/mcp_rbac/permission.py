"""The language of permissions: what is asked for, the patterns that grant it, and the index that finds them.

    permission   tools/call:delete_file    resources/read:docs://a/b    tools/list
    pattern      tools/call:delete_*       resources/read:docs://**     **

A permission is an action, which is an MCP method or a word of your own, and after the first colon an object.  Both are
compared segment by segment, split at ``/``.  In a pattern one ``*`` a segment stands for any characters, ``**`` as the
last segment of the object for one segment or more, and ``**`` alone for everything.  There are no regular expressions,
no case folding and no escapes: a pattern without a star is compared literally.

``Patterns`` is a trie over segments.  A segment with a star is found by slicing, one look-up for each length of the
parts around the star that occurs at that node, so the cost of a search does not grow with the number of patterns.

Invariants, each a property in ``tests/rbac``:

1. ``Patterns.find`` returns what comparing with every pattern in turn returns.
2. A URI has one spelling (``uri_spellings``): what a server might take for the same resource is asked for as the same.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import Any, Generic, TypeAlias, TypeVar
from urllib.parse import unquote

__all__ = ["Patterns", "fault_in", "uri_spellings"]

V = TypeVar("V")
_ACTION_SEGMENT = re.compile(r"[A-Za-z0-9_.$*-]+")
_PLAIN = re.compile(r"[A-Za-z0-9_.$-]+(?:/[A-Za-z0-9_.$-]+)*(?::[!-)+-~]+)?")  # a short cut past what follows
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*\Z")
_DEFAULT_PORTS = {"http": ":80", "https": ":443", "ws": ":80", "wss": ":443"}


def fault_in(pattern: object) -> str | None:
    """Say what is wrong with *pattern*, or None."""
    if not isinstance(pattern, str):
        return f"a permission is a string such as 'tools/call:search', not {pattern!r}"
    if pattern == "**" or _PLAIN.fullmatch(pattern):
        return None
    action, colon, object_ = pattern.partition(":")
    if not all(map(_ACTION_SEGMENT.fullmatch, action.split("/"))) or "**" in action:
        return f"{pattern!r} needs an action such as 'tools/call' before the colon, '*' for one segment of it"
    if colon and not object_:
        return f"{pattern!r} names no object after the colon; '**' stands for any"
    return _fault_in_stars(pattern, object_.split("/")) or _fault_in_text(pattern)


def _fault_in_stars(pattern: str, segments: list[str]) -> str | None:
    if "**" in segments[:-1]:
        return f"{pattern!r} has '**' before the last segment; it stands for all that follows"
    if any(segment.count("*") > 1 for segment in segments if segment != "**") or pattern.partition(":")[0].count("**"):
        return f"{pattern!r} has more than one '*' in a segment"
    return None


def _fault_in_text(pattern: str) -> str | None:
    if not pattern.isprintable() or pattern != pattern.strip():
        return f"{pattern!r} holds invisible characters, or white space at an end"
    if not unicodedata.is_normalized("NFC", pattern):
        return f"{pattern!r} is not in Unicode's form NFC, so it would look like a name and not match it"
    return None


_Key: TypeAlias = str | tuple[str, str]


class _Node(Generic[V]):
    """A place in the trie: what ends here, and what may follow."""

    __slots__ = ("below", "ending", "literal", "shapes")

    def __init__(self) -> None:
        self.below: list[V] = []  # of patterns that end here with ``**``
        self.ending: list[V] = []
        self.literal: dict[str, _Node[V]] = {}
        # Segments with a star: the lengths before and after it, and by those parts what follows.
        self.shapes: tuple[tuple[int, int, dict[_Key, _Node[V]]], ...] = ()

    def child(self, segment: str) -> _Node[V]:
        """Return the node behind *segment*, made if need be."""
        before, star, after = segment.partition("*")
        if not star:
            return self.literal.setdefault(segment, _Node())
        shape = len(before), len(after)
        if shape not in [(before, after) for before, after, _ in self.shapes]:
            self.shapes = (*self.shapes, (*shape, {}))
        table = next(table for before, after, table in self.shapes if (before, after) == shape)
        return table.setdefault(_key(segment.replace("*", ""), *shape), _Node())

    def partial(self, segment: str) -> list[_Node[V]]:
        """Return the nodes behind the patterns of a segment with a star that match *segment*."""
        found = (table.get(_key(segment, before, after)) for before, after, table in self.shapes)
        return [node for node in found if node is not None]


def _key(segment: str, before: int, after: int) -> _Key:
    """Return what stands before and after the star; of a segment too short, what no pattern has."""
    if not after:
        return segment[:before]
    return (segment[:before], segment[-after:]) if before + after <= len(segment) else ""


class Patterns(Generic[V]):
    """Values under patterns, found by a permission in a time that does not depend on how many there are."""

    def __init__(self, pairs: Iterable[tuple[str, V]] = ()) -> None:
        self._exact: dict[str, list[V]] = {}
        self._everything: list[V] = []
        self._by_action: dict[str, _Node[V]] = {}  # of patterns with a star in the object alone
        self._by_shape: dict[tuple[int, str], _Node[V]] = {}  # and in the action: a star never spans a slash or the colon
        for pattern, value in pairs:
            self.add(pattern, value)

    def add(self, pattern: str, value: V) -> None:
        """File *value* under *pattern*, in which ``fault_in`` finds nothing wrong."""
        if "*" not in pattern:
            self._exact.setdefault(pattern, []).append(value)
        elif pattern == "**":
            self._everything.append(value)
        else:
            self._ends(pattern).append(value)

    def find(self, permission: str) -> list[V]:
        """Return the values of all patterns that match, in no particular order."""
        found = self._exact.get(permission, _NOTHING)
        if self._everything:
            found = found + self._everything
        if self._by_action:
            action, colon, object_ = permission.partition(":")
            node = self._by_action.get(action)
            if node is not None and colon:
                # An object of one segment, as names are, is looked up on the spot: half the time of the general walk.
                if "/" in object_:
                    found = found + _walk(node, object_.split("/"))
                else:
                    if node.below:
                        found = found + node.below
                    for before, after, table in node.shapes:
                        part = object_[:before]
                        child = table.get(part if not after else (part, object_[-after:]))
                        if child is not None and before + after <= len(object_):
                            found = found + child.ending
        return found + self._found_by_shape(permission) if self._by_shape else found

    def _found_by_shape(self, permission: str) -> list[V]:
        action, colon, object_ = permission.partition(":")
        node = self._by_shape.get((action.count("/"), colon))
        return [] if node is None else _walk(node, [*action.split("/"), *object_.split("/")])

    def _ends(self, pattern: str) -> list[V]:
        """Return the list of the values that end where *pattern* does."""
        action, colon, object_ = pattern.partition(":")
        if "*" in action:
            node = self._by_shape.setdefault((action.count("/"), colon), _Node())
            segments = [*action.split("/"), *object_.split("/")]
        else:
            node, segments = self._by_action.setdefault(action, _Node()), object_.split("/")
        for segment in segments:
            if segment == "**":
                return node.below
            node = node.child(segment)
        return node.ending


_NOTHING: list[Any] = []


def _walk(root: _Node[V], segments: list[str]) -> list[V]:
    found: list[V] = []
    nodes = [root]
    for segment in segments:
        found += [value for node in nodes for value in node.below]
        literal = [node.literal[segment] for node in nodes if segment in node.literal]
        nodes = literal + [behind for node in nodes for behind in node.partial(segment)]
        if not nodes:
            break
    return found + [value for node in nodes for value in node.ending]


def uri_spellings(uri: str) -> tuple[str, ...]:
    """Return what must be granted, all of it, before *uri* may be read; nothing if it has more than one reading.

    Scheme and host are compared in lower case and without the scheme's own port (RFC 3986, 6.2.2.1 and 6.2.3), and
    percent-encoding is undone once.  A URI with a query or a fragment needs a grant for itself and for what stands
    before it, so that no suffix escapes a denial.  Refused are dot segments, encoded slashes, double encoding,
    backslashes, control characters, and text that is not in Unicode's form NFC.
    """
    plain = unquote(uri, errors="replace") if "%" in uri and not _BAD_ESCAPE.search(uri) else uri
    if not plain.isprintable() or not _DUBIOUS.isdisjoint(plain) or not unicodedata.is_normalized("NFC", plain):
        return ()
    plain = _with_plain_authority(plain)
    before = re.split(r"[?#]", plain, maxsplit=1)[0]
    if not before or any(segment in (".", "..") for segment in re.split(r"[/?#]", plain)):
        return ()
    return (plain,) if before == plain else (plain, before)


_DUBIOUS = frozenset("\\%\N{REPLACEMENT CHARACTER}")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})|%2[fF]|%5[cC]|%00")


def _with_plain_authority(uri: str) -> str:
    scheme, separator, rest = uri.partition(":")
    if not separator or not _SCHEME.match(scheme):
        return uri
    scheme = scheme.lower()
    if not rest.startswith("//"):
        return f"{scheme}:{rest}"
    host = re.split(r"[/?#]", rest[2:], maxsplit=1)[0]
    port = _DEFAULT_PORTS.get(scheme, "")
    plain_host = host.lower().removesuffix(port)
    return f"{scheme}://{plain_host}{rest[2 + len(host) :]}"
