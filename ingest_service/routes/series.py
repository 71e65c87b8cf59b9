"""Which series there are, and their newest values."""

from __future__ import annotations

import asyncio
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query, Request, Response

from ingest_service.auth import Identity
from ingest_service.routes import Refused, json_response, reader, service_of
from ingest_service.stores import Raw, Selector

_MAX_SELECTORS: Final = 100
_MAX_SELECTOR_CHARACTERS: Final = 1000

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

    def made() -> Response:
        declared = [service.declared.get((str(one.key.asset), one.key.signal), ("", "")) for one in found]
        return json_response(
            {
                "series": [
                    {
                        "id": one.id,
                        "asset": str(one.key.asset),
                        "signal": one.key.signal,
                        "unit": unit,
                        "description": description,
                    }
                    for one, (unit, description) in zip(found, declared, strict=True)
                ]
            }
        )

    # A hundred thousand of them take tenths of a second: too long for the event loop.
    return await asyncio.to_thread(made)


@router.get("/v1/latest")
async def get_latest(
    request: Request, identity: Reader, asset: Assets = None, signal: Signals = None
) -> Response:
    """Return the newest value of each series, as columns."""
    found = await service_of(request).store.latest(selector_of(identity, asset, signal))

    def made() -> Response:
        block = found.block
        return json_response(
            {
                "id": [one.id for one in found.series],
                "asset": [str(one.key.asset) for one in found.series],
                "signal": [one.key.signal for one in found.series],
                "t": (block.source_time // 1_000_000).tolist(),
                "value": values_of(found),
                "quality": block.quality.tolist(),
            }
        )

    return await asyncio.to_thread(made)


def selector_of(identity: Identity, assets: list[str] | None, signals: list[str] | None) -> Selector:
    """Return what a reader asks for, inside what the token reaches; 400 where there is too much of it."""
    if len(assets or ()) > _MAX_SELECTORS or len(signals or ()) > _MAX_SELECTORS:
        raise Refused(400, {"error": f"at most {_MAX_SELECTORS} assets and signals"})
    if any(len(text) > _MAX_SELECTOR_CHARACTERS for text in (*(assets or ()), *(signals or ()))):
        raise Refused(400, {"error": f"a selector has at most {_MAX_SELECTOR_CHARACTERS} characters"})
    return Selector(tuple(assets or ()), tuple(signals or ()), identity.asset)


def values_of(raw: Raw) -> list[float | str]:
    """Return the values of all rows as JSON has them: numbers, texts, NaN for null."""
    values: list[float | str] = raw.block.value.tolist()
    for row, text in raw.block.text.items():
        values[row] = text
    return values
