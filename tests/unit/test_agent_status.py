"""What the agent says of itself, and how it keeps its sources running."""

import asyncio
import contextlib
import json
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Mapping
from typing import Never

import pytest

from edge_agent.backoff import Backoff
from edge_agent.buffer import BufferStats
from edge_agent.delivery import DeliveryReport
from edge_agent.sources import BlockSink
from edge_agent.status import Snapshot, StatusServer, health, problems
from edge_agent.supervisor import supervise
from shopfloor.block import SampleBlock
from shopfloor.errors import SourceMisconfigured, SourceUnavailable, StoreUnavailable
from shopfloor.messages import SeriesDeclaration, SourceReport, SourceState


def snapshot(**changes: object) -> Snapshot:
    source = SourceReport(name="imm", protocol="opcua", state=SourceState.RUNNING, since=1)
    fields: dict[str, object] = {
        "agent_id": "a", "version": "1", "started_ns": 1, "sources": (source,),
        "source_events": {("imm", "gap"): 2}, "buffer": BufferStats(pending_samples=7), "hours_left": None,
        "delivery": DeliveryReport(connected=True, message=""), "commits_total": 3, "commit_s": 0.1, "sent_bytes_total": 9,
    }  # fmt: skip
    return Snapshot(**(fields | changes))  # type: ignore[arg-type]


def test_all_well_is_said_in_one_word() -> None:
    assert health(snapshot())["status"] == "ok"


def test_each_trouble_is_named() -> None:
    down = SourceReport(
        name="imm", protocol="opcua", state=SourceState.UNAVAILABLE, since=1, message="refused"
    )
    found = problems(
        snapshot(
            sources=(down,),
            buffer=BufferStats(dropped_samples_total=5, quarantined_samples_total=6),
            delivery=DeliveryReport(connected=False, message="HTTP 401"),
        )
    )
    assert found == [
        "source imm: unavailable: refused",
        "uplink: HTTP 401",
        "buffer: 5 samples dropped since the start",
        "buffer: 6 samples quarantined since the start",
    ]


def test_the_page_answers_probes_and_prometheus() -> None:
    server = StatusServer("127.0.0.1", 0, snapshot)
    try:
        base = f"http://127.0.0.1:{server.port}"
        with urllib.request.urlopen(f"{base}/health") as answer:
            assert json.load(answer)["buffer"]["pending_samples"] == 7
        with urllib.request.urlopen(f"{base}/metrics") as answer:
            text = answer.read().decode()
        assert "shopfloor_buffer_pending_samples 7.0" in text
        assert 'shopfloor_source_running{protocol="opcua",source="imm"} 1.0' in text
        assert 'shopfloor_source_events_total{source="imm",what="gap"} 2.0' in text
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"{base}/etc/passwd")
        assert caught.value.code == 404
        caught.value.close()
    finally:
        server.close()


class Failing:
    """A source that raises what its script says, then waits."""

    name, protocol, assets = "s", "test", ()

    def __init__(self, script: list[Exception]) -> None:
        self.script = script
        self.runs = 0

    def declarations(self) -> tuple[SeriesDeclaration, ...]:
        return ()

    async def run(self, sink: BlockSink) -> Never:
        self.runs += 1
        if self.script:
            raise self.script.pop(0)
        sink.report(SourceState.RUNNING)
        await asyncio.Event().wait()
        raise AssertionError


class Ears:
    def __init__(self) -> None:
        self.heard: list[tuple[SourceState, str]] = []
        self.counts: Counter[str] = Counter()

    def report(self, state: SourceState, message: str = "") -> None:
        self.heard.append((state, message))

    def count(self, what: str, number: int = 1) -> None:
        self.counts[what] += number

    async def put(self, block: SampleBlock, state: Mapping[str, bytes] | None = None) -> None: ...
    def state(self) -> Mapping[str, bytes]:
        return {}

    async def gap(
        self, reason: str, from_time: int, to_time: int, *, asset: str = "", count: int = 0
    ) -> None: ...
    def clock_offset(self, offset_ns: int) -> None: ...


async def test_whatever_a_source_raises_it_is_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_agent.supervisor.MISCONFIGURED_RETRY_S", 0.0)
    script = [
        SourceUnavailable("gone"),
        SourceMisconfigured("wrong"),
        StoreUnavailable("full"),
        ZeroDivisionError("bug"),
    ]
    source, ears = Failing(script), Ears()
    task = asyncio.create_task(supervise(source, ears, Backoff(0.0, 0.0)))
    while source.runs < 5:
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    states = [state for state, _ in ears.heard if state is not SourceState.CONNECTING]
    assert states == [
        SourceState.UNAVAILABLE, SourceState.MISCONFIGURED, SourceState.UNAVAILABLE, SourceState.UNAVAILABLE,
        SourceState.RUNNING,
    ]  # fmt: skip
    assert ears.counts == {"unavailable": 2, "misconfigured": 1, "internal_error": 1}


def test_delays_double_to_a_limit_and_never_vanish() -> None:
    backoff = Backoff(1.0, 8.0)
    delays = [backoff.next_s() for _ in range(200)]
    for delay, step in zip(delays, [1.0, 2.0, 4.0, 8.0] + [8.0] * 196, strict=True):
        assert step / 2 <= delay <= step
    backoff.reset()
    assert backoff.next_s() <= 1.0
