"""What MCP asks for, as data: the methods, what each is about, and what a permission for it looks like."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from fnmatch import fnmatchcase
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple

from .policy import Policy
from .rules import PolicyError, Problem, meant
from .uris import uri_spellings

__all__ = ["HANDSHAKE", "LISTS", "METHODS", "OBJECTS", "Listed", "check_methods"]

HANDSHAKE: frozenset[str] = frozenset(
    {
        "initialize",
        "notifications/cancelled",
        "notifications/initialized",
        "notifications/progress",
        "ping",
        "server/discover",
    }
)
"""What a connection is made of: it names no object, and needs no grant unless a middleware is told so."""

OBJECTS: Mapping[str, str] = MappingProxyType(
    {
        "tools/call": "name",
        "prompts/get": "name",
        "resources/read": "uri",
        "resources/subscribe": "uri",
        "resources/unsubscribe": "uri",
    }
)
"""The methods whose permission names an object, and the parameter that has it."""


class Listed(NamedTuple):
    """A list in a result: its keys, on the wire and in Python; what identifies an item; the method it is for."""

    keys: tuple[str, ...]
    identity: tuple[str, ...]
    method: str


LISTS: Mapping[str, Listed] = MappingProxyType(
    {
        "tools/list": Listed(("tools",), ("name",), "tools/call"),
        "prompts/list": Listed(("prompts",), ("name",), "prompts/get"),
        "resources/list": Listed(("resources",), ("uri",), "resources/read"),
        "resources/templates/list": Listed(
            ("resourceTemplates", "resource_templates"), ("uriTemplate", "uri_template"), "resources/read"
        ),
    }
)
"""The methods that list; a result keeps the items that the caller may use."""

METHODS: frozenset[str] = frozenset(
    {
        *HANDSHAKE,
        *OBJECTS,
        *LISTS,
        "completion/complete",
        "logging/setLevel",
        "notifications/roots/list_changed",
        "subscriptions/listen",
    }
)
"""Every method that a client may send, in all versions of the protocol up to 2026-07-28."""


def check_methods(policy: Policy, methods: Collection[str] = ()) -> None:
    """Raise PolicyError for rules that no MCP request can match, and for aliases with the name of a method.

    *methods* are custom ones that may be named too.
    """
    known = METHODS - {"completion/complete"} | frozenset(methods)
    problems = [
        Problem(place, fault) for place, pattern in policy.patterns() if (fault := _fault_in(pattern, known, methods))
    ]
    problems += [
        Problem(f"aliases.{name}", "an alias is not named like a method")
        for name in policy.aliases
        if name.partition(":")[0] in known
    ]
    if problems:
        raise PolicyError(problems)


def _fault_in(pattern: str, known: frozenset[str], custom: Collection[str]) -> str | None:
    action = pattern.partition(":")[0]
    if action == "completion/complete":
        return "completions belong to what they complete: grant 'prompts/get:…' or 'resources/read:…'"
    matching = _matching(action, known)
    if not matching:
        return f"unknown method {action!r}{meant(action, known)}"
    if not set(matching).isdisjoint(custom):
        return None
    return _fault_in_object(pattern, matching)


def _fault_in_object(pattern: str, matching: Collection[str]) -> str | None:
    action, colon, object_ = pattern.partition(":")
    if not colon and all(method in OBJECTS for method in matching):
        return f"{pattern!r} names no object, and every {action} has one: '{action}:**' stands for all"
    if colon and not any(method in OBJECTS for method in matching):
        return f"{pattern!r} names an object, and {action} has none: leave it out"
    if colon and all(OBJECTS.get(method, "uri") == "uri" for method in matching):
        return _fault_in_uri(pattern, object_.replace("**", "x").replace("*", "x"))
    return None


def _fault_in_uri(pattern: str, uri: str) -> str | None:
    spellings = uri_spellings(uri)
    if spellings[:1] == (uri,):
        return None
    meaning = f": it is compared as {spellings[0]!r}" if spellings else ", since it has more than one reading"
    return f"{pattern!r} matches no URI{meaning}"


@lru_cache(64)  # a large policy has few actions
def _matching(action: str, known: frozenset[str]) -> list[str]:
    return [method for method in known if action.count("/") == method.count("/") and fnmatchcase(method, action)]
