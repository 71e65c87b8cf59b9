"""A look at a broker before anything is deployed: what is published there, and what the configuration makes of it."""

from __future__ import annotations

import asyncio
import math
import secrets
import time
from collections import Counter
from typing import Final, NamedTuple, TypeAlias

from edge_agent.sources.mqtt.config import MqttConfig
from edge_agent.sources.mqtt.connection import Connection, connected
from edge_agent.sources.mqtt.inbox import Message
from edge_agent.sources.mqtt.mapping import Translator
from edge_agent.sources.mqtt.meaning import Unusable
from edge_agent.sources.mqtt.repeats import RecentPayloads
from edge_agent.sources.mqtt.topics import subscription_filters
from shopfloor.block import Sample
from shopfloor.errors import SourceMisconfigured, SourceUnavailable

_SHOWN: Final = 10
"""Topics and samples that a finding lists."""
_SHOWN_CHARACTERS: Final = 200
"""Of a topic; those that begin alike are taken as one."""
_MAX_TOPICS: Final = 2_000
_UNREMARKABLE: Final = frozenset({"no_source_time", "repeated_message", "unmatched_topic", "empty_payload"})


Seen: TypeAlias = dict[str, dict[str, tuple[Sample, ...]]]
"""Configured topic to the topics seen of it, each with the samples of its last message that had any."""


class Finding(NamedTuple):
    """One thing found out; ``sound`` is False where somebody should do something."""

    text: str
    sound: bool = True

    def __str__(self) -> str:
        return self.text


async def check(config: MqttConfig, listen_s: float = 5.0) -> list[Finding]:
    """Connect as a visitor (own client id, clean session), listen for ``listen_s`` and say what was found.

    The agent's own session is not touched; nothing is stored.
    """
    visitor = f"{config.client_id[:100]}-check-{secrets.token_hex(3)}"
    findings: list[Finding] = []
    try:
        async with connected(
            config, clock=time.time_ns, count=lambda _what: None, client_id=visitor, keep_session=False
        ) as connection:
            findings.append(Finding(f"connected to {config.broker}, MQTT {config.protocol}"))
            # Both at once: the answer to one subscription may stand behind what another one brings.
            subscribing = asyncio.create_task(_subscribe(connection, config, findings))
            try:
                await _listen(connection, config, listen_s, findings)
            finally:
                findings += _left_open(subscribing)
                subscribing.cancel()
                await asyncio.wait([subscribing])
    except (SourceUnavailable, SourceMisconfigured) as error:
        findings.append(Finding(str(error), sound=False))
    return findings


async def _subscribe(connection: Connection, config: MqttConfig, findings: list[Finding]) -> None:
    for topic_filter in subscription_filters([topic.form for topic in config.topics]):
        try:
            await connection.subscribe([topic_filter], config.qos)
        except SourceMisconfigured as error:
            findings.append(Finding(str(error), sound=False))
    try:
        await connection.subscribe(["#"], 0)
    except SourceMisconfigured:
        findings.append(Finding("the broker does not show other topics than the configured ones"))


def _left_open(subscribing: asyncio.Task[None]) -> list[Finding]:
    if not subscribing.done():
        return [Finding("not all subscriptions were answered in time", sound=False)]
    error = subscribing.exception()
    return [Finding(str(error), sound=False)] if error is not None else []


async def _listen(
    connection: Connection, config: MqttConfig, listen_s: float, findings: list[Finding]
) -> None:
    translator = Translator(config, loud=False)
    recent = RecentPayloads({})
    seen: Seen = {topic.label: {} for topic in config.topics}
    unmatched: dict[str, str] = {}
    counts: Counter[str] = Counter()
    loop = asyncio.get_running_loop()
    end = loop.time() + listen_s
    try:
        while (left_s := end - loop.time()) > 0:
            messages = await connection.receive(100, 2**20, left_s)
            for message in messages:
                _note(message, translator, recent, seen, unmatched, counts)
            connection.acknowledge(messages)
    finally:
        findings += _matched(seen, listen_s)
        if unmatched:
            some = ", ".join(f"{topic} ({why})" for topic, why in list(unmatched.items())[:_SHOWN])
            findings.append(Finding(f"{len(unmatched)} topics without use, such as: {some}"))
        findings += _unusable(translator, counts)


def _unusable(translator: Translator, counts: Counter[str]) -> list[Finding]:
    """Return what could not be used, counted, each with the topic where it was met first and why."""
    first: dict[str, str] = {}
    for (topic, what), why in translator.complaints.said.items():
        first.setdefault(what, f"; first on {topic}: {why}")
    return [
        Finding(f"{what}: {number} times{first.get(what, '')}", sound=False)
        for what, number in counts.items()
        if what not in _UNREMARKABLE
    ]


def _note(
    message: Message,
    translator: Translator,
    recent: RecentPayloads,
    seen: Seen,
    unmatched: dict[str, str],
    counts: Counter[str],
) -> None:
    found = translator.route(message.topic)
    topic = message.topic[:_SHOWN_CHARACTERS]
    if isinstance(found, Unusable):
        if len(unmatched) < _MAX_TOPICS:
            unmatched.setdefault(topic, found.why)
        return
    topics = seen[found]
    if topic not in topics and len(topics) >= _MAX_TOPICS:
        return
    block, found_counts = translator.translate([message], recent)
    counts.update(found_counts)
    if len(block) or topic not in topics:
        topics[topic] = tuple(block.rows())


def _matched(seen: Seen, listen_s: float) -> list[Finding]:
    findings = []
    for template, matched in seen.items():
        if not matched:
            findings.append(Finding(f"{template}: no message in {listen_s:g} s"))
            continue
        topic, samples = next(iter(matched.items()))
        gives = [f"{each.series} = {shown(each)}" for each in samples[:_SHOWN]]
        gives += [f"and {len(samples) - _SHOWN} more"] if len(samples) > _SHOWN else []
        text = f"{template}: {len(matched)} topics; {topic} gives {', '.join(gives) or 'no sample'}"
        findings.append(Finding(text, sound=bool(samples)))
    return findings


def shown(sample: Sample) -> str:
    """Return a sample's value for people."""
    if sample.text is not None:
        return repr(sample.text[:40])
    quality = ("", " (uncertain)", " (bad)")[sample.quality]
    return f"{'null' if math.isnan(sample.value) else f'{sample.value:g}'}{quality}"
