"""Which series there are, and their newest values."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query, Request, Response

from ingest_service.auth import Identity
from ingest_service.routes import Refused, json_response, reader, service_of
from ingest_service.stores import Raw, Selector

_MAX_SELECTORS: Final = 100

router = APIRouter(tags=["readers"])
Reader = Annotated[Identity, Depends(reader)]
Assets = Annotated[
    list[str] | None,
    Query(description="Asset path (it and all below it), or a glob over paths", examples=["acme/hk01"]),
]
Signals = Annotated[list[str] | None, Query(description="Glob of signal names", examples=["barrel.*"])]


@router.get("/v1/series")
async def get_series(
    request: Request, identity: Reader, asset: Assets = None, signal: Signals = None
) -> Response:
    """Return the series with their units and descriptions."""
    service = service_of(request)
    found = await service.store.series(selector_of(identity, asset, signal))
    return json_response(
        {
            "series": [
                {
                    "id": one.id,
                    "asset": str(one.key.asset),
                    "signal": one.key.signal,
                    "unit": (
                        declared := service.declared.get((str(one.key.asset), one.key.signal), ("", ""))
                    )[0],
                    "description": declared[1],
                }
                for one in found
            ]
        }
    )


@router.get("/v1/latest")
async def get_latest(
    request: Request, identity: Reader, asset: Assets = None, signal: Signals = None
) -> Response:
    """Return the newest value of each series, as columns."""
    found = await service_of(request).store.latest(selector_of(identity, asset, signal))
    block = found.block
    return json_response(
        {
            "id": [one.id for one in found.series],
            "asset": [str(one.key.asset) for one in found.series],
            "signal": [one.key.signal for one in found.series],
            "t": (block.source_time // 1_000_000).tolist(),
            "value": values_of(found, 0, len(block)),
            "quality": block.quality.tolist(),
        }
    )


def selector_of(identity: Identity, assets: list[str] | None, signals: list[str] | None) -> Selector:
    """Return what a reader asks for, inside what the token reaches; 400 where there is too much of it."""
    if len(assets or ()) > _MAX_SELECTORS or len(signals or ()) > _MAX_SELECTORS:
        raise Refused(400, {"error": f"at most {_MAX_SELECTORS} assets and signals"})
    return Selector(tuple(assets or ()), tuple(signals or ()), identity.asset)


def values_of(raw: Raw, start: int, stop: int) -> list[float | str]:
    """Return the values of some rows as JSON has them: numbers, texts, NaN for null."""
    values: list[float | str] = raw.block.value[start:stop].tolist()
    for row, text in raw.block.text.items():
        if start <= row < stop:
            values[row - start] = text
    return values
