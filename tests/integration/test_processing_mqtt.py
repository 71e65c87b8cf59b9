"""Rules behind a real broker, through kills of the agent: thinned, and wrong nowhere."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from edge_agent.agent import Agent
from edge_agent.config import Config
from edge_agent.reload import hash_of
from edge_agent.sources.mqtt import MqttSource
from shopfloor import configfile
from shopfloor.messages import SourceState
from tests.integration.mqtt_brokers import config, mosquitto, publish
from tests.unit.processing_folder import Folder

TOPIC = "meters/hk01/c1"
BEGIN_MS = 1_700_000_000_000
DEVIATION = 0.5
RULE = {"signal": "counter", "scale": 0.1, "swinging_door": {"deviation": DEVIATION}, "freshness_s": 600}


async def test_what_is_stored_joined_by_lines_tells_every_message_of_the_broker(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    raw = np.round(np.concatenate([np.linspace(0, 900, 300), 900 + rng.normal(0, 3, 600).cumsum()]), 1)
    messages = [f'{{"ts":{BEGIN_MS + 100 * n},"n":{value}}}' for n, value in enumerate(raw)]
    folder = Folder(tmp_path / "agent")
    heard = 0
    async with mosquitto(tmp_path) as broker:
        for part in (messages[:0], messages[:250], messages[250:600], messages[600:]):
            # Published while nobody listens; what was not acknowledged before the kill comes again as well.
            await publish(broker.port, TOPIC, *part)
            source = MqttSource(config(broker.port))
            async with folder.life(RULE, source=source) as sink:
                running = asyncio.create_task(source.run(sink))
                async with asyncio.timeout(60):
                    while sink.now_report.state is not SourceState.RUNNING or sink.events[
                        "meters", "message"
                    ] < len(part):
                        assert not running.done()
                        await asyncio.sleep(0.01)
                running.cancel()
                await asyncio.wait([running])
                heard += sink.events["meters", "message"]
    async with folder.life(RULE) as sink:
        await sink.look()
    assert heard >= len(messages)
    assert [row.text for row in folder.stored if row.series.signal == "counter.freshness"][:1] == ["fresh"]
    stored = sorted((row.source_time, row.value) for row in folder.stored if row.series.signal == "counter")
    said = {(BEGIN_MS + 100 * n) * 1_000_000: value for n, value in enumerate((raw * 0.1).tolist())}
    assert len({time for time, _ in stored}) == len(stored)
    assert all(said[time] == value for time, value in stored)
    assert len(stored) < len(messages) / 3
    times = np.array(list(said), dtype=np.float64) - BEGIN_MS * 1e6
    line = np.interp(
        times, [time - BEGIN_MS * 1_000_000 for time, _ in stored], [value for _, value in stored]
    )
    assert np.abs(line - np.array(list(said.values()))).max() <= DEVIATION + 1e-9


async def test_an_agent_thins_watches_and_counts_as_its_file_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", "t")
    path = tmp_path / "agent.yaml"
    async with mosquitto(tmp_path) as broker:
        path.write_text(
            f"""\
agent: {{id: a, asset: acme/hk01}}
uplink: {{url: 'http://127.0.0.1:1', token: '${{TOKEN}}'}}
buffer: {{disk_reserve: 0}}
status: null
sources:
- mqtt:
    name: meters
    broker: mqtt://127.0.0.1:{broker.port}
    client_id: gateway-meters
    topics:
    - topic: meters/hk01/{{cell}}
      asset: acme/hk01/a/l/{{cell}}
      time: {{path: ts, format: ms}}
      signals: [{{path: n, signal: counter}}]
processing:
- {{asset: 'acme/**', signal: counter, rename: cycle.counter, deadband: {{}}, freshness_s: 3600}}
"""
        )
        agent = Agent(configfile.load(path, Config), hash_of(path.read_bytes()))
        ready = asyncio.Event()
        running = asyncio.create_task(agent.run(ready))
        await ready.wait()
        async with asyncio.timeout(60):
            while agent._events["meters", "session_begun"] < 1:
                await asyncio.sleep(0.01)
            await publish(broker.port, TOPIC, *(f'{{"ts":{BEGIN_MS + n},"n":{n // 10}}}' for n in range(100)))
            while agent._events["meters", "message"] < 100:
                await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.wait([running])
    folder = Folder(tmp_path / "data")
    async with folder.life():
        pass
    # The last of the quiet readings may still be needed: it is neither stored nor counted.
    assert agent._events["meters", "thinned"] == 89
    counters = [row for row in folder.stored if row.text is None]
    assert {row.series.signal for row in counters} == {"cycle.counter"}
    assert [row.value for row in counters] == list(range(10))
    verdicts = [row for row in folder.stored if row.text is not None]
    assert {row.series.signal for row in verdicts} == {"cycle.counter.freshness"}
    assert verdicts[0].text == "fresh"
