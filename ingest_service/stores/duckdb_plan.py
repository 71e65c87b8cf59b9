"""Which parts are to be rewritten as one: a pure function of the catalogue."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Final

from ingest_service.stores.duckdb_catalog import DAY_NS, Part

FAN: Final = 8
"""So many runs of about the same size become one: each row is rewritten log8 times."""
_QUIET_NS: Final = 600 * 1_000_000_000
_GRACE_NS: Final = 3600 * 1_000_000_000


def runs_of(parts: Iterable[Part]) -> list[list[Part]]:
    """Return parts that have files by their run, the largest run first."""
    runs: dict[int, list[Part]] = {}
    for part in parts:
        if part.file is not None:
            runs.setdefault(part.run, []).append(part)
    return sorted(runs.values(), key=_samples, reverse=True)


def plan_merge(parts: Iterable[Part], now_ns: int, *, everything: bool = False) -> Sequence[Part] | None:
    """Choose parts of one day and retention rule that are worth being rewritten as one run; None where none are.

    While a day goes on, FAN runs of a size become one. When it is over and nothing has come for ten minutes, what is
    left becomes one run, unless little lies beside much: late rows wait for a day, or until they are a tenth.

    Args:
        parts: the catalogue.
        now_ns: UTC ns.
        everything: do not wait for anything; one run a day.
    """
    days: dict[tuple[int, str], list[Part]] = {}
    for part in parts:
        days.setdefault((part.day, part.keeping), []).append(part)
    for (day, _), members in sorted(days.items()):
        runs = runs_of(members)
        if len(runs) < 2:
            continue
        if everything or _is_over(day, runs, now_ns):
            return [part for run in runs for part in run]
        chosen = _of_one_size(runs)
        if chosen:
            return [part for run in chosen for part in run]
    return None


def _is_over(day: int, runs: list[list[Part]], now_ns: int) -> bool:
    made = [part.made_at for run in runs for part in run]
    if (day + 1) * DAY_NS + _GRACE_NS > now_ns or max(made) + _QUIET_NS > now_ns:
        return False
    late = runs[1:]
    oldest = min(part.made_at for run in late for part in run)
    return sum(map(_samples, late)) * 10 >= _samples(runs[0]) or oldest + DAY_NS <= now_ns


def _of_one_size(runs: list[list[Part]]) -> list[list[Part]]:
    tiers: dict[int, list[list[Part]]] = {}
    for run in runs:
        tiers.setdefault(int(math.log(max(1, _samples(run)), FAN)), []).append(run)
    for tier in sorted(tiers):
        smaller = [run for other in tiers if other <= tier for run in tiers[other]]
        if len(tiers[tier]) >= FAN:
            return smaller
    return []


def _samples(run: Sequence[Part]) -> int:
    return sum(part.samples for part in run)
