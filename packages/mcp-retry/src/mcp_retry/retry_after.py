"""Read from an error when the other side wants to be asked again.

Looked at, in this order, on the error, then on what caused it, a few causes deep:

    error.retry_after                        the convention of HTTP and rate-limit libraries, and of our own refusals
    error.data, error.error.data             an MCP error: ``retry_after`` or ``retryAfter`` in a mapping
    error.response.headers, error.headers    ``Retry-After``: seconds, or an HTTP-date (RFC 9110, 10.2.3)

An HTTP-date is compared with the ``Date`` of the same response where it has one, so that a wrong local clock does not
matter.  What makes no sense is no hint: a negative number, NaN, infinity, 10**400, a date that is over, other text.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from datetime import timezone
from email.utils import parsedate_to_datetime
from typing import Any, cast

__all__ = ["retry_after"]

CAUSES = 8  # of causes of causes; also the end of a cycle


def retry_after(error: object, *, wall_clock: Callable[[], float] = time.time) -> float | None:
    """Return the seconds that *error*, or a cause of it, says to wait; None where nothing sensible is said.

    Never raises, whatever a foreign object does.  *wall_clock* gives seconds since 1970, for HTTP-dates.
    """
    for _ in range(CAUSES):
        if error is None:
            return None
        for hint in _hints(error, wall_clock):
            if hint is not None:
                return hint
        error = _get(error, "__cause__")
    return None


def _hints(error: object, wall_clock: Callable[[], float]) -> tuple[float | None, ...]:
    return (
        _sensible(_get(error, "retry_after")),
        *(_of_data(_get(source, "data")) for source in (error, _get(error, "error"))),
        *(_of_headers(_get(source, "headers"), wall_clock) for source in (_get(error, "response"), error)),
    )


def _of_data(data: object) -> float | None:
    hints = (_sensible(_get(data, key)) for key in ("retry_after", "retryAfter"))
    return next((hint for hint in hints if hint is not None), None)


def _of_headers(headers: object, wall_clock: Callable[[], float]) -> float | None:
    value = _header(headers, "retry-after")
    hint = _sensible(value)
    if hint is not None or not isinstance(value, str):
        return hint
    until, since = _timestamp(value), _timestamp(_header(headers, "date"))
    return None if until is None else _sensible(until - (wall_clock() if since is None else since))


def _header(headers: object, name: str) -> object:
    spellings = (name, name.title(), name.upper())  # a plain dict of headers tells upper from lower case
    return next((value for spelling in spellings if (value := _look_up(headers, spelling)) is not None), None)


def _look_up(headers: Any, name: str) -> object:
    try:
        return headers.get(name)  # of a mapping, or of urllib's email.message.Message
    except Exception:  # noqa: BLE001  # as below
        return None


def _timestamp(value: object) -> float | None:
    try:
        moment = parsedate_to_datetime(value)  # type: ignore[arg-type]  # anything else raises, which is caught
        return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()
    except Exception:  # noqa: BLE001  # its errors differ between the versions of Python
        return None


def _sensible(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        seconds = float(value)
    except (ValueError, OverflowError):
        return None
    return seconds if 0 <= seconds < math.inf else None


def _get(source: object, name: str) -> Any:
    try:
        return (
            cast("Mapping[str, Any]", source).get(name) if isinstance(source, Mapping) else getattr(source, name, None)
        )
    except Exception:  # noqa: BLE001  # a property of a foreign object may raise anything: httpx has one that does
        return None
