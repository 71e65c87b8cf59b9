"""The swinging door behind a real broker, through a kill of the agent: thinned, and wrong nowhere."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np

from edge_agent.sources.mqtt import MqttSource
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
