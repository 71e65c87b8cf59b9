"""Nodes that misbehave, values of every type, polling, and servers that refuse."""

from __future__ import annotations

import asyncio
import math
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from asyncua import ua
from asyncua.crypto.permission_rules import User, UserRole
from asyncua.ua.status_codes import StatusCodes

from edge_agent.doctor.opcua import look_at_opcua
from edge_agent.sources.opcua import OpcUaSource
from shopfloor.block import STATUS_NOT_A_NUMBER, Quality
from shopfloor.errors import SourceMisconfigured, SourceUnavailable
from shopfloor.findings import Verdict
from shopfloor.messages import SourceState
from tests.integration.opcua_plant import URI, MemorySink, Plant, config, running
from tests.ports import free_port


@pytest.fixture
async def plant() -> AsyncIterator[Plant]:
    plant = Plant()
    await plant.start()
    yield plant
    await plant.stop()


@pytest.fixture
async def forgetful() -> AsyncIterator[Plant]:
    """A server without a history."""
    plant = Plant(("v0", "v1"), history=False)
    await plant.start()
    yield plant
    await plant.stop()


def values_of(sink: MemorySink, signal: str) -> list[float]:
    return [value for _, value in sink.series(signal)]


async def test_a_missing_node_is_named_and_picked_up_when_it_appears(plant: Plant) -> None:
    plant.names.append("late")
    sink = MemorySink()
    async with running(OpcUaSource(config(plant)), sink):
        await sink.until(lambda: sink.running)
        assert "1 of 4 nodes fail: " in sink.reports[-1][1]
        assert "s=late): BadNodeIdUnknown" in sink.reports[-1][1]
        await plant.tick()
        await sink.until(lambda: len(sink.series("v0")) >= 2)
        await plant.add("late")
        await plant.write("late", 7.5)
        await sink.until(lambda: 7.5 in values_of(sink, "late"))
        await plant.write("late", 8.5)
        await sink.until(lambda: 8.5 in values_of(sink, "late"))
        await sink.until(lambda: sink.reports[-1][1] == "")


async def test_a_moved_namespace_is_found_again(plant: Plant) -> None:
    sink = MemorySink()
    async with running(OpcUaSource(config(plant)), sink, again=True):
        await sink.until(lambda: sink.running)
        await plant.stop()
        plant.extra_namespaces = ["urn:one:more", "urn:and:another"]
        await plant.start()
        await plant.write("v0", 41.0)
        await sink.until(lambda: 41.0 in values_of(sink, "v0"))


async def test_browse_paths_with_and_without_namespaces(plant: Plant) -> None:
    paths = ["/IMM_1/v0", f"/nsu={URI};IMM_1/nsu={URI};v1", f"/{plant.index}:IMM_1/v2"]
    nodes = [
        {"node": path, "asset": "acme/hk01", "signal": name}
        for path, name in zip(paths, plant.names, strict=True)
    ]
    nodes += [{"node": "/IMM_1/nothing", "asset": "acme/hk01", "signal": "nothing"}]
    sink = MemorySink()
    async with running(OpcUaSource(config(plant, nodes=nodes)), sink):
        await plant.tick()
        await sink.until(lambda: all(1.0 in values_of(sink, name) for name in plant.names))
    assert any("there is no 'nothing' below /IMM_1" in message for _, message in sink.reports)


