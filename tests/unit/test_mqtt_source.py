"""The source's promises, on a connection made by the test: nothing acknowledged before it is durable."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from edge_agent.sources.mqtt import MqttConfig, MqttSource
from edge_agent.sources.mqtt.inbox import Message
from edge_agent.sources.mqtt.source import Connect
from shopfloor.errors import SourceMisconfigured, SourceUnavailable, StoreUnavailable
from shopfloor.messages import SourceState
from tests.integration.mqtt_brokers import MemorySink
from tests.integration.mqtt_brokers import config as make_config

NOW = 1_763_778_000_000_000_000


class Script:
    """A connection that brings what the test wrote down, and notes what is done with it."""

    def __init__(self, *batches: list[Message] | Exception, session_present: bool = False) -> None:
        self._batches = list(batches)
        self.session_present = session_present
        self.done: list[str] = []
        self.acknowledged: list[int] = []
        self.refuses = ""
        self.closed = False
        self._answered = asyncio.Event()

    async def receive(self, *_limits: float) -> list[Message]:
        if not self._answered.is_set():
            await self._answered.wait()
            self._answered.set()
            return []
        await asyncio.sleep(0)
        batch = self._batches.pop(0) if self._batches else SourceUnavailable("the broker is gone")
        if isinstance(batch, Exception):
            raise batch
        return batch

    def wake(self) -> None:
        self._answered.set()

    def acknowledge(self, messages: list[Message]) -> None:
        if messages:
            self.done.append("acknowledged")
        self.acknowledged += [message.mid for message in messages]

    async def subscribe(self, filters: list[str], qos: int) -> None:
        self.done += [f"subscribed to {each} at {qos}" for each in filters]
        if self.refuses in filters:
            raise SourceMisconfigured(f"refused {self.refuses}")

    def unsubscribe(self, filters: list[str]) -> None:
        self.done += [f"unsubscribed from {each}" for each in filters]


def through(script: Script) -> Connect:
    @contextlib.asynccontextmanager
    async def connect(
        config: MqttConfig, *, clock: Callable[[], int], count: Callable[[str], None]
    ) -> AsyncIterator[Any]:
        try:
            yield script
        finally:
            script.closed = True

    return connect


class Clock:
    now = NOW

    def __call__(self) -> int:
        self.now += 1_000
        return self.now


def sent(*numbers: int, topic: str = "meters/hk01/c1", **fields: Any) -> list[Message]:
    return [
        Message(
            topic, json.dumps({"ts": 1_000 + number, "n": number}).encode(), NOW + number, 1, number, **fields
        )
        for number in numbers
    ]


async def run(script: Script, sink: MemorySink, clock: Clock | None = None, **changes: Any) -> Exception:
    source = MqttSource(make_config(1883, **changes), clock=clock or Clock(), connect=through(script))
    return await run_source(source, sink)


async def run_source(source: MqttSource, sink: MemorySink) -> Exception:
    try:
        await source.run(sink)
    except (SourceUnavailable, SourceMisconfigured, StoreUnavailable) as error:
        return error
    raise AssertionError("run returned")


async def test_messages_are_stored_and_then_acknowledged() -> None:
    script, sink = Script(sent(1, 2), sent(3)), MemorySink()
    sink.on_put = lambda: script.done.append("stored")
    error = await run(script, sink)
    assert str(error) == "the broker is gone"
    assert sink.values == [1, 2, 3]
    assert script.acknowledged == [1, 2, 3]
    assert script.done == [
        "subscribed to meters/+/+ at 1",
        "stored",  # that there is a session now
        "stored",
        "acknowledged",
        "stored",
        "acknowledged",
    ]
    assert script.closed
    assert [state for state, _ in sink.reports] == [SourceState.CONNECTING, SourceState.RUNNING]
    assert sink.counts["message"] == 3


async def test_what_is_not_stored_is_not_acknowledged() -> None:
    script, sink = Script(sent(1)), MemorySink()
    sink.broken = True
    error = await run(script, sink)
    assert isinstance(error, StoreUnavailable)
    assert script.acknowledged == []
    assert script.closed
    assert sink.counts["message"] == 0


async def test_nothing_is_acknowledged_while_the_put_lasts() -> None:
    script, sink = Script(sent(1)), MemorySink()
    sink.gate.clear()
    task = asyncio.create_task(run(script, sink))
    while not sink.offered:
        await asyncio.sleep(0)
    assert script.acknowledged == []
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert script.acknowledged == []
    assert script.closed


async def test_unusable_messages_are_acknowledged_and_counted() -> None:
    script, sink = Script([Message("meters/hk01/c1", b"{", NOW, 1, 7)]), MemorySink()
    await run(script, sink)
    assert script.acknowledged == [7]
    assert sink.counts["not_json"] == 1
    assert sink.rows == []


async def test_a_refused_subscription_ends_the_run() -> None:
    script, sink = Script(), MemorySink()
    script.refuses = "meters/+/+"
    assert isinstance(await run(script, sink), SourceMisconfigured)
    assert not sink.is_running
    assert sink.kept == {}


async def test_repeats_without_time_are_known_over_a_restart() -> None:
    topics = [{"topic": "plain", "asset": "acme/s", "signals": [{"signal": "v"}]}]
    sink = MemorySink()
    await run(Script([Message("plain", b"5", NOW, 1, 1)]), sink, topics=topics)
    again = Script([Message("plain", b"5", NOW + 9, 1, 1, dup=True)], session_present=True)
    await run(again, sink, topics=topics)
    assert sink.values == [5.0]
    assert again.acknowledged == [1]
    assert sink.counts["repeated_message"] == 1


async def test_digests_are_saved_with_their_messages() -> None:
    topics = [{"topic": "plain", "asset": "acme/s", "signals": [{"signal": "v"}]}]
    sink = MemorySink()
    sink.broken = True
    assert isinstance(
        await run(Script([Message("plain", b"5", NOW, 1, 1)]), sink, topics=topics), StoreUnavailable
    )
    sink.broken = False
    await run(
        Script([Message("plain", b"5", NOW + 9, 1, 1, dup=True)], session_present=True), sink, topics=topics
    )
    assert sink.values == [5.0]


async def test_the_first_connection_is_no_gap() -> None:
    sink = MemorySink()
    await run(Script(), sink)
    assert sink.gaps == []


async def test_a_kept_session_is_no_gap() -> None:
    sink = MemorySink()
    await run(Script(sent(1)), sink)
    await run(Script(sent(2), session_present=True), sink)
    assert sink.gaps == []
    assert sink.counts["session_resumed"] == 1


async def test_a_lost_session_is_a_gap_since_the_last_contact() -> None:
    sink, clock = MemorySink(), Clock()
    await run(Script(sent(1)), sink, clock)
    contact = clock.now
    clock.now += 3_600 * 1_000_000_000
    await run(Script(sent(2)), sink, clock)
    ((reason, from_time, to_time, asset),) = sink.gaps
    assert "no session" in reason
    assert contact - 1_000_000 < from_time <= contact
    assert contact + 3_600 * 1_000_000_000 <= to_time <= clock.now
    assert asset == "acme/hk01/a/l/c1"
    assert sink.counts["session_begun"] == 2


async def test_a_gap_that_could_not_be_recorded_is_recorded_later() -> None:
    class Refusing(MemorySink):
        refuses = True

        async def gap(self, *args: Any, **more: Any) -> None:
            if self.refuses:
                raise StoreUnavailable("the disk is full")
            await super().gap(*args, **more)

    sink, clock = Refusing(), Clock()
    await run(Script(sent(1)), sink, clock)
    assert isinstance(await run(Script(), sink, clock), StoreUnavailable)
    sink.refuses = False
    # The refused attempt has made the session that the broker now has.
    await run(Script(session_present=True), sink, clock)
    assert len(sink.gaps) == 1
    await run(Script(session_present=True), sink, clock)
    assert len(sink.gaps) == 1


async def test_a_gap_survives_a_subscription_that_failed_meanwhile() -> None:
    sink, clock = MemorySink(), Clock()
    await run(Script(sent(1)), sink, clock)
    refusing = Script()
    refusing.refuses = "meters/+/+"
    source = MqttSource(make_config(1883), clock=clock, connect=through(refusing))
    await run_source(source, sink)
    await run(Script(session_present=True), sink, clock)
    assert len(sink.gaps) == 2
    assert sink.gaps[0][1] == sink.gaps[1][1]


async def test_the_last_contact_is_saved_sparsely() -> None:
    sink, clock = MemorySink(), Clock()
    await run(Script(*[sent(number) for number in range(1, 50)]), sink, clock)
    first = sink.kept["contact"]
    clock.now += 11 * 1_000_000_000
    idle: list[Message] = []
    await run(Script(idle, session_present=True), sink, clock)
    assert sink.kept["contact"] != first


async def test_subscriptions_of_an_earlier_configuration_are_given_up() -> None:
    sink = MemorySink()
    old = [{"topic": "old/{x}", "asset": "acme/s", "signals": "all"}]
    await run(Script(), sink, topics=old)
    script = Script(session_present=True)
    await run(script, sink)
    assert script.done[:2] == ["unsubscribed from old/+", "subscribed to meters/+/+ at 1"]


async def test_assets_are_those_seen_also_in_earlier_runs() -> None:
    sink = MemorySink()
    first = MqttSource(
        make_config(1883), clock=Clock(), connect=through(Script(sent(1), sent(2, topic="meters/dg01/c2")))
    )
    assert not first.assets
    await run_source(first, sink)
    assert first.assets == ("acme/hk01/a/l/c1", "acme/dg01/a/l/c2")
    second = MqttSource(make_config(1883), clock=Clock(), connect=through(Script(session_present=True)))
    await run_source(second, sink)
    assert second.assets == first.assets


async def test_declarations_are_those_configured_and_those_met() -> None:
    topics = [
        {"topic": "a", "asset": "acme/s", "signals": [{"signal": "v", "unit": "kW", "description": "power"}]},
        {"topic": "m/{c}", "asset": "acme/{c}", "signals": [{"path": "n", "signal": "w", "unit": "bar"}]},
    ]
    source = MqttSource(
        make_config(1883, topics=topics), clock=Clock(), connect=through(Script(sent(1, topic="m/c1")))
    )
    assert [tuple(vars_of(each)) for each in source.declarations()] == [("acme/s", "v", "kW", "power")]
    await run_source(source, MemorySink())
    assert [vars_of(each) for each in source.declarations()] == [
        ("acme/s", "v", "kW", "power"),
        ("acme/c1", "w", "bar", ""),
    ]


def vars_of(declaration: Any) -> tuple[str, str, str, str]:
    return declaration.asset, declaration.signal, declaration.unit, declaration.description
