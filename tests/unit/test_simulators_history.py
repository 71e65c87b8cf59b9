"""HistoryRead of raw values (OPC UA Part 11 §4.4 and §6.4.3) over a small series, without a socket."""

from datetime import UTC, datetime, timedelta

import pytest
from asyncua import ua
from asyncua.common.utils import ServiceError
from asyncua.server.internal_server import InternalServer
from asyncua.ua.status_codes import StatusCodes
from hypothesis import given
from hypothesis import strategies as st

from simulators.protocols import opcua_history
from simulators.protocols.euromap77 import Kind, Raw
from simulators.protocols.opcua_history import RawHistory, SeriesHistory

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NODE = ua.NodeId.from_string("ns=1;s=imm-01.Temperature")
TIMES = (0, 120, 180, 300, 360)
"""Seconds after START at which there is a value, which is that number."""
START = datetime(2025, 1, 1, 5, 0, tzinfo=UTC)
NONE = ua.get_win_epoch()


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def history(times: tuple[float, ...] = TIMES) -> RawHistory:
    made = RawHistory(InternalServer())
    series = SeriesHistory("Double", 10 * 3600 * 1000)
    for seconds in times:
        series.append((at(seconds) - EPOCH) // timedelta(milliseconds=1), float(seconds))
    made.series[NODE] = series
    return made


async def ask(
    made: RawHistory,
    start: datetime,
    end: datetime,
    count: int = 0,
    *,
    bounds: bool = False,
    point: bytes | None = None,
    node: ua.NodeId = NODE,
    nodes: int = 1,
) -> ua.HistoryReadResult:
    details = ua.ReadRawModifiedDetails(False, start, end, count, bounds)
    reads = [ua.HistoryReadValueId(NodeId=node, ContinuationPoint=point) for _ in range(nodes)]
    params = ua.HistoryReadParameters(details, ua.TimestampsToReturn.Both, False, reads)
    return (await made.read_history(params))[0]


def said(result: ua.HistoryReadResult) -> list[float | None]:
    for value in result.HistoryData.DataValues:
        assert value.StatusCode.is_good() == (value.Value.Value is not None)
    return [value.Value.Value for value in result.HistoryData.DataValues]


@pytest.mark.parametrize(
    ("start", "end", "count", "bounds", "expected", "more"),
    [
        (0, 300, 0, True, [0, 120, 180, 300], False),
        (0, 300, 0, False, [0, 120, 180], False),
        (60, 240, 0, True, [0, 120, 180, 300], False),
        (60, 240, 0, False, [120, 180], False),
        (60, 240, 1, False, [120], True),
        (0, 300, 3, False, [0, 120, 180], False),
        (0, 300, 2, False, [0, 120], True),
        (300, 0, 0, True, [300, 180, 120, 0], False),
        (300, 0, 0, False, [300, 180, 120], False),
        (240, 60, 0, True, [300, 180, 120, 0], False),
        (240, 60, 0, False, [180, 120], False),
        (-60, 60, 0, True, [None, 0, 120], False),
        (330, 600, 0, True, [300, 360, None], False),
        (400, 600, 0, False, [], False),
        (180, 180, 0, False, [180], False),
        (181, 181, 0, False, [], False),
        (180, 180.5, 0, False, [180], False),
        (179.5, 180, 0, False, [], False),
    ],
)
async def test_a_span_is_closed_at_its_start_open_at_its_end(
    start: float, end: float, count: int, bounds: bool, expected: list[float | None], more: bool
) -> None:
    result = await ask(history(), at(start), at(end), count, bounds=bounds)
    assert said(result) == expected
    assert bool(result.ContinuationPoint) == more
    good = StatusCodes.Good if expected else StatusCodes.GoodNoData
    assert result.StatusCode.value == good


async def test_one_time_and_a_count_read_that_many_forwards_or_backwards() -> None:
    made = history()
    forwards = await ask(made, at(100), NONE, 2)
    assert (said(forwards), forwards.ContinuationPoint) == ([120, 180], None)
    backwards = await ask(made, NONE, at(200), 2)
    assert (said(backwards), backwards.ContinuationPoint) == ([180, 120], None)
    assert said(await ask(made, at(100), NONE, 99)) == [120, 180, 300, 360]


async def test_too_little_said_or_asked_for_the_wrong_thing_is_an_error() -> None:
    made = history()
    for start, end, count in ((NONE, NONE, 5), (at(0), NONE, 0), (NONE, at(0), 0)):
        assert (
            await ask(made, start, end, count)
        ).StatusCode.value == StatusCodes.BadInvalidTimestampArgument
    unknown = await ask(made, at(0), at(9), node=ua.NodeId.from_string("ns=1;s=imm-99"))
    assert unknown.StatusCode.value == StatusCodes.BadNodeIdUnknown
    for point in (b"", b"nonsense", b"\0" * 26):
        result = await ask(made, at(0), at(9), point=point or b"x")
        assert result.StatusCode.value == StatusCodes.BadContinuationPointInvalid
    params = ua.HistoryReadParameters(
        ua.ReadProcessedDetails(), ua.TimestampsToReturn.Both, False, [ua.HistoryReadValueId(NodeId=NODE)]
    )
    (result,) = await made.read_history(params)
    assert result.StatusCode.value == StatusCodes.BadHistoryOperationUnsupported
    with pytest.raises(ServiceError) as caught:
        await ask(made, at(0), at(9), nodes=opcua_history.MAX_NODES_PER_READ + 1)
    assert caught.value.code == StatusCodes.BadTooManyOperations


@given(
    times=st.lists(st.integers(0, 60), unique=True, max_size=40).map(sorted),
    start=st.integers(-5, 65),
    end=st.integers(-5, 65),
    count=st.integers(0, 7),
    nodes=st.sampled_from([1, 30]),
)
async def test_pages_put_together_are_the_whole(
    times: list[int], start: int, end: int, count: int, nodes: int
) -> None:
    made = history(tuple(times))
    if start <= end:
        expected = [t for t in times if start <= t < end or t == start == end]
    else:
        expected = [t for t in reversed(times) if end < t <= start]
    read: list[float | None] = []
    point = None
    for _ in range(100):
        result = await ask(made, at(start), at(end), count, point=point, nodes=nodes)
        read += said(result)
        assert not count or len(said(result)) <= count
        point = result.ContinuationPoint
        if not point:
            break
    assert read == expected


async def test_the_servers_own_limit_makes_pages_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opcua_history, "MAX_VALUES_PER_NODE", 2)
    made = history()
    first = await ask(made, at(0), NONE, 4)
    assert said(first) == [0, 120]
    second = await ask(made, at(0), NONE, 4, point=first.ContinuationPoint)
    assert said(second) == [180, 300]
    assert second.ContinuationPoint is None, "four were asked for"


