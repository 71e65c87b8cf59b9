"""The source's promises, on a connection made by the test: what is said when, what is stored, what is a gap."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import pytest

from edge_agent.sources.mqtt.connection import Will
from edge_agent.sources.mqtt.inbox import Message
from edge_agent.sources.sparkplug import SparkplugConfig, SparkplugSource
from edge_agent.sources.sparkplug.device import INT64
from edge_agent.sources.sparkplug.source import Connect
from shopfloor.block import Sample, SampleBlock
from shopfloor.errors import SourceMisconfigured, SourceUnavailable, StoreUnavailable
from shopfloor.messages import SourceState
from shopfloor.sparkplug import DataType, Metric, decode_payload
from tests.integration.sparkplug_edge_node import EDGE, GROUP, HOST, Voice, config

NOW_MS = 1_763_778_000_000
STATE = f"spBv1.0/STATE/{HOST}"
NCMD = f"spBv1.0/{GROUP}/NCMD/{EDGE}"


class Script:
    """A connection that brings what the test wrote down, and notes what is done with it."""

    def __init__(self, *batches: list[Message] | Exception) -> None:
        self._batches = list(batches)
        self.done: list[str] = []
        self.said: list[tuple[str, bytes]] = []
        self.refuses = False
        self.will: Will | None = None
        self._answered = asyncio.Event()

    async def receive(self, *_limits: float) -> list[Message]:
        if not self._answered.is_set():
            await self._answered.wait()
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

    async def subscribe(self, filters: list[str], qos: int) -> None:
        self.done += [f"subscribed to {each} at {qos}" for each in filters]
        if self.refuses:
            raise SourceMisconfigured("refused")

    def publish(self, topic: str, payload: bytes, *, qos: int = 0, retain: bool = False) -> None:
        self.done.append(f"published {topic} at {qos}{' retained' if retain else ''}")
        self.said.append((topic, payload))

    async def confirmed(self, _timeout_s: float) -> None:
        self.done.append("confirmed")

    @property
    def states(self) -> list[tuple[bool, int]]:
        parsed = [json.loads(payload) for topic, payload in self.said if topic == STATE]
        return [(each["online"], each["timestamp"]) for each in parsed]


def through(script: Script) -> Connect:
    @contextlib.asynccontextmanager
    async def connect(
        config: SparkplugConfig,
        *,
        clock: Callable[[], int],
        count: Callable[[str], None],
        keep_session: bool,
        will: Will,
    ) -> AsyncIterator[Any]:
        assert not keep_session
        script.will = will
        try:
            yield script
        finally:
            script.done.append("closed")

    return connect


class Sink:
    """Keeps everything in memory, and writes down in ``done`` what was stored when."""

    def __init__(self, done: list[str]) -> None:
        self.done = done
        self.rows: list[Sample] = []
        self.kept: dict[str, bytes] = {}
        self.gaps: list[tuple[str, int, int, str, int]] = []
        self.reports: list[tuple[SourceState, str]] = []
        self.counts: dict[str, int] = {}
        self.refuses = False

    async def put(self, block: SampleBlock, state: Mapping[str, bytes] | None = None) -> None:
        if self.refuses and len(block):
            raise StoreUnavailable("the disk is full")
        self.done.append("stored")
        self.rows += block.rows()
        self.kept |= dict(state or {})

    def state(self) -> Mapping[str, bytes]:
        return dict(self.kept)

    async def gap(
        self, reason: str, from_time: int, to_time: int, *, asset: str = "", count: int = 0
    ) -> None:
        self.done.append("gap")
        self.gaps.append((reason, from_time, to_time, asset, count))

    def report(self, state: SourceState, message: str = "") -> None:
        self.reports.append((state, message))

    def clock_offset(self, offset_ns: int) -> None:
        raise AssertionError(offset_ns)

    def count(self, what: str, number: int = 1) -> None:
        self.counts[what] = self.counts.get(what, 0) + number


def clock() -> int:
    return NOW_MS * 1_000_000


def birth_and_data(voice: Voice) -> list[Message]:
    said = [
        voice.nbirth(NOW_MS),
        voice.say("DBIRTH", "p1", NOW_MS, Metric("Shots", 1, NOW_MS, DataType.Int32, 1)),
        voice.say("DDATA", "p1", NOW_MS + 1, Metric(None, 1, NOW_MS + 1, value=2)),
    ]
    return [each.at(clock()) for each in said]


async def run(script: Script, sink: Sink, **changes: Any) -> Exception:
    source = SparkplugSource(config(**changes), clock=clock, connect=through(script))
    try:
        await source.run(sink)
    except (SourceUnavailable, SourceMisconfigured, StoreUnavailable) as error:
        return error
    raise AssertionError("run returned")


async def test_it_is_online_once_it_is_subscribed_and_offline_before_it_goes() -> None:
    script = Script(birth_and_data(Voice()))
    sink = Sink(script.done)
    error = await run(script, sink)
    assert str(error) == "the broker is gone"
    assert script.done == [
        "subscribed to spBv1.0/+/+/+/# at 1",
        f"subscribed to {STATE} at 1",
        "stored",  # when this session began
        f"published {STATE} at 1 retained",
        "stored",
        "acknowledged",
        f"published {STATE} at 1 retained",
        "confirmed",
        "closed",
    ]
    assert script.will == Will(STATE, b'{"online":false,"timestamp":1763778000000}')
    assert script.states == [(True, NOW_MS), (False, NOW_MS)]
    assert [row.value for row in sink.rows] == [1, 2]
    assert sink.reports == [
        (SourceState.CONNECTING, "mqtt://127.0.0.1:1883"),
        (SourceState.RUNNING, ""),
    ]
    assert sink.counts["message"] == 3


async def test_refused_subscriptions_keep_it_offline() -> None:
    script = Script()
    script.refuses = True
    sink = Sink(script.done)
    assert isinstance(await run(script, sink), SourceMisconfigured)
    assert [online for online, _ in script.states] == [False]
    assert "contact" not in sink.kept


async def test_a_later_session_has_a_later_time_although_the_clock_was_set_back() -> None:
    script = Script()
    sink = Sink(script.done)
    sink.kept["session"] = INT64.pack(NOW_MS + 5_000)
    await run(script, sink)
    assert script.states[0] == (True, NOW_MS + 5_001)
    assert sink.kept["session"] == INT64.pack(NOW_MS + 5_001)


@pytest.mark.parametrize("forwards", [False, True])
async def test_an_absence_is_a_gap_unless_the_edge_nodes_forward(forwards: bool) -> None:
    script = Script()
    sink = Sink(script.done)
    sink.kept["contact"] = INT64.pack(clock() - 7)
    sink.kept["assets"] = b"acme/vn01/moulding/cell-a/p1\nacme/vn01/moulding/cell-b/p2"
    await run(script, sink, store_and_forward=forwards)
    gap = (
        "this host was away: what was published meanwhile is lost",
        clock() - 7,
        clock(),
        "acme/vn01/moulding",
        0,
    )
    assert sink.gaps == ([] if forwards else [gap])
    assert INT64.unpack(sink.kept["contact"])[0] == clock()


async def test_a_first_start_has_missed_nothing() -> None:
    script = Script()
    sink = Sink(script.done)
    await run(script, sink)
    assert sink.gaps == []


async def test_births_are_asked_for_by_command() -> None:
    data = Voice().say("DDATA", "p1", NOW_MS, Metric(None, 1, NOW_MS, value=2)).at(clock())
    script = Script([data])
    sink = Sink(script.done)
    await run(script, sink)
    asked = [payload for topic, payload in script.said if topic == NCMD]
    metrics = decode_payload(asked[0]).metrics
    assert [(each.name, each.datatype, each.value) for each in metrics] == [
        ("Node Control/Rebirth", DataType.Boolean, True)
    ]
    assert len(asked) == 1
    assert f"published {NCMD} at 0" in script.done
    assert sink.counts["rebirth_requested"] == 1


async def test_a_gap_is_recorded_before_what_follows_it() -> None:
    voice = Voice()
    messages = birth_and_data(voice)
    voice.say("DDATA", "p1", NOW_MS + 2, Metric(None, 1, NOW_MS + 2, value=3))
    messages.append(voice.say("DDATA", "p1", NOW_MS + 3, Metric(None, 1, NOW_MS + 3, value=4)).at(clock()))
    script = Script(messages)
    sink = Sink(script.done)
    await run(script, sink, reorder_timeout_s=0)
    assert [row.value for row in sink.rows] == [1, 2, 4]
    assert [gap[-1] for gap in sink.gaps] == [1]
    assert script.done.index("gap") < script.done.index("acknowledged")


async def test_what_is_not_stored_is_not_acknowledged_and_the_host_goes_offline() -> None:
    script = Script(birth_and_data(Voice()))
    sink = Sink(script.done)
    sink.refuses = True
    assert isinstance(await run(script, sink), StoreUnavailable)
    assert "acknowledged" not in script.done
    assert [online for online, _ in script.states] == [True, False]


async def test_cancelled_it_says_goodbye() -> None:
    script = Script()
    sink = Sink(script.done)
    script.receive = _never  # type: ignore[method-assign]
    task = asyncio.create_task(run(script, sink))
    while not script.done:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert script.done[-3:] == [f"published {STATE} at 1 retained", "confirmed", "closed"]


async def _never(*_limits: float) -> list[Message]:
    await asyncio.Event().wait()
    raise AssertionError


async def test_a_new_object_knows_the_assets_of_the_last_one() -> None:
    script = Script(birth_and_data(Voice()))
    sink = Sink(script.done)
    await run(script, sink)
    cell = "acme/vn01/moulding/cell-a"
    assert sink.kept["assets"].decode().split("\n") == [cell, f"{cell}/p1"]
    second = SparkplugSource(config(), clock=clock, connect=through(Script()))
    assert list(second.assets) == [cell]
    with contextlib.suppress(SourceUnavailable):
        await second.run(sink)
    assert list(second.assets) == [cell, f"{cell}/p1"]
