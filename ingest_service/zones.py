"""How far heated zones are off their setpoints, from the newest values."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

import numpy as np

from ingest_service.stores.latest import LatestTable
from shopfloor.block import Quality
from shopfloor.signal import SeriesKey

_ZONE: Final = re.compile(r"((?:barrel|mould)(?:_[a-z0-9_]+)?\.zone_[a-z0-9_]+)\.(temperature|setpoint)")


class ZonePairs:
    """Which series belong together: ``barrel.zone_1.temperature`` and ``barrel.zone_1.setpoint``, those of moulds too."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[str, str], tuple[str, int]] = {}
        self._assets: list[str] = []
        self._temperatures: list[int] = []
        self._setpoints: list[int] = []

    def learn(self, number: int, key: SeriesKey) -> None:
        """Take in a new series."""
        found = _ZONE.fullmatch(key.signal)
        if not found:
            return
        zone = (str(key.asset), found[1])
        other = self._waiting.pop(zone, None)
        if other is None:
            self._waiting[zone] = (found[2], number)
            return
        pair = {other[0]: other[1], found[2]: number}
        self._assets.append(zone[0])
        self._temperatures.append(pair["temperature"])
        self._setpoints.append(pair["setpoint"])

    def deviations_k(self, newest: LatestTable) -> dict[str, float]:
        """Return the largest distance of a zone's temperature from its setpoint, in kelvin, by asset.

        Zones without a good value of both, and those that are not heated (a setpoint of 0), do not count.
        """
        values = np.full(max([0, *self._temperatures, *self._setpoints]) + 1, np.nan)
        known = newest.of(np.array([*self._temperatures, *self._setpoints], np.int64))
        good = known.quality < Quality.BAD
        values[known.series_id[good]] = known.value[good]
        setpoints = values[np.array(self._setpoints, np.int64)]
        setpoints[setpoints <= 0] = np.nan
        off = np.abs(values[np.array(self._temperatures, np.int64)] - setpoints)
        return _largest(zip(self._assets, off.tolist(), strict=True))


def _largest(pairs: Iterable[tuple[str, float]]) -> dict[str, float]:
    largest: dict[str, float] = {}
    for asset, value in pairs:
        if value == value and value >= largest.get(asset, 0.0):  # noqa: PLR0124 - the test for NaN
            largest[asset] = value
    return largest
