"""The simulated plants as samples, without protocols: what their machines and meters say, in columns."""

from __future__ import annotations

import numpy as np

from shopfloor.block import SampleBlock, make_block
from shopfloor.signal import ACTIVE_ENERGY, ACTIVE_POWER, SeriesKey
from simulators.physics.signals import CURRENT, POWER_FACTOR, VOLTAGE
from simulators.physics.unit import MS, CycleEnd, Value
from simulators.plant.units import make_units
from simulators.playback import Playback
from simulators.scenario import Scenario, SiteConfig

_S = 1_000_000_000
_METER_NS = 10 * _S
_SAME_NS = 30 * _S


def samples_of(scenario: Scenario, site: SiteConfig, begin_ns: int, end_ns: int) -> SampleBlock:
    """Return what a site says from its beginning on; the received time is the source time."""
    index: dict[SeriesKey, int] = {}
    rows: list[tuple[int, int, Value]] = []
    last: dict[int, tuple[int, Value]] = {}

    def say(cell: str, signal: str, at: int, value: Value) -> None:
        number = index.setdefault(SeriesKey(site.cells[cell], signal), len(index))
        rows.append((number, at, value))
        last[number] = (at, value)

    for unit in make_units(scenario, site, begin_ns // MS):
        playback = Playback(unit)
        metered = {one.cell for one in site.machines if one.meter != "none"} & set(unit.cells)
        for at in range(begin_ns + _METER_NS, end_ns + 1, _METER_NS):
            for moment in playback.advance(at):
                if isinstance(moment, CycleEnd):
                    for signal, value in moment.values.items():
                        say(moment.cell, signal, moment.time_ns, value)
                else:
                    say(*moment[:2], moment.time_ns, moment.value)
            for cell in metered:
                kwh = playback.energy_kwh(cell, at)
                key = SeriesKey(site.cells[cell], ACTIVE_ENERGY)
                before = last.get(index.get(key, -1), (at, kwh))[1]
                assert isinstance(before, float)
                kw = (kwh - before) * 3600 * _S / _METER_NS
                factor = playback.power_factor(cell)
                for signal, figure in (
                    (ACTIVE_ENERGY, kwh),
                    (ACTIVE_POWER, kw),
                    (POWER_FACTOR, factor),
                    (VOLTAGE, 398.0),
                    (CURRENT, kw / 0.398 / 1.732 / max(factor, 0.1)),
                ):
                    say(cell, signal, at, figure)
    return _block(list(index), sorted(rows, key=lambda row: row[1]))


def _block(keys: list[SeriesKey], rows: list[tuple[int, int, Value]]) -> SampleBlock:
    times = np.array([at for _, at, _ in rows], np.int64)
    values = np.array([np.nan if isinstance(value, str) else value for _, _, value in rows], np.float64)
    text = {row: value for row, (_, _, value) in enumerate(rows) if isinstance(value, str)}
    return make_block(tuple(keys), [number for number, _, _ in rows], times, times, values, 0, 0, text)
