"""Keys that are equal exactly when the values are: nothing is joined, and nothing is taken for something else.

``canonical`` writes a JSON value as text. Two values get the same text if and only if JSON cannot tell them apart: the
order of members does not count, 1, 1.0, true and "1" do. It is injective because every token says its type and every
string is quoted. ``freeze`` does the same for arguments of Python functions, among which there are other types, too.
"""

from __future__ import annotations

import ast
import reprlib
from collections.abc import Hashable
from json.encoder import encode_basestring_ascii
from typing import Any, cast

__all__ = ["Unkeyable", "canonical", "freeze", "parsed", "stored_name", "written"]

RAW = frozenset({str, int})  # types whose values serve as they are; bool is not among them, although True == 1


class Unkeyable(TypeError):  # noqa: N818  # what the value is
    """A value has no canonical form; ``argument`` names it, if it was an argument."""

    def __init__(self, message: str, argument: str | None = None) -> None:
        super().__init__(message)
        self.argument: str | None = argument


def canonical(value: object) -> str:
    """Return the canonical text of a JSON value; tuples and bytes are allowed, and keep their type.

    Raises Unkeyable for any other type, subclasses of the JSON types included, for members whose names are no strings,
    and for what is nested too deeply or contains itself.
    """
    try:
        return _text(value)
    except (RecursionError, ValueError) as error:  # ValueError: an int of more digits than the interpreter will print
        raise Unkeyable(f"a key needs a JSON value of modest depth and size: {error}") from None


def _text(value: Any) -> str:
    kind = value.__class__
    if kind is str:
        return encode_basestring_ascii(value)
    if kind is dict:
        return _object(value)
    if kind is list or kind is tuple:
        items = ""
        for item in value:
            items += f"{_text(item)},"
        return f"[{items}]" if kind is list else f"({items})"
    if kind is float:
        return repr(value).replace("inf", "1e999")
    if value is None or kind in (bool, int, bytes):
        return repr(value)
    raise Unkeyable(f"a key needs a JSON value, got {_shown(value)}")


def _object(value: dict[Any, Any]) -> str:
    for name in value:
        if name.__class__ is not str:
            raise Unkeyable(f"a key needs objects whose members are named by strings, got {_shown(value)}")
    members = ""
    for name in sorted(value):
        members += f"{encode_basestring_ascii(name)}:{_text(value[name])},"
    return f"{{{members}}}"


def parsed(text: str) -> Any:
    """Return the value whose canonical text is *text*. Raises ValueError for one that holds a NaN."""
    return _whole(ast.literal_eval(text))


def _whole(value: Any) -> Any:
    """Put the two halves together as which characters beyond U+FFFF are written."""
    kind = cast("Any", type)(value)
    if kind is str:
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    if kind is dict:
        return {_whole(name): _whole(item) for name, item in value.items()}
    return cast("Any", kind(map(_whole, value)) if kind in {list, tuple} else value)


def _shown(value: object) -> str:
    return f"{reprlib.repr(value)} of type {type(value).__name__}"


def freeze(value: Any) -> Hashable:
    """Return a hashable stand-in for one argument, equal to that of another argument only if both are the same.

    JSON values are taken by content, anything else by its own ``==`` and ``hash``, together with its type. Raises
    Unkeyable for what has neither.
    """
    if value.__class__ in RAW:
        return value
    try:
        return written(value)
    except Unkeyable:
        try:
            hash(value)
        except TypeError:
            raise Unkeyable(f"a key needs a JSON or a hashable value, got {_shown(value)}") from None
        return value.__class__, value


def written(value: Any) -> Hashable:
    """Return what ``freeze`` returns, in a form that a store can write down. Raises Unkeyable for what is not JSON.

    Strings and ints stand for themselves; the text of anything else stands alone in a tuple, which neither of them is.
    """
    text = canonical(value)
    return value if value.__class__ in RAW else (text,)


def stored_name(key: Any) -> str:
    """Return the text under which a store knows *key*: one for all keys that a dictionary takes for the same."""
    return canonical(_equal(key))


def _equal(key: Any) -> Any:
    """Return the one by which all values equal to *key* are written: 1 and True are, in a dictionary, and so is 1.0."""
    kind = key.__class__
    if kind is tuple:
        return tuple(map(_equal, key))
    return int(key) if kind is bool or (kind is float and key.is_integer()) else key
