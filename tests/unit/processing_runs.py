"""Readings made up for the stage of rules, and ways to send them through it; for the tests of processing."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
import pytest
from hypothesis import strategies as st

from edge_agent.processing import thinning
from edge_agent.processing.config import RuleConfig
from edge_agent.processing.stage import Moment, Stage
from shopfloor.asset import parse_asset
from shopfloor.block import Quality, Sample, SampleBlock, block_of, problems
from shopfloor.signal import SeriesKey

S: Final = 1_000_000_000
BEGIN: Final = 1_790_000_000 * S
ASSET: Final = parse_asset("acme/hk01/a/l/imm-1")
V: Final = SeriesKey(ASSET, "v")


def at(
    seconds: float,
    value: float,
    *,
    key: SeriesKey = V,
    quality: int = Quality.GOOD,
    status: int = 0,
    text: str | None = None,
) -> Sample:
    """Return a reading that was received half a second after it was measured."""
    time = BEGIN + round(seconds * S)
    return Sample(key, time, time + S // 2, value, quality, status, text)


def text_at(seconds: float, text: str, key: SeriesKey = V) -> Sample:
    return at(seconds, float("nan"), text=text, key=key)


def bad_at(seconds: float, value: float = float("nan"), key: SeriesKey = V) -> Sample:
    return at(seconds, value, quality=Quality.BAD, status=0x8000_0000, key=key)


def rows(block: SampleBlock) -> list[Sample]:
    """Return the samples of a sound block, NaN as None so that they can be compared."""
    assert problems(block) == []
    return [plain(row) for row in block.rows()]


def plain(row: Sample) -> Sample:
    return row._replace(value=row.value if row.value == row.value else None)  # type: ignore[arg-type]


class Line:
    """One stage, and what it let through so far."""

    def __init__(self, *rules: Mapping[str, Any], saved: Mapping[str, bytes] = {}) -> None:
        self.stage = Stage([RuleConfig.model_validate(rule) for rule in rules], "s", "test", saved)
        self.saved = dict(saved)
        self.out: list[Sample] = []
        self.came = 0
        self.thinned = 0
        self.now_ns = 0

    def send(self, samples: Iterable[Sample]) -> list[Sample]:
        """Send one block, and return what comes out."""
        block = block_of(samples)
        self.came += len(block)
        return self._take(self.stage.take(block, Moment(BEGIN, self.now_ns)))

    def look(self, after_s: float = 0.0, *, running: bool = True) -> list[Sample]:
        self.now_ns += round(after_s * S)
        return self._take(self.stage.look(Moment(BEGIN + self.now_ns, self.now_ns), running=running))

    def finish(self) -> list[Sample]:
        """Let the source end, so that nothing waits any more."""
        self.stage.interrupt()
        return self.look()

    def _take(self, step: Any) -> list[Sample]:
        out = rows(step.block)
        self.out += out
        self.thinned += step.thinned
        for key, value in step.state.items():
            if value:
                self.saved[key] = value
            else:
                self.saved.pop(key, None)
        return out


def values(samples: Iterable[Sample]) -> list[float | str | None]:
    return [sample.text if sample.text is not None else sample.value for sample in samples]


def by_series(samples: Iterable[Sample]) -> dict[SeriesKey, list[Sample]]:
    found: dict[SeriesKey, list[Sample]] = {}
    for sample in samples:
        found.setdefault(sample.series, []).append(sample)
    return found


@contextmanager
def deciding(wide: int) -> Iterator[None]:
    """Let blocks of at least so many series be decided all at once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(thinning, "WIDE", wide)
        yield


def sliced(samples: Sequence[Sample], cuts: Iterable[int]) -> list[Sequence[Sample]]:
    bounds = [0, *sorted({cut for cut in cuts if 0 < cut < len(samples)}), len(samples)]
    return [samples[start:end] for start, end in itertools.pairwise(bounds)]


numbers = st.one_of(
    st.floats(-10, 10).map(lambda value: round(value, 2)),
    st.sampled_from([0.0, 1.0, 1.5, 100.0]),
    st.floats(allow_nan=False, allow_infinity=False, width=32),
)


@st.composite
def walks(draw: st.DrawFn, value: st.SearchStrategy[float] = numbers) -> list[Sample]:
    """Good numbers of one series in order of time, at steps between a millisecond and minutes."""
    steps = draw(st.lists(st.tuples(st.integers(1, 200_000), value), min_size=1, max_size=60))
    times = np.cumsum([step for step, _ in steps]) / 1_000
    return [at(float(time), number) for time, (_, number) in zip(times, steps, strict=True)]


@st.composite
def mixtures(draw: st.DrawFn) -> list[Sample]:
    """Readings of three series: late ones, repeats, two values at one time, nulls, texts, other statuses."""
    now = [0.0, 0.0, 0.0]
    made: list[Sample] = []
    reading = st.tuples(
        st.integers(0, 2),
        st.sampled_from(["on", "on", "on", "on", "late", "tie", "again"]),
        st.sampled_from(["number"] * 6 + ["text", "bad", "null", "status", "uncertain"]),
        st.integers(1, 90),
        numbers,
    )
    for series, when, kind, step, value in draw(st.lists(reading, max_size=50)):
        key = SeriesKey(ASSET, f"v{series}")
        mine = [row for row in made if row.series == key]
        if when == "again" and mine:
            made.append(mine[-1])
            continue
        if when == "on":
            now[series] += step
        time = now[series] - step / 2 if when == "late" else now[series]
        if kind == "text":
            made.append(text_at(time, "ab"[step % 2], key))
        elif kind == "bad":
            made.append(bad_at(time, value, key))
        elif kind == "null":
            made.append(at(time, float("nan"), key=key))
        elif kind == "uncertain":
            made.append(at(time, value, key=key, quality=Quality.UNCERTAIN, status=0x4FF2_0000))
        else:
            made.append(at(time, value, key=key, status=0x0480 if kind == "status" else 0))
    return made


RULES: Final[tuple[Mapping[str, Any], ...]] = (
    {"deadband": {}},
    {"deadband": {"absolute": 1.0, "percent": 10.0}},
    {"deadband": {"absolute": 0.5, "keep_previous": True}, "max_interval_s": 60},
    {"deadband": {"absolute": 0.5}, "min_interval_s": 20, "max_interval_s": 120},
    {"min_interval_s": 30},
    {"deadband": {}, "max_per_minute": 3},
    {"swinging_door": {"deviation": 0.5}},
    {"swinging_door": {"deviation": 2.0}, "max_interval_s": 100},
)
