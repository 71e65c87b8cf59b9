"""Values of every type from a real server: under which names they arrive, polled and subscribed."""

from __future__ import annotations

import struct
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from asyncua import ua
from asyncua.common.structures104 import new_enum, new_struct, new_struct_field

from edge_agent.sources.opcua import OpcUaSource
from shopfloor.block import STATUS_NOT_CONVERTIBLE
from tests.integration.opcua_plant import URI, MemorySink, Plant, config, running

T = ua.VariantType
ASSET = "acme/hk01"
WHEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
GUID = uuid.UUID("00112233-4455-6677-8899-aabbccddeeff")
SCALARS: list[tuple[ua.VariantType, Any, float | str]] = [
    (T.Boolean, True, 1.0),
    (T.SByte, -5, -5.0),
    (T.Byte, 200, 200.0),
    (T.Int16, -300, -300.0),
    (T.UInt16, 60_000, 60_000.0),
    (T.Int32, -70_000, -70_000.0),
    (T.UInt32, 4_000_000_000, 4e9),
    (T.Int64, -(2**60) - 1, -(2.0**60)),
    (T.UInt64, 2**64 - 1, 2.0**64),
    (T.Float, 1.5, 1.5),
    (T.Double, 0.1, 0.1),
    (T.String, "Störung €", "Störung €"),
    (T.DateTime, WHEN, WHEN.timestamp()),
    (T.Guid, GUID, str(GUID)),
    (T.ByteString, b"\x00\x01", "AAE="),
    (T.XmlElement, ua.XmlElement(ua.String("<a/>")), "<a/>"),
    (T.NodeId, ua.NodeId(ua.String("x;y"), ua.Int16(2)), "ns=2;s=x;y"),
    (
        T.ExpandedNodeId,
        ua.ExpandedNodeId(ua.Int32(7), ua.Int16(0), NamespaceUri=ua.String("urn:x")),
        "nsu=urn:x;i=7",
    ),
    (T.StatusCode, ua.StatusCode(ua.UInt32(0x8002_0000)), float(0x8002_0000)),
    (T.QualifiedName, ua.QualifiedName("name", ua.UInt16(2)), "name"),
    (T.LocalizedText, ua.LocalizedText("läuft", "de"), "läuft"),
]


@pytest.fixture
async def plant() -> AsyncIterator[Plant]:
    plant = Plant((), history=False)
    await plant.start()
    yield plant
    await plant.stop()


class Line:
    """Variables of a plant, and the configuration that reads them."""

    def __init__(self, plant: Plant) -> None:
        self.plant = plant
        self.nodes: list[dict[str, Any]] = []
        self.variables: dict[str, Any] = {}

    async def add(self, name: str, value: ua.Variant, **options: Any) -> None:
        node_id = ua.NodeId(ua.String(name), ua.Int16(self.plant.index))
        self.variables[name] = await self.plant.folder.add_variable(
            node_id, name, value, datatype=ua.NodeId(ua.Int32(value.VariantType.value), ua.Int16(0))
        )
        self.nodes.append({"node": f"nsu={URI};s={name}", "asset": ASSET, "signal": name, **options})

    def source(self, mode: str = "subscribe") -> OpcUaSource:
        how = {"publishing_interval_ms": 50} if mode == "subscribe" else {"interval_s": 0.05}
        return OpcUaSource(config(self.plant, nodes=self.nodes, groups={"live": {"mode": mode, **how}}))

    async def write(self, name: str, value: ua.Variant) -> None:
        await self.variables[name].write_value(value)


def newest(sink: MemorySink) -> dict[str, float | str | int | None]:
    """Return by signal the newest text or number, else the status of what is bad, else None."""
    found: dict[str, float | str | int | None] = {}
    for sample in sink.samples:
        content = sample.text if sample.text is not None else sample.value
        is_null = isinstance(content, float) and content != content  # noqa: PLR0124 - NaN
        found[sample.series.signal] = (sample.status or None) if is_null else content
    return found


