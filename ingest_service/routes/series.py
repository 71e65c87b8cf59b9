"""Reading samples: which series there are, their newest values, their past."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterator
from typing import Annotated, Any, Final

import numpy as np
from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import StreamingResponse

from ingest_service.auth import Identity
from ingest_service.routes import Refused, json_response, reader, service_of
from ingest_service.service import Service
from ingest_service.stores import Buckets, Raw, Selector, TimeSpan, regular_grid
from shopfloor.errors import StoreUnavailable
from shopfloor.wire import encode_block

BLOCK_MEDIA_TYPE: Final = "application/vnd.shopfloor.block"
_BLOCK_ROWS: Final = 100_000
_MAX_MS: Final = 2**63 // 1_000_000 - 1
_HOUR_MS: Final = 3_600_000
_MAX_SELECTORS: Final = 100

router = APIRouter(tags=["readers"])
Reader = Annotated[Identity, Depends(reader)]
Assets = Annotated[
    list[str] | None, Query(description="Asset path: it and all below it", examples=["acme/hk01"])
]
Signals = Annotated[list[str] | None, Query(description="Glob of signal names", examples=["barrel.*"])]
Moment = Annotated[str | None, Query(description="ms since 1970, or ISO 8601", examples=["1763778000000"])]


@router.get("/v1/series")
async def get_series(
    request: Request, identity: Reader, asset: Assets = None, signal: Signals = None
) -> Response:
    """Return the series with their units and descriptions."""
    service = service_of(request)
    found = await service.store.series(_selector(identity, asset, signal))
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
    found = await service_of(request).store.latest(_selector(identity, asset, signal))
    block = found.block
    return json_response(
        {
            "id": [one.id for one in found.series],
            "asset": [str(one.key.asset) for one in found.series],
            "signal": [one.key.signal for one in found.series],
            "t": (block.source_time // 1_000_000).tolist(),
            "value": _values(found, 0, len(block)),
            "quality": block.quality.tolist(),
        }
    )


@router.get("/v1/samples")
async def get_samples(
    request: Request,
    identity: Reader,
    asset: Assets = None,
    signal: Signals = None,
    begin: Annotated[Moment, Query(alias="from")] = None,
    end: Annotated[Moment, Query(alias="to")] = None,
    points: Annotated[int | None, Query(ge=1, le=100_000, description="Buckets in the span")] = None,
    every: Annotated[float | None, Query(gt=0, le=1e9, description="Width of a bucket in seconds")] = None,
) -> Response:
    """Return the samples of a span (the last hour by default), raw or in buckets."""
    service = service_of(request)
    selector = _selector(identity, asset, signal)
    span = _span(begin, end, service.clock_ns())
    limits = service.config.limits
    try:
        if points is not None or every is not None:
            width = span.to_ns - span.from_ns
            every_ns = int(every * 1e9) if every is not None else -(-width // (points or 1))
            every_ns = max(1, every_ns)
            if span.from_ns == span.to_ns:
                return json_response({"series": [], "truncated": False})
            try:
                grid = regular_grid(span, every_ns)
            except ValueError as error:
                raise Refused(400, {"error": f"every: {error}"}) from error
            buckets = await service.store.downsample(selector, grid, limits.read_samples)
            return json_response(_bucketed(service, buckets))
        if BLOCK_MEDIA_TYPE in request.headers.get("accept", ""):
            raw = await service.store.read(selector, span, limits.export_samples)
            headers = {"Shopfloor-Truncated": str(raw.truncated).lower()}
            return StreamingResponse(_blocks(raw), headers=headers, media_type=BLOCK_MEDIA_TYPE)
        raw = await service.store.read(selector, span, limits.read_samples)
    except StoreUnavailable as error:
        raise Refused(503, {"error": "store_unavailable"}, {"Retry-After": "2"}) from error
    return json_response({"series": _raw(service, raw), "truncated": raw.truncated})


def _selector(identity: Identity, assets: list[str] | None, signals: list[str] | None) -> Selector:
    if len(assets or ()) > _MAX_SELECTORS or len(signals or ()) > _MAX_SELECTORS:
        raise Refused(400, {"error": f"at most {_MAX_SELECTORS} assets and signals"})
    return Selector(tuple(assets or ()), tuple(signals or ()), identity.asset)


def _span(begin: str | None, end: str | None, now_ns: int) -> TimeSpan:
    to_ms = _moment("to", end) if end else now_ns // 1_000_000 + 1
    from_ms = _moment("from", begin) if begin else to_ms - _HOUR_MS
    if from_ms > to_ms:
        raise Refused(400, {"error": "from lies after to"})
    return TimeSpan(from_ms * 1_000_000, to_ms * 1_000_000)


def _moment(name: str, text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        try:
            # A "+" of an offset arrives as a space where the client did not escape it.
            moment = dt.datetime.fromisoformat(text.replace(" ", "+") if "T" in text else text)
            aware = moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
            number = round(aware.timestamp() * 1000)
        except (ValueError, OverflowError) as error:
            raise Refused(400, {"error": f"{name}: neither ms since 1970 nor ISO 8601"}) from error
    if abs(number) > _MAX_MS:
        raise Refused(400, {"error": f"{name}: out of range"})
    return number


def _values(raw: Raw, start: int, stop: int) -> list[float | str]:
    values: list[float | str] = raw.block.value[start:stop].tolist()
    for row, text in raw.block.text.items():
        if start <= row < stop:
            values[row - start] = text
    return values


def _raw(service: Service, raw: Raw) -> list[dict[str, Any]]:
    block = raw.block
    edges = np.searchsorted(block.series_index, np.arange(len(raw.series) + 1)).tolist()
    return [
        {
            "id": one.id,
            "asset": str(one.key.asset),
            "signal": one.key.signal,
            "unit": service.unit(one.key),
            "t": (block.source_time[start:stop] // 1_000_000).tolist(),
            "value": _values(raw, start, stop),
            "quality": block.quality[start:stop].tolist(),
        }
        for one, start, stop in zip(raw.series, edges, edges[1:], strict=False)
    ]


def _bucketed(service: Service, buckets: Buckets) -> dict[str, Any]:
    # Buckets that hold nothing but BAD samples have no values to show.
    shown = np.flatnonzero(buckets.partials.count)
    partials = buckets.partials.take(shown)
    edges = np.searchsorted(buckets.series_index[shown], np.arange(len(buckets.series) + 1)).tolist()
    columns = {
        "t": buckets.start[shown] // 1_000_000,
        "count": partials.count,
        "min": partials.minimum,
        "max": partials.maximum,
        "mean": partials.mean,
        "first": partials.first,
        "last": partials.last,
    }
    return {
        "series": [
            {
                "id": one.id,
                "asset": str(one.key.asset),
                "signal": one.key.signal,
                "unit": service.unit(one.key),
                **{name: column[start:stop].tolist() for name, column in columns.items()},
            }
            for one, start, stop in zip(buckets.series, edges, edges[1:], strict=False)
        ],
        "truncated": buckets.truncated,
    }


async def _blocks(raw: Raw) -> AsyncIterator[bytes]:
    """Yield length-prefixed blocks; each is a message of the wire format."""
    for start in range(0, max(1, len(raw.block)), _BLOCK_ROWS):
        rows = np.arange(start, min(start + _BLOCK_ROWS, len(raw.block)))
        message = await asyncio.to_thread(encode_block, raw.block.take(rows))
        yield len(message).to_bytes(4, "little") + message
