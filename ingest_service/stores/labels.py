"""The assets and signals of all series as texts, looked up by whole columns of series numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from shopfloor.block import UInt32
from shopfloor.signal import SeriesKey

_NONE: Final = np.zeros(0, np.int32)


class _Texts:
    """One text a series, each distinct one held once."""

    def __init__(self) -> None:
        self._codes = _NONE
        self._known: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._codes)

    def extend(self, texts: list[str]) -> None:
        known = self._known
        new = np.array([known.setdefault(text, len(known)) for text in texts], np.int32)
        self._codes = np.concatenate([self._codes, new])

    def column(self, places: npt.NDArray[np.int64], lengths: npt.NDArray[np.integer]) -> pa.DictionaryArray:
        codes = self._codes[places]
        there = np.zeros(len(self._known), np.bool_)
        there[codes] = True
        local = (np.cumsum(there) - 1).astype(np.int32)
        texts = list(self._known)
        dictionary = [texts[code] for code in np.flatnonzero(there).tolist()]
        return pa.DictionaryArray.from_arrays(
            pa.array(np.repeat(local[codes], lengths)), pa.array(dictionary, pa.string())
        )


class Labels:
    """Asset and signal of every series; for one thread at a time.

    Args:
        keys: series ``i + 1`` stands at ``i``; may grow.
    """

    def __init__(self, keys: Sequence[SeriesKey]) -> None:
        self._keys = keys
        self._assets = _Texts()
        self._signals = _Texts()

    def columns(
        self, ids: UInt32, lengths: npt.NDArray[np.integer]
    ) -> tuple[pa.DictionaryArray, pa.DictionaryArray]:
        """Return the assets and the signals of runs of samples.

        Args:
            ids: uint32[k], the series of each run.
            lengths: int[k], samples of each run.
        """
        new = self._keys[len(self._assets) : len(self._keys)]
        if new:
            self._assets.extend([str(key.asset) for key in new])
            self._signals.extend([key.signal for key in new])
        places = ids.astype(np.int64) - 1
        return self._assets.column(places, lengths), self._signals.column(places, lengths)
