"""Recorded gaps: what the agents and the service say will not come, counted over the kills of a run."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

import httpx

from simulators.demo.parts import INGEST
from simulators.demo.plan import Plan

_SOURCE_GAPS: Final = re.compile(
    r'^shopfloor_source_events_total\{[^}]*what="gap"[^}]*\} (\S+)$', re.MULTILINE
)
_STREAM_GAPS: Final = re.compile(r"^shopfloor_ingest_gaps_total (\S+)$", re.MULTILINE)


class GapCount:
    """Adds up the parts' counters, which begin anew with each process. Not for several threads."""

    def __init__(self, plan: Plan, *, transport: httpx.BaseTransport | None = None) -> None:
        self._client = httpx.Client(timeout=2.0, trust_env=False, transport=transport)
        self._read: dict[str, Callable[[], int]] = {
            site.agent: self._reader(f"http://{plan.status_address(site)}/metrics", _SOURCE_GAPS)
            for site in plan.sites
        }
        self._read[INGEST] = self._reader(f"{plan.url}/metrics", _STREAM_GAPS)
        self._ended = 0

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def before_kill(self, part: str) -> None:
        """Take note of what a part has counted so far."""
        if part in self._read:
            self._ended += self._read[part]()

    def total(self) -> int:
        """Return all gaps that were recorded, by sources at the edge and in streams at the service."""
        return self._ended + sum(read() for read in self._read.values())

    def _reader(self, url: str, pattern: re.Pattern[str]) -> Callable[[], int]:
        def read() -> int:
            try:
                text = self._client.get(url).text
            except httpx.HTTPError:
                return 0
            return sum(round(float(number)) for number in pattern.findall(text))

        return read
