"""The profile euromap77 against a server that EUROMAP 77 describes: every machine, under the names that everybody knows."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from edge_agent.sources.opcua import OpcUaSource
from edge_agent.sources.opcua.config import OpcUaConfig
from shopfloor import signal
from simulators.protocols.opcua import PlantServer, Written, node_mappings
from tests.integration.euromap77_servers import number, serving
from tests.integration.opcua_plant import MemorySink, running
from tests.integration.test_euromap77_server import CYCLE

IMM_01 = "acme/hk01/moulding/cell-a/imm-01"
IMM_02 = "acme/hk01/moulding/cell-b/imm-02"
MACHINES = ("cell: imm-01, zones: 3", "cell: imm-02, zones: 4, drive: electric")


def source(server: PlantServer) -> OpcUaSource:
    return OpcUaSource(
        OpcUaConfig.model_validate(
            {
                "name": "imm",
                "endpoint": server.endpoint,
                "retry_s": 0.2,
                "rebrowse_s": 1,
                "request_timeout_s": 30,
                "history": {"backfill_h": 0},
                "groups": {"live": {"mode": "subscribe", "publishing_interval_ms": 50}},
                "profiles": [
                    {
                        "profile": "euromap77",
                        "asset": "acme/hk01/moulding/cell-a/{machine}",
                        "assets": {"imm-02": IMM_02},
                    }
                ],
            }
        )
    )


def series(sink: MemorySink) -> set[str]:
    return {str(sample.series) for sample in sink.samples}


def said(sink: MemorySink) -> str:
    return sink.reports[-1][1] if sink.reports else "nothing yet"


async def write(server: PlantServer, cell: str, name: str, value: float) -> None:
    now_ms = int(datetime.now(UTC).timestamp() * 1000)
    await server.write([Written(number(server, cell, name), now_ms, value)])


async def test_every_machine_is_found_and_speaks_the_known_names() -> None:
    async with serving(*MACHINES) as server:
        sink = MemorySink()
        found = source(server)
        async with running(found, sink):
            await sink.until(lambda: f"{IMM_01}:status.mode" in series(sink), 60)
            for cell in ("imm-01", "imm-02"):
                await write(server, cell, signal.MACHINE_MODE, 1)
                await write(server, cell, signal.EXPECTED_CYCLE_TIME, 31_500)
                await write(server, cell, "barrel.zone_2.temperature", 221.5)
            await sink.until(lambda: len(values(sink, "barrel.zone_2.temperature", 221.5)) == 2, 60)
            assert len(values(sink, signal.MACHINE_MODE, 1.0)) == 2
            assert len(values(sink, signal.EXPECTED_CYCLE_TIME, 31.5)) == 2
            await sink.until(lambda: said(sink) == "", 60)
            # Cycles and alarms of two machines.
            await sink.until(lambda: sink.saved.get("imm/events/nodes", b"").count(b", ") >= 3, 60)
            await server.fire([CYCLE._replace(time_ms=time.time_ns() // 1_000_000)])
            await sink.until(lambda: len(values(sink, "cycle.quality", CYCLE.quality)) == 1, 60)
            assert values(sink, "cycle.injection_time", 1.25) == [f"{IMM_01}:cycle.injection_time"]
            # Units are read beside everything else.
            await sink.until(lambda: spoken(found) >= expected(server), 60)
            declared = {(each.asset, each.signal) for each in found.declarations()}
    assert found.assets == (IMM_01, IMM_02)
    assert (IMM_02, "barrel.zone_4.temperature") in declared
    assert (IMM_01, "barrel.zone_4.temperature") not in declared


def spoken(source: OpcUaSource) -> set[tuple[str, str, str]]:
    return {(each.asset, each.signal, each.unit) for each in source.declarations()}


def expected(server: PlantServer) -> set[tuple[str, str, str]]:
    """Return what the simulators themselves call what OPC 40077 has, with their units."""
    makers_own = (".LastCycle.", ".ProcessValues.", ".HeaterOutput")
    return {
        (asset, mapping.signal, mapping.unit)
        for mapping in node_mappings(server.site)
        for cell, asset in (("s=imm-01.", IMM_01), ("s=imm-02.", IMM_02))
        if cell in mapping.node and not any(part in mapping.node for part in makers_own)
    }


def values(sink: MemorySink, name: str, value: float) -> list[str]:
    return [
        str(sample.series)
        for sample in sink.samples
        if sample.series.signal == name and sample.value == value
    ]


async def test_a_machine_that_is_added_later_is_found() -> None:
    async with serving(*MACHINES) as server:
        assert server._server is not None
        assert server._space is not None
        nodes = server._server.iserver.aspace._nodes
        machine = server._space.roots["imm-02"]
        ways = [
            (node.references, reference)
            for node in nodes.values()
            for reference in node.references
            if reference.NodeId == machine and reference.IsForward
        ]
        assert ways
        for references, reference in ways:
            references.remove(reference)
        sink = MemorySink()
        found = source(server)
        async with running(found, sink):
            await sink.until(lambda: f"{IMM_01}:status.mode" in series(sink), 60)
            assert found.assets == (IMM_01,)
            for references, reference in ways:
                references.append(reference)
            await sink.until(lambda: f"{IMM_02}:status.mode" in series(sink), 60)
            assert list(found.assets) == [IMM_01, IMM_02]
