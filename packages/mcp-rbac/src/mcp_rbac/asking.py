"""What a message asks for, as permissions: by the one field that the server itself will read."""

from __future__ import annotations

import unicodedata
from typing import Any, NamedTuple

from .hiding import field_of, nowhere, params_of
from .methods import LISTS, OBJECTS
from .uris import uri_spellings

__all__ = ["Asked", "asked_by", "of_uri"]


class Asked(NamedTuple):
    """What a message asks for: all of *permissions* for *method*, by *target* in the parameter *field*.

    There are no permissions when it is malformed, and no target when it names no object.
    """

    permissions: tuple[str, ...]
    method: str
    field: str = ""
    target: str = ""

    @property
    def any_object(self) -> tuple[str, ...]:
        """What a malformed message may mean: permissions for names that nobody can guess; empty for one that is not."""
        return () if self.permissions or self.target else _ANY.get(self.method, ())

    @property
    def is_list(self) -> bool:
        """Whether it asks what there is."""
        return self.method in LISTS


_ANY: dict[str, tuple[str, ...]] = {method: (f"{method}:{nowhere(field)}",) for method, field in OBJECTS.items()}
_ANY["completion/complete"] = _ANY["prompts/get"] + _ANY["resources/read"]


def asked_by(ctx: Any) -> Asked:
    """Return what the message of *ctx* asks for."""
    # By the one field that the server reads: a name beside the URI of a resource must not lead the decision astray.
    method: str = ctx.method if isinstance(ctx.method, str) else ""
    params = params_of(ctx)
    if method == "completion/complete":
        return _completed(field_of(params, "ref"))
    if method not in OBJECTS:
        return Asked((method,) if method else (), method)
    return _of_object(method, OBJECTS[method], field_of(params, OBJECTS[method]))


def _completed(ref: object) -> Asked:
    for field, method in (("uri", "resources/read"), ("name", "prompts/get")):
        value = field_of(ref, field)
        if value is not None and field_of(ref, "type") == _REFERENCES[field]:
            return _of_object(method, field, value)._replace(field="ref")
    return Asked((), "completion/complete")


_REFERENCES = {"uri": "ref/resource", "name": "ref/prompt"}


def _of_object(method: str, field: str, value: Any) -> Asked:
    if field == "uri":
        text = value if isinstance(value, str) else str(value) if hasattr(value, "unicode_string") else None
        return Asked(of_uri(method, text), method, field if text else "", text or "")
    if not isinstance(value, str):
        return Asked((), method)
    plain = value.isascii() or unicodedata.is_normalized("NFC", value)
    return Asked((f"{method}:{value}",) if plain else (), method, field, value)


def of_uri(method: str, uri: object) -> tuple[str, ...]:
    """Return the permissions that a URI needs, all of them; none if it may mean more than one thing."""
    return tuple(f"{method}:{spelling}" for spelling in uri_spellings(uri)) if isinstance(uri, str) else ()
