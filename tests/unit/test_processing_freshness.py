"""Verdicts on how fresh a series is, with clocks that the test sets."""

from __future__ import annotations

import pytest

from edge_agent.processing.config import RuleConfig
from edge_agent.processing.stage import Moment, Stage
from shopfloor.block import Sample
from shopfloor.messages import SeriesDeclaration
from shopfloor.signal import SeriesKey
from tests.unit.processing_runs import ASSET, BEGIN, Line, S, at, bad_at, values

RULE = {"freshness_s": 10}
VERDICT = SeriesKey(ASSET, "v.freshness")


def said(line: Line) -> list[float | str | None]:
    return values(row for row in line.out if row.series == VERDICT)


def test_each_verdict_is_written_once_when_it_begins_to_hold() -> None:
    line = Line(RULE)
    line.send([at(0, 1.0)])
    for _ in range(9):
        line.look(after_s=1)
        line.send([at(1, 1.0)])
    line.look(after_s=10)
    assert said(line) == ["fresh"]
    line.look(after_s=1)
    line.look(after_s=1)
    assert said(line) == ["fresh", "stale"]
    line.stage.interrupt()
    line.look(running=False)
    line.look(after_s=60, running=False)
    assert said(line) == ["fresh", "stale", "disconnected"]
    line.send([at(90, 1.0)])
    assert said(line) == ["fresh", "stale", "disconnected", "fresh"]


def test_a_verdict_is_a_good_text_of_the_moment_of_the_look() -> None:
    line = Line(RULE)
    line.send([at(0, 1.0)])
    (stale,) = line.look(after_s=11)
    assert stale._replace(value=0.0) == Sample(VERDICT, BEGIN + 11 * S, BEGIN + 11 * S, 0.0, 0, 0, "stale")
    assert stale.value is None


def test_what_the_source_confirms_is_unchanged_until_it_confirms_no_more() -> None:
    line = Line(RULE)
    line.send([at(0, 1.0)])
    for _ in range(20):
        line.stage.confirm(line.now_ns)
        line.look(after_s=1)
    line.look(after_s=11)
    assert said(line) == ["fresh", "unchanged", "stale"]


def test_a_confirmation_says_nothing_of_what_was_bad_or_said_before_an_interruption() -> None:
    bad = Line(RULE)
    bad.send([at(0, 1.0), bad_at(1)])
    bad.now_ns += 11 * S
    bad.stage.confirm(bad.now_ns)
    bad.look()
    assert said(bad) == ["fresh", "stale"]

    interrupted = Line(RULE)
    interrupted.send([at(0, 1.0)])
    interrupted.stage.interrupt()
    interrupted.now_ns += 11 * S
    interrupted.stage.confirm(interrupted.now_ns)
    interrupted.look()
    assert said(interrupted) == ["fresh", "stale"]


@pytest.mark.parametrize(("protocol", "verdict"), [("sparkplug", "unchanged"), ("mqtt", "stale")])
def test_only_a_protocol_that_announces_deaths_confirms_by_running(protocol: str, verdict: str) -> None:
    line = Line(RULE)
    line.stage = Stage([RuleConfig.model_validate(RULE)], "s", protocol, {})
    line.send([at(0, 1.0)])
    line.look(after_s=11)
    assert said(line) == ["fresh", verdict]


def test_a_series_that_is_declared_and_never_read_has_a_verdict_too() -> None:
    line = Line(RULE)
    line.stage.declare([SeriesDeclaration(str(ASSET), "v")])
    line.look(running=False)
    line.look(after_s=5)
    line.stage.confirm(line.now_ns)
    line.look(after_s=20)
    assert said(line) == ["disconnected", "stale"]


def test_a_reading_that_is_left_out_is_fresh_all_the_same() -> None:
    line = Line({"freshness_s": 10, "deadband": {}})
    line.send([at(0, 1.0)])
    for second in range(5, 50, 5):
        line.look(after_s=5)
        line.send([at(second, 1.0)])
    assert said(line) == ["fresh"]
    assert len(line.out) == 2


def test_a_verdict_that_was_not_stored_is_given_again() -> None:
    line = Line(RULE)
    line.send([at(0, 1.0)])
    line.now_ns += 11 * S
    line.stage.look(Moment(BEGIN, line.now_ns), running=True).undo()
    line.look()
    assert said(line) == ["fresh", "stale"]


def test_a_name_that_has_no_room_for_a_verdict_is_named(caplog: pytest.LogCaptureFixture) -> None:
    line = Line(RULE)
    deep = SeriesKey(ASSET, "a.b.c.d.e.f.g.h")
    assert len(line.send([at(0, 1.0, key=deep), at(0, 1.0)])) == 3
    assert "imm-1:a.b.c.d.e.f.g.h gets no verdict" in caplog.text
    assert line.look(after_s=11)[0].series == VERDICT