def test_the_span_bounds_memory_and_keeps_the_value_that_held_when_it_began() -> None:
    series = SeriesHistory("Double", 10_000)
    for second in range(5_000):
        series.append(second * 1000, float(second))
    assert 11 <= len(series) <= 11 + 512
    assert series.raw(0) == series.time_ms(0) / 1000
    assert series.raw(-1) == 4999.0
    with pytest.raises(ValueError, match="does not lie after"):
        series.append(4_999_000, 1.0)


@pytest.mark.parametrize(
    ("kind", "raw"),
    [
        ("Boolean", True),
        ("Int32", 4),
        ("UInt16", 700),
        ("UInt32", 16),
        ("UInt64", 2**53),
        ("Double", 0.1),
        ("String", "no"),
        ("LocalizedText", "no"),
        ("StringArray", "ABS"),
    ],
)
def test_values_keep_their_types(kind: Kind, raw: Raw) -> None:
    series = SeriesHistory(kind, 1000)
    series.append(1, raw)
    assert series.raw(0) == raw
    assert type(series.raw(0)) is type(raw)


@pytest.mark.parametrize(
    ("kind", "raw", "shown"),
    [
        ("LocalizedText", "Heater", ua.LocalizedText("Heater")),
        ("StringArray", "ABS", ["ABS"]),
        ("StringArray", "", []),
        ("UInt16", 700, 700),
    ],
)
def test_texts_travel_as_their_variables_say(kind: Kind, raw: Raw, shown: object) -> None:
    value = opcua_history.data_value(raw, kind, 1).Value
    assert value is not None
    assert value.Value == shown
    assert value.is_array is (kind == "StringArray")