@pytest.mark.parametrize("mode", ["subscribe", "poll"])
async def test_every_scalar_alone_and_in_an_array(plant: Plant, mode: str) -> None:
    line = Line(plant)
    wanted: dict[str, float | str | int | None] = {}
    for kind, value, becomes in SCALARS:
        name = kind.name.lower()
        await line.add(name, ua.Variant(value, kind))
        await line.add(f"{name}_list", ua.Variant([value, value], kind))
        wanted |= {name: becomes, f"{name}_list.0": becomes, f"{name}_list.1": becomes}
    await line.add("grid", ua.Variant([[1, 2], [3, 4], [5, 6]], T.Int16))
    wanted |= {f"grid.{row}.{column}": float(2 * row + column + 1) for row in range(3) for column in range(2)}
    await line.add("any", ua.Variant([ua.Variant(1.5, T.Double), ua.Variant("x", T.String)], T.Variant))
    wanted |= {"any.0": 1.5, "any.1": "x"}
    sink = MemorySink()
    async with running(line.source(mode), sink):
        await sink.until(lambda: len(newest(sink)) == len(wanted))
    assert newest(sink) == wanted
    # Polled, an integer is counted each time that it is read.
    assert sink.counts["integer_rounded"] >= 6
    assert sink.counts["not_convertible"] == 0


async def structures(plant: Plant) -> dict[str, ua.NodeId]:
    """Have the server know structures of all forms; return their encodings."""
    server: Any = plant.server
    mode = await new_enum(server, plant.index, "Mode", ["Off", "On"])
    motor, motor_encodings = await new_struct(
        server,
        plant.index,
        "Motor",
        [
            new_struct_field("Speed", T.Double),
            new_struct_field("RunTime", ua.NodeId(ua.Int32(290), ua.Int16(0))),  # Duration, a Double
            new_struct_field("Mode", mode),
        ],
    )
    axis, axis_encodings = await new_struct(
        server,
        plant.index,
        "Axis",
        [
            new_struct_field("Name", T.String),
            new_struct_field("Drive", motor),
            new_struct_field("Limits", ua.NodeId(ua.Int32(884), ua.Int16(0))),  # Range
            new_struct_field("Positions", T.Int16, array=True),
            new_struct_field("Note", T.String, optional=True),
            new_struct_field("Load", T.Float, optional=True),
        ],
    )
    _, union_encodings = await new_struct(
        server,
        plant.index,
        "Either",
        [new_struct_field("Number", T.Int32), new_struct_field("Axis", axis)],
        is_union=True,
    )
    return {
        "Motor": motor_encodings[0].nodeid,
        "Axis": axis_encodings[0].nodeid,
        "Either": union_encodings[0].nodeid,
    }


def framed(encoding: ua.NodeId, body: bytes) -> Any:
    return ua.ExtensionObject(encoding, cast("Any", body))


def motor_body(speed: float, mode: int) -> bytes:
    return struct.pack("<ddi", speed, 20.0, mode)


def axis_body(speed: float, *, load: float | None) -> bytes:
    mask = 0 if load is None else 2
    return (
        struct.pack("<Ii1s", mask, 1, b"X")
        + motor_body(speed, 1)
        + struct.pack("<dd", -1.0, 1.0)
        + struct.pack("<ihh", 2, 7, 8)
        + (b"" if load is None else struct.pack("<f", load))
    )


AXIS = {
    "name": "X",
    "drive.speed": 5.0,
    "drive.run_time": 20.0,
    "drive.mode": 1.0,
    "limits.low": -1.0,
    "limits.high": 1.0,
    "positions.0": 7.0,
    "positions.1": 8.0,
    "note": None,
    "load": 0.5,
}


