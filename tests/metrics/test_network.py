"""How a connection is made: seen on a server, given for a client, and never more values than there are ways."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from mcp_metrics import Network
from mcp_metrics.network import seen


def request(**scope):
    return SimpleNamespace(scope=scope)


class Outside:
    """FastMCP's context before there is a request."""

    @property
    def request_context(self):
        raise RuntimeError("no request")


@pytest.mark.parametrize(
    ("context", "expected"),
    [
        (SimpleNamespace(request=None), Network("pipe")),
        (SimpleNamespace(), Network("pipe")),
        (SimpleNamespace(fastmcp_context=Outside()), Network("pipe")),
        (SimpleNamespace(headers={"accept": "*/*"}), Network("tcp", "http")),
        (SimpleNamespace(request=object()), Network("tcp", "http")),
        (SimpleNamespace(request=request()), Network("tcp", "http")),
        (SimpleNamespace(request=request(http_version=["2"])), Network("tcp", "http")),
        (SimpleNamespace(request=request(http_version="1.0")), Network("tcp", "http", "1.0")),
        (SimpleNamespace(request=request(http_version="1.1")), Network("tcp", "http", "1.1")),
        (SimpleNamespace(request=request(http_version="2")), Network("tcp", "http", "2")),
        (SimpleNamespace(request=request(http_version="3")), Network("quic", "http", "3")),
        (SimpleNamespace(request=request(http_version="9.9")), Network("tcp", "http", "_OTHER")),
        (
            SimpleNamespace(
                fastmcp_context=SimpleNamespace(request_context=SimpleNamespace(request=request(http_version="2")))
            ),
            Network("tcp", "http", "2"),
        ),
    ],
)
def test_seen_by_a_server(context, expected):
    """By the HTTP request behind the message, in the shape of each SDK."""
    assert seen(context, getattr(context, "headers", {})) == expected


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"transport": "pigeon"}, ValueError, "transport of .*'pipe', 'quic'.* got 'pigeon'"),
        ({"transport": None}, ValueError, "got None"),
        ({"protocol": 2}, TypeError, "text for protocol, got 2"),
        ({"version": 2}, TypeError, "text for version, got 2"),
        ({"address": None}, TypeError, "text for address, got None"),
        ({"port": 0}, ValueError, "port from 1 to 65535, or None, got 0"),
        ({"port": 65_536}, ValueError, "got 65536"),
        ({"port": "80"}, ValueError, "got '80'"),
        ({"port": True}, ValueError, "got True"),
    ],
)
def test_nonsense_is_refused(options, error, message):
    """At construction, naming argument and value."""
    with pytest.raises(error, match=message):
        Network(**options)


def test_the_limits_of_a_port():
    """Both ends of the range are ports."""
    assert (Network(port=1).port, Network(port=65_535).port) == (1, 65_535)
