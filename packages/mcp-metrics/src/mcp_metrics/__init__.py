"""RED metrics for MCP that Prometheus accepts, that no caller can blow up, and that cost next to nothing."""

from __future__ import annotations

from ._seam import as_fastmcp
from .bridges import StatsdWriter, to_otlp
from .endpoint import MetricsApp, Response, render, respond, serve
from .exposition import Source, openmetrics, prometheus_text
from .family import Description, Family
from .folder import compact, is_gone, read, write
from .histogram import Histogram
from .middleware import MetricsMiddleware
from .names import Names
from .native import NativeBuckets
from .network import Network
from .protobuf import protobuf
from .registry import DEFAULT_BUCKETS, Overflow, Registry, RegistryStatistics
from .series import Counter, Exemplar, Gauge, Info, Point
from .sink import Instruments, MeterSink
from .snapshots import Snapshot, merge, snapshot
from .timing import Timed

__version__ = "0.1.0"

__all__ = [
    "DEFAULT_BUCKETS",
    "Counter",
    "Description",
    "Exemplar",
    "Family",
    "Gauge",
    "Histogram",
    "Info",
    "Instruments",
    "MeterSink",
    "MetricsApp",
    "MetricsMiddleware",
    "Names",
    "NativeBuckets",
    "Network",
    "Overflow",
    "Point",
    "Registry",
    "RegistryStatistics",
    "Response",
    "Snapshot",
    "Source",
    "StatsdWriter",
    "Timed",
    "as_fastmcp",
    "compact",
    "is_gone",
    "merge",
    "openmetrics",
    "prometheus_text",
    "protobuf",
    "read",
    "render",
    "respond",
    "serve",
    "snapshot",
    "to_otlp",
    "write",
]
