"""From data to the parts of a policy, and back: strict, and with every fault in its place.

Reading goes by the fields of the dataclasses in ``rules``: an unknown key is a fault, a value is of the kind its field
wants or a fault, and reading goes on behind each, so that one run shows them all.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from functools import partial
from typing import Any, TypeVar, cast

from .conditions import is_mapping, is_sync, mapping_of
from .rules import Assignment, Exclusive, Grant, Parts, PolicyError, Problem, Role, Scope, meant

__all__ = ["dump", "parse_json", "parse_toml", "read", "terms_of", "version_of"]

T = TypeVar("T")


class _Reader:
    """Collects the faults met on the way."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def fault(self, place: str, message: str) -> None:
        self.problems.append(Problem(place.removeprefix("policy."), message))

    def table(self, value: object, place: str) -> Mapping[str, Any]:
        if not isinstance(value, Mapping):
            self.fault(place, f"wants a table, got {value!r}")
            return {}
        found = cast("Mapping[object, Any]", value)
        for key in found:
            if not isinstance(key, str) or not key or key != key.strip():
                self.fault(place, f"{key!r} is no name")
        return {key: item for key, item in found.items() if isinstance(key, str)}

    def sequence(self, value: object, place: str) -> Sequence[Any]:
        if isinstance(value, (list, tuple, set, frozenset)):
            found = cast("Sequence[Any]", value)
            return sorted(found, key=str) if isinstance(value, (set, frozenset)) else found
        self.fault(place, f"wants a list, got {value!r}")
        return ()

    def names(self, value: object, place: str) -> tuple[str, ...]:
        seen: dict[str, None] = {}
        for number, name in enumerate(self.sequence(value, place)):
            if not isinstance(name, str) or not name:
                self.fault(f"{place}[{number}]", f"wants a name, got {name!r}")
            elif name in seen:
                self.fault(f"{place}[{number}]", f"{name!r} stands there twice")
            else:
                seen.setdefault(name)
        return tuple(seen)

    def text(self, value: object, place: str) -> str | None:
        if value is not None and (not isinstance(value, str) or not value):
            self.fault(place, f"wants a string, got {value!r}")
        return value if isinstance(value, str) else None

    def moment(self, value: object, place: str) -> datetime | None:
        with suppress(ValueError, OverflowError):  # the second where the year in UTC is another, and is none
            found = datetime.fromisoformat(value.replace("Z", "+00:00")) if isinstance(value, str) else value
            if isinstance(found, datetime) and found.utcoffset() is not None:
                return found.astimezone(timezone.utc)
        if value is not None:
            self.fault(place, f"wants a date and time with its zone, such as 2030-01-31T12:00:00Z, got {value!r}")
        return None

    def condition(self, value: object, place: str) -> Any:
        if isinstance(value, Mapping):
            return self.table(cast("object", value), place)
        if value is not None and not is_sync(value):
            self.fault(place, f"wants a sync function of a Request, or a table of comparisons, got {value!r}")
        return value

    def number(self, value: object, place: str) -> int:
        if type(value) is not int or value < 1:
            self.fault(place, f"wants an integer of at least 1, got {value!r}")
            return 1
        return value

    def record(self, kind: type[T], value: object, place: str) -> T | None:
        """Read a table, or an instance of *kind*, field by field."""
        readers = _FIELDS[kind]
        given = vars(value) if isinstance(value, kind) else self.table(value, place)
        for key in [key for key in given if key not in readers]:
            self.fault(place, f"unknown key {key!r}{meant(key, readers)}")
        required = _REQUIRED.get(kind)
        if required and required not in given and isinstance(value, Mapping):
            self.fault(place, f"needs {required!r}")
        found = {key: read(self, given[key], f"{place}.{key}") for key, read in readers.items() if key in given}
        return None if required and found.get(required) is None else kind(**found)

    def records(self, kind: type[T], value: object, place: str, *, short: bool = False) -> tuple[T, ...]:
        """Read a list of tables; where *short*, a string stands for a table of the first field alone."""
        found: list[T] = []
        for number, item in enumerate(self.sequence(value, place)):
            brief = short and isinstance(item, str)
            read = kind(item) if brief else self.record(kind, item, f"{place}[{number}]")  # type: ignore[call-arg]  # of one field, where brief
            if kind in _UNIQUE and read in found:
                self.fault(f"{place}[{number}]", f"{_plain(read)!r} stands there twice")
            found += [] if read is None else [read]
        return tuple(found)

    def tables(self, value: object, place: str, read: Callable[[Any, str], T | None]) -> dict[str, T]:
        items = {name: read(item, f"{place}.{name}") for name, item in self.table(value, place).items()}
        return {name: item for name, item in items.items() if item is not None}


