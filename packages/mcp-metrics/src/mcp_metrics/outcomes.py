"""Say how a message failed, as the wire says it: ``error.type`` and ``rpc.response.status_code`` of the conventions.

    answered with isError               ──▶ tool_error
    answered with a JSON-RPC code       ──▶ the code; also the type, if ``is_error`` says that it is a failure
    cancelled, took too long            ──▶ cancelled, timeout
    raised, and no code is known        ──▶ the class of the exception

FastMCP raises classes of its own and makes an answer of them further out; of which kind depends on its version:

    NotFoundError, DisabledError, ValidationError     4          3                      2
    tools/call                                        isError    isError                isError
    any other method                                  -32602     -32002, no resource    0, as for all that is raised

Classes and codes of which there may be any number are admitted by ``Names``, so that they stay few.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import NamedTuple

from ._seam import outcome
from .checks import checked_function
from .foreign import field
from .names import Names
from .semconv import CODES
from .text import OTHER

__all__ = ["SUCCESS", "TOOL_ERROR", "Failure", "Failures"]

ERROR_TYPES = 64  # exception classes, and codes, that get series of their own
LARGEST_CODE = 2**63  # what is larger is no code
INVALID_PARAMS, NO_RESOURCE = -32602, -32002
FASTMCP_ANSWERS = {"NotFoundError", "DisabledError", "ValidationError"}


class Failure(NamedTuple):
    """The attributes ``error.type`` and ``rpc.response.status_code``; both empty for success."""

    error_type: str = ""
    code: str = ""


SUCCESS, TOOL_ERROR = Failure(), Failure("tool_error")


class Failures:
    """Classifies what comes out of a handler; *is_error* tells which JSON-RPC codes are failures."""

    def __init__(self, is_error: Callable[[int], bool]) -> None:
        self._is_error = checked_function("MetricsMiddleware", "is_error", is_error)
        self._codes, self._classes = Names(CODES, limit=ERROR_TYPES), Names(limit=ERROR_TYPES)

    def returned(self, result: object) -> Failure:
        """Classify a result; a handler of the official SDK may return its error."""
        kind = outcome(result)
        if kind == "protocol_error":
            code = _code(result)
            return Failure(OTHER) if code is None else self._coded(code)
        return TOOL_ERROR if kind == "tool_error" else SUCCESS

    def raised(self, error: BaseException, ctx: object = None) -> Failure:
        """Classify what a handler raised when it was given *ctx*; None for a whole session."""
        kind, names = outcome(error), {cls.__name__ for cls in type(error).__mro__}
        code = None if kind in ("cancelled", "tool_error") else _code(error)
        if kind in ("cancelled", "timeout"):
            return Failure(kind, "" if code is None else self._coded(code).code)
        if "ToolError" in names:  # FastMCP's, an isError result by and by
            return TOOL_ERROR
        if names & FASTMCP_ANSWERS and hasattr(ctx, "fastmcp_context"):
            if field(ctx, "method") == "tools/call":
                return TOOL_ERROR
            code = _fastmcp_code(names, field(ctx, "method"))
        elif code is None and kind == "protocol_error" and "ValidationError" in names:
            code = INVALID_PARAMS  # what the SDKs answer to a request that does not fit its model
        if code is None:
            return Failure(self._classes.admit(type(error).__qualname__, succeeded=True))
        return self._coded(code)

    def _coded(self, code: int) -> Failure:
        admitted = self._codes.admit(str(code), succeeded=True)
        return Failure(admitted if self._fails(code) else "", admitted)

    def _fails(self, code: int) -> bool:
        """Ask the table; where it raises, the code counts as a failure, since this must not change an answer."""
        try:
            return bool(self._is_error(code))
        except Exception:
            logging.getLogger(__name__).exception("is_error failed for %r", code)
            return True


def _code(value: object) -> int | None:
    """Return the JSON-RPC code of an SDK's error, of a refusal, or of error data."""
    for source in (field(value, "error"), field(value, "root"), value):
        code = field(source, "code")
        if type(code) is int and abs(code) < LARGEST_CODE:
            return code
    return None


def _fastmcp_code(names: set[str], method: object) -> int | None:
    """Return the code that FastMCP answers with, None for the one of version 1 of the SDK for all that is raised."""
    version = str(field(sys.modules.get("fastmcp"), "__version__")).partition(".")[0]
    if version == "3":
        return NO_RESOURCE if "NotFoundError" in names and method == "resources/read" else None
    return None if version == "2" else INVALID_PARAMS
