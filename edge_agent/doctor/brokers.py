"""One MQTT broker, for plain messages or for Sparkplug: what it grants to a visitor, and what is published there.

A visitor has its own client id and no session that is kept: a running agent does not notice it.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Iterator, Sequence
from typing import Final, Protocol

from edge_agent.sources.mqtt.broker import BrokerConfig
from edge_agent.sources.mqtt.config import MqttConfig
from edge_agent.sources.mqtt.connection import Connection, connected
from edge_agent.sources.mqtt.topics import subscription_filters
from edge_agent.sources.sparkplug.config import SparkplugConfig
from shopfloor.errors import SourceMisconfigured, SourceUnavailable
from shopfloor.findings import Finding, Section, failure, ok, warning

_UNREACHED: Final = "look at address, route and firewall, user and certificates; is the broker started?"
_USUAL_WINDOW: Final = 20
"""Unacknowledged messages that mosquitto sends at most to a client of MQTT 3.1.1."""
_RECEIVE: Final = (100, 2**20, 0.2)
_WORDS: Final = {
    "MaximumQoS": "QoS up to",
    "MaximumPacketSize": "packets up to (bytes)",
    "ReceiveMaximum": "it takes unacknowledged messages up to",
    "SessionExpiryInterval": "sessions kept for (s)",
    "ServerKeepAlive": "keep-alive (s)",
}


class _Found(Protocol):
    """One line of a source's own check."""

    @property
    def sound(self) -> bool: ...


async def look_at_mqtt(config: MqttConfig, listen_s: float, commit_s: float | None = None) -> Section:
    """Look at a broker and listen there for a few seconds; nothing is stored, no session stays.

    Args:
        config: the broker and what is taken from it.
        listen_s: how long to listen, in seconds.
        commit_s: what a transaction of the buffer takes, in seconds, to tell the rate that it allows.
    """
    from edge_agent.sources.mqtt.check import check  # noqa: PLC0415  only what is configured

    greeting = await _greet(config, subscription_filters([topic.form for topic in config.topics]), commit_s)
    listened = await check(config, listen_s) if _is_there(greeting) else []
    return Section(f"source {config.name} (mqtt)", [*greeting, *_lines(listened)])


async def look_at_sparkplug(config: SparkplugConfig, listen_s: float) -> Section:
    """Look at a broker and the edge nodes that speak there; no STATE is said, no birth is asked for."""
    from edge_agent.sources.sparkplug.check import check  # noqa: PLC0415

    greeting = await _greet(config, config.filters, None)
    listened = await check(config, listen_s) if _is_there(greeting) else []
    return Section(f"source {config.name} (sparkplug)", [*greeting, *_lines(listened)])


def _is_there(greeting: Sequence[Finding]) -> bool:
    return bool(greeting[0].figures)


def _lines(found: Sequence[_Found]) -> Iterator[Finding]:
    for each in found:
        if each.sound:
            yield ok(str(each))
        else:
            yield failure(str(each), "correct the configuration, or the rights of this user at the broker")


async def _greet(config: BrokerConfig, filters: Sequence[str], commit_s: float | None) -> list[Finding]:
    """Connect, and tell what the broker grants; the first finding has figures only where it is there."""
    visitor = f"{config.client_id[:100]}-doctor-{secrets.token_hex(3)}"
    try:
        async with connected(
            config, clock=time.time_ns, count=lambda _what: None, client_id=visitor, keep_session=False
        ) as connection:
            findings = list(_welcome(config, connection, commit_s))
            qos = config.qos if isinstance(config, MqttConfig) else 0
            return [*findings, await _subscribe(connection, filters, qos)]
    except (SourceUnavailable, SourceMisconfigured) as error:
        return [failure(str(error), _UNREACHED)]


def _welcome(config: BrokerConfig, connection: Connection, commit_s: float | None) -> Iterator[Finding]:
    welcome = connection.welcome
    stated = [f"{words} {welcome[name]:,}" for name, words in _WORDS.items() if name in welcome]
    tls = "TLS" if config.address.tls else "unencrypted"
    yield ok(
        f"{config.broker} lets us in, MQTT {config.protocol}, {tls}"
        + (f"; it states {', '.join(stated)}" if stated else "; it states no limits"),
        broker=config.broker,
        protocol=config.protocol,
        tls=config.address.tls,
        connack=welcome,
        session_present=connection.session_present,
    )
    if isinstance(config, MqttConfig):
        yield from _window(config, welcome, commit_s)


def _window(config: MqttConfig, welcome: dict[str, int], commit_s: float | None) -> Iterator[Finding]:
    """Tell what bounds the rate of messages, and for how long the broker keeps them."""
    newest = config.protocol == "5"
    window = config.receive_maximum if newest else _USUAL_WINDOW
    figures = {"window": window} | ({"messages_per_s": round(window / commit_s)} if commit_s else {})
    bound = f", so at most about {window / commit_s:,.0f} a second with this disk" if commit_s else ""
    if newest:
        kept_s = welcome.get("SessionExpiryInterval", config.kept_session_s)
        yield ok(
            f"{window:,} messages may be on their way to the agent unacknowledged{bound}; the broker keeps its session "
            f"for {kept_s / 3600:,.1f} hours of absence",
            **figures,
        )
        if kept_s < config.kept_session_s:
            yield warning(
                f"the broker keeps sessions for {kept_s:,} s, session_expiry_s: {config.kept_session_s} is asked for",
                "raise its limit: what comes after that is lost while the agent is away",
            )
    else:
        yield ok(
            f"with MQTT 3.1.1 the broker's settings bound what is on its way unacknowledged: mosquitto sends {window} "
            f"messages{bound} (max_inflight_messages); with protocol: 5, receive_maximum does",
            **figures,
        )
    granted = welcome.get("MaximumQoS")
    if granted is not None and granted < config.qos:
        yield warning(
            f"the broker's highest QoS is {granted}, qos: {config.qos} is asked for",
            "while the agent is away such messages are lost; use a broker with QoS 1",
        )


async def _subscribe(connection: Connection, filters: Sequence[str], qos: int) -> Finding:
    """Subscribe, and take what comes meanwhile: answers stand in line behind it."""
    subscribing = asyncio.create_task(connection.subscribe(filters, qos))
    try:
        while not subscribing.done():
            connection.acknowledge(await connection.receive(*_RECEIVE))
        await subscribing
    except SourceMisconfigured as error:
        return failure(str(error), "give this user the right to read these topics")
    finally:
        subscribing.cancel()
        await asyncio.wait([subscribing])
    granted = connection.granted_qos
    lowered = [topic for topic, given in granted.items() if given < qos]
    if lowered:
        return warning(
            f"QoS {qos} is asked for, the broker grants less to {', '.join(lowered[:5])}",
            "while the agent is away such messages are lost; use a broker with QoS 1",
            granted_qos=granted,
        )
    return ok(f"{len(filters)} subscriptions are granted with QoS {qos}", granted_qos=granted)
