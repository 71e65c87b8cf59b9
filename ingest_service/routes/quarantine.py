"""``/v1/quarantine``: samples that were refused; to look at, to take along, to store after all, to throw away."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any, Final, Literal

import msgspec
from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.responses import StreamingResponse

from ingest_service.auth import Identity
from ingest_service.openapi import json_body
from ingest_service.plant import quarantine_pages
from ingest_service.plant.quarantine_pages import ANY_TIME, Filter, State, place_of
from ingest_service.quarantine_view import COLUMNS, EXAMPLE, csv_lines, shown
from ingest_service.reading import question
from ingest_service.reading.question import Unanswerable
from ingest_service.routes import (
    Refused,
    json_response,
    message_of,
    note,
    operator,
    reader,
    service_of,
)
from ingest_service.service import Service
from shopfloor.messages import Seq

router = APIRouter(prefix="/v1/quarantine", tags=["quarantine"])
Reader = Annotated[Identity, Depends(reader)]
Operator = Annotated[Identity, Depends(operator)]
Moment = Annotated[str | None, Query(description="ms since 1970, or ISO 8601", examples=["1763778000000"])]
Text = Annotated[str, Query(max_length=600)]
_PAGE: Final = 1000
_EXPORTED_AT_ONCE: Final = 2000


class Selection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of an act: which samples. At least one of its fields has to say so, or ``all``."""

    stream: str = ""
    seq: Seq | None = None
    """One sample of ``stream``."""
    agent: str = ""
    reason: str = ""
    asset: str = ""
    from_: int | str | None = msgspec.field(default=None, name="from")
    """Quarantined at or after: ms, or ISO 8601."""
    to: int | str | None = None
    state: Literal["waiting", "readmitted"] = "waiting"
    """Only for a purge."""
    all: bool = False
    """Everything in reach."""


def _answer(example: object) -> dict[int | str, dict[str, Any]]:
    return {200: {"content": {"application/json": {"example": example}}}}


@router.get("", responses=_answer({"samples": [EXAMPLE], "next": None}))
async def get_quarantine(
    request: Request,
    identity: Reader,
    stream: Text = "",
    agent: Text = "",
    reason: Text = "",
    asset: Text = "",
    begin: Annotated[Moment, Query(alias="from")] = None,
    end: Annotated[Moment, Query(alias="to")] = None,
    state: State = "waiting",
    limit: Annotated[int, Query(ge=1, le=_PAGE)] = 100,
    cursor: Annotated[str | None, Query(max_length=400)] = None,
) -> Response:
    """List quarantined samples, newest first."""
    service = service_of(request)
    chosen = _filter(service, identity, stream, agent, reason, asset, begin, end, state)
    try:
        after = None if cursor is None else quarantine_pages.read_place(cursor)
    except ValueError as error:
        raise Refused(400, {"error": f"cursor: {error}"}) from error
    rows = await service.plant.run(
        quarantine_pages.page, service.plant.engine, chosen, limit + 1, after, newest_first=True
    )
    more = len(rows) > limit
    return json_response(
        {
            "samples": [shown(row) for row in rows[:limit]],
            "next": str(place_of(rows[limit - 1])) if more else None,
        }
    )


@router.get(
    "/summary",
    responses=_answer(
        {
            "groups": [
                {
                    "agent": "hk01-gateway",
                    "reason": "outside_scope",
                    "samples": 17,
                    "first": 1763778000123,
                    "last": 1763778000999,
                }
            ]
        }
    ),
)
async def get_summary(request: Request, identity: Reader, state: State = "waiting") -> Response:
    """Return how many samples lie in quarantine, by agent and reason."""
    service = service_of(request)
    chosen = _filter(service, identity, state=state)
    rows = await service.plant.run(quarantine_pages.summary, service.plant.engine, chosen)
    groups = [
        {
            "agent": row["agent_id"],
            "reason": row["reason"],
            "samples": row["samples"],
            "first": row["first"] // 1_000_000,
            "last": row["last"] // 1_000_000,
        }
        for row in rows
    ]
    return json_response({"groups": groups})


@router.get(
    "/export",
    responses={
        200: {
            "description": "All of it, oldest first, as it is read",
            "content": {"application/x-ndjson": {"example": EXAMPLE}, "text/csv": {}},
        }
    },
)
async def get_export(
    request: Request,
    identity: Reader,
    stream: Text = "",
    agent: Text = "",
    reason: Text = "",
    asset: Text = "",
    begin: Annotated[Moment, Query(alias="from")] = None,
    end: Annotated[Moment, Query(alias="to")] = None,
    state: State = "all",
    form: Annotated[Literal["jsonl", "csv"], Query(alias="format")] = "jsonl",
) -> Response:
    """Return all quarantined samples as JSON lines or CSV."""
    service = service_of(request)
    chosen = _filter(service, identity, stream, agent, reason, asset, begin, end, state)
    # The first page is read before the answer begins: an unavailable store is an answer of its own.
    first = await service.plant.run(quarantine_pages.page, service.plant.engine, chosen, _EXPORTED_AT_ONCE)
    kind = "text/csv; charset=utf-8" if form == "csv" else "application/x-ndjson"
    headers = {
        "Content-Disposition": f'attachment; filename="quarantine.{form}"',
        "Cache-Control": "no-store",
    }
    return StreamingResponse(_exported(service, chosen, first, form), media_type=kind, headers=headers)