@pytest.mark.parametrize("mode", ["subscribe", "poll"])
async def test_structures_of_all_forms(plant: Plant, mode: str) -> None:
    encodings = await structures(plant)
    line = Line(plant)
    motors = [framed(encodings["Motor"], motor_body(speed, 0)) for speed in (1.0, 2.0)]
    await line.add("motors", ua.Variant(motors, T.ExtensionObject), enum="text")
    axis = framed(encodings["Axis"], axis_body(5.0, load=0.5))
    await line.add("axis", ua.Variant(axis, T.ExtensionObject), enum="both")
    either = framed(encodings["Either"], struct.pack("<I", 2) + axis_body(5.0, load=0.5))
    await line.add("either", ua.Variant(either, T.ExtensionObject))
    await line.add("range", ua.Variant(ua.Range(1.0, 2.0), T.ExtensionObject))
    wanted: dict[str, Any] = {f"axis.{path}": value for path, value in AXIS.items()}
    wanted |= {"axis.drive.mode.text": "On"}
    wanted |= {f"either.axis.{path}": value for path, value in AXIS.items()} | {"either.number": None}
    for number in range(2):
        wanted |= {
            f"motors.{number}.speed": number + 1.0,
            f"motors.{number}.run_time": 20.0,
            f"motors.{number}.mode": "Off",
        }
    wanted |= {"range.low": 1.0, "range.high": 2.0}
    sink = MemorySink()
    source = line.source(mode)
    async with running(source, sink):
        await sink.until(lambda: len(newest(sink)) == len(wanted))
        assert newest(sink) == wanted
        changed = framed(encodings["Axis"], axis_body(6.0, load=None))
        await line.write("axis", ua.Variant(changed, T.ExtensionObject))
        await sink.until(lambda: newest(sink)["axis.drive.speed"] == 6.0)
        assert newest(sink)["axis.load"] is None
        chosen = framed(encodings["Either"], struct.pack("<Ii", 1, 42))
        await line.write("either", ua.Variant(chosen, T.ExtensionObject))
        await sink.until(lambda: newest(sink)["either.number"] == 42.0)
        assert newest(sink)["either.axis.drive.speed"] == ua.status_codes.StatusCodes.BadNoData
    assert {each.signal for each in source.declarations()} >= set(wanted)
    assert sink.counts["not_convertible"] == 0


async def test_a_structure_that_nobody_explains_is_bad_and_named(plant: Plant) -> None:
    line = Line(plant)
    strange = framed(ua.NodeId(ua.Int32(99_999), ua.Int16(plant.index)), b"???")
    await line.add("strange", ua.Variant(strange, T.ExtensionObject))
    await line.add("fine", ua.Variant([1.0, 2.0], T.Double), max_elements=1)
    sink = MemorySink()
    async with running(line.source(), sink):
        await sink.until(lambda: len(newest(sink)) == 2 and sink.running)
        await sink.until(lambda: "not whole" in sink.reports[-1][1])
    assert newest(sink) == {"strange": STATUS_NOT_CONVERTIBLE, "fine.0": 1.0}
    said = sink.reports[-1][1]
    assert f"the server does not tell what structure ns={plant.index};i=99999 is made of" in said
    assert "max_elements (1)" in said
    assert (sink.counts["not_convertible"], sink.counts["element_left_out"]) == (1, 1)


async def test_changes_within_a_deadband_stay_where_they_are(plant: Plant) -> None:
    line = Line(plant)
    await line.add("coarse", ua.Variant(0.0, T.Double), deadband={"absolute": 1.0})
    await line.add("fine", ua.Variant(0.0, T.Double))
    await line.add("word", ua.Variant("a", T.String), deadband={"absolute": 1.0})
    sink = MemorySink()
    async with running(line.source(), sink):
        await sink.until(lambda: len(newest(sink)) == 3)
        for value in (0.5, 0.9, 7.0):
            for name in ("coarse", "fine"):
                await line.write(name, ua.Variant(value, T.Double))
            await sink.until(lambda: newest(sink)["fine"] == value)  # noqa: B023
        await sink.until(lambda: newest(sink)["coarse"] == 7.0)
    assert [value for _, value in sink.series("coarse")] == [0.0, 7.0]


async def test_an_array_that_shrinks_and_a_restart(plant: Plant) -> None:
    line = Line(plant)
    await line.add("temps", ua.Variant([1.0, 2.0, 3.0], T.Double))
    sink = MemorySink()
    async with running(line.source(), sink):
        await sink.until(lambda: len(newest(sink)) == 3)
        await line.write("temps", ua.Variant([4.0], T.Double))
        await sink.until(lambda: newest(sink)["temps.0"] == 4.0)
        assert newest(sink)["temps.2"] == ua.status_codes.StatusCodes.BadIndexRangeNoData
        before = len(sink.series("temps.2"))
        await line.write("temps", ua.Variant([5.0], T.Double))
        await sink.until(lambda: newest(sink)["temps.0"] == 5.0)
        assert len(sink.series("temps.2")) == before
    again = line.source()
    async with running(again, sink):
        await line.write("temps", ua.Variant([6.0], T.Double))
        await sink.until(lambda: newest(sink)["temps.0"] == 6.0)
    assert {each.signal for each in again.declarations()} >= {"temps.0", "temps.1", "temps.2"}
