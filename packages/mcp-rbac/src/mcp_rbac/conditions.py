"""Conditions on a grant or a denial: functions of the request, or tables of typed comparisons.

    {"args.amount": {"le": 1000}, "args.tenant": {"same_as": "tenant"}}

Every comparison of a table must hold.  Left, and right of ``same_as``, stands a path into the request: ``user``,
``tenant``, ``attributes.NAME`` and ``args.NAME``, where ``args.a.b`` goes down into nested mappings.

Nothing is converted.  A missing path, ``"5"`` beside ``5``, True beside 1, or nan is an error and not "false", because
false lets a *denial* pass: the caller of a condition takes an error for a reason to refuse, whatever the rule.
"""

from __future__ import annotations

import inspect
import math
import operator
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeGuard, cast

__all__ = [
    "Condition",
    "Key",
    "Request",
    "Subject",
    "condition_from",
    "is_async",
    "is_mapping",
    "is_sync",
    "mapping_of",
    "with_roles",
]


Key: TypeAlias = tuple[frozenset[str], frozenset[str] | None]


@dataclass(frozen=True)
class Subject:
    """Who asks: a user with his active roles, or nobody in particular with some roles.

    *scopes* are those of the access token, an upper limit on what the roles grant; None where there is no token.
    *attributes* are for conditions.  A user is never a role, whatever he is called: the two are compared nowhere.

    Raises TypeError for roles or scopes that are no collection of strings, and attributes that are no mapping.
    """

    user: str | None = None
    roles: Collection[str] = frozenset()
    scopes: Collection[str] | None = None
    tenant: str | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict[str, Any], hash=False)
    key: Key = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name, value in (("user", self.user), ("tenant", self.tenant)):
            if value is not None and not isinstance(value, str):  # pyright: ignore[reportUnnecessaryIsInstance]  # a caller may err
                raise TypeError(f"Subject needs {name} to be a string or None, got {value!r}")
        if not is_mapping(cast("object", self.attributes)):
            raise TypeError(f"Subject needs attributes to be a mapping, got {self.attributes!r}")
        roles = _names("roles", self.roles)
        scopes = None if self.scopes is None else _names("scopes", self.scopes)
        self.__dict__.update(roles=roles, scopes=scopes, key=(roles, scopes))


def with_roles(subject: Subject, roles: frozenset[str]) -> Subject:
    """Return *subject* with other roles; what was checked once is not checked again, at a twentieth of the time."""
    changed = object.__new__(Subject)
    changed.__dict__.update(subject.__dict__, roles=roles, key=(roles, subject.key[1]))
    return changed


@dataclass(frozen=True)
class Request:
    """What a condition may look at."""

    subject: Subject
    permission: str
    arguments: Mapping[str, Any] = field(default_factory=dict[str, Any])


Condition: TypeAlias = Callable[[Request], bool]


def is_mapping(value: object) -> TypeGuard[Mapping[str, Any]]:
    """Say whether *value* is a mapping, which in all that is read here has strings for keys."""
    return isinstance(value, (dict, Mapping))  # a dict is known at a glance, without asking an ABC


def mapping_of(value: object) -> Mapping[str, Any]:
    """Return *value* if it is a mapping, else an empty one."""
    return value if is_mapping(value) else {}


def is_sync(value: object) -> bool:
    """Say whether *value* is a sync function, or an object that is called like one."""
    called = getattr(value, "__call__", None)  # noqa: B004  # the method itself is wanted
    asks = callable(value) and not inspect.isclass(value)
    return asks and not inspect.iscoroutinefunction(value) and not inspect.iscoroutinefunction(called)


def is_async(value: object) -> bool:
    """Say whether *value* is an async function, or an object that is called like one."""
    asks = callable(value) and not inspect.isclass(value)
    return asks and not is_sync(value)