@router.get("/{stream}/{seq}", responses=_answer(EXAMPLE))
async def get_one(
    request: Request, identity: Reader, stream: str, seq: Annotated[int, Path(ge=0, le=2**62)]
) -> Response:
    """Return one sample with everything that is known of it."""
    service = service_of(request)
    chosen = _filter(service, identity, state="all")
    row = await service.plant.run(quarantine_pages.one, service.plant.engine, stream, seq, chosen)
    if row is None:
        raise Refused(404, {"error": "there is no such sample in quarantine"})
    more = {"readmit_stream": row["readmit_stream"], "readmit_seq": row["readmit_seq"]}
    return json_response(shown(row) | more)


@router.post(
    "/readmit",
    openapi_extra=json_body({"agent": "hk01-gateway", "reason": "outside_scope"}, Selection),
    responses=_answer({"readmitted": 17, "still_refused": {"implausible_time": 2}}),
)
async def post_readmit(request: Request, identity: Operator) -> Response:
    """Let samples go through admission again, by the reach of whoever asks; each is stored once, at the most."""
    service = service_of(request)
    chosen = await _selected(request, identity, "quarantine.readmit")
    done = await service.readmission.readmit(chosen, identity)
    answer = {"readmitted": done.readmitted, "still_refused": dict(done.still_refused)}
    note(request, "quarantine.readmit", chosen.stream or chosen.agent, **_detail(chosen), **answer)
    return json_response(answer)


@router.post(
    "/purge",
    openapi_extra=json_body({"agent": "hk01-gateway", "to": "2026-01-01"}, Selection),
    responses=_answer({"purged": 17}),
)
async def post_purge(request: Request, identity: Operator) -> Response:
    """Throw samples away: they count as dropped from now on."""
    service = service_of(request)
    chosen = await _selected(request, identity, "quarantine.purge")
    purged = await service.readmission.purge(chosen, identity)
    note(request, "quarantine.purge", chosen.stream or chosen.agent, **_detail(chosen), purged=purged)
    return json_response({"purged": purged})


async def _exported(
    service: Service, chosen: Filter, rows: list[dict[str, Any]], form: str
) -> AsyncIterator[bytes]:
    if form == "csv":
        yield csv_lines([COLUMNS])
    while rows:
        samples = [shown(row) for row in rows]
        if form == "csv":
            yield csv_lines([one[name] for name in COLUMNS] for one in samples)
        else:
            yield b"".join(msgspec.json.encode(one) + b"\n" for one in samples)
        rows = await service.plant.run(
            quarantine_pages.page, service.plant.engine, chosen, _EXPORTED_AT_ONCE, place_of(rows[-1])
        )


async def _selected(request: Request, identity: Identity, action: str) -> Filter:
    note(request, action)
    wanted = await message_of(request, Selection)
    service = service_of(request)
    if wanted == Selection(state=wanted.state):
        raise Refused(400, {"error": 'say which samples, or {"all": true}'})
    if wanted.seq is not None and not wanted.stream:
        raise Refused(400, {"error": "seq needs its stream"})
    begin = None if wanted.from_ is None else str(wanted.from_)
    end = None if wanted.to is None else str(wanted.to)
    return _filter(
        service,
        identity,
        wanted.stream,
        wanted.agent,
        wanted.reason,
        wanted.asset,
        begin,
        end,
        wanted.state,
        wanted.seq,
    )


def _filter(
    service: Service,
    identity: Identity,
    stream: str = "",
    agent: str = "",
    reason: str = "",
    asset: str = "",
    begin: str | None = None,
    end: str | None = None,
    state: State = "waiting",
    seq: int | None = None,
) -> Filter:
    try:
        first = ANY_TIME[0] if begin is None else question.moment_ms("from", begin) * 1_000_000
        last = ANY_TIME[1] if end is None else question.moment_ms("to", end) * 1_000_000
    except Unanswerable as error:
        raise Refused(400, {"error": str(error)}) from error
    reach = identity.asset
    agents = tuple(service.book.below(reach)) if reach else ()
    return Filter(stream, seq, agent, reason, asset, first, last, state, reach, agents)


def _detail(chosen: Filter) -> dict[str, Any]:
    names = ("stream", "seq", "agent", "reason", "asset", "state")
    return {name: value for name in names if (value := getattr(chosen, name)) not in {"", None}}
