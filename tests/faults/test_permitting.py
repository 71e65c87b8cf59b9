"""What a log of faults permits to be lost, and what it does not."""

from __future__ import annotations

import numpy as np
import pytest

from tests.faults.evidence import EVER, Damaged, Window
from tests.faults.permitting import Happened, permits_of
from tests.faults.plant_config import MQTT_SOURCE
from tests.faults.schedule import TARGETS, Fault, Kind
from tests.faults.watch import Look

SECOND = 1_000_000_000
LOOKS = [Look(second * SECOND, frozenset({"plain", MQTT_SOURCE})) for second in range(200)]
EMPTY = np.empty(0, np.int64)

PLAIN = {(kind, "plain") for kind in Kind if kind is not Kind.CLOCK}
AGENT = {(kind, "agent") for kind in (Kind.KILL, Kind.FREEZE, Kind.DISK_FULL, Kind.DAMAGE)}


def happened(kind: Kind, target: str, damaged: Damaged | None = None) -> Happened:
    return Happened(Fault(100.0, kind, target, 2.0, 0.5), 100 * SECOND, 102 * SECOND, "", damaged)


@pytest.mark.parametrize(
    ("kind", "target"), [(kind, target) for kind, targets in TARGETS.items() for target in targets]
)
def test_only_what_breaks_the_way_to_the_buffer_permits_a_loss(kind: Kind, target: str) -> None:
    windows = permits_of([happened(kind, target)], [], LOOKS).windows
    around = [Window(85 * SECOND, 105 * SECOND)]
    assert windows["plain"] == (around if (kind, target) in PLAIN | AGENT else [])
    assert windows["lossy"] == [EVER]
    assert set(windows) == {"plain", "lossy"}


def test_a_way_is_broken_until_its_source_runs_again() -> None:
    looks = [look if not 101 <= look.at_ns / SECOND < 120 else Look(look.at_ns) for look in LOOKS]
    [window] = permits_of([happened(Kind.KILL, "plain")], [], looks).windows["plain"]
    assert window == Window(85 * SECOND, 123 * SECOND)


def test_damage_permits_what_the_buffer_held_and_clocks_are_handed_on() -> None:
    held = Damaged(["a"], EMPTY, EMPTY, EMPTY)
    permits = permits_of([happened(Kind.DAMAGE, "agent", held)], [(50 * SECOND, -SECOND)], LOOKS)
    assert permits.damaged == [held]
    assert permits.clock_steps == [(0, 0), (50 * SECOND, -SECOND)]
