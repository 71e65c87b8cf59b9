"""Which series a rule takes: globs over asset path and signal name."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, NamedTuple

from shopfloor.signal import SeriesKey

EVERYTHING: Final = "**"
_ASSET_GLOB: Final = re.compile(r"[a-z0-9_\-/*?]+")
_SIGNAL_GLOB: Final = re.compile(r"[a-z0-9_.*?]+")
_WILDCARD: Final = re.compile(r"\*\*|\*|\?")


class Selector(NamedTuple):
    """Two globs: ``*`` stays within a level (a dotted part), ``**`` does not, ``?`` is one character of a level."""

    asset: str
    signal: str

    def takes(self, key: SeriesKey) -> bool:
        """Tell whether a series is meant."""
        return bool(
            _pattern(self.signal, ".").fullmatch(key.signal)
            and _pattern(self.asset, "/").fullmatch(key.asset)
        )

    @property
    def names_one_signal(self) -> bool:
        """Whether the signal has no wildcard."""
        return not _WILDCARD.search(self.signal)


def check_asset_glob(text: str) -> str:
    """Return the glob unchanged; raises ValueError for what can match no asset path."""
    if not _ASSET_GLOB.fullmatch(text):
        raise ValueError("an asset path of a-z, 0-9, _, - and /, in which *, ** and ? may stand")
    return text


def check_signal_glob(text: str) -> str:
    """Return the glob unchanged; raises ValueError for what can match no signal name."""
    if not _SIGNAL_GLOB.fullmatch(text):
        raise ValueError("a signal name of a-z, 0-9, _ and dots, in which *, ** and ? may stand")
    return text


@lru_cache(maxsize=4_096)
def _pattern(glob: str, separator: str) -> re.Pattern[str]:
    within = f"[^{re.escape(separator)}]"
    meaning = {"**": ".*", "*": f"{within}*", "?": within}
    parts: list[str] = []
    end = 0
    for found in _WILDCARD.finditer(glob):
        parts += [re.escape(glob[end : found.start()]), meaning[found[0]]]
        end = found.end()
    return re.compile("".join([*parts, re.escape(glob[end:])]))
