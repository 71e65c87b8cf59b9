"""The filter between units and protocols."""

from __future__ import annotations

import itertools
import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from simulators.data_faults.windows import Kind, Window
from simulators.physics.meter import MeterReading
from simulators.physics.unit import MS, Change, CycleEnd, Facts, Moment, Value
from simulators.protocols.mqtt_dialects.plain_meter import METER_SIGNALS

_CYCLE: Final = "@cycle"
_READING: Final = "@reading"


@dataclass(slots=True)
class _Stage:
    """What holds for a cell between two edges."""

    active: tuple[Window, ...] = ()
    watched: bool = False
    """Whether a clock will be put back into this time soon: what is said now must be remembered."""


class _Memory(msgspec.Struct):
    """What the faults of one signal depend on."""

    value: float | str | None = None
    """What the unit said last."""
    said: float | str | None = None
    """What became of that."""
    base: float | None = None
    """Where a counter stood when it was reset."""
    stuck: float | str | None = None
    last_ms: int = -(2**62)
    """The last time said within this window of a clock that is behind."""
    times: set[int] = msgspec.field(default_factory=set)
    """Times said, in ms, that a clock which is behind may come to again."""


class DataFaults:
    """The faults of a site's cells, as a filter over what the units say, each cell in order of time.

    Raises:
        ValueError: a window ends before it begins, or two windows put the same clock back at once.
    """

    def __init__(self, windows: Iterable[Window] = ()) -> None:
        self._windows: dict[str, list[Window]] = {}
        for window in windows:
            if window.begin_ms >= window.end_ms:
                raise ValueError(f"{window.fault.kind} of {window.cell} ends before it begins")
            self._windows.setdefault(window.cell, []).append(window)
        self._stages = {cell: _stages(cell, own) for cell, own in self._windows.items()}
        self._memory: dict[str, dict[str, _Memory]] = {cell: {} for cell in self._windows}

    def change(self, change: Change) -> Change:
        """Return what is said in place of a change."""
        stage = self._stage(change.cell, change.time_ns)
        if stage is None:
            return change
        value = self._value(stage, change.cell, change.signal, change.value)
        time_ns = self._time(stage, change.cell, change.signal, change.time_ns)
        return Change(change.cell, change.signal, time_ns, value)

    def cycle(self, end: CycleEnd) -> CycleEnd:
        """Return what is said in place of a cycle's end."""
        stage = self._stage(end.cell, end.time_ns)
        if stage is None:
            return end
        values = {name: self._value(stage, end.cell, name, value) for name, value in end.values.items()}
        return CycleEnd(end.cell, self._time(stage, end.cell, _CYCLE, end.time_ns), values)

    def moments(self, moments: Iterable[Moment]) -> Iterator[Moment]:
        """Yield what is said in place of moments."""
        for moment in moments:
            yield self.change(moment) if isinstance(moment, Change) else self.cycle(moment)

    def reading(self, cell: str, reading: MeterReading) -> MeterReading:
        """Return what a cell's meter says in place of a reading; its signals are those of METER_SIGNALS."""
        stage = self._stage(cell, reading.time_ns)
        if stage is None:
            return reading
        values: dict[str, float] = {}
        for key, name, *_ in METER_SIGNALS:
            value = self._value(stage, cell, name, getattr(reading, key))
            assert not isinstance(value, str)
            values[key] = value
        return MeterReading(self._time(stage, cell, _READING, reading.time_ns), **values)

    def copies(self, cell: str, time_ns: int) -> int:
        """Return how often a message is published at a (true) time: 1 or 2."""
        stage = self._stage(cell, time_ns)
        return 1 if stage is None or _on(stage, "data.duplicate") is None else 2

    def facts(self, cell: str, begin_ms: int, end_ms: int) -> list[Facts]:
        """Return the rows of ``faults`` whose windows end within a time: after ``begin_ms``, at most at ``end_ms``."""
        return _rows([window for window in self._windows.get(cell, ()) if begin_ms < window.end_ms <= end_ms])

    def unfinished(self, cell: str, now_ms: int) -> list[Facts]:
        """Return the rows of ``faults`` that are on at a time, as if they ended then."""
        on = [window for window in self._windows.get(cell, ()) if window.begin_ms < now_ms < window.end_ms]
        return _rows([window._replace(end_ms=now_ms) for window in on])

    def snapshot(self) -> bytes:
        """Return what was said, as far as later faults depend on it."""
        return msgspec.msgpack.encode(self._memory)

    def restore(self, snapshot: bytes) -> None:
        """Go on from a snapshot; cells without windows now are forgotten."""
        kept = msgspec.msgpack.decode(snapshot, type=dict[str, dict[str, _Memory]])
        self._memory = {cell: kept.get(cell, {}) for cell in self._windows}

    def _stage(self, cell: str, time_ns: int) -> _Stage | None:
        stages = self._stages.get(cell)
        if stages is None:
            return None
        edges, between = stages
        return between[bisect_right(edges, time_ns // MS)]

    def _value(self, stage: _Stage, cell: str, signal: str, value: Value) -> Value:
        memory = self._of(cell, signal)
        said = value
        if not isinstance(said, str):
            if _on(stage, "data.counter_reset", signal) is None:
                memory.base = None
            else:
                if memory.base is None:
                    memory.base = said if isinstance(memory.value, str | None) else memory.value
                said -= memory.base
            if (window := _on(stage, "data.counter_wrap", signal)) is not None:
                said %= window.fault.modulus
            if (window := _on(stage, "data.unit_change", signal)) is not None:
                said /= window.fault.divisor
        if _on(stage, "data.stuck", signal) is None:
            memory.stuck = None
        else:
            if memory.stuck is None:
                memory.stuck = said if memory.said is None else memory.said
            said = memory.stuck
        if not isinstance(said, str) and _on(stage, "data.nan", signal) is not None:
            said = math.nan
        memory.value, memory.said = value, said
        return said

    def _time(self, stage: _Stage, cell: str, signal: str, time_ns: int) -> int:
        memory = self._of(cell, signal)
        window = _on(stage, "data.clock_behind")
        if window is None:
            memory.last_ms = -(2**62)
            if stage.watched:
                memory.times.add(time_ns // MS)
            elif memory.times:
                memory.times.clear()
            return time_ns
        said_ms, below_ms = divmod(time_ns, MS)
        said_ms = max(said_ms - window.fault.behind_ms, memory.last_ms + 1)
        while said_ms in memory.times:
            said_ms += 1
        memory.last_ms = said_ms
        return said_ms * MS + below_ms

    def _of(self, cell: str, signal: str) -> _Memory:
        memories = self._memory[cell]
        memory = memories.get(signal)
        if memory is None:
            memory = memories[signal] = _Memory()
        return memory


def _stages(cell: str, windows: Sequence[Window]) -> tuple[list[int], list[_Stage]]:
    """Return the edges of the windows, and what holds before, between and after them."""
    clocks = sorted((window for window in windows if window.fault.kind == "data.clock_behind"), key=_begin_ms)
    for one, other in itertools.pairwise(clocks):
        if other.begin_ms < one.end_ms:
            raise ValueError(f"the clock of {cell} is put back twice at once")
    watches = [
        window._replace(begin_ms=window.begin_ms - window.fault.behind_ms, end_ms=window.begin_ms)
        for window in clocks
    ]
    edges = sorted({time for window in (*windows, *watches) for time in window[2:]})
    active, watching = _at(windows, edges), _at(watches, edges)
    stages = [_Stage(on, bool(watched)) for on, watched in zip(active, watching, strict=True)]
    return edges, [_Stage(), *stages]


def _at(windows: Sequence[Window], edges: Sequence[int]) -> Iterator[tuple[Window, ...]]:
    """Yield the windows that are on at each of some ascending times, in their own order."""
    waiting = sorted(enumerate(windows), key=lambda entry: entry[1].begin_ms, reverse=True)
    on: dict[int, Window] = {}
    for edge in edges:
        while waiting and waiting[-1][1].begin_ms <= edge:
            number, window = waiting.pop()
            on[number] = window
        on = {number: window for number, window in on.items() if edge < window.end_ms}
        yield tuple(on[number] for number in sorted(on))


def _begin_ms(window: Window) -> int:
    return window.begin_ms


def _on(stage: _Stage, kind: Kind, signal: str = "") -> Window | None:
    for window in stage.active:
        if window.fault.kind == kind and (not signal or window.fault.covers(signal)):
            return window
    return None


def _rows(windows: Sequence[Window]) -> list[Facts]:
    if not windows:
        return []
    return [
        Facts(
            "faults",
            {
                "begin_ms": [window.begin_ms for window in windows],
                "end_ms": [window.end_ms for window in windows],
                "kind": [window.fault.kind for window in windows],
                "severity": [window.fault.severity for window in windows],
                "place": [window.fault.signal or None for window in windows],
            },
        )
    ]
