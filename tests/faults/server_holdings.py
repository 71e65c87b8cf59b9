"""What InfluxDB and PostgreSQL hold, read past the service."""

from __future__ import annotations

import json
import urllib.parse
import urllib.request
from typing import Any, Final

import sqlalchemy as sa

from ingest_service.stores.influxdb_lines import MEASUREMENT
from shopfloor.asset import LEVELS
from tests.faults.holdings import Columns

_TIMEOUT_S: Final = 60.0
_MISSING_QUALITY: Final = -1


class ServerHoldings:
    """Points and what lies beside them, of a service on servers.

    A point that was written twice is one point here: whether a sample was stored twice, only the ledger and what was sent
    can say (`tests.faults.sent`).
    """

    def __init__(self, address: sa.URL, influxdb_url: str, database: str) -> None:
        self._address = address
        self._query = f"{influxdb_url}/query"
        self._database = database

    def samples(self) -> Columns:
        """See `Holdings.samples`."""
        found: list[tuple[str, str, float | None, int, int]] = []
        question = f'SELECT "value", "quality" FROM "{MEASUREMENT}" GROUP BY *'
        fields = urllib.parse.urlencode({"db": self._database, "epoch": "ns", "q": question})
        with urllib.request.urlopen(f"{self._query}?{fields}", timeout=_TIMEOUT_S) as answer:
            results = json.load(answer)["results"]
        for series in results[0].get("series", ()):
            tags = series["tags"]
            asset = "/".join(tags[level] for level in LEVELS if tags.get(level))
            for at, value, quality in series["values"]:
                found.append(
                    (asset, tags["signal"], value, at, _MISSING_QUALITY if quality is None else quality)
                )
        kept = (
            "SELECT asset, signal, value, source_time, quality FROM kept_sample JOIN series USING (series_id)"
        )
        found += [tuple(row) for row in self.rows(kept)]
        return Columns._make(zip(*found, strict=True)) if found else Columns((), (), (), (), ())

    def rows(self, query: str) -> list[Any]:
        """See `Holdings.rows`."""
        engine = sa.create_engine(self._address, poolclass=sa.NullPool)
        try:
            with engine.connect() as connection:
                return list(connection.execute(sa.text(query)).all())
        finally:
            engine.dispose()

    def batches(self) -> list[tuple[str, int, int]]:
        """See `Holdings.batches`."""
        return [tuple(row) for row in self.rows("SELECT stream_id, first_seq, last_seq FROM ledger")]
