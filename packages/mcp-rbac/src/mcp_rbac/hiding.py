"""Making something unseen: the request for it becomes a request for nothing, and the answer never tells.

A message made here, however well it imitates the server's, would differ from it somewhere: in its words, its code, its
HTTP status.  So the server itself is asked, for a name that cannot exist, and in its answer that name is put back to
the one that was asked for.  What comes out is what this very server says of an unknown name, byte for byte.
"""

from __future__ import annotations

import dataclasses
import secrets
import sys
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

from ._seam import Refused
from .conditions import is_mapping, mapping_of
from .methods import LISTS, Listed

__all__ = [
    "NOWHERE",
    "field_of",
    "filtered",
    "is_bound",
    "made_private",
    "not_found",
    "nowhere",
    "params_of",
    "put_back",
    "renamed",
    "with_fields",
]

C = TypeVar("C")
NOWHERE: str = f"x{secrets.token_hex(12)}"
"""A name that nobody can guess, and no server has; one a process, so that what counts names inside counts one."""


def field_of(params: object, name: str) -> Any:
    """Return one parameter of a request, from a mapping or a model; None where there is none."""
    if is_mapping(params):
        return params.get(name)
    return getattr(params, name, None)


def params_of(ctx: object) -> object:
    """Return the parameters of a request, wherever its SDK keeps them."""
    params = getattr(ctx, "params", None)
    return getattr(ctx, "message", None) if params is None else params


def with_fields(ctx: C, fields: Mapping[str, Any]) -> C:
    """Return a copy of *ctx* with other values for some parameters."""
    kept = "params" if hasattr(ctx, "params") else "message"
    return cast("C", dataclasses.replace(cast("Any", ctx), **{kept: _changed(getattr(ctx, kept), fields)}))


def renamed(ctx: C, field: str) -> C:
    """Return a copy of *ctx* that asks for what does not exist; *field* is ``name`` or ``uri``."""
    return with_fields(ctx, {field: nowhere(field)})


def put_back(answer: Any, name: str) -> Any:
    """Return *answer*, a result or an exception, with *name* for the name that does not exist."""
    if isinstance(answer, BaseException):
        answer.args = put_back(answer.args, name)
        if hasattr(details := getattr(answer, "error", None), "model_copy"):
            cast("Any", answer).error = put_back(details, name)
    elif isinstance(answer, str):
        return _named(answer, name)
    elif is_mapping(answer):
        return {key: put_back(value, name) for key, value in mapping_of(answer).items()}
    elif isinstance(answer, (list, tuple)):
        values = [put_back(value, name) for value in cast("list[object]", answer)]
        return tuple(values) if isinstance(answer, tuple) else values
    elif hasattr(answer, "model_copy"):
        # What stays as it was is not set again: a field that was never set may be left out on the wire.
        pairs = {key: (value, put_back(value, name)) for key, value in _attributes(answer).items()}
        return answer.model_copy(update={key: new for key, (old, new) in pairs.items() if new != old})
    return answer


def _attributes(model: object) -> dict[str, Any]:
    return vars(model)


def _named(text: str, name: str) -> str:
    for invented in (nowhere("uri"), NOWHERE):
        text = text.replace(repr(invented), repr(name)).replace(invented, name)
    return text


def is_bound(call_next: Any) -> bool:
    """Whether *call_next* runs one tool, whatever name it is asked for, so that nothing can be hidden behind it.

    ``Extension.intercept_tool_call`` of the 2.x SDK stands where the tool's parameters have been read already.
    """
    while (within := getattr(call_next, "__self__", None)) is not None:  # a step of a chain holds what comes after it
        call_next = within
    return getattr(call_next, "__module__", None) == "mcp.server.extension"


def not_found(method: str) -> Exception:
    """Make the error that the SDK answers a method with that it does not have."""
    sdk: Any = sys.modules.get("mcp.shared.exceptions")
    code, message = -32601, "Method not found"
    if hasattr(sdk, "MCPError"):
        return cast("Exception", sdk.MCPError(code, message, method))
    if hasattr(sdk, "McpError"):
        return cast("Exception", sdk.McpError(sdk.ErrorData(code=code, message=message)))
    return Refused(code, message, method)


def filtered(method: str, result: Any, keep: Callable[[str], bool]) -> Any:
    """Return the *result* of a list with the items whose name or URI *keep* wants, in their order, pages kept.

    Raises TypeError for a result in which there is no such list, rather than let it pass unfiltered.
    """
    listed = LISTS[method]
    if hasattr(result, "root"):
        return result.model_copy(update={"root": filtered(method, result.root, keep)})
    if isinstance(result, list):
        return _kept(cast("list[object]", result), listed, keep)
    for key in listed.keys:
        if isinstance(items := field_of(result, key), list):
            return _changed(result, {key: _kept(cast("list[object]", items), listed, keep)})
    raise TypeError(f"the answer to {method} is {type(result).__name__}, in which nothing can be filtered")


def _kept(items: list[object], listed: Listed, keep: Callable[[str], bool]) -> list[object]:
    # What is on the wire is asked directly: a list of a hundred tools costs two thirds of what it would.
    name, given = listed.identity[0], cast("list[Any]", items)
    return [
        item
        for item in given
        if keep(item[name] if item.__class__ is dict and name in item else _identity(item, listed))
    ]


def made_private(result: Any) -> Any:
    """Return *result* marked as not to be cached for others, where its protocol has such a mark."""
    for key in ("cacheScope", "cache_scope"):
        # A dict, as results on the wire are, is asked directly: this is done to every answer.
        if (result.get(key) if result.__class__ is dict else field_of(result, key)) == "public":
            return _changed(result, {key: "private"})
    return result


def nowhere(field: str) -> str:
    """Return what cannot exist, for a *field* that holds a name or a URI."""
    return f"{NOWHERE}:none" if field == "uri" else NOWHERE


def _changed(value: Any, fields: Mapping[str, Any]) -> Any:
    if hasattr(value, "model_copy"):
        return value.model_copy(update=dict(fields))
    return {**cast("Mapping[str, Any]", value), **fields}


def _identity(item: Any, listed: Listed) -> str:
    found = (field_of(item, name) for name in listed.identity)
    return next((str(value) for value in found if value is not None), "")