async def test_scaling_statuses_and_odd_numbers(plant: Plant) -> None:
    node = {"node": f"nsu={URI};s=v0", "asset": "acme/hk01", "signal": "v0", "scale": 0.1, "offset": -40.0}
    sink = MemorySink()
    async with running(OpcUaSource(config(plant, nodes=[node], history={"backfill_h": 0})), sink):
        await sink.until(lambda: len(sink.samples) == 1)
        await plant.write("v0", 123.0, status=StatusCodes.UncertainSensorNotAccurate)
        await sink.until(lambda: len(sink.samples) == 2)
        await plant.write("v0", float("nan"))
        await sink.until(lambda: len(sink.samples) == 3)
        await plant.write("v0", 5.0, status=StatusCodes.BadSensorFailure)
        await sink.until(lambda: len(sink.samples) == 4)
    _, scaled, nan, bad = sink.samples
    assert scaled.value == 123.0 * 0.1 + -40.0
    assert (scaled.quality, scaled.status) == (Quality.UNCERTAIN, StatusCodes.UncertainSensorNotAccurate)
    assert math.isnan(nan.value)
    assert (nan.quality, nan.status) == (Quality.BAD, STATUS_NOT_A_NUMBER)
    # This server sends no value with a bad status; the null is meant, and the status stays the server's.
    assert math.isnan(bad.value)
    assert (bad.quality, bad.status) == (Quality.BAD, StatusCodes.BadSensorFailure)
    assert sink.counts["not_a_number"] == 1


async def test_values_of_other_types(forgetful: Plant) -> None:
    assert forgetful.server is not None
    given: list[tuple[Any, ua.VariantType]] = [
        (True, ua.VariantType.Boolean),
        (2**40, ua.VariantType.Int64),
        ("Störung €", ua.VariantType.String),
        (ua.LocalizedText("Bereit", "de"), ua.VariantType.LocalizedText),
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), ua.VariantType.DateTime),
        (uuid.UUID(int=5), ua.VariantType.Guid),
        ([1.0, 2.0], ua.VariantType.Double),
        (b"\x00\x01", ua.VariantType.ByteString),
        (ua.Range(1.0, 2.0), ua.VariantType.ExtensionObject),
    ]
    nodes = []
    for number, (value, kind) in enumerate(given):
        await forgetful.folder.add_variable(
            ua.NodeId(ua.String(f"t{number}"), ua.Int16(forgetful.index)),
            f"t{number}",
            value,
            varianttype=kind,
        )
        nodes.append({"node": f"nsu={URI};s=t{number}", "asset": "acme/hk01", "signal": f"t{number}"})
    sink = MemorySink()
    async with running(OpcUaSource(config(forgetful, nodes=nodes)), sink):
        await sink.until(lambda: len(sink.samples) == len(given) + 2)
    by_signal = {sample.series.signal: sample for sample in sink.samples}
    assert [by_signal[f"t{n}"].value for n in (0, 1)] == [1.0, 2.0**40]
    assert [by_signal[f"t{n}"].text for n in (2, 3)] == ["Störung €", "Bereit"]
    assert by_signal["t4"].value == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC).timestamp()
    assert by_signal["t5"].text == str(uuid.UUID(int=5))
    assert [by_signal[f"t6.{n}"].value for n in (0, 1)] == [1.0, 2.0]
    assert by_signal["t7"].text == "AAE="
    assert [by_signal[f"t8.{end}"].value for end in ("low", "high")] == [1.0, 2.0]
    assert sink.counts["not_convertible"] == 0


async def test_an_overflown_queue_is_closed_from_history(plant: Plant) -> None:
    sink = MemorySink()
    settings = config(plant, history={"backfill_h": 0, "overlap_s": 1, "settle_s": 0.2})
    async with running(OpcUaSource(settings), sink):
        await sink.until(lambda: bool(sink.series("v0")))
        await sink.until(lambda: not any("/hole/" in key for key in sink.saved))
        # Only the history has these two; the server announces the third with the overflow bit.
        for value in (101.0, 102.0):
            moment: Any = datetime.now(UTC)
            plant.disk.values["v0"].append(ua.DataValue(ua.Variant(value), SourceTimestamp=moment))
        await plant.write("v0", 103.0, status=0x480)
        await sink.until(lambda: {101.0, 102.0, 103.0} <= set(values_of(sink, "v0")))
    assert sink.counts["server_queue_overflow"] == 1
    assert sink.gaps == []


