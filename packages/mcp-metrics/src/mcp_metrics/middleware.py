"""Measure every request and notification once: its rate, its errors and its duration are one histogram.

    (method, name, isError, version, HTTP) ── seen before ──▶ observe            one dictionary lookup
              └── not yet ──▶ outcome, each attribute admitted or _OTHER ──▶ Family.bind ──▶ kept, if all were admitted

Names and attributes are the OpenTelemetry conventions for MCP to the letter. What is measured:

    mcp.{server,client}.operation.duration     every message but those below
    mcp.{server,client}.active_requests        begun and not over
    mcp.{server,client}.unmeasured             streams, when they end, and what the SDK asks itself
    mcp.{server,client}.session.duration       blocks of ``with metrics.session():``
    mcp.{server,client}.response.size          bytes as JSON, only when asked for

What the SDK asks itself is told by a header that the caller writes: who forges it moves his own ``tools/list`` from one
of the first families to ``unmeasured``, and hides nothing.

Invariants, each tested in ``tests/metrics/test_middleware.py``:

1. Conservation: counts of all series of ``operation.duration`` and ``unmeasured`` add up to the messages that ended,
   however they ended.
2. Whatever names a peer makes up, an attribute has at most the values known for it, ``_OTHER`` and none.
3. ``active_requests`` is 0 when nothing runs.
4. Results and exceptions pass unchanged, and no reference to them is kept.
"""

from __future__ import annotations

import copy
import json
import re
import time
from collections.abc import Awaitable, Callable, Collection, Generator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, Literal, NamedTuple

from ._seam import C, R, headers, is_internal, is_stream, target
from .checks import checked_function, checked_source, checked_words
from .foreign import field, sdk_context
from .names import Names
from .network import UNKNOWN, Network, seen
from .outcomes import SUCCESS, TOOL_ERROR, Failure, Failures
from .semconv import METHODS, PROTOCOL_VERSIONS, is_client_error, is_server_error
from .sink import Instruments
from .text import OTHER

__all__ = ["MetricsMiddleware"]

NAMED = ("tools/call", "prompts/get")
LISTS = {"tools/list": "tools", "prompts/list": "prompts"}
APART = frozenset({"tools/list", "subscriptions/listen"})
SIZES = (100.0, 1e3, 1e4, 1e5, 1e6, 1e7)  # bytes
TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}")
OPERATION = (
    "mcp.method.name",
    "gen_ai.tool.name",
    "gen_ai.prompt.name",
    "gen_ai.operation.name",
    "error.type",
    "rpc.response.status_code",
    "mcp.protocol.version",
)
SESSION = ("error.type", "mcp.protocol.version")
CONNECTION = ("network.transport", "network.protocol.name", "network.protocol.version")
PLACE = ("server.address", "server.port")  # a client's alone

Observe = Callable[..., None]
_Key = tuple[object, object, bool, object, object]  # method, name, isError, version of MCP, version of HTTP


class _Message(NamedTuple):
    """One message, and the tool or prompt it names."""

    ctx: object
    method: str | None
    name: object