def condition_from(table: Mapping[str, Any]) -> tuple[Condition | None, list[tuple[str, str]]]:
    """Return the condition that *table* says, or None and every fault in it with its place."""
    faults: list[tuple[str, str]] = []
    tests: list[Condition] = []
    for place, test in _tests_in(table):
        if isinstance(test, str):
            faults.append((place, test))
        else:
            tests.append(test)
    return (None if faults else _AllOf(tuple(tests))), faults


def _tests_in(table: Mapping[str, Any]) -> Iterator[tuple[str, Condition | str]]:
    """Yield what each comparison asks of a request, or what is wrong with it, with its place."""
    if not table:
        yield "", "an empty condition holds always; leave it out"
    for path, comparisons in table.items():
        if not _is_path(path):
            yield path, f"{path!r} is no path: it begins with {', '.join(_ROOTS)}"
        elif not mapping_of(comparisons):
            yield path, f"a comparison is a table such as {{le = 5}}, not {comparisons!r}"
        else:
            for name, expected in mapping_of(comparisons).items():
                yield f"{path}.{name}", _test(path, name, expected)


@dataclass(frozen=True)
class _AllOf:
    tests: tuple[Condition, ...]

    def __call__(self, request: Request) -> bool:
        # All are run: an error in the last must not hide behind a "false" of the first when the rule is a denial.
        answers = [test(request) for test in self.tests]
        return all(answers)


def _test(path: str, name: str, expected: Any) -> Condition | str:
    if name == "same_as":
        if not _is_path(expected):
            return f"same_as needs a path that begins with {', '.join(_ROOTS)}, got {expected!r}"
        return lambda request: _compare("eq", _at(request, path), _at(request, expected))
    if name not in _COMPARISONS:
        return f"{name!r} is no comparison: there are {', '.join(_COMPARISONS)}"
    if name == "in":
        if not isinstance(expected, (list, tuple)) or not all(map(_kind, cast("list[Any]", expected))):
            return f"in needs a list of strings, numbers or booleans, got {expected!r}"
    elif not _kind(expected) or (name not in ("eq", "ne") and _kind(expected) is bool):
        return f"{name} needs a string or a number, got {expected!r}"
    return lambda request: _compare(name, _at(request, path), expected)


def _compare(name: str, left: Any, right: Any) -> bool:
    kind = _kind(left)
    if kind is None or (name != "in" and kind is not _kind(right)):
        raise TypeError(f"{name} compares {type(left).__name__} with {type(right).__name__}")
    if name == "in":
        return any(kind is _kind(item) and left == item for item in right)
    return bool(_OPERATORS[name](left, right))


def _kind(value: object) -> type | None:
    """Return what *value* may be compared with: strings, booleans or finite numbers, never one with another."""
    if isinstance(value, (bool, str)):
        return type(value)
    return float if isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)) else None


def _at(request: Request, path: str) -> Any:
    root, _, rest = path.partition(".")
    found: Any = request.arguments if root == "args" else getattr(request.subject, root)
    for name in rest.split(".") if rest else ():
        if not isinstance(found, Mapping):
            raise TypeError(f"{path} goes through {type(found).__name__}")
        found = cast("Mapping[str, Any]", found)[name]
    return found


def _is_path(value: object) -> bool:
    if not isinstance(value, str):
        return False
    root, *rest = value.split(".")
    return root in _ROOTS and all(rest) and bool(rest) is (root in ("args", "attributes"))


def _names(what: str, value: object) -> frozenset[str]:
    is_usual = isinstance(value, (frozenset, set, tuple, list))
    if not is_usual and (isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Collection)):
        raise TypeError(f"Subject needs {what} to be a collection of names, such as {{'editor'}}, got {value!r}")
    names = cast("Collection[object]", value)
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"Subject needs every one of its {what} to be a string, got {value!r}")
    return frozenset(cast("Collection[str]", names))


_ROOTS = ("user", "tenant", "attributes", "args")
_OPERATORS: Mapping[str, Callable[[Any, Any], Any]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
}
_COMPARISONS = (*_OPERATORS, "in", "same_as")
