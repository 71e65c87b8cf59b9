"""Snapshots of an agent that was never there; for the tests of its status."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from edge_agent.buffer import BufferStats
from edge_agent.delivery import DeliveryReport
from edge_agent.status import ConfigReport, Snapshot
from shopfloor.messages import SourceReport, SourceState

NOW: Final = 1_763_778_000_000_000_000
SOURCE: Final = SourceReport(
    name="imm", protocol="opcua", state=SourceState.RUNNING, since=NOW - 65 * 10**9, events={"gap": 2}
)


def source(**changes: Any) -> SourceReport:
    return msgspec.structs.replace(SOURCE, **changes)


def snapshot(**changes: Any) -> Snapshot:
    calm = Snapshot(
        agent_id="hk01-gateway",
        asset="acme/hk01",
        version="1.2",
        started_ns=NOW - 7_200 * 10**9,
        taken_ns=NOW,
        uptime_s=7_200.0,
        sources=(SOURCE,),
        config=ConfigReport(hash="5f0c1a", loaded_ns=NOW - 7_200 * 10**9, file="/etc/agent.yaml"),
        buffer=BufferStats(
            pending_samples=7, used_bytes=50, limit_bytes=100, oldest_pending_time=NOW - 10**9
        ),
        hours_left=None,
        uplink_url="https://dms.example.com",
        delivery=DeliveryReport(connected=True, message="", last_receipt_ns=NOW - 2 * 10**9),
        commits_total=3,
        commit_s=0.1,
        sent_bytes_total=9,
    )
    return msgspec.structs.replace(calm, **changes)


TROUBLED: Final = snapshot(
    sources=(source(state=SourceState.UNAVAILABLE, message="refused"),),
    config=ConfigReport(
        hash="5f0c1a", loaded_ns=1, valid=False, problems=("agent.yaml:6:38: x: unknown key",)
    ),
    buffer=BufferStats(dropped_samples_total=5, quarantined_samples_total=6, limit_bytes=100),
    delivery=DeliveryReport(connected=False, message="HTTP 401", heartbeat_message="HTTP 403"),
)
