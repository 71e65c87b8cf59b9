import numpy as np

from edge_agent.normalise import CLOCK_TOLERANCE_NS, NO_TIME, normalise
from shopfloor.asset import AssetPath
from shopfloor.block import (
    STATUS_CLOCK_AHEAD,
    STATUS_NO_SOURCE_TIME,
    STATUS_NOT_A_NUMBER,
    Quality,
)
from shopfloor.signal import SeriesKey

SERIES = (SeriesKey(AssetPath("acme"), "a"),)
NOW = 1_763_778_000_000_000_000


def test_each_oddity_becomes_a_sample_that_says_so() -> None:
    block, oddities = normalise(
        SERIES,
        np.zeros(8, np.uint32),
        np.array([NOW, NOW, NOW, NOW, NOW, NO_TIME, NOW + CLOCK_TOLERANCE_NS + 1, NOW]),
        NOW,
        np.array([1.0, np.nan, np.inf, np.nan, np.nan, 2.0, 3.0, 4.0]),
        np.array([0, 0, 0, 0, 0, 0, 0, 0x808A0000], np.uint32),
        {3: "text"},
        np.array([False, False, False, False, True, False, False, False]),
    )
    assert block.quality.tolist() == [
        Quality.GOOD, Quality.BAD, Quality.BAD, Quality.GOOD, Quality.GOOD, Quality.GOOD, Quality.UNCERTAIN, Quality.BAD,
    ]  # fmt: skip
    assert block.status.tolist() == [
        0, STATUS_NOT_A_NUMBER, STATUS_NOT_A_NUMBER, 0, 0, STATUS_NO_SOURCE_TIME, STATUS_CLOCK_AHEAD, 0x808A0000,
    ]  # fmt: skip
    assert np.isnan(block.value[[1, 2, 3, 4]]).all()
    assert block.value[[0, 5, 6, 7]].tolist() == [1.0, 2.0, 3.0, 4.0]
    assert block.source_time[5] == NOW
    assert block.source_time[6] == NOW + CLOCK_TOLERANCE_NS + 1, "a raw time is stored untouched"
    assert oddities == (2, 1, 1)


def test_the_arguments_stay_as_they_were() -> None:
    value, status, times = np.array([np.inf]), np.array([0], np.uint32), np.array([NO_TIME])
    normalise(SERIES, np.zeros(1, np.uint32), times, NOW, value, status)
    assert np.isinf(value[0])
    assert status[0] == 0
    assert times[0] == NO_TIME


def test_severities_of_a_status_become_quality() -> None:
    status = np.array([0x00000000, 0x40000000, 0x80000000, 0xC0000000], np.uint32)
    block, _ = normalise(SERIES, np.zeros(4, np.uint32), np.full(4, NOW), NOW, np.zeros(4), status)
    assert block.quality.tolist() == [0, 1, 2, 2]


def test_good_as_opc_da_writes_it_is_good() -> None:
    """Gateways pass 0xC0 (OPC DA's Good) on as a status of OPC UA, where its two severity bits say Good too."""
    status = np.array([0x000000C0, 0x000000D8], np.uint32)
    block, _ = normalise(SERIES, np.zeros(2, np.uint32), np.full(2, NOW), NOW, np.array([1.5, 2.5]), status)
    assert block.quality.tolist() == [0, 0]
    assert block.status.tolist() == [0xC0, 0xD8]
    assert block.value.tolist() == [1.5, 2.5]
