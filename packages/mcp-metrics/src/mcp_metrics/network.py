"""Say how a connection is made: the ``network`` and ``server`` attributes of the conventions.

    server: the SDK's context ── without an HTTP request ──▶ pipe
                              └── with one ──▶ tcp, http, 1.0 · 1.1 · 2;  quic, http, 3
    client: nothing is seen, so ``MetricsMiddleware.over(Network(...))`` says it

``server.address`` and ``server.port`` are on a client's metrics alone; ``client.address``, which has as many values as
there are clients, is on spans alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .foreign import field, sdk_context
from .text import OTHER

__all__ = ["Network", "seen"]

TRANSPORTS = ("pipe", "quic", "tcp", "udp", "unix")
HTTP_VERSIONS = ("1.0", "1.1", "2", "3")
PORTS = range(1, 65_536)


@dataclass(frozen=True)
class Network:
    """What is known of a connection; what is not known is empty, and left out of the metrics.

    Attributes:
        transport: ``pipe`` for stdio, ``tcp`` or ``quic`` for HTTP; also ``unix`` and ``udp``.
        protocol: on top of it, in small letters: ``http``, ``websocket``.
        version: of that protocol: ``1.1``, ``2``.
        address: of the server, as a client knows it: a domain name, an IP address, the path of a socket.
        port: of the server; None for unknown.
    """

    transport: str = ""
    protocol: str = ""
    version: str = ""
    address: str = ""
    port: int | None = None

    def __post_init__(self) -> None:
        if self.transport not in ("", *TRANSPORTS):
            raise ValueError(f"Network needs a transport of {TRANSPORTS}, or '' for unknown, got {self.transport!r}")
        for name in ("protocol", "version", "address"):
            if type(getattr(self, name)) is not str:
                raise TypeError(f"Network needs text for {name}, got {getattr(self, name)!r}")
        if self.port is not None and (type(self.port) is not int or self.port not in PORTS):
            raise ValueError(f"Network needs a port from 1 to 65535, or None, got {self.port!r}")


UNKNOWN = Network()
PIPE = Network("pipe")
HTTP = Network("tcp", "http")
VERSIONS = {version: Network("quic" if version == "3" else "tcp", "http", version) for version in HTTP_VERSIONS}
OTHER_HTTP = Network("tcp", "http", OTHER)


def seen(ctx: object, headers: Mapping[str, str]) -> Network:
    """Return what a server's context, and its HTTP headers, tell of its connection; never raises."""
    request = field(sdk_context(ctx), "request")
    if request is None:
        return HTTP if headers else PIPE
    try:
        return VERSIONS.get(request.scope["http_version"], OTHER_HTTP)
    except (AttributeError, KeyError, TypeError):  # not ASGI, or no text
        return HTTP
