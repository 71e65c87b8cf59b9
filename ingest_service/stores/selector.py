"""Which series a reader means: asset paths and globs over them, globs of signals, and how far the reader may see."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from typing import Final

from shopfloor.signal import SeriesKey


@dataclass(frozen=True, slots=True)
class Selector:
    """Which series: at any of ``assets`` and with any of ``signals``, all of them inside ``within``."""

    assets: tuple[str, ...] = ()
    """Asset paths (each means itself and all below it) and globs (see `asset_matcher`); none selects all."""
    signals: tuple[str, ...] = ()
    """Globs such as ``barrel.*``; none selects all."""
    within: str = ""
    """The asset path that the reader may see; empty for everything."""

    def matches(self, key: SeriesKey) -> bool:
        """Tell whether a series is meant; `matcher` is quicker for many."""
        return self.matcher()(key)

    def matcher(self) -> Callable[[SeriesKey], bool]:
        """Return a function that tells whether a series is meant; it remembers assets and signals that it saw."""
        tests = tuple(asset_matcher(one) for one in self.assets)
        within, signals = self.within, self.signals

        @cache
        def asset_meant(asset: str) -> bool:
            return (not within or below(asset, within)) and (
                not tests or any(matches(asset) for matches in tests)
            )

        @cache
        def signal_meant(signal: str) -> bool:
            return not signals or any(fnmatchcase(signal, glob) for glob in signals)

        return lambda key: asset_meant(key.asset) and signal_meant(key.signal)


def below(asset: str, path: str) -> bool:
    """Tell whether ``asset`` is ``path`` or lies below it; everything lies below the empty path."""
    return not path or asset == path or asset.startswith(path + "/")


def is_glob(text: str) -> bool:
    """Tell whether a text is a glob over asset paths and not a plain path."""
    return "*" in text or "?" in text


def asset_matcher(text: str) -> Callable[[str], bool]:
    """Return what tells whether an asset is meant by a path or by a glob over paths.

    A plain path means itself and everything below it. In a glob ``*`` stands for any run of characters inside one
    segment, ``?`` for one character, and a segment ``**`` for any number of segments, none included; it has to
    match the whole path: ``acme/*/moulding/**`` is the moulding area of every site with all below it.
    """
    if not is_glob(text):
        return lambda asset: below(asset, text)
    pattern = re.compile(_expression(text))
    return lambda asset: pattern.fullmatch("/" + asset) is not None


def _expression(glob: str) -> str:
    """Return a pattern for a path with a slash in front."""
    # The slash in front of every segment belongs to it: so "**" can stand for none at all, wherever it stands.
    runs: list[list[str]] = [[]]
    for segment in glob.split("/"):
        if segment == "**":
            runs.append([])
        else:
            runs[-1].append(_segment(segment))
    return _with_gaps(["".join(run) for run in runs], "(?:/[^/]++)*")


def _segment(glob: str) -> str:
    pieces = [
        "".join(_WILD.get(letter) or re.escape(letter) for letter in piece) for piece in glob.split("*")
    ]
    # The next segment, or the end, is looked for at once: else a whole run of segments would be tried with its begin.
    return "/" + _with_gaps(pieces, "[^/]*") + "(?![^/])"


def _with_gaps(pieces: list[str], gap: str) -> str:
    """Join patterns by what may lie between them.

    A piece may as well match as early as it can, if another gap follows; an atomic group never tries a later place
    again (`fnmatch.translate` does so, too). Without it a dozen stars in a glob keep a processor busy for hours.
    """
    first, *others = pieces
    if not others:
        return first
    early = "".join(f"(?>{gap}?{piece})" for piece in others[:-1] if piece)
    return f"{first}{early}{gap}{others[-1]}"


_WILD: Final = {"?": "[^/]"}
