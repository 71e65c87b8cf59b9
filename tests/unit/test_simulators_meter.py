"""Energy meters: their register is the machine's energy, their power its mean since the reading before."""

from __future__ import annotations

import pytest

from simulators.physics.drives import DRIVES
from simulators.physics.meter import EnergyMeter, MeterReading
from simulators.physics.unit import MS
from simulators.playback import Playback
from tests.contract.unit_contract import START_MS
from tests.unit.test_simulators_machine import machine, spec

START_NS = START_MS * MS


def readings(drive: str, count: int) -> list[MeterReading]:
    """Read a machine's meter every second."""
    playback = Playback(machine(spec(drive)))
    playback.advance(START_NS)
    meter = EnergyMeter(1, START_NS, 0.0, START_NS + 1000 * MS)
    found = []
    for _ in range(count):
        at_ns = meter.next_ns
        playback.advance(at_ns)
        found.append(meter.read(playback.energy_kwh("imm-1", at_ns), playback.power_factor("imm-1")))
    return found


@pytest.mark.parametrize("drive", sorted(DRIVES))
def test_energy_is_the_integral_of_power_and_never_falls(drive: str) -> None:
    found = readings(drive, 900)
    assert [each.time_ns for each in found] == [START_NS + second * 1000 * MS for second in range(1, 901)]
    kwh = [each.energy_kwh for each in found]
    assert kwh == sorted(kwh)
    assert kwh[-1] == pytest.approx(sum(each.power_kw for each in found) / 3600.0, abs=0.002)
    assert 1.0 < kwh[-1] < 10.0
    power = [each.power_kw for each in found]
    assert max(power) > 2.0 * min(power), "a cycle has its peaks"


@pytest.mark.parametrize("drive", sorted(DRIVES))
def test_current_voltage_and_power_factor_agree_with_the_power(drive: str) -> None:
    for each in readings(drive, 60):
        apparent_kva = 3**0.5 * each.voltage_v * each.current_a / 1000.0
        assert each.power_kw == pytest.approx(apparent_kva * each.power_factor, rel=0.01, abs=0.02)
        assert 390.0 < each.voltage_v < 410.0
        assert each.power_factor == pytest.approx(DRIVES[drive].power_factor_running, abs=0.03)


def test_what_is_skipped_is_no_power_of_the_next_reading() -> None:
    meter = EnergyMeter(1, START_NS, 5.0, START_NS + 1000 * MS)
    meter.skip(START_NS + 3_600_000 * MS, 25.0)
    assert meter.next_ns == START_NS + 3_601_000 * MS
    reading = meter.read(25.0 + 9.0 / 3600.0, 0.9)
    assert reading.power_kw == pytest.approx(9.0)
    assert reading.energy_kwh == pytest.approx(25.0025)
