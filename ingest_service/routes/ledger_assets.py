"""``GET /v1/ledger/assets``: what there is of single machines, by their own time."""

from __future__ import annotations

from typing import Annotated, Any, Final

import numpy as np
from fastapi import APIRouter, Depends, Query, Request, Response

from ingest_service.auth import Identity
from ingest_service.plant import quarantine_pages, spans
from ingest_service.reading import question
from ingest_service.reading.pages import pages
from ingest_service.reading.question import Unanswerable
from ingest_service.routes import Refused, check_asset, json_response, reader, service_of
from ingest_service.stores import Selector, TimeSpan, below

router = APIRouter(tags=["readers"])
Reader = Annotated[Identity, Depends(reader)]
_MOST: Final = 50_000_000
"""Samples that one answer counts."""
_GAPS: Final = 1000
_EXAMPLE: Final = {
    "from": 1763770000000,
    "to": 1763778000000,
    "assets": [
        {
            "asset": "acme/hk01/moulding/cell-a/imm-01",
            "stored": 4711,
            "readmitted": 0,
            "quarantined": 2,
            "source_gaps": 1,
        }
    ],
    "source_gaps": [
        {
            "agent": "hk01-gateway",
            "source": "imm-01",
            "asset": "acme/hk01/moulding/cell-a/imm-01",
            "from": 1763771000000,
            "to": 1763771060000,
            "samples": 0,
            "at_least": True,
            "reason": "no history",
        }
    ],
}


@router.get("/v1/ledger/assets", responses={200: {"content": {"application/json": {"example": _EXAMPLE}}}})
async def get_assets(
    request: Request,
    identity: Reader,
    asset: Annotated[str, Query(description="Asset path: it and all below it", max_length=400)],
    begin: Annotated[
        str, Query(alias="from", description="Source time: ms since 1970, or ISO 8601", max_length=60)
    ],
    end: Annotated[str, Query(alias="to", description="and before", max_length=60)],
) -> Response:
    """Count what is stored of assets and what lies in quarantine, and name the gaps of their sources."""
    service = service_of(request)
    check_asset(asset, identity)
    try:
        span = question.span_of(begin, end, service.clock_ns())
    except Unanswerable as error:
        raise Refused(400, {"error": str(error)}) from error
    stored = await _stored(request, Selector((asset,), within=identity.asset), span)
    aside = await service.plant.run(
        quarantine_pages.by_asset, service.plant.engine, asset, identity.asset, span.from_ns, span.to_ns
    )
    rows = await service.plant.run(spans.source_gaps, service.plant.engine, span.from_ns, span.to_ns, _GAPS)
    gaps = [
        row for row in rows if row["asset"] and (below(row["asset"], asset) or below(asset, row["asset"]))
    ]
    return json_response(
        {
            "from": span.from_ns // 1_000_000,
            "to": span.to_ns // 1_000_000,
            "assets": [
                {
                    "asset": one,
                    "stored": stored.get(one, 0),
                    "readmitted": aside.get(one, (0, 0))[1],
                    "quarantined": aside.get(one, (0, 0))[0],
                    "source_gaps": sum(below(one, gap["asset"]) for gap in gaps),
                }
                for one in sorted({*stored, *aside})
            ],
            "source_gaps": [_shown(gap) for gap in gaps],
        }
    )


async def _stored(request: Request, selector: Selector, span: TimeSpan) -> dict[str, int]:
    counts: dict[str, int] = {}
    left = _MOST
    async for raw in pages(service_of(request).store, selector, span):
        left -= len(raw.block)
        if left < 0:
            raise Refused(
                400, {"error": f"more than {_MOST} samples: ask for less time, or for fewer assets"}
            )
        numbers = np.bincount(raw.block.series_index, minlength=len(raw.block.series)).tolist()
        for key, count in zip(raw.block.series, numbers, strict=True):
            counts[str(key.asset)] = counts.get(str(key.asset), 0) + count
    return counts


def _shown(gap: dict[str, Any]) -> dict[str, Any]:
    return {
        "agent": gap["agent_id"],
        "source": gap["source"],
        "asset": gap["asset"],
        "from": gap["from_time"] // 1_000_000,
        "to": gap["to_time"] // 1_000_000,
        "samples": gap["count"],
        "at_least": bool(gap["at_least"]),
        "reason": gap["reason"],
    }
