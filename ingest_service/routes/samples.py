"""``GET /v1/samples``: the past, raw, thinned or in buckets, as JSON, CSV, Arrow, Parquet or blocks of our own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any, Final, Literal, NamedTuple

import numpy as np
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from ingest_service.reading import aggregates, question, tables
from ingest_service.reading.pages import pages
from ingest_service.reading.question import Unanswerable
from ingest_service.reading.slots import NoSlot, Slot, Slots
from ingest_service.reading.thinning import thinned
from ingest_service.routes import Refused, json_response, service_of
from ingest_service.routes.series import Assets, Reader, Signals, selector_of, values_of
from ingest_service.service import Service
from ingest_service.stores import Buckets, Grid, Position, Raw, Selector, TimeSpan
from shopfloor.errors import StoreUnavailable
from shopfloor.wire import encode_block

BLOCK_MEDIA_TYPE: Final = "application/vnd.shopfloor.block"
_BLOCK_ROWS: Final = 100_000

router = APIRouter(tags=["readers"])
Moment = Annotated[str | None, Query(description="ms since 1970, or ISO 8601", examples=["1763778000000"])]
Every = Annotated[
    str | None,
    Query(description="Width of a bucket: seconds, or 250ms, 15m, 1h, 1d, 1w, 1mo, 1y", examples=["1h"]),
]
Names = Annotated[
    list[str] | None,
    Query(
        description=f"Aggregates of each bucket: {', '.join(aggregates.AGGREGATES)}", examples=["mean,max"]
    ),
]
Form = Literal["json", "csv", "arrow", "parquet"]
_ANSWERS: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "Samples or aggregates",
        "content": {
            "application/json": {"example": {"series": [], "truncated": False, "next": None}},
            **{kind: {} for kind in (tables.CSV, tables.ARROW, tables.PARQUET, BLOCK_MEDIA_TYPE)},
        },
    },
    400: {"description": "The question makes no sense, or asks for too much; `error` says what of it"},
    429: {"description": "Too many large answers are on their way; see Retry-After"},
    503: {"description": "The store does not answer now; see Retry-After"},
}


class _Asked(NamedTuple):
    service: Service
    selector: Selector
    span: TimeSpan
    form: str
    slots: Slots


@router.get("/v1/samples", responses=_ANSWERS)
async def get_samples(
    request: Request,
    identity: Reader,
    asset: Assets = None,
    signal: Signals = None,
    begin: Annotated[Moment, Query(alias="from")] = None,
    end: Annotated[Moment, Query(alias="to")] = None,
    points: Annotated[
        int | None, Query(ge=1, le=100_000, description="Buckets, or samples, of a series")
    ] = None,
    every: Every = None,
    time_zone: Annotated[str, Query(description="Whose days, weeks, months; IANA name", max_length=60)] = "",
    aggregate: Names = None,
    thin: Annotated[
        Literal["lttb"] | None, Query(description="Keep `points` samples that shape the line")
    ] = None,
    limit: Annotated[int | None, Query(ge=1, description="Samples in one answer")] = None,
    cursor: Annotated[str | None, Query(description="`next` of the answer before", max_length=4000)] = None,
    form: Annotated[Form | None, Query(alias="format", description="Default: by Accept, else json")] = None,
) -> Response:
    """Return the samples of a span (the last hour by default), raw or in buckets."""
    service = service_of(request)
    selector = selector_of(identity, asset, signal)
    try:
        span = question.span_of(begin, end, service.clock_ns())
        asked = _Asked(service, selector, span, form or _form(request), request.app.state.large_answers)
        _check_together(thin, points if every is None else 1, every, cursor, limit)
        if thin is not None:
            return await _thinned(asked, points or 500)
        if points is not None or every is not None:
            names = aggregates.chosen(aggregate or ())
            if span.from_ns == span.to_ns:
                return _no_buckets(names, asked.form)
            grid = (
                question.grid_of(span, question.width_of(every), time_zone)
                if every is not None
                else question.points_grid(span, points or 1)
            )
            return await _bucketed(asked, grid, names)
        after = None if cursor is None else question.read_cursor(cursor)
        if BLOCK_MEDIA_TYPE in request.headers.get("accept", ""):
            return await _blocks(asked, whole=cursor is None and limit is None)
        if asked.form != "json":
            return await _exported(asked, limit, after)
        return await _listed(asked, limit, after)
    except Unanswerable as error:
        raise Refused(400, {"error": str(error)}) from error
    except NoSlot as error:
        raise Refused(429, {"error": str(error)}, {"Retry-After": "2"}) from error
    except StoreUnavailable as error:
        raise Refused(503, {"error": "store_unavailable"}, {"Retry-After": "2"}) from error


class _Held(StreamingResponse):
    """A stream that gives its slot back when it has ended, however it does."""

    def __init__(self, slot: Slot, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._slot = slot

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._slot.release()


def _check_together(
    thin: str | None, points: int | None, every: str | None, cursor: str | None, limit: int | None
) -> None:
    """Name what would otherwise be ignored in silence."""
    in_pages = "cursor" if cursor is not None else "limit" if limit is not None else ""
    if thin is not None and every is not None:
        raise Unanswerable("thin: it keeps samples, every makes buckets of them; one of the two")
    if in_pages and (thin is not None or points is not None):
        raise Unanswerable(f"{in_pages}: only raw samples come in pages")


def _form(request: Request) -> str:
    accepted = request.headers.get("accept", "")
    return next((form for form, kind in tables.MEDIA_TYPES.items() if kind in accepted), "json")


async def _listed(asked: _Asked, limit: int | None, after: Position | None) -> Response:
    most = asked.service.config.limits.read_samples
    if limit is not None and limit > most:
        raise Unanswerable(
            f"limit: a JSON answer has at most {most} samples; csv, arrow and parquet have no bound"
        )
    raw = await asked.service.store.read(asked.selector, asked.span, limit or most, after)
    place = raw.position(after) if raw.truncated else None
    following = None if place is None else question.cursor_text(place)
    return await _json(asked, raw, following)


async def _thinned(asked: _Asked, points: int) -> Response:
    most = asked.service.config.limits.export_samples
    slot = asked.slots.take()
    try:
        raw = await asked.service.store.read(asked.selector, asked.span, most)
        if raw.truncated:
            raise Unanswerable(
                f"thin: more than {most} samples; ask for a shorter span, or for buckets (every, points)"
            )
        raw = await asyncio.to_thread(thinned, raw, points)
    finally:
        slot.release()
    if asked.form == "json":
        return await _json(asked, raw, None)
    return _stream(_one(tables.sample_batches(raw, asked.form)), tables.SAMPLE_SCHEMA, asked.form)


async def _exported(asked: _Asked, limit: int | None, after: Position | None) -> Response:
    slot = asked.slots.take()
    found = pages(asked.service.store, asked.selector, asked.span, limit, after)
    try:
        # Asked for before the answer begins: what fails now can still be said with a status.
        first = await anext(found)
    except BaseException:
        slot.release()
        raise

    async def batches() -> AsyncIterator[Any]:
        raw: Raw | None = first
        while raw is not None:
            # The next page is read while this one is on its way.
            following = asyncio.create_task(_next(found))
            try:
                yield tables.sample_batches(raw, asked.form)
                raw = await following
            finally:
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)

    return _stream(batches(), tables.SAMPLE_SCHEMA, asked.form, slot)


async def _next(found: AsyncIterator[Raw]) -> Raw | None:
    return await anext(found, None)


async def _bucketed(asked: _Asked, grid: Grid, names: tuple[str, ...]) -> Response:
    service = asked.service
    buckets = await service.store.downsample(asked.selector, grid, service.config.limits.read_samples)
    before = None
    if aggregates.needs_before(names) and len(buckets.bucket):
        before = await service.store.before(asked.selector, grid.span.from_ns, aggregates.BEFORE_NS)
    # Large answers take tenths of a second: too long for the event loop.
    return await asyncio.to_thread(_aggregated, asked, buckets, before, names)


def _aggregated(asked: _Asked, buckets: Buckets, before: Raw | None, names: tuple[str, ...]) -> Response:
    service = asked.service
    columns = aggregates.columns_of(buckets, names, before, now_ns=service.clock_ns())
    if "bad" not in names:
        # Buckets that hold nothing but BAD samples have no values to show.
        shown = np.flatnonzero(buckets.partials.count)
        buckets, columns = _only(buckets, shown), {name: column[shown] for name, column in columns.items()}
    if asked.form != "json":
        batch = tables.bucket_batch(buckets, columns)
        return _stream(_one([batch]), batch.schema, asked.form)
    edges = np.searchsorted(buckets.series_index, np.arange(len(buckets.series) + 1)).tolist()
    starts = buckets.start // 1_000_000
    return json_response(
        {
            "series": [
                {
                    "id": one.id,
                    "asset": str(one.key.asset),
                    "signal": one.key.signal,
                    "unit": service.unit(one.key),
                    "t": starts[start:stop].tolist(),
                    **{name: column[start:stop].tolist() for name, column in columns.items()},
                }
                for one, start, stop in zip(buckets.series, edges, edges[1:], strict=False)
            ],
            "truncated": buckets.truncated,
        }
    )


def _no_buckets(names: tuple[str, ...], form: str) -> Response:
    if form == "json":
        return json_response({"series": [], "truncated": False})
    return _stream(_none(), tables.bucket_schema(names), form)


def _only(buckets: Buckets, rows: Any) -> Buckets:
    return Buckets(
        buckets.series,
        buckets.series_index[rows],
        buckets.bucket[rows],
        buckets.grid,
        buckets.partials.take(rows),
        buckets.truncated,
    )


async def _blocks(asked: _Asked, *, whole: bool) -> Response:
    if not whole:
        raise Unanswerable("cursor, limit: blocks come as a whole")
    slot = asked.slots.take()
    try:
        raw = await asked.service.store.read(
            asked.selector, asked.span, asked.service.config.limits.export_samples
        )
    except BaseException:
        slot.release()
        raise

    async def encoded() -> AsyncIterator[bytes]:
        # Length-prefixed; each is a message of the wire format.
        for start in range(0, max(1, len(raw.block)), _BLOCK_ROWS):
            rows = np.arange(start, min(start + _BLOCK_ROWS, len(raw.block)))
            message = await asyncio.to_thread(encode_block, raw.block.take(rows))
            yield len(message).to_bytes(4, "little") + message

    headers = {"Shopfloor-Truncated": str(raw.truncated).lower()}
    return _Held(slot, encoded(), headers=headers, media_type=BLOCK_MEDIA_TYPE)


def _stream(batches: AsyncIterator[Any], schema: Any, form: str, slot: Slot | None = None) -> Response:
    headers = {"Content-Disposition": f'attachment; filename="samples.{form}"'}
    content, kind = tables.encoded(batches, schema, form), tables.MEDIA_TYPES[form]
    if slot is None:
        return StreamingResponse(content, headers=headers, media_type=kind)
    return _Held(slot, content, headers=headers, media_type=kind)


async def _one(batch: Any) -> AsyncIterator[Any]:
    yield batch


async def _none() -> AsyncIterator[Any]:
    nothing: tuple[Any, ...] = ()
    for batch in nothing:
        yield batch


async def _json(asked: _Asked, raw: Raw, following: str | None) -> Response:
    def made() -> Response:
        return json_response(
            {"series": _series(asked.service, raw), "truncated": raw.truncated, "next": following}
        )

    # Large answers take tenths of a second: too long for the event loop.
    return await asyncio.to_thread(made)


def _series(service: Service, raw: Raw) -> list[dict[str, Any]]:
    block = raw.block
    values = values_of(raw)
    edges = np.searchsorted(block.series_index, np.arange(len(raw.series) + 1)).tolist()
    return [
        {
            "id": one.id,
            "asset": str(one.key.asset),
            "signal": one.key.signal,
            "unit": service.unit(one.key),
            "t": (block.source_time[start:stop] // 1_000_000).tolist(),
            "value": values[start:stop],
            "quality": block.quality[start:stop].tolist(),
        }
        for one, start, stop in zip(raw.series, edges, edges[1:], strict=False)
    ]
