"""Whether the ingestion service is there, is the right one, takes the token, and what time it has."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from edge_agent.agent import connect_uplink
from edge_agent.config import Config, is_loopback
from edge_agent.doctor.certificates import SOON
from edge_agent.uplink import Answer, HttpUplink, NotAuthorised, client_context
from shopfloor.asset import parse_asset
from shopfloor.errors import UplinkUnavailable
from shopfloor.findings import Finding, failure, ok, warning
from shopfloor.messages import TokenInfo

_WRITING: Final = frozenset({"agent", "admin"})
_OFF_S: Final = 1.0
_FAR_OFF_S: Final = 60.0
"""The service takes samples from that far ahead for doubtful."""
_NEW_TOKEN: Final = "shopfloor token create --config ingest.yaml --role agent --asset"  # noqa: S105  no password


async def look_at_uplink(config: Config, clock: Callable[[], int] = time.time_ns) -> list[Finding]:
    """Ask the service what the agent's token is good for; nothing is stored there."""
    try:
        exchange = connect_uplink(config)
    except OSError as error:
        return [failure(f"uplink certificates: {error}", "name PEM files that can be read")]
    try:
        findings = await _transport(config)
        before = clock()
        try:
            answer = await exchange("GET", "/v1/token", b"", "application/json")
        except UplinkUnavailable as error:
            return [*findings, _unreachable(config, str(error))]
        took = clock() - before
        if answer.status == 404:
            return [*findings, await _older_service(HttpUplink(exchange), config)]
        return [*findings, *_told(answer, config, before + took // 2, took)]
    finally:
        await exchange.close()


async def _transport(config: Config) -> list[Finding]:
    url = urlsplit(config.uplink.url)
    if url.scheme == "http":
        if is_loopback(url.hostname or ""):
            return []
        return [
            warning(
                "the token and all data travel unencrypted (allow_insecure_token)",
                "give the service a certificate, and the uplink an https address",
            )
        ]
    return [await _certificate(url.hostname or "", url.port or 443, config)]


async def _certificate(host: str, port: int, config: Config) -> Finding:
    uplink = config.uplink
    try:
        context = client_context(uplink.ca_file, uplink.cert, uplink.key)
        async with asyncio.timeout(config.uplink.timeout_s):
            _, writer = await asyncio.open_connection(host, port, ssl=context)
    except ssl.SSLCertVerificationError as error:
        return failure(
            f"the service's certificate is not trusted: {error.verify_message}",
            "let uplink.ca_file name the authority that signed it, and the url the host that stands in it",
        )
    except ssl.SSLError as error:
        return failure(f"TLS with {host}:{port}: {error.reason or error}", "is it https that answers there?")
    except (OSError, TimeoutError) as error:
        reason = "no answer in time" if isinstance(error, TimeoutError) else error.strerror or str(error)
        return failure(f"{host}:{port}: {reason}", "look at name resolution, route and firewall")
    try:
        shown: dict[str, Any] = writer.get_extra_info("peercert") or {}
        tls = writer.get_extra_info("ssl_object").version()
    finally:
        writer.transport.abort()
    end = datetime.fromtimestamp(ssl.cert_time_to_seconds(shown["notAfter"]), UTC)
    text = f"{tls}, the service's certificate is trusted and valid until {end:%Y-%m-%d}"
    figures = {"tls": tls, "valid_until": end.isoformat()}
    if end - datetime.now(UTC) < SOON:
        return warning(text, "have it renewed before that day", **figures)
    return ok(text, **figures)


def _unreachable(config: Config, said: str) -> Finding:
    url = config.uplink.url
    return failure(
        said if said.startswith(url) else f"{url}: {said}",
        "look at name resolution, route, firewall and whether the service runs; the agent keeps everything meanwhile",
    )


async def _older_service(uplink: HttpUplink, config: Config) -> Finding:
    url = config.uplink.url
    try:
        # An empty list of span records is accepted from every token that writes, and changes nothing.
        await uplink.send_spans([])
    except NotAuthorised as error:
        return failure(f"{url} refuses the token: {error}", f"make one: {_NEW_TOKEN} {config.agent.asset}")
    except UplinkUnavailable as error:
        return _unreachable(config, str(error))
    return ok(f"{url} takes the token; it is too old to tell how far that reaches, and its time")


def _told(answer: Answer, config: Config, middle: int, took: int) -> Iterator[Finding]:
    url = config.uplink.url
    create = f"make one: {_NEW_TOKEN} {config.agent.asset}"
    if answer.status == 401:
        yield failure(f"{url} does not know the token: it was revoked, or is another service's", create)
        return
    try:
        told = msgspec.json.decode(answer.content, type=TokenInfo)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        yield failure(
            f"{url} answers, but not as our service does (HTTP {answer.status}): {error}: {answer.content[:80]!r}",
            "is this the service's address, or a proxy or portal in between?",
        )
        return
    yield ok(
        f"{url} answers within {took / 1e6:.0f} ms", round_trip_s=took / 1e9, role=told.role, asset=told.asset
    )
    reach = told.asset or "everything"
    if told.role not in _WRITING:
        yield failure(f"the token's role is {told.role}: it does not write", create)
    elif told.asset and not parse_asset(told.asset).contains(parse_asset(config.agent.asset)):
        yield failure(f"the token reaches {reach}, not {config.agent.asset}", create)
    else:
        yield ok(f"the token is accepted: role {told.role}, it reaches {reach}")
    yield _clock(told.now - middle, took)


def _clock(offset: int, took: int) -> Finding:
    offset_s, uncertain_s = offset / 1e9, took / 2e9
    text = (
        f"the service's clock is {abs(offset_s):.3f} s {'ahead of' if offset >= 0 else 'behind'} ours "
        f"(give or take {uncertain_s:.3f} s)"
    )
    figures = {"clock_offset_s": offset_s, "uncertain_s": uncertain_s}
    advice = "have both machines follow a time server"
    if abs(offset_s) - uncertain_s > _FAR_OFF_S:
        return failure(text, advice, **figures)
    if abs(offset_s) - uncertain_s > _OFF_S:
        return warning(text, advice, **figures)
    return ok(text, **figures)