class MetricsMiddleware:
    """RED metrics for any MCP server or client; one object serves any number of connections and tasks.

    It shares, between all of them, the registry and the names it has learned.

    Args:
        registry: a ``Registry``, or a ``MeterSink`` in front of an OpenTelemetry meter.
        side: of the connection it stands on; ``client`` where ``call_next`` sends.
        tools: the names of tools that get their own series; learned from the lists and successes passing by.
        prompts: the same for prompts.
        methods: that get their own series; the others are ``_OTHER``.
        is_error: tells which JSON-RPC codes are failures. By the conventions a server's are all but those that say that
            the caller is wrong, a client's are all.
        network: how it is connected. By default a server looks at each message, and a client knows nothing.
        native: the schema of native histograms beside the buckets, 8 to -4.
        exemplars: keep the trace id of a request's ``_meta.traceparent`` beside what was counted.
        sizes: measure responses too, which costs writing each as JSON.
        clock: seconds, monotonic.
    """

    layer: ClassVar[str] = "metrics"

    def __init__(
        self,
        registry: Instruments,
        *,
        side: Literal["server", "client"] = "server",
        tools: Names | None = None,
        prompts: Names | None = None,
        methods: Collection[str] = METHODS,
        is_error: Callable[[int], bool] | None = None,
        network: Network | None = None,
        native: int | None = None,
        exemplars: bool = False,
        sizes: bool = False,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        if side not in ("server", "client"):
            raise ValueError(f"MetricsMiddleware needs side 'server' or 'client', got {side!r}")
        self._names: tuple[Names, ...] = (Names() if tools is None else tools, Names() if prompts is None else prompts)
        if strangers := [names for names in self._names if type(names) is not Names]:
            raise TypeError(f"MetricsMiddleware needs Names for tools and prompts, got {strangers[0]!r}")
        self._methods = checked_words("MetricsMiddleware", "methods", methods)
        table = is_server_error if side == "server" else is_client_error
        self._failures = Failures(table if is_error is None else is_error)
        self._side = side
        self._clock = checked_function("MetricsMiddleware", "clock", clock)
        self._exemplars = exemplars
        self._connect(network)
        checked_source("MetricsMiddleware", registry, "histogram", "a Registry or a MeterSink")
        self._declare(registry, f"mcp.{side}", native, sizes=sizes)

    async def __call__(self, ctx: C, call_next: Callable[[C], Awaitable[R]]) -> R:
        """Pass the message on, and count how it ended."""
        method = ctx.method
        official: Any = ctx
        name = None
        if method in NAMED:
            try:
                name = official.params["name"]
            except (AttributeError, KeyError, TypeError):
                name = target(ctx)
        elif method in APART and (is_stream(ctx) or is_internal(ctx)):
            return await self._apart(ctx, call_next)
        clock = self._clock
        began = clock()
        running = self._running
        running.append(None)
        try:
            result = await call_next(ctx)
        except BaseException as error:
            self._observe(_Message(ctx, method, name), self._failures.raised(error, ctx), clock() - began)
            raise
        finally:
            running.pop()
        seconds = clock() - began
        wire: Any = result
        key = None
        try:  # flat: a third of the price of what it falls back to
            request = official.request
            http = None if request is None else request.scope["http_version"]
            key = method, name, wire.get("isError") is True, official.protocol_version, http
            observe = self._hot[key]
        except Exception:  # noqa: BLE001  # not seen before, another SDK, not hashable, a foreign `get`
            self._returned(_Message(ctx, method, name), key, result, seconds)
        else:
            observe(seconds)
        return result

    def over(self, network: Network) -> MetricsMiddleware:
        """Return a middleware for connections that are made like this.

        It writes to the same metrics, and learns names by itself: those of one server say nothing of another's.
        """
        twin = copy.copy(self)
        twin._names = tuple(names.unlearned() for names in self._names)  # noqa: SLF001  # of its own class
        twin._connect(network)  # noqa: SLF001  # of its own class
        return twin

    @contextmanager
    def session(self, *, protocol_version: str = "") -> Generator[None, None, None]:
        """Measure the life of a session: the block around ``server.run()`` or the use of a client.

        A server's network is known here only when it was given.
        """
        began, failure = self._clock(), SUCCESS
        try:
            yield
        except BaseException as error:
            failure = self._failures.raised(error)
            raise
        finally:
            version = _one_of(PROTOCOL_VERSIONS, protocol_version)
            series = self._sessions.bind(failure.error_type, version, *self._connection(self._network or UNKNOWN))
            series.observe(self._clock() - began)

    def _connect(self, network: Network | None) -> None:
        if network is not None and type(network) is not Network:
            raise TypeError(f"MetricsMiddleware needs a Network, or None, got {network!r}")
        if network is not None and network.address and self._side == "server":
            raise ValueError(f"MetricsMiddleware takes a server's address with side='client' alone, got {network!r}")
        self._network = UNKNOWN if network is None and self._side == "client" else network
        self._hot: dict[object, Observe] = {}

    def _declare(self, registry: Instruments, prefix: str, native: int | None, *, sizes: bool) -> None:
        connection = (*CONNECTION, *PLACE) if self._side == "client" else CONNECTION

        def seconds(name: str, help: str, labels: tuple[str, ...]) -> Any:  # noqa: A002  # the field's word
            return registry.histogram(f"{prefix}.{name}", help, unit="s", labels=labels + connection, native=native)

        self._durations = seconds("operation.duration", "Time from a message's arrival to its answer.", OPERATION)
        self._sessions = seconds("session.duration", "Time from a session's begin to its end.", SESSION)
        self._running = registry.gauge(f"{prefix}.active_requests", "Messages begun and not over.").bind().running()
        about = "Messages without a duration: streams, and what the SDK asks itself."
        self._unmeasured = registry.counter(f"{prefix}.unmeasured", about, labels=["kind"])
        self._sizes = None
        if sizes:
            name, about = f"{prefix}.response.size", "Size of a result as JSON."
            self._sizes = registry.histogram(name, about, unit="By", labels=OPERATION[:1], buckets=SIZES)

    def _connection(self, network: Network) -> tuple[str, ...]:
        place = (network.address, str(network.port or "")) if self._side == "client" else ()
        return (network.transport, network.protocol, network.version, *place)

    async def _apart(self, ctx: C, call_next: Callable[[C], Awaitable[R]]) -> R:
        try:
            return await call_next(ctx)
        finally:
            self._unmeasured.bind("stream" if is_stream(ctx) else "internal").inc()

    def _returned(self, message: _Message, key: _Key | None, result: object, seconds: float) -> None:
        method, failure = message.method, self._failures.returned(result)
        if method in LISTS and failure is SUCCESS:
            self._names[method == "prompts/list"].listed(_listed(result, LISTS[method]))
        if self._sizes is not None:
            self._sizes.bind(_one_of(self._methods, method)).observe(_size(result))
        observe = self._observe(message, failure, seconds)
        if observe is None or method in LISTS or self._exemplars or self._sizes is not None:
            return
        if key is not None and failure is (TOOL_ERROR if key[2] else SUCCESS):
            self._hot[key] = observe

    def _observe(self, message: _Message, failure: Failure, seconds: float) -> Observe | None:
        """Count one message; return the way to its series if all its attributes were admitted as they are."""
        ctx, method, name = message
        version, known = _one_of(PROTOCOL_VERSIONS, _version(ctx)), _one_of(self._methods, method)
        admitted = ["", ""]
        if method in NAMED and name is not None:
            kind = NAMED.index(method)
            admitted[kind] = self._names[kind].admit(name, succeeded=failure is SUCCESS)
        operation = "execute_tool" if method == "tools/call" else ""
        network = seen(ctx, headers(ctx)) if self._network is None else self._network
        labels = (known, *admitted, operation, *failure, version, *self._connection(network))
        series = self._durations.bind(*labels)
        series.observe(seconds, _trace(ctx) if self._exemplars else None)
        return None if OTHER in series.labels else series.observe  # room may be found later, as a name may be learned


def _one_of(known: frozenset[str], value: object) -> str:
    """Return *value* if it is known, nothing if it is nothing, ``_OTHER`` for all else."""
    if value is None or value == "":
        return ""
    return value if isinstance(value, str) and value in known else OTHER


def _version(ctx: Any) -> object:
    """Return the version of MCP that the message is in."""
    found = field(sdk_context(ctx), "protocol_version")
    return headers(ctx).get("mcp-protocol-version") if found is None else found


def _listed(result: object, kind: str) -> list[object]:
    """Return the names in what ``tools/list`` or ``prompts/list`` answered, in any SDK's shape."""
    root: Any = getattr(result, "root", result)
    items = field(root, kind)
    if items is None:
        items = root  # FastMCP's middleware sees plain lists
    return [field(item, "name") for item in items] if type(items) in (list, tuple) else []


def _size(result: object) -> int:
    try:
        dump: Any = getattr(result, "model_dump_json", None)
        return len(dump() if dump else json.dumps(result, separators=(",", ":"), default=str))
    except Exception:  # noqa: BLE001  # cycles, foreign __str__: what cannot be written has no size
        return 0


def _trace(ctx: object) -> Mapping[str, object] | None:
    """Return the ids of the trace that the caller says this request belongs to, if they are well formed."""
    params = field(ctx, "params") or field(ctx, "message")
    meta = field(params, "_meta") or field(params, "meta")
    parent = field(meta, "traceparent")
    found = TRACEPARENT.fullmatch(parent) if isinstance(parent, str) else None
    return {"trace_id": found[1], "span_id": found[2]} if found else None
