"""Readings and what rules leave of them, as files: tests/cases/processing/NAME.{yaml,input.csv,expected.csv}.

Columns: seconds, signal, value (a number, a text in quotes, or nothing for null), quality (good where empty). A line
``interrupted`` is a source that stops and comes back.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from shopfloor.block import Quality, Sample
from shopfloor.signal import SeriesKey
from tests.unit.processing_runs import ASSET, BEGIN, Line, S, at, text_at

CASES = Path(__file__).parents[1] / "cases" / "processing"


def readings(path: Path) -> Iterator[Sample | None]:
    with path.open(newline="") as file:
        for row in csv.reader(file, quoting=csv.QUOTE_NONE):
            if row[0] == "interrupted":
                yield None
            elif row[0] != "seconds":
                seconds, signal, value, quality = row
                key = SeriesKey(ASSET, signal)
                if value.startswith('"'):
                    yield text_at(float(seconds), value.strip('"'), key)
                    continue
                grade = Quality[quality.upper()] if quality else Quality.GOOD
                yield at(float(seconds), float(value or "nan"), key=key, quality=grade, status=grade << 30)


def written(sample: Sample) -> str:
    value = (
        f'"{sample.text}"' if sample.text is not None else "" if sample.value is None else f"{sample.value:g}"
    )
    quality = Quality(sample.quality).name.lower() if sample.quality else ""
    return f"{(sample.source_time - BEGIN) / S:g},{sample.series.signal},{value},{quality}"


@pytest.mark.parametrize("case", sorted(CASES.glob("*.yaml")), ids=lambda path: path.stem)
def test_rules_leave_what_is_expected(case: Path) -> None:
    line = Line(*yaml.safe_load(case.read_text()))
    for sample in readings(case.with_suffix(".input.csv")):
        if sample is None:
            line.stage.interrupt()
        else:
            line.send([sample])
    line.finish()
    expected = case.with_suffix(".expected.csv").read_text().splitlines()
    assert ["seconds,signal,value,quality", *map(written, line.out)] == expected
