"""Renaming, scaling and mapping; and that blocks without rules are left alone."""

from __future__ import annotations

from typing import Any

import pytest

from edge_agent.processing.stage import Moment
from shopfloor.block import (
    STATUS_NOT_A_NUMBER,
    STATUS_NOT_CONVERTIBLE,
    Quality,
    block_of,
)
from shopfloor.messages import SeriesDeclaration
from shopfloor.signal import SeriesKey
from tests.unit.processing_runs import ASSET, Line, at, bad_at, rows, text_at, values

W = SeriesKey(ASSET, "w")
NAN = float("nan")


def test_a_block_without_a_rule_goes_through_as_the_same_object() -> None:
    line = Line({"signal": "other.*", "scale": 2, "deadband": {}, "freshness_s": 5})
    block = block_of([at(0, 1.0), at(1, 1.0), text_at(2, "a"), bad_at(3)])
    assert line.stage.passes(block)
    assert line.stage.take(block, Moment(0, 0)).block is block


def test_a_block_of_which_nothing_is_left_out_stays_the_same_object() -> None:
    line = Line({"deadband": {}})
    block = block_of([at(0, 1.0), at(1, 2.0), bad_at(2), text_at(3, "a")])
    step = line.stage.take(block, Moment(0, 0))
    assert step.block is block
    assert (step.thinned, step.state) == (0, {})


def test_the_columns_that_came_in_are_not_changed() -> None:
    line = Line({"scale": 2, "offset": 1}, {"signal": "w", "to_number": {"a": 1}})
    block = block_of([at(0, 1.0), text_at(1, "a", W), at(2, 1e308)])
    before = rows(block)
    line.stage.take(block, Moment(0, 0))
    assert rows(block) == before


def test_numbers_are_scaled_and_texts_and_nulls_are_not() -> None:
    line = Line({"signal": "v", "scale": 0.1, "offset": -5})
    out = line.send([at(0, 100.0), text_at(1, "a"), at(2, NAN), at(3, 100.0, key=W), bad_at(4, 50.0)])
    assert values(out) == [5.0, "a", None, 100.0, 0.0]
    assert [row.quality for row in out] == [0, 0, 0, 0, Quality.BAD]


def test_what_is_too_large_after_scaling_is_null_and_bad() -> None:
    (out,) = Line({"scale": 1e10}).send([at(0, 1e300)])
    assert values([out]) == [None]
    assert (out.quality, out.status) == (Quality.BAD, STATUS_NOT_A_NUMBER)


def test_numbers_become_texts_and_texts_numbers(caplog: pytest.LogCaptureFixture) -> None:
    line = Line(
        {"signal": "v", "to_text": {0: "stopped", 1: "running"}},
        {"signal": "w", "to_number": {"Online": 1, "Offline": 0}},
    )
    out = line.send(
        [at(0, 1.0), text_at(1, "Online", W), at(2, 0.0), text_at(3, "?", W), at(4, 7.0), at(5, 0.5), at(6, 3.0, key=W)]
    )  # fmt: skip
    assert values(out) == ["running", 1.0, "stopped", None, None, None, 3.0]
    assert [row.status for row in out] == [0, 0, 0, *[STATUS_NOT_CONVERTIBLE] * 3, 0]
    assert line.stage.counts == {"not_mapped": 3}
    assert "acme/hk01/a/l/imm-1:w: '?' is not in to_number" in caplog.text
    assert caplog.text.count("imm-1:v") == 1, "said once a series"


def test_a_bad_reading_that_is_in_no_mapping_keeps_its_own_status() -> None:
    (out,) = Line({"to_text": {1: "a"}}).send([bad_at(0, 9.0)])
    assert values([out]) == [None]
    assert (out.quality, out.status) == (Quality.BAD, 0x8000_0000)


def test_a_mapped_text_is_thinned_as_the_number_that_it_becomes() -> None:
    line = Line({"to_number": {"idle": 0, "ready": 0, "on": 1}, "deadband": {}})
    line.send([text_at(0, "idle"), text_at(1, "ready"), text_at(2, "on")])
    assert values(line.out) == [0.0, 1.0]


def test_the_first_rule_that_takes_a_series_counts() -> None:
    line = Line(
        {"signal": "barrel.*", "scale": 2},
        {"signal": "barrel.**", "scale": 3},
        {"asset": "acme/**", "scale": 4},
    )
    keys = ["barrel.temperature", "barrel.zone_1.temperature", "barrel"]
    out = line.send([at(0, 1.0, key=SeriesKey(ASSET, key)) for key in keys])
    assert values(out) == [2.0, 3.0, 4.0]


@pytest.mark.parametrize(
    ("glob", "takes"),
    [
        ("acme/hk01/a/l/imm-1", True),
        ("acme/*/*/*/imm-?", True),
        ("acme/*/imm-1", False),
        ("acme/**", True),
        ("**/imm-1", True),
        ("acme/hk01/a/l/imm-", False),
    ],
)
def test_asset_globs(glob: str, *, takes: bool) -> None:
    assert values(Line({"asset": glob, "scale": 2}).send([at(0, 1.0)])) == [2.0 if takes else 1.0]


def test_a_series_goes_by_its_new_name_from_there_on() -> None:
    line = Line({"signal": "v", "rename": "barrel.temperature", "deadband": {}, "freshness_s": 10})
    out = line.send([at(0, 1.0), at(0, 2.0, key=W), at(1, 1.0)])
    assert [row.series.signal for row in out] == ["barrel.temperature", "w", "barrel.temperature.freshness"]
    assert all(row.series.asset == ASSET for row in out)


def test_two_series_of_one_name_are_named(caplog: pytest.LogCaptureFixture) -> None:
    line = Line({"signal": "v", "rename": "w"})
    out = line.send([at(0, 1.0), at(1, 2.0, key=W)])
    assert [row.series for row in out] == [W, W]
    assert line.stage.counts == {"name_collision": 1}
    assert "imm-1:v and acme/hk01/a/l/imm-1:w are both called acme/hk01/a/l/imm-1:w" in caplog.text


def test_declarations_bear_the_new_names_and_units() -> None:
    rules: list[dict[str, Any]] = [
        {"signal": "v", "rename": "power", "scale": 0.001, "unit": "kW", "freshness_s": 5},
        {"signal": "w", "to_text": {1: "on"}},
    ]
    line = Line(*rules)
    declared = [SeriesDeclaration(str(ASSET), signal, "W", "said") for signal in ("v", "w", "x")]
    assert [(each.signal, each.unit) for each in line.stage.declare(declared)] == [
        ("power", "kW"),
        ("power.freshness", ""),
        ("w", ""),
        ("x", "W"),
    ]
