"""What a message would become, without a broker: for trying a configuration out on a payload at hand."""

from __future__ import annotations

from typing import NamedTuple

from edge_agent.sources.mqtt.config import MqttConfig
from edge_agent.sources.mqtt.inbox import Message
from edge_agent.sources.mqtt.mapping import Translator
from edge_agent.sources.mqtt.meaning import Unusable
from edge_agent.sources.mqtt.repeats import RecentPayloads
from shopfloor.block import Sample


class Trial(NamedTuple):
    """What one source would make of a message."""

    topic: str
    """The configured topic or expression that takes it; empty where none does."""
    samples: tuple[Sample, ...]
    problems: tuple[str, ...]
    """What could not be used, and why; a message that no topic takes has one."""


def try_message(config: MqttConfig, topic: str, payload: bytes, received_time: int) -> Trial:
    """Return what a source would make of a message received at ``received_time`` (UTC ns); nothing is remembered."""
    translator = Translator(config, loud=False)
    found = translator.route(topic)
    if isinstance(found, Unusable):
        return Trial("", (), (f"{found.what}: {found.why}",))
    translation = translator.translate([Message(topic, payload, received_time)], RecentPayloads({}))
    problems = [f"{what}: {why}" for (_, what), why in translator.complaints.said.items()]
    said = {what for _, what in translator.complaints.said}
    # Counted but not worth a line in the log; here somebody wants to know.
    problems += [
        f"{what}: {number} times"
        for what, number in translation.counts.items()
        if what not in {*said, "no_source_time"}
    ]
    return Trial(found, tuple(translation.block.rows()), tuple(problems))