async def test_without_history_an_interruption_is_recorded_once(forgetful: Plant) -> None:
    sink = MemorySink()
    async with running(OpcUaSource(config(forgetful)), sink):
        await sink.until(lambda: len(sink.samples) == 2)
    assert sink.gaps == []
    await asyncio.sleep(0.5)
    async with running(OpcUaSource(config(forgetful)), sink):
        await sink.until(lambda: len(sink.gaps) == 1 and sink.reports[-1][0] is SourceState.RUNNING)
    [(reason, start, end, asset)] = sink.gaps
    assert "keeps no history" in reason
    assert end > start
    assert asset == "acme/hk01/moulding/cell-a/imm-01"


async def test_polling_brings_each_value_once(forgetful: Plant) -> None:
    sink = MemorySink()
    settings = config(forgetful, groups={"live": {"mode": "poll", "interval_s": 0.05}})
    async with running(OpcUaSource(settings), sink):
        for value in (1.0, 2.0, 3.0):
            await forgetful.write("v0", value)
            await sink.until(lambda: value in values_of(sink, "v0"))  # noqa: B023
    assert values_of(sink, "v0")[-3:] == [1.0, 2.0, 3.0]
    assert sink.repeats == 0


async def test_nobody_there() -> None:
    plant = Plant()
    with pytest.raises(SourceUnavailable, match=r"opc\.tcp://127\.0\.0\.1:\d+: .*[Cc]onnect"):
        await OpcUaSource(config(plant)).run(MemorySink())


async def test_a_server_that_speaks_something_else() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n" + bytes(100))
        await writer.drain()
        writer.close()

    port = free_port()
    async with await asyncio.start_server(answer, "127.0.0.1", port):
        with pytest.raises(SourceUnavailable):
            await OpcUaSource(config(Plant(), endpoint=f"opc.tcp://127.0.0.1:{port}")).run(MemorySink())


class _OneUser:
    def get_user(self, _server: Any, username: Any = None, password: Any = None, **_more: Any) -> User | None:
        return User(role=UserRole.User) if (username, password) == ("edge", "right") else None


async def test_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    plant = Plant()
    plant.users = _OneUser()
    await plant.start()
    try:
        with pytest.raises(SourceMisconfigured, match="refuses anonymous access"):
            await OpcUaSource(config(plant)).run(MemorySink())
        monkeypatch.setenv("OPCUA_TEST_PASSWORD", "wrong")
        secret = {"user": "edge", "password": "${OPCUA_TEST_PASSWORD}", "allow_insecure_user": "edge"}
        with pytest.raises(SourceMisconfigured, match="refuses user 'edge'") as refused:
            await OpcUaSource(config(plant, **secret)).run(MemorySink())
        assert "wrong" not in str(refused.value)
        monkeypatch.setenv("OPCUA_TEST_PASSWORD", "right")
        sink = MemorySink()
        async with running(OpcUaSource(config(plant, **secret)), sink):
            await sink.until(lambda: len(sink.samples) >= 3)
    finally:
        await plant.stop()


async def test_cancelling_leaves_no_session(plant: Plant) -> None:
    assert plant.server is not None
    sink = MemorySink()
    async with running(OpcUaSource(config(plant)), sink):
        await sink.until(lambda: sink.running)
        assert len(plant.server.iserver._external_sessions) == 1
    assert len(plant.server.iserver._external_sessions) == 0


async def test_the_doctor_looks_at_what_patterns_find_and_names_what_they_do_not(
    plant: Plant, tmp_path: Path
) -> None:
    glob = {"path": "/IMM_1/v*", "asset": "acme/hk01", "signal": "{name}"}
    globs = [glob, {**glob, "path": "/IMM_2/*"}]
    settings = config(plant, nodes=config(plant).nodes[:1], globs=globs)
    section = await look_at_opcua(settings, agent_id="a1", pki=tmp_path)
    nodes = [finding for finding in section.findings if "signal" in finding.figures]
    assert [finding.figures["signal"] for finding in nodes] == ["v0", "v1", "v2"]
    assert {finding.figures["type"] for finding in nodes} == {"Double"}
    assert {finding.verdict for finding in nodes} == {Verdict.OK}
    [missing] = [finding for finding in section.findings if finding.text.startswith("globs.")]
    assert missing.text == "globs.1 (/IMM_2/*): nothing is found"
    assert missing.verdict is Verdict.WARNING
