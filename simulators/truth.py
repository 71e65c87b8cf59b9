"""The truth about a simulated run, as Parquet: the oracle that every derived figure is held against.

One file a table (`TABLES`). Times are UTC nanoseconds, ``begin`` inclusive and ``end`` exclusive. What only a god knows
(which fault was at work) stands in a table of its own and nowhere else. A live run writes a file a table and
checkpoint, ``TABLE-000001.parquet``; `read_truth` reads either.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from shopfloor.errors import StoreUnavailable
from simulators.physics.unit import Column, Facts

_TIME: Final = pa.timestamp("ns", tz="UTC")
_TEXT: Final = pa.dictionary(pa.int32(), pa.string())
_NUMBER: Final = pa.float64()
_COUNT: Final = pa.int64()
_SPAN: Final = {"asset": _TEXT, "begin": _TIME, "end": _TIME}
_GROUP_ROWS: Final = 131_072

TABLES: Final[Mapping[str, pa.Schema]] = {
    name: pa.schema({**_SPAN, **columns})
    for name, columns in {
        # RUNNING, IDLE, SETUP, DOWN_UNPLANNED, DOWN_PLANNED or OFF; the intervals of an asset leave no hole.
        "states": {"state": _TEXT, "cause": _TEXT, "job": _TEXT},
        # One row a cycle (IMM), a unit (station), a garment (workplace); what an asset does not measure is null.
        "cycles": {
            "job": _TEXT,
            "product": _TEXT,
            "cycle": _COUNT,
            "quality": _TEXT,  # good, bad, test (start-up and purge shots), failed (no part came out)
            "good": _COUNT,
            "bad": _COUNT,
            "injection_time_s": _NUMBER,
            "hold_time_s": _NUMBER,
            "dosing_time_s": _NUMBER,
            "cooling_time_s": _NUMBER,
            "cushion_mm": _NUMBER,
            "cushion_volume_cm3": _NUMBER,
            "plasticising_volume_cm3": _NUMBER,
            "peak_pressure_bar": _NUMBER,
            "hold_pressure_bar": _NUMBER,
            "back_pressure_bar": _NUMBER,
            "cavity_pressure_bar": _NUMBER,
            "clamp_force_kn": _NUMBER,
            "melt_temperature_c": _NUMBER,
            "mould_temperature_c": _NUMBER,
            "shot_weight_g": _NUMBER,
            "energy_kwh": _NUMBER,
        },
        # Energy by stretch of one state; the sum over an asset is what its register rose by.
        "energy": {"kwh": _NUMBER, "state": _TEXT},
        # Every interruption of production: stop, micro_stop, changeover, planned (break, no shift, holiday, no job),
        # starved or blocked (lines).
        "downtime": {"kind": _TEXT, "cause": _TEXT},
        "jobs": {
            "job": _TEXT,
            "product": _TEXT,
            "mould": _TEXT,
            "material": _TEXT,
            "colour": _TEXT,
            "lot": _TEXT,
            "ordered": _COUNT,
            "good": _COUNT,
            "bad": _COUNT,
        },
        # mould, material, colour or style; from and to are the names of what was changed.
        "changeovers": {
            "kind": _TEXT,
            "from": _TEXT,
            "to": _TEXT,
            "purge_shots": _COUNT,
            "start_up_scrap": _COUNT,
        },
        # Labelled process faults and data faults; severity 0 to 1.
        "faults": {"kind": _TEXT, "severity": _NUMBER},
    }.items()
}
"""Table: its columns. Every table has asset, begin, end."""


class TruthWriter:
    """Writes the rows of a run. Columns that a row set leaves out are null.

    Args:
        folder: made if missing.
        part: number of the files; None where a run writes one file a table.

    Raises:
        StoreUnavailable: the disk does not take it.
    """

    def __init__(self, folder: Path, part: int | None = None) -> None:
        self.folder = folder
        self.rows_total = 0
        """Rows of all tables so far."""
        self._suffix = "" if part is None else f"-{part:06d}"
        self._waiting: dict[str, list[pa.RecordBatch]] = {name: [] for name in TABLES}
        self._waiting_rows = dict.fromkeys(TABLES, 0)
        self._files: dict[str, pq.ParquetWriter] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreUnavailable(f"{folder}: {error.strerror}") from error

    def add(self, asset: str, facts: Facts) -> None:
        """Take rows of one asset."""
        schema = TABLES[facts.table]
        columns = facts.columns
        rows = len(columns["begin_ms"]) if isinstance(columns["begin_ms"], np.ndarray | list | tuple) else 1
        if not rows:
            return
        unknown = columns.keys() - set(schema.names) - {"begin_ms", "end_ms"}
        if unknown:
            raise ValueError(f"{facts.table} has no column {', '.join(sorted(unknown))}")
        arrays = [_array(field, asset, columns, rows) for field in schema]
        self._waiting[facts.table].append(pa.RecordBatch.from_arrays(arrays, schema=schema))
        self._waiting_rows[facts.table] += rows
        self.rows_total += rows
        if self._waiting_rows[facts.table] >= _GROUP_ROWS:
            self._write(facts.table)

    def close(self) -> None:
        """Write what waits; each table has its file then, also without rows."""
        for name in TABLES:
            self._write(name)
            self._files.pop(name).close()
            final = self.folder / f"{name}{self._suffix}.parquet"
            try:
                final.with_suffix(".new").replace(final)
            except OSError as error:
                raise StoreUnavailable(f"{final}: {error.strerror}") from error

    def _write(self, name: str) -> None:
        schema = TABLES[name]
        path = self.folder / f"{name}{self._suffix}.new"
        try:
            if name not in self._files:
                self._files[name] = pq.ParquetWriter(path, schema, compression="zstd", compression_level=1)
            table = pa.Table.from_batches(self._waiting[name], schema=schema)
            if table.num_rows:
                self._files[name].write_table(table.unify_dictionaries(), row_group_size=2 * _GROUP_ROWS)
        except OSError as error:
            raise StoreUnavailable(f"{path}: {error.strerror or error}") from error
        self._waiting[name] = []
        self._waiting_rows[name] = 0


def read_truth(folder: Path, table: str) -> pa.Table:
    """Return one table of a run, rows in the order in which they were written.

    Raises:
        StoreUnavailable: there is no truth in the folder.
    """
    files = sorted([*folder.glob(f"{table}.parquet"), *folder.glob(f"{table}-*.parquet")])
    if not files:
        raise StoreUnavailable(f"{folder}: no truth here: {table}.parquet is missing")
    return pa.concat_tables([pq.read_table(file, schema=TABLES[table]) for file in files])


def _array(field: pa.Field, asset: str, columns: Mapping[str, Column], rows: int) -> pa.Array:
    value: Any
    if field.name == "asset":
        value = asset
    elif field.name in {"begin", "end"}:
        times = np.asarray(columns[f"{field.name}_ms"], dtype=np.int64).reshape(-1) * 1_000_000
        return pa.array(times, type=pa.int64()).cast(_TIME)
    else:
        value = columns.get(field.name)
    if isinstance(value, np.ndarray):
        return pa.array(value).cast(field.type)
    if isinstance(value, list | tuple):
        return pa.array(value, type=field.type if field.type != _TEXT else pa.string()).cast(field.type)
    if value is None:
        return pa.nulls(rows, field.type)
    if field.type == _TEXT:
        return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), [value])
    return pa.array(np.full(rows, value)).cast(field.type)