def _grants(reader: _Reader, value: object, place: str) -> tuple[Grant, ...]:
    return reader.records(Grant, value, place, short=True)


_Read = Callable[[_Reader, Any, str], Any]
_FIELDS: Mapping[type, Mapping[str, _Read]] = {
    Grant: {
        "permission": _Reader.text,
        "when": _Reader.condition,
        "until": _Reader.moment,
        "scopes": _Reader.names,
        "obligations": _Reader.names,
        "name": _Reader.text,
    },
    Role: {"allow": _grants, "deny": _grants, "inherits": _Reader.names},
    Scope: {"allow": _Reader.names, "implies": _Reader.names},
    Assignment: {"role": _Reader.text, "tenant": _Reader.text, "until": _Reader.moment},
    Exclusive: {"roles": _Reader.names, "max": _Reader.number},
    Parts: {
        "roles": lambda reader, value, place: reader.tables(value, place, partial(reader.record, Role)),
        "deny": _grants,
        "users": lambda reader, value, place: reader.tables(
            value, place, partial(reader.records, Assignment, short=True)
        ),
        "external": lambda reader, value, place: None if value is None else reader.names(value, place),
        "aliases": lambda reader, value, place: reader.tables(value, place, reader.names),
        "scopes": lambda reader, value, place: reader.tables(value, place, partial(reader.record, Scope)),
        "ssd": lambda reader, value, place: reader.records(Exclusive, value, place),
        "dsd": lambda reader, value, place: reader.records(Exclusive, value, place),
    },
}
_UNIQUE: Sequence[type] = (Assignment, Exclusive)  # a rule that stands twice is for the checks to see
_REQUIRED: Mapping[type, str] = {Grant: "permission", Assignment: "role", Exclusive: "roles"}


def read(document: object) -> tuple[Parts, list[Problem]]:
    """Return the parts that *document*, a mapping, has, and every fault in how it is written."""
    reader = _Reader()
    parts = reader.record(Parts, document, "policy")
    return parts or Parts(), reader.problems


def parse_json(text: str | bytes) -> object:
    """Return what JSON *text* says; a repeated key, NaN or a syntax error raises PolicyError."""
    problems: list[Problem] = []

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in items]
        problems.extend(
            Problem("JSON", f"{key!r} stands there twice") for key in dict.fromkeys(keys) if keys.count(key) > 1
        )
        return dict(items)

    def constant(name: str) -> None:
        problems.append(Problem("JSON", f"{name} is no JSON"))

    try:
        found: object = json.loads(text, object_pairs_hook=pairs, parse_constant=constant)
    except (ValueError, RecursionError) as error:
        raise PolicyError([*problems, Problem("JSON", str(error))]) from error
    if problems:
        raise PolicyError(problems)
    return found


def parse_toml(text: str) -> object:
    """Return what TOML *text* says; needs Python 3.11, where the standard library can read it."""
    try:
        import tomllib  # type: ignore[import-not-found]  # noqa: PLC0415  # absent from Python 3.10
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("TOML needs Python 3.11; read it as you like and use Policy.from_dict") from error
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise PolicyError([Problem("TOML", str(error))]) from error


def dump(parts: Parts) -> dict[str, Any]:
    """Return the document of *parts* in its one canonical form: what is left out has its default."""
    return cast("dict[str, Any]", _plain(parts))


def version_of(document: Mapping[str, Any]) -> str:
    """Return a hash of a canonical document, 16 hexadecimal digits: the same for the same policy anywhere."""
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:16]


def terms_of(grant: Grant) -> dict[str, Any]:
    """Return what *grant* asks for beside its permission, as in a document; a condition in Python is the object."""
    when = id(grant.when) if grant.when is not None and not is_mapping(grant.when) else _plain(grant.when)
    return {"when": when, "until": _plain(grant.until), "needs": [sorted(grant.scopes), sorted(grant.obligations)]}


def _attributes(value: object) -> dict[str, Any]:
    return vars(value)


def _plain(value: Any) -> Any:
    if type(value) in _FIELDS:
        found: dict[str, Any] = {
            key: _plain(item) for key, item in _attributes(value).items() if item is not None and item != ()
        }
        short = type(value) in (Grant, Assignment) and len(found) == 1
        return next(iter(found.values())) if short else {key: item for key, item in found.items() if item != {}}
    if is_mapping(value):
        return {key: _plain(item) for key, item in mapping_of(value).items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in cast("Sequence[Any]", value)]
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if callable(value):
        return {"callable": f"{value.__module__}.{getattr(value, '__qualname__', type(value).__qualname__)}"}
    return value
