"""How the demo measures the time from machine to page, and how it reads the live stream."""

from __future__ import annotations

import numpy as np

from shopfloor.asset import parse_asset
from shopfloor.block import SampleBlock, make_block
from shopfloor.signal import SeriesKey
from simulators.demo.latency import Arrivals, Latency, measure
from simulators.demo.live import events

ASSET = parse_asset("acme/hk01/moulding/cell-a/imm-01")
A, B = SeriesKey(ASSET, "a"), SeriesKey(ASSET, "b")
START_NS = 1_763_778_000_000_000_000
MS = 1_000_000


def emissions(*rows: tuple[int, int]) -> SampleBlock:
    """Rows of (series number, source time in ms after the start)."""
    return make_block(
        (A, B), [row[0] for row in rows], [START_NS + row[1] * MS for row in rows], 0, np.zeros(len(rows))
    )


def arrivals(*rows: tuple[int, int, int]) -> Arrivals:
    """Rows of (series number, the event's time, its arrival), both in ms after the start."""
    columns = np.array(rows, dtype=np.int64).reshape(-1, 3).T
    return Arrivals((B, A), 1 - columns[0], START_NS // MS + columns[1], START_NS + columns[2] * MS)


def test_an_emission_arrives_with_its_own_event() -> None:
    assert measure(emissions((0, 0)), arrivals((0, 0, 130))) == Latency(130.0, 130.0, 1, 0)


def test_an_emission_arrives_with_a_newer_value_that_replaced_it() -> None:
    found = measure(emissions((0, 0), (0, 100)), arrivals((0, 100, 150)))
    assert (found.p50_ms, found.seen) == (100.0, 2)  # 150 ms and 50 ms


def test_an_older_value_proves_nothing() -> None:
    assert measure(emissions((0, 100)), arrivals((0, 99, 150))) == Latency(None, None, 0, 1)


def test_late_values_in_between_do_not_hide_what_came_before() -> None:
    # A backlog brings an old value after a newer one: the emission at 40 was on the page at 60 already.
    found = measure(emissions((0, 40)), arrivals((0, 50, 60), (0, 10, 70), (0, 60, 80)))
    assert found == Latency(20.0, 20.0, 1, 0)


def test_the_first_covering_event_counts_not_the_snapshot_after_a_reconnect() -> None:
    assert measure(emissions((0, 0)), arrivals((0, 0, 20), (0, 0, 3000))).p99_ms == 20.0


def test_series_do_not_mix_and_unknown_ones_are_unseen() -> None:
    found = measure(emissions((0, 0), (1, 0)), arrivals((1, 0, 40)))
    assert found == Latency(40.0, 40.0, 1, 1)


def test_series_without_machine_time_are_left_out() -> None:
    found = measure(emissions((0, 0), (1, 0), (1, 5)), arrivals((0, 0, 40), (1, 700, 700)), {B})
    assert found == Latency(40.0, 40.0, 1, 0)


def test_nanoseconds_below_the_event_s_resolution_are_covered() -> None:
    block = make_block((A,), [0], [START_NS + 999_999], 0, [1.0])
    assert measure(block, arrivals((0, 0, 10))).seen == 1


def test_a_reader_gets_events_whatever_the_chunks() -> None:
    stream = (
        b": a comment\n\nevent: hello\ndata: {}\n\n"
        b'event: values\r\ndata: {"id":[1],\r\ndata: "t":[2]}\r\n\r\ndata: plain\n\nevent: ping\n\n'
    )
    whole = [(b"hello", b"{}"), (b"values", b'{"id":[1],\n"t":[2]}'), (b"message", b"plain")]
    assert list(events([stream])) == whole
    assert list(events([bytes([byte]) for byte in stream])) == whole
