"""What a pool says instead of handing out a resource: one class for each thing a caller may want to do about it."""

from __future__ import annotations

__all__ = ["PoolClosed", "PoolError", "PoolFull", "PoolMisuse", "PoolTimeout", "PoolUnavailable"]


class PoolError(Exception):
    """Everything that a pool raises by itself."""


class PoolTimeout(PoolError, TimeoutError):  # noqa: N818  # the builtin's word for it is an Error already
    """No resource became free in time, or none can be expected to.

    Attributes:
        timeout: Seconds that the caller was ready to wait.
        early: Whether the pool did not even let it wait, because the queue is too long for that.
        in_use: Resources in use at that moment.
        waiting: Callers waiting at that moment, the refused one not among them.
    """

    def __init__(self, message: str, *, timeout: float, early: bool, in_use: int, waiting: int) -> None:
        super().__init__(message)
        self.timeout: float = timeout
        self.early: bool = early
        self.in_use: int = in_use
        self.waiting: int = waiting


class PoolFull(PoolError):  # noqa: N818  # the field's word, like queue.Full
    """As many callers as may wait are waiting; raised at once.

    Attributes:
        waiting: How many that are.
    """

    def __init__(self, message: str, *, waiting: int) -> None:
        super().__init__(message)
        self.waiting: int = waiting


class PoolUnavailable(PoolError):  # noqa: N818  # the field's word: service unavailable
    """Connecting keeps failing, and there is no resource left to wait for; ``__cause__`` is the last failure.

    Attributes:
        retry_after: Seconds until the pool probes again.
    """

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after: float = retry_after


class PoolClosed(PoolError):  # noqa: N818  # the field's word, like anyio.ClosedResourceError
    """The pool is closed, or not open yet."""


class PoolMisuse(PoolError, RuntimeError):  # noqa: N818  # says more than an Error at its end would
    """A slip in the calling program: returned twice, used after its return, acquired where that must deadlock."""
