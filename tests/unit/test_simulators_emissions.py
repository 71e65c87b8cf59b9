"""The emission log: what was appended is read back exactly, and a kill at any byte costs at most the torn end."""

import json
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from shopfloor.asset import AssetPath
from shopfloor.errors import StoreUnavailable
from shopfloor.signal import SeriesKey
from simulators.emissions import EmissionLog, LogDamaged, Row, read_emissions, read_series, read_untimed

ASSET = AssetPath("acme/hk01/moulding/cell-a/imm-01")
TEMPERATURE = SeriesKey(ASSET, "barrel.zone_1.temperature")
REASON = SeriesKey(ASSET, "status.standstill_reason")
SECOND_ZONE = SeriesKey(ASSET, "barrel.zone_2.temperature")
SECOND = 1_000_000_000
HOUR = 3600 * SECOND
START = 1_700_000_000 * SECOND


def test_rows_come_back_exactly(tmp_path: Path) -> None:
    with EmissionLog(tmp_path) as log:
        heat, why = log.series(TEMPERATURE), log.series(REASON)
        log.append([Row(heat, START, 0.1 + 0.2), Row(why, START, ""), Row(heat, START + SECOND, -0.0)])
        log.append([Row(why, START + SECOND, "料不足"), Row(heat, START + 2 * SECOND, 2.0**53)])
        assert log.rows_total == 5
        assert log.last_time_ns == START + 2 * SECOND
        assert log.latest() == {
            TEMPERATURE: (START + 2 * SECOND, 2.0**53),
            REASON: (START + SECOND, "料不足"),
        }
    series = read_series(tmp_path)
    assert series[TEMPERATURE].time_ns.tolist() == [START, START + SECOND, START + 2 * SECOND]
    assert series[TEMPERATURE].value.tobytes() == np.array([0.1 + 0.2, -0.0, 2.0**53]).tobytes()
    assert series[REASON].text == {0: "", 1: "料不足"}
    assert np.isnan(series[REASON].value).all()
    block = read_emissions(tmp_path)
    assert [row.series for row in block.rows()] == [TEMPERATURE, REASON, TEMPERATURE, REASON, TEMPERATURE]


def test_what_a_reader_asks_since_a_time_is_what_is_not_older(tmp_path: Path) -> None:
    with EmissionLog(tmp_path) as log:
        heat = log.series(TEMPERATURE)
        for minute in range(300):
            log.append([Row(heat, START + minute * 60 * SECOND, float(minute))])
    assert len(list(tmp_path.glob("*.seg"))) == 5
    for since in (0, 1, 59, 60, 61, 180, 299, 300):
        read = read_emissions(tmp_path, START + since * 60 * SECOND)
        assert read.value.tolist() == list(range(since, 300))


def test_another_process_may_read_while_it_is_written(tmp_path: Path) -> None:
    with EmissionLog(tmp_path) as log:
        heat = log.series(TEMPERATURE)
        for second in range(50):
            log.append([Row(heat, START + second * SECOND, float(second))])
            assert len(read_emissions(tmp_path)) == second + 1


def test_a_new_process_goes_on_where_the_last_one_was(tmp_path: Path) -> None:
    for run in range(3):
        with EmissionLog(tmp_path) as log:
            assert log.rows_total == 2 * run
            assert log.last_time_ns == (None if run == 0 else START + (2 * run - 1) * SECOND)
            heat, why = log.series(TEMPERATURE), log.series(REASON)
            log.append([Row(heat, START + 2 * run * SECOND, float(run))])
            log.append([Row(why, START + (2 * run + 1) * SECOND, str(run))])
    series = read_series(tmp_path)
    assert series[TEMPERATURE].value.tolist() == [0.0, 1.0, 2.0]
    assert series[REASON].text == {0: "0", 1: "1", 2: "2"}


