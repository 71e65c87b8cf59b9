"""Which part of the plant a viewer is shown."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

import numpy as np
import numpy.typing as npt

from ingest_service.stores import below
from ingest_service.stores.series import SeriesIndex

_REMEMBERED_SCOPES: Final = 256

Scope = tuple[str, ...]
"""Asset paths that a viewer asked for and may see; ("",) is everything, () nothing."""
EVERYTHING: Final[Scope] = ("",)


def effective_scope(asked: Iterable[str], reach: str) -> Scope:
    """Return what is both asked for (nothing means everything) and in a token's reach."""
    wanted = tuple(dict.fromkeys(asked)) or EVERYTHING
    inside = {
        path if below(path, reach) else reach for path in wanted if below(path, reach) or below(reach, path)
    }
    return tuple(
        sorted(path for path in inside if not any(path != one and below(path, one) for one in inside))
    )


def visible(asset: str, scope: Scope) -> bool:
    """Tell whether a scope shows an asset."""
    return any(below(asset, path) for path in scope)


class ScopeMasks:
    """Which series each scope shows, remembered; series are only ever added."""

    def __init__(self, series: SeriesIndex) -> None:
        self._series = series
        self._masks: OrderedDict[Scope, npt.NDArray[np.bool_]] = OrderedDict()

    def of(self, scope: Scope) -> npt.NDArray[np.bool_]:
        """Return bool[series + 1], by id."""
        mask = self._masks.get(scope, np.zeros(1, np.bool_))
        known = len(self._series)
        if len(mask) <= known:
            fresh = self._series.keys[len(mask) - 1 : known]
            mask = np.concatenate([mask, np.array([visible(key.asset, scope) for key in fresh], np.bool_)])
            self._masks[scope] = mask
            while len(self._masks) > _REMEMBERED_SCOPES:
                self._masks.popitem(last=False)
        return mask


__all__ = ["EVERYTHING", "Scope", "ScopeMasks", "effective_scope", "visible"]
