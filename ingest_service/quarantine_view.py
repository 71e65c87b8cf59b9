"""A quarantined sample as JSON and CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping
from typing import Any, Final

COLUMNS: Final = (
    "stream", "seq", "agent", "reason", "quarantined", "asset", "signal", "source_time_ns", "received_time_ns",
    "value", "text", "quality", "status", "readmitted", "readmitted_by",
)  # fmt: skip
EXAMPLE: Final = {
    "stream": "9f8e7d",
    "seq": 4711,
    "agent": "hk01-gateway",
    "reason": "outside_scope",
    "quarantined": 1763778000123,
    "asset": "acme/dg01/moulding/cell-a/imm-07",
    "signal": "barrel.zone_1.temperature",
    "source_time_ns": 1763777999000000000,
    "received_time_ns": 1763777999050000000,
    "value": 231.5,
    "text": None,
    "quality": 0,
    "status": 0,
    "readmitted": None,
    "readmitted_by": "",
}


def shown(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a sample as JSON; an infinity, which JSON does not know, as text."""
    value = row["value"]
    return {
        "stream": row["stream_id"],
        "seq": row["seq"],
        "agent": row["agent_id"],
        "reason": row["reason"],
        "quarantined": row["quarantined_at"] // 1_000_000,
        "asset": row["asset"],
        "signal": row["signal"],
        "source_time_ns": row["source_time"],
        "received_time_ns": row["received_time"],
        "value": value if value is None or math.isfinite(value) else f"{value:+}",
        "text": row["text"],
        "quality": row["quality"],
        "status": row["status"],
        "readmitted": None if row["readmitted_at"] is None else row["readmitted_at"] // 1_000_000,
        "readmitted_by": row["readmitted_by"],
    }


def csv_lines(rows: Iterable[Iterable[Any]]) -> bytes:
    """Return rows as lines of CSV (RFC 4180, but for line ends)."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()
