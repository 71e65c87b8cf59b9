"""What the agent says of itself."""

import json
import urllib.error
import urllib.request

import pytest

from edge_agent.buffer import BufferStats
from edge_agent.delivery import DeliveryReport
from edge_agent.status import Snapshot, StatusServer, health, problems
from shopfloor.messages import SourceReport, SourceState


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
