"""The spelling of URIs: what a server might take for the same resource is asked for as the same.

Wherever there are two ways to read a URI, each is asked for, or the URI is refused: a denial that holds for the one and
not for the other is none.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from urllib.parse import unquote

from .permission import LONGEST

__all__ = ["uri_spellings"]

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*\Z")
_DEFAULT_PORTS = {"http": ":80", "https": ":443", "ws": ":80", "wss": ":443"}


def uri_spellings(uri: str) -> tuple[str, ...]:
    """Return what must be granted, all of it, before *uri* may be read; nothing if it has more than one reading.

    Scheme and host are compared in lower case and without the scheme's own port, a path of a slash alone is none (RFC
    3986, 6.2.2.1 and 6.2.3), and percent-encoding is undone once.  A URI with a query or a fragment needs a grant for
    what stands before it, too; one with a slash at its end or several in a row, for itself without them: so no
    variation escapes a denial.  Refused are dot segments, segments with a dot or a space at their end, encoded slashes,
    double encoding, backslashes, control characters, text that is not in Unicode's form NFC, and in what is fetched by
    HTTP a user, a host in another alphabet, and odd ports.
    """
    return _spellings(uri) if len(uri) <= LONGEST else ()


@lru_cache(1024)
def _spellings(uri: str) -> tuple[str, ...]:
    plain = uri if "%2f" in uri.lower() else unquote(uri)
    if not plain.isprintable() or not _DUBIOUS.isdisjoint(plain) or not unicodedata.is_normalized("NFC", plain):
        return ()
    plain = _with_plain_authority(plain)
    before = re.split(r"[?#]", plain)[0]
    segments = re.split(r"[/:;]", before)
    if not before or any(segment.endswith(".") or segment != segment.strip() for segment in segments):
        return ()
    if not {".", ".."}.isdisjoint(re.split(r"[/:;?#]", plain)):
        return ()
    return tuple(dict.fromkeys((plain, before, _with_plain_path(before))))


_DUBIOUS = frozenset("\\%\N{REPLACEMENT CHARACTER}")  # a percent sign that is left was no escape, or a double one
_HEAD = re.compile(r"[a-z][a-z0-9+.-]*://[^/]*")
_ODD_HOST = re.compile(r"@|[^\x00-\x7f]|:(?:0\d*)?\Z")


def _with_plain_authority(uri: str) -> str:
    """Return *uri* with scheme and host as they are compared, or nothing where the host may be another's."""
    scheme, separator, rest = uri.partition(":")
    if not separator or not _SCHEME.match(scheme):
        return uri
    scheme = scheme.lower()
    if not rest.startswith("//"):
        return f"{scheme}:{rest}"
    host = re.split(r"[/?#]", rest[2:])[0]
    tail = rest[2 + len(host) :]
    if port := _DEFAULT_PORTS.get(scheme):
        if _ODD_HOST.search(host):
            return ""
        host = host.removesuffix(port)
        tail = re.sub(r"\A/(?=[?#]|\Z)", "", tail)
    return f"{scheme}://{host.lower()}{tail}"


def _with_plain_path(uri: str) -> str:
    head = found.group() if (found := _HEAD.match(uri)) else ""
    path = re.sub(r"//+", "/", uri[len(head) :])
    return head + (path.rstrip("/") or path * head.endswith("//"))
