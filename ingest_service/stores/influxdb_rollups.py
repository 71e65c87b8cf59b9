"""Partial aggregates of hours in InfluxDB, beside the samples: measurement ``rollup_hour`` with the tags of the series.

Fields are the columns of `Partials`, those without a value left out (``area`` is ``integral``: the name is a tag's);
``infinite`` says the ones that line protocol can't, because a sum left the numbers. A point that is written again
replaces itself but for fields that it does not have any more, which readers see by its count.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from typing import Any, Final

import numpy as np

from ingest_service.stores import Partials, TimeSpan
from ingest_service.stores.influxdb_client import InfluxClient, PointsRefused, Series
from ingest_service.stores.influxdb_lines import TAGS, tags_of
from ingest_service.stores.own_points import Field, Point, lines_of
from ingest_service.stores.server_points import Rolled
from shopfloor.errors import StoreUnavailable
from shopfloor.signal import SeriesKey

MEASUREMENT: Final = "rollup_hour"
_COLUMNS: Final = tuple(column.name for column in fields(Partials))
_FIELDS: Final = tuple("integral" if name == "area" else name for name in _COLUMNS)
_WHOLE: Final = frozenset({"count", "bad", "first_time", "last_time"})
_INFINITE: Final = "infinite"


class InfluxRollups:
    """A RollupStore.

    Args:
        client: asks the server.
        lines: points in one request.
        condition: says in InfluxQL which series are meant, and perhaps others.
    """

    def __init__(
        self, client: InfluxClient, lines: int, condition: Callable[[Sequence[SeriesKey]], str]
    ) -> None:
        self._client = client
        self._lines = lines
        self._condition = condition

    def write_rollups(self, keys: Sequence[SeriesKey], rolled: Rolled) -> None:
        """See `RollupStore.write_rollups`."""
        lines = lines_of(_points(keys, rolled), 1, texts=True)
        for first in range(0, len(lines), self._lines):
            try:
                self._client.write("\n".join(lines[first : first + self._lines]).encode())
            except PointsRefused as error:
                raise StoreUnavailable(f"InfluxDB refuses rollups: {error}") from error

    def fetch_rollups(self, keys: Sequence[SeriesKey], span: TimeSpan) -> Rolled:
        """See `RollupStore.fetch_rollups`."""
        found: list[Series] = []
        if keys and span.from_ns < span.to_ns:
            names = ", ".join(f'"{name}"' for name in (*_FIELDS, _INFINITE))
            tags = ", ".join(f'"{name}"' for name in TAGS)
            found = self._client.query(
                f'SELECT {names} FROM "{MEASUREMENT}" WHERE time >= {span.from_ns} AND time < {span.to_ns} '  # noqa: S608 - quoted
                f"AND ({self._condition(keys)}) GROUP BY {tags}"
            )
        places = {tuple(tags_of(key).get(name, "") for name in TAGS): place for place, key in enumerate(keys)}
        owners: list[int] = []
        rows: list[dict[str, Any]] = []
        for series in found:
            # Tags that a series lacks are empty texts in 1.x and 2.x, and null or left out in 3.x.
            place = places.get(tuple(series.tags.get(name) or "" for name in TAGS))
            if place is None:
                continue
            for values in series.values:
                row = dict(zip(series.columns, values, strict=True))
                # Others may have written something into our measurement.
                if all(isinstance(row[name], int) for name in _WHOLE):
                    rows.append(row)
                    owners.append(place)
        return Rolled(
            np.array(owners, np.intp),
            np.array([row["time"] for row in rows], np.int64),
            Partials(*(_column(name, rows) for name in _FIELDS)),
        )


def _points(keys: Sequence[SeriesKey], rolled: Rolled) -> Iterator[Point]:
    columns = [getattr(rolled.partials, name).tolist() for name in _COLUMNS]
    for place, start, *values in zip(rolled.place.tolist(), rolled.start.tolist(), *columns, strict=True):
        named: dict[str, Field | None] = dict(zip(_FIELDS, values, strict=True))
        infinite = [
            f"{name}={value}" for name, value in zip(_FIELDS, values, strict=True) if not math.isfinite(value)
        ]
        named[_INFINITE] = " ".join(infinite) if named["count"] else ""
        yield Point(MEASUREMENT, tags_of(keys[place]), named, start)


def _column(name: str, rows: Sequence[dict[str, Any]]) -> np.ndarray[Any, Any]:
    values = np.array([row[name] for row in rows], np.int64 if name in _WHOLE else np.float64)
    for at, row in enumerate(rows):
        if not row["count"] and name not in {"count", "bad"}:
            values[at] = 0 if name in _WHOLE else np.nan
        elif row.get(_INFINITE):
            said = dict(one.split("=") for one in row[_INFINITE].split(" "))
            if name in said:
                values[at] = float(said[name])
    return values
