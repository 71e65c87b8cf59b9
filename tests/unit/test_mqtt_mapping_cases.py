"""Messages and the samples that they become, as files: tests/cases/mqtt_mapping/NAME.{yaml,in,expected}.

``yaml`` is the list under ``topics``; ``in`` has one message a line, TOPIC PAYLOAD; ``expected`` has one line a
sample (series, source time, value, status), then what was counted and what was said of it. A source time that is the
time of receipt stands there as ``received``; message n of a file, from 0, is received n microseconds after RECEIVED.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from edge_agent.sources.mqtt.config import MqttConfig
from edge_agent.sources.mqtt.inbox import Message
from edge_agent.sources.mqtt.mapping import Translator
from edge_agent.sources.mqtt.repeats import RecentPayloads
from shopfloor import block as vocabulary
from shopfloor.block import Sample, problems

CASES = Path(__file__).parents[1] / "cases" / "mqtt_mapping"
NAMES = sorted(path.stem for path in CASES.glob("*.yaml"))
RECEIVED = 1_900_000_000_000_000_000
STATUS = {
    0: "good",
    vocabulary.STATUS_NO_SOURCE_TIME: "good",
    vocabulary.STATUS_NOT_A_NUMBER: "not_a_number",
    vocabulary.STATUS_NOT_CONVERTIBLE: "not_convertible",
}


def rendered(name: str) -> Iterator[str]:
    topics = yaml.safe_load((CASES / f"{name}.yaml").read_text(encoding="utf-8"))
    config = {"name": "m", "broker": "mqtt://127.0.0.1", "client_id": "c", "topics": topics}
    translator = Translator(MqttConfig.model_validate(config))
    messages = []
    for number, line in enumerate((CASES / f"{name}.in").read_text(encoding="utf-8").splitlines()):
        topic, _, payload = line.partition(" ")
        messages.append(Message(topic, payload.encode(), RECEIVED + number * 1_000))
    block, counts = translator.translate(messages, RecentPayloads({}))
    assert problems(block) == []
    for row in block.rows():
        yield f"{row.series}  {time_of(row)}  {value_of(row)}  {STATUS[row.status]}"
    yield ""
    for what in sorted(counts):
        yield f"{what}: {counts[what]}"
    yield ""
    for (topic, what), why in translator.complaints.said.items():
        yield f"{topic}: {what}: {why}"


def time_of(row: Sample) -> str:
    if row.source_time == row.received_time:
        assert row.received_time >= RECEIVED
        offset_ns = row.received_time - RECEIVED
        return f"received+{offset_ns // 1_000}us" + (f"+{offset_ns % 1_000}ns" if offset_ns % 1_000 else "")
    seconds, fraction_ns = divmod(row.source_time, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{fraction_ns:09}Z"


def value_of(row: Sample) -> str:
    if row.text is not None:
        return repr(row.text)
    return "null" if row.value != row.value else repr(row.value)


@pytest.mark.parametrize("name", NAMES)
def test_messages_become_the_samples_of_the_case(name: str) -> None:
    assert list(rendered(name)) == (CASES / f"{name}.expected").read_text(encoding="utf-8").splitlines()


def test_each_case_is_whole() -> None:
    assert len(NAMES) >= 15
    assert {path.stem for path in CASES.iterdir()} == set(NAMES)
