"""Where a request comes from: the address behind a proxy, the page behind a browser, the certificate behind TLS."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from starlette.types import Scope

CUSTOM_HEADER: Final = "x-shopfloor-request"
"""A request that changes something with a cookie carries it: no page of another site can add it (Fetch, CORS)."""
SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
"""RFC 9110, section 9.2.1."""
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def networks(texts: Sequence[str]) -> tuple[Network, ...]:
    """Return networks from their texts."""
    return tuple(ipaddress.ip_network(text) for text in texts)


def client_address(scope: Scope, proxies: Sequence[Network]) -> str:
    """Return who is at the other end: the peer, or whom the nearest proxy that is believed names last."""
    client: tuple[str, int] | None = scope.get("client")
    peer = client[0] if client else ""
    if not proxies or not _is_in(peer, proxies):
        return peer
    named = [part.strip() for part in header(scope, b"x-forwarded-for").split(",") if part.strip()]
    for text in reversed(named[-20:]):
        if not _is_address(text):
            break
        if not _is_in(text, proxies):
            return text
        peer = text
    return peer


def is_encrypted(scope: Scope, proxies: Sequence[Network]) -> bool:
    """Tell whether the client's side is TLS: here, or at a proxy that is believed."""
    if scope.get("scheme") == "https":
        return True
    client: tuple[str, int] | None = scope.get("client")
    if not proxies or client is None or not _is_in(client[0], proxies):
        return False
    return header(scope, b"x-forwarded-proto").rpartition(",")[2].strip().lower() == "https"


def is_own_page(headers: Mapping[str, str]) -> bool:
    """Tell whether a request comes from our own page, or from no page at all.

    Browsers say so in ``Sec-Fetch-Site`` (W3C Fetch Metadata), older ones in ``Origin`` (RFC 6454), which is held
    against ``Host``; what says neither is no browser.
    """
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = headers.get("origin")
    if origin is None:
        return True
    try:
        return urlsplit(origin).netloc.lower() == headers.get("host", "").lower() != ""
    except ValueError:
        return False


def certificate_names(peer: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what a verified certificate is called: common names of its subject, DNS names and URIs beside it.

    Args:
        peer: as `ssl.SSLSocket.getpeercert` returns it.
    """
    names = [value for group in peer.get("subject", ()) for key, value in group if key == "commonName"]
    names += [value for kind, value in peer.get("subjectAltName", ()) if kind in {"DNS", "URI"}]
    return tuple(dict.fromkeys(names))


def client_certificate(scope: Scope) -> tuple[str, ...]:
    """Return the names of the connection's verified client certificate; none without one."""
    names: tuple[str, ...] = scope.get("extensions", {}).get("tls", {}).get("client_cert_names", ())
    return names


def header(scope: Scope, wanted: bytes) -> str:
    """Return a header of a request, all of its lines joined by commas; empty without it."""
    return ",".join(value.decode("latin-1") for name, value in scope["headers"] if name == wanted)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_in(text: str, known: Sequence[Network]) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in network for network in known)
