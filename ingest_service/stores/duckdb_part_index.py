"""Where the series of a part stand, read from the part itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from ingest_service.stores.buckets import run_starts
from ingest_service.stores.duckdb_part import TRAITS
from ingest_service.stores.duckdb_rows import numbers_of
from shopfloor.block import Int64, UInt32
from shopfloor.errors import StoreUnavailable

_INDEXED_ROWS: Final = 262_144


class Index(NamedTuple):
    """Where each series stands in a file."""

    metadata: pq.FileMetaData
    ids: UInt32
    """uint32[k], in the order of the file."""
    starts: Int64
    """int64[k + 1], first rows."""
    by_id: npt.NDArray[np.intp]
    """intp[k], places in ``ids``, by id."""
    group_starts: Int64
    """int64[g + 1], first rows of the row groups."""
    empty: frozenset[str]
    """Columns that hold nothing but nulls."""
    constant: Mapping[str, int]
    """Columns that hold one value."""

    def places(self, ids: UInt32) -> npt.NDArray[np.intp]:
        """Return the places of those of ``ids`` that are there, in the file's order."""
        found = np.searchsorted(self.ids, ids, sorter=self.by_id)
        found = self.by_id[np.minimum(found, len(self.ids) - 1)]
        return np.sort(found[self.ids[found] == ids])

    def counts(self, ids: UInt32) -> Int64:
        """Return int64[len(ids)]: how many samples of each series there are."""
        found = np.searchsorted(self.ids, ids, sorter=self.by_id)
        found = self.by_id[np.minimum(found, len(self.ids) - 1)]
        counts: Int64 = np.where(self.ids[found] == ids, np.diff(self.starts)[found], 0)
        return counts


def index_of(path: Path) -> Index:
    """Return where the series of a file stand; raises StoreUnavailable for a file that can't be read."""
    try:
        with (
            pa.memory_map(str(path)) as source,
            pq.ParquetFile(source, pre_buffer=False) as file,
        ):
            ids, starts = _runs_of(file)
            metadata = file.metadata
    except (OSError, pa.ArrowException) as error:
        raise StoreUnavailable(f"{path}: {error}") from error
    groups = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
    traits = json.loads((metadata.metadata or {}).get(TRAITS, b'{"empty": [], "constant": {}}'))
    return Index(
        metadata,
        ids,
        np.append(starts, metadata.num_rows),
        np.argsort(ids, kind="stable"),
        np.concatenate([[0], np.cumsum(np.array(groups, np.int64))]),
        frozenset(traits["empty"]),
        traits["constant"],
    )


def _runs_of(file: pq.ParquetFile) -> tuple[UInt32, Int64]:
    """Return the series of a file in its order, and their first rows."""
    ids, starts = [np.empty(0, np.uint32)], [np.empty(0, np.int64)]
    begin = 0
    for batch in file.iter_batches(_INDEXED_ROWS, columns=["series_id"], use_threads=False):
        some = numbers_of(batch.column(0), np.uint32)
        rows = run_starts(some)
        ids.append(some[rows])
        starts.append(rows + begin)
        begin += len(some)
    joined = np.concatenate(ids)
    # A series that goes on in the next batch began once.
    first = run_starts(joined)
    return joined[first], np.concatenate(starts)[first]
