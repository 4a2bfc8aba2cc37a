"""Requests of the 1.x SDK, as far as they are read."""

from __future__ import annotations

from types import SimpleNamespace
from typing import ClassVar


class Params:
    """A model of params, which is read only as it goes over the wire."""

    def __init__(self, fields):
        self.fields = fields

    def model_dump(self, **how):
        assert how == {"by_alias": True, "mode": "json", "exclude_none": True}
        return self.fields


class Message:
    """A request model."""

    model_fields: ClassVar = {"method": SimpleNamespace(default="tools/call")}

    def __init__(self, params=None, method="tools/call"):
        self.params = None if params is None else Params(params)
        self.method = method

    @classmethod
    def model_validate(cls, message):
        return cls(**message)
