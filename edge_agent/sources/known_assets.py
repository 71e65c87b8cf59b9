"""Which assets a source speaks for, as it comes to know them; remembered over restarts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from shopfloor.signal import SeriesKey

_KEY: Final = "assets"
_MAX_ASSETS: Final = 2_000


class KnownAssets:
    """The assets of one source, in the order in which they became known; bounded.

    Args:
        configured: those that the configuration names.
    """

    def __init__(self, configured: Iterable[str]) -> None:
        self._assets = dict.fromkeys(configured)
        self._seen_series = 0

    def __iter__(self) -> Iterator[str]:
        return iter(self._assets)

    def restore(self, saved: Mapping[str, bytes]) -> None:
        """Take over what an earlier life had saved."""
        self._learn(saved.get(_KEY, b"").decode().split("\n"))

    def learn(self, declared: Mapping[SeriesKey, object]) -> dict[str, bytes]:
        """Take the assets of all series declared so far; return what is to be saved, if there is anything new.

        ``declared`` only grows, and at its end.
        """
        if len(declared) == self._seen_series:
            return {}
        known = len(self._assets)
        self._learn(key.asset for key in list(declared)[self._seen_series :])
        self._seen_series = len(declared)
        return {_KEY: "\n".join(self._assets).encode()} if len(self._assets) > known else {}

    def _learn(self, assets: Iterable[str]) -> None:
        for asset in assets:
            if asset and len(self._assets) < _MAX_ASSETS:
                self._assets.setdefault(asset)


def common_ancestor(assets: Iterable[str]) -> str:
    """Return the deepest asset path that contains all of ``assets``; empty where there is none."""
    common: list[str] = []
    for level in zip(*(asset.split("/") for asset in assets), strict=False):
        if len(set(level)) > 1:
            break
        common.append(level[0])
    return "/".join(common)
