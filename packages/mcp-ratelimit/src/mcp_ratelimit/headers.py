"""Tell HTTP clients about limits, and read what servers tell: the RateLimit fields, and Retry-After.

    RateLimit-Policy: "60/min";q=60;w=60          the limits: quota and window
    RateLimit: "60/min";r=12;t=7                  what is left, and for how long that is all
    Retry-After: 7                                with a refusal: when to come back

The first two are structured fields (RFC 9651) as in the IETF draft "RateLimit header fields for HTTP"; Retry-After is
RFC 9110's.  Numbers are whole seconds and units: times are rounded up, what is left is rounded down, so that nobody who
believes them comes too early.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timezone
from email.utils import parsedate_to_datetime

from .decision import Decision
from .limit import Limit

__all__ = ["QuotaPolicy", "ServiceLimit", "parse_policy", "parse_rate_limit", "parse_retry_after", "rate_limit_fields"]

MAX_FIELD = 8192
"""Characters of a field that are read; servers send a hundred."""
_STRING = r'"(?:[ !#-\[\]-~]|\\["\\])*"'
_BARE = rf"-?\d{{1,15}}|:[A-Za-z0-9+/=]*:|{_STRING}|[A-Za-z*][\w!#$%&'*+.^`|~:/-]*|\?[01]"
_PARAMETER = re.compile(rf";\s*([a-z*][a-z0-9_.*-]*)(?:=({_BARE}))?")
_ITEM = re.compile(rf"\s*({_STRING})((?:{_PARAMETER.pattern})*)\s*(?:,|$)")


@dataclass(frozen=True)
class QuotaPolicy:
    """One limit that a server has."""

    name: str
    quota: int
    window: int | None
    """Seconds; None if the server does not tell."""


@dataclass(frozen=True)
class ServiceLimit:
    """How much of one limit is left."""

    name: str
    remaining: int
    reset_after: int | None
    """Seconds for which *remaining* is all there is; None if the server does not tell."""


def rate_limit_fields(decision: Decision, limits: Iterable[Limit]) -> dict[str, str]:
    """Return the fields for an answer that *decision* was about, under all of *limits*; names are in lower case.

    Do not send them to callers who share a key with others: what is left tells what those did.
    """
    policies = (f"{_quoted(limit.name)};q={limit.amount};w={math.ceil(limit.period)}" for limit in limits)
    left = f"{_quoted(decision.limit.name)};r={decision.remaining};t={math.ceil(decision.reset_after)}"
    fields = {"ratelimit-policy": ", ".join(policies), "ratelimit": left}
    if not decision.allowed and decision.retry_after < math.inf:
        fields["retry-after"] = str(max(1, math.ceil(decision.retry_after)))
    return fields


def parse_policy(field: str) -> list[QuotaPolicy]:
    """Read a RateLimit-Policy field; what is malformed is left out, and a malformed list is empty."""
    return [
        QuotaPolicy(name, values["q"], values["w"] if values.get("w", 0) > 0 else None)
        for name, values in _items(field)
        if values.get("q", -1) >= 0
    ]


def parse_rate_limit(field: str) -> list[ServiceLimit]:
    """Read a RateLimit field; what is malformed is left out, and a malformed list is empty."""
    return [
        ServiceLimit(name, values["r"], values["t"] if values.get("t", -1) >= 0 else None)
        for name, values in _items(field)
        if values.get("r", -1) >= 0
    ]


def parse_retry_after(field: str, now: float) -> float | None:
    """Read a Retry-After field, seconds or a date, as seconds from *now* (since 1970); None if it is malformed."""
    text = field.strip()
    if re.fullmatch(r"[0-9]{1,10}", text):
        return float(text)
    try:
        date = parsedate_to_datetime(text[:64])
        if date.tzinfo is None:  # asctime's form has no zone, and is UTC by RFC 9110
            date = date.replace(tzinfo=timezone.utc)
        return max(0.0, date.timestamp() - now)
    except (TypeError, ValueError, IndexError, OverflowError):
        return None


def _items(field: str) -> list[tuple[str, dict[str, int]]]:
    found: list[tuple[str, dict[str, int]]] = []
    place, end = 0, len(field)
    while place < end <= MAX_FIELD:
        item = _ITEM.match(field, place)
        if item is None:
            return []
        parameters = _PARAMETER.findall(item[2])
        values = {name: int(value) for name, value in parameters if re.fullmatch(r"-?\d+", value)}
        found.append((re.sub(r"\\(.)", r"\1", item[1][1:-1]), values))
        place = item.end()
    return found


def _quoted(name: str) -> str:
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