def test_a_kill_at_any_byte_costs_only_what_was_being_written(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    ends = []
    with EmissionLog(whole) as log:
        heat = log.series(TEMPERATURE)
        for second in range(4):
            log.append([Row(heat, START + second * SECOND, float(second))])
            ends.append((whole / "00000001.seg").stat().st_size)
    data = (whole / "00000001.seg").read_bytes()
    for cut in range(ends[0], len(data) + 1):
        torn = tmp_path / "torn"
        shutil.rmtree(torn, ignore_errors=True)
        torn.mkdir()
        (torn / "00000001.seg").write_bytes(data[:cut])
        kept = sum(end <= cut for end in ends)
        assert len(read_emissions(torn)) == kept
        with EmissionLog(torn) as log:
            assert log.rows_total == kept
            log.append([Row(log.series(TEMPERATURE), START + 9 * SECOND, 9.0)])
        assert read_emissions(torn).value.tolist() == [*map(float, range(kept)), 9.0]


def test_a_flipped_byte_is_damage_and_is_said(tmp_path: Path) -> None:
    with EmissionLog(tmp_path) as log:
        heat = log.series(TEMPERATURE)
        for second in range(3):
            log.append([Row(heat, START + second * SECOND, float(second))])
    path = tmp_path / "00000001.seg"
    data = bytearray(path.read_bytes())
    data[-40] ^= 1
    path.write_bytes(data)
    with pytest.raises(LogDamaged, match=r"00000001\.seg"):
        read_emissions(tmp_path)
    with pytest.raises(LogDamaged):
        EmissionLog(tmp_path)


def test_old_segments_go_but_no_series_loses_its_newest_value(tmp_path: Path) -> None:
    with EmissionLog(tmp_path, keep_h=3) as log:
        heat, why = log.series(TEMPERATURE), log.series(REASON)
        log.append([Row(why, START, "said once")])
        for minute in range(1, 24 * 60):
            log.append([Row(heat, START + minute * 60 * SECOND, float(minute))])
        assert log.rows_total == 24 * 60
    # Three hours, one that clocks may be behind, and the one being written.
    assert 5 <= len(list(tmp_path.glob("*.seg"))) <= 6
    series = read_series(tmp_path)
    assert series[REASON].text == {0: "said once"}
    minutes = series[TEMPERATURE].value
    assert minutes[-1] == 24 * 60 - 1
    assert 18 * 60 < minutes[0] <= 20 * 60
    assert (np.diff(minutes) == 1).all()
    with EmissionLog(tmp_path, keep_h=3) as log:
        assert log.rows_total == 24 * 60
        assert log.latest()[REASON] == (START, "said once")


def test_a_log_has_one_owner(tmp_path: Path) -> None:
    with EmissionLog(tmp_path), pytest.raises(StoreUnavailable, match="another simulator"):
        EmissionLog(tmp_path)
    with EmissionLog(tmp_path):
        pass


def test_a_large_append_is_one_for_the_reader(tmp_path: Path) -> None:
    with EmissionLog(tmp_path) as log:
        heat = log.series(TEMPERATURE)
        log.append([Row(heat, START + number, float(number)) for number in range(250_000)])
    block = read_emissions(tmp_path)
    assert block.value.tolist() == list(range(250_000))
    assert (np.diff(block.source_time) == 1).all()


def test_series_without_machine_time_are_marked_over_restarts_and_segments(tmp_path: Path) -> None:
    with EmissionLog(tmp_path) as log:
        heat, why = log.series(TEMPERATURE), log.series(REASON, untimed=True)
        assert log.untimed == {REASON}
        log.append([Row(heat, START, 1.0), Row(why, START, "A"), Row(why, START, "A")])
        log.append([Row(why, START + 2 * HOUR, "B")])
        late = log.series(SECOND_ZONE, untimed=True)
        log.append([Row(late, START + 2 * HOUR, 1.0)])
    assert read_untimed(tmp_path) == {REASON, SECOND_ZONE}
    with EmissionLog(tmp_path) as log:
        assert log.untimed == {REASON, SECOND_ZONE}
        # The next life's machine says when it measured.
        log.series(SECOND_ZONE)
        assert log.untimed == {REASON}
        log.append([Row(log.series(REASON, untimed=True), START + 3 * HOUR, "C")])
        with pytest.raises(ValueError, match="one device gives a time"):
            log.series(REASON)
    # Of a series that was untimed in a part of the log, only the order can be relied on.
    assert read_untimed(tmp_path) == {REASON, SECOND_ZONE}
    assert list(read_series(tmp_path)[REASON].text.values()) == ["A", "A", "B", "C"]


def test_a_segment_of_version_1_is_read_and_continued(tmp_path: Path) -> None:
    def frame(payload: bytes) -> bytes:
        return struct.pack("<II", len(payload), zlib.crc32(payload)) + payload

    header = frame(b"H" + json.dumps({"start_ns": START, "rows_before": 0}).encode())
    names = frame(b"S" + json.dumps([[str(key.asset), key.signal] for key in (TEMPERATURE, REASON)]).encode())
    text = b'[[1,"A"]]'
    rows = struct.pack("<II2I2q2d", 2, len(text), 0, 1, START, START, 7.5, float("nan")) + text
    (tmp_path / "00000001.seg").write_bytes(b"SFEMIT\x01\x00" + header + names + frame(b"R" + rows))
    assert read_untimed(tmp_path) == frozenset()
    with EmissionLog(tmp_path) as log:
        assert log.latest() == {TEMPERATURE: (START, 7.5), REASON: (START, "A")}
        log.append([Row(log.series(TEMPERATURE), START + SECOND, 8.0)])
    assert read_series(tmp_path)[TEMPERATURE].value.tolist() == [7.5, 8.0]


def test_a_segment_of_a_later_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "00000001.seg").write_bytes(b"SFEMIT\x03\x00")
    with pytest.raises(LogDamaged, match="version 1 or 2"):
        read_emissions(tmp_path)


def test_a_clock_that_is_put_back_hides_nothing_from_readers(tmp_path: Path) -> None:
    behind = 7 * 60 * SECOND
    with EmissionLog(tmp_path, keep_h=3) as log:
        heat, why = log.series(TEMPERATURE), log.series(REASON)
        for minute in range(12 * 60):
            time_ns = START + minute * 60 * SECOND
            log.append([Row(heat, time_ns, float(minute)), Row(why, time_ns - behind, str(minute))])
        assert log.latest()[REASON] == (START + (12 * 60 - 1) * 60 * SECOND - behind, "719")
    for since in (9 * 60, 9 * 60 + 54, 10 * 60, 10 * 60 + 53, 11 * 60):
        block = read_emissions(tmp_path, START + since * 60 * SECOND)
        assert sum(row.series == TEMPERATURE for row in block.rows()) == 12 * 60 - since
        assert sum(row.series == REASON for row in block.rows()) == 12 * 60 - since - 7
