"""The truth about a simulated run, as Parquet: the oracle that every derived figure is held against.

One file a table (`TABLES`). Times are UTC nanoseconds, ``begin`` inclusive and ``end`` exclusive. What only a god knows
(which fault was at work) stands in a table of its own and nowhere else. A live run writes a file a table and
checkpoint, ``TABLE-000001.parquet``; `read_truth` reads either. States, downtime, energy and faults are written piece
by piece, as they go on, so that nothing is missing at whatever end; `read_truth` joins the pieces on request.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
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
        # Labelled process faults, data faults and outages; severity 0 to 1. The place is what of the asset has it: a
        # signal or the first segments of several, "zone 2", "cavity 3", a Sparkplug device; null for all of it.
        "faults": {"kind": _TEXT, "severity": _NUMBER, "place": _TEXT},
    }.items()
}
"""Table: its columns. Every table has asset, begin, end."""
_TEXTS: Final = {
    name: [field.name for field in schema if field.type == _TEXT] for name, schema in TABLES.items()
}


SAME: Final[Mapping[str, tuple[str, ...]]] = {
    "states": ("state", "cause", "job"),
    "energy": ("state",),
    "downtime": ("kind", "cause"),
    "faults": ("kind", "severity", "place"),
}
"""Tables of intervals: neighbouring rows of an asset that agree in these columns are pieces of one."""


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
        self._waiting: dict[str, list[tuple[int, Mapping[str, Column]]]] = {name: [] for name in TABLES}
        self._waiting_rows = dict.fromkeys(TABLES, 0)
        self._files: dict[str, pq.ParquetWriter] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreUnavailable(f"{folder}: {error.strerror}") from error

    def add(self, asset: str | Callable[[str], str], facts: Facts) -> None:
        """Take rows of one asset; where they have cells of their own (``asset``), ``asset`` makes paths of those.

        Raises:
            ValueError: a column that the table does not have, or columns of different lengths.
            StoreUnavailable: the disk does not take it.
        """
        schema = TABLES[facts.table]
        unknown = facts.columns.keys() - set(schema.names) - {"begin_ms", "end_ms"}
        if unknown:
            raise ValueError(f"{facts.table} has no column {', '.join(sorted(unknown))}")
        begins = _length(facts.columns["begin_ms"])
        rows = 1 if begins is None else begins
        if not rows:
            return
        columns: dict[str, Column] = dict(facts.columns)
        own = columns.get("asset")
        if own is None:
            columns["asset"] = asset if isinstance(asset, str) else asset("")
        elif not isinstance(asset, str):
            columns["asset"] = (
                asset(own) if isinstance(own, str) else [asset(str(each)) for each in _list(own)]
            )
        for name, column in columns.items():
            length = _length(column)
            if length is not None and length != rows:
                raise ValueError(f"{facts.table}: {length} values of {name} for {rows} rows")
        self._waiting[facts.table].append((rows, columns))
        self._waiting_rows[facts.table] += rows
        self.rows_total += rows
        if self._waiting_rows[facts.table] >= _GROUP_ROWS:
            self._write(facts.table)

    def close(self) -> None:
        """Write what waits; each table has its file then, also without rows.

        Raises:
            StoreUnavailable: the disk does not take it.
        """
        for name in TABLES:
            self._write(name)
            final = self.folder / f"{name}{self._suffix}.parquet"
            try:
                self._files.pop(name).close()
                final.with_suffix(".new").replace(final)
            except OSError as error:
                raise StoreUnavailable(f"{final}: {error.strerror or error}") from error

    def _write(self, name: str) -> None:
        schema = TABLES[name]
        path = self.folder / f"{name}{self._suffix}.new"
        try:
            if name not in self._files:
                self._files[name] = pq.ParquetWriter(
                    path, schema, compression="zstd", compression_level=1, use_dictionary=_TEXTS[name]
                )
            if self._waiting[name]:
                arrays = [_array(field, self._waiting[name]) for field in schema]
                self._files[name].write_table(pa.Table.from_arrays(arrays, schema=schema))
        except OSError as error:
            raise StoreUnavailable(f"{path}: {error.strerror or error}") from error
        self._waiting[name] = []
        self._waiting_rows[name] = 0


def read_truth(folder: Path, table: str, *, merged: bool = False) -> pa.Table:
    """Return one table of a run, rows in the order in which they were written.

    Args:
        folder: that it was written to.
        table: one of `TABLES`.
        merged: join the pieces of an interval (states, energy, downtime, faults); rows then stand asset by asset, in
            order of time.

    Raises:
        StoreUnavailable: there is no truth in the folder, or none that can be read.
        ValueError: the rows of the table are no intervals that can be merged.
    """
    files = sorted([*folder.glob(f"{table}.parquet"), *folder.glob(f"{table}-*.parquet")])
    if not files:
        raise StoreUnavailable(f"{folder}: no truth here: {table}.parquet is missing")
    parts = []
    for file in files:
        try:
            parts.append(pq.read_table(file, schema=TABLES[table]))
        except (OSError, pa.ArrowException) as error:
            raise StoreUnavailable(f"{file}: {error}") from error
    found = pa.concat_tables(parts)
    return _merged(found, table) if merged else found


def _merged(rows: pa.Table, table: str) -> pa.Table:
    if table not in SAME:
        raise ValueError(f"{table} are no intervals: only {', '.join(sorted(SAME))} can be merged")
    _, asset_numbers = np.unique(np.array(rows["asset"].to_pylist(), dtype=str), return_inverse=True)
    rows = rows.take(np.lexsort((rows["begin"].cast(pa.int64()).to_numpy(), asset_numbers)))
    begins, ends = (rows[name].cast(pa.int64()).to_numpy() for name in ("begin", "end"))
    new = np.ones(len(rows), dtype=bool)
    new[1:] = begins[1:] != ends[:-1]
    for name in ("asset", *SAME[table]):
        values = np.array(rows[name].to_pylist(), dtype=object)
        new[1:] |= values[1:] != values[:-1]
    firsts = np.flatnonzero(new)
    lasts = np.append(firsts[1:], len(rows))[: len(firsts)] - 1
    found = rows.take(firsts)
    found = found.set_column(
        found.schema.get_field_index("end"), TABLES[table].field("end"), rows["end"].take(lasts)
    )
    if table == "energy" and len(firsts):
        kwh = np.add.reduceat(rows["kwh"].to_numpy(), firsts)
        found = found.set_column(
            found.schema.get_field_index("kwh"), TABLES[table].field("kwh"), pa.array(kwh)
        )
    return found


def _array(field: pa.Field, waiting: Sequence[tuple[int, Mapping[str, Column]]]) -> pa.Array:
    """Return one column of many row sets; a row set gives values row by row, or one for all."""
    if field.type == _TEXT:
        return _texts(field.name, waiting)
    timed = field.type == _TIME
    name = f"{field.name}_ms" if timed else field.name
    parts: list[npt.NDArray[np.generic]] = []
    for rows, columns in waiting:
        value = columns.get(name)
        part = np.asarray(np.nan if value is None else value, dtype=np.int64 if timed else np.float64)
        parts.append(part if part.ndim else np.full(rows, part))
    joined = np.concatenate(parts)
    if timed:
        return pa.array(joined * 1_000_000).cast(_TIME)
    # No figure is NaN: where one would stand, the asset does not measure it.
    numbers = pa.array(joined, from_pandas=True)
    return numbers.cast(field.type)


def _texts(name: str, waiting: Sequence[tuple[int, Mapping[str, Column]]]) -> pa.Array:
    """Return a column of words: each stands once, a row has its number."""
    words: dict[object, int] = {None: -1}
    parts = []
    for rows, columns in waiting:
        value = columns.get(name)
        each = [value] if value is None or isinstance(value, str) else _list(value)
        numbers = [words.setdefault(word, len(words) - 1) for word in each]
        parts.append(np.full(rows, numbers[0]) if len(numbers) == 1 else np.array(numbers))
    joined = np.concatenate(parts).astype(np.int32)
    del words[None]
    return pa.DictionaryArray.from_arrays(
        pa.array(joined, mask=joined < 0), pa.array(list(words), pa.string())
    )


def _length(column: Column) -> int | None:
    """Return how many rows a column has; None where it is one value for all."""
    if isinstance(column, np.ndarray):
        return len(column) if column.ndim else None
    return len(column) if isinstance(column, list | tuple) else None


def _list(column: Column) -> list[Any]:
    return column.tolist() if isinstance(column, np.ndarray) else list(column)  # type: ignore[arg-type]
