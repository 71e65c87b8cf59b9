"""``GET /v1/ledger``: what became of every sample that was handed over."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Request, Response

from ingest_service.auth import Identity
from ingest_service.bookkeeping import MAX_STREAMS, Question, StreamAccount, accounts
from ingest_service.ledger import ALWAYS, Account
from ingest_service.plant import spans
from ingest_service.reading import question
from ingest_service.reading.question import Unanswerable
from ingest_service.routes import Refused, json_response, reader, service_of
from ingest_service.stores import TimeSpan

router = APIRouter(tags=["readers"])
Reader = Annotated[Identity, Depends(reader)]
Names = list[str] | None
Moment = Annotated[str | None, Query(description="ms since 1970, or ISO 8601", examples=["1763778000000"])]
_NAMED: Final = 100
"""Gaps of a stream, and losses without numbers, in one answer."""
_FIGURES: Final = {
    "handed_over": 5000,
    "stored": 4890,
    "readmitted": 10,
    "quarantined": 5,
    "quarantined_at_edge": 0,
    "dropped": 100,
    "dropped_by_reason": {"buffer full": 100},
    "pending": 5,
    "missing": 0,
    "repeated": 250,
}
_EXAMPLE: Final = {
    "now": 1763778000123,
    "from": None,
    "to": None,
    "total": {"streams": 1, **_FIGURES},
    "streams": [
        {
            "stream": "9f8e7d",
            "agent": "hk01-gateway",
            "asset": "acme/hk01",
            "received_through": 4995,
            "first_received": 1763770000000,
            "last_received": 1763778000000,
            **_FIGURES,
            "gaps": [],
        }
    ],
    "next": None,
    "without_numbers": [],
}


@router.get("/v1/ledger", responses={200: {"content": {"application/json": {"example": _EXAMPLE}}}})
async def get_ledger(
    request: Request,
    identity: Reader,
    stream: Annotated[Names, Query(max_length=MAX_STREAMS)] = None,
    agent: Annotated[Names, Query(max_length=MAX_STREAMS)] = None,
    asset: Annotated[
        Names, Query(description="Of agents that serve it, or what lies below", max_length=100)
    ] = None,
    begin: Annotated[Moment, Query(alias="from")] = None,
    end: Annotated[Moment, Query(alias="to")] = None,
    limit: Annotated[int, Query(ge=1, le=10_000, description="Streams in one answer")] = 1000,
    after: Annotated[str, Query(description="`next` of the answer before", max_length=64)] = "",
) -> Response:
    """Account for all numbers of streams: in total, and of each stream."""
    service = service_of(request)
    asked = Question(
        tuple(stream or ()), tuple(agent or ()), tuple(asset or ()), identity.asset, _span(begin, end)
    )
    found = await accounts(asked, service.store, service.plant, service.book, service.clock_ns)
    total = Account()
    for one in found:
        total.add(one.account)
    page = [one for one in found if one.facts.stream_id > after]
    more = len(page) > limit
    return json_response(
        {
            "now": service.clock_ns() // 1_000_000,
            "from": _ms(asked.span.from_ns),
            "to": _ms(asked.span.to_ns),
            "total": {"streams": len(found), **figures(total)},
            "streams": [shown(one) for one in page[:limit]],
            "next": page[limit - 1].facts.stream_id if more else None,
            "without_numbers": await _without_numbers(request, asked),
        }
    )


def figures(account: Account) -> dict[str, Any]:
    """Return the figures as JSON."""
    return {
        "handed_over": account.handed_over,
        "stored": account.stored,
        "readmitted": account.readmitted,
        "quarantined": account.quarantined,
        "quarantined_at_edge": account.quarantined_at_edge,
        "dropped": account.dropped.total(),
        "dropped_by_reason": dict(account.dropped),
        "pending": account.pending,
        "missing": account.missing,
        "repeated": account.repeated,
    }


def shown(one: StreamAccount) -> dict[str, Any]:
    """Return a stream as JSON."""
    runs = one.facts.runs
    return {
        "stream": one.facts.stream_id,
        "agent": one.facts.agent_id,
        "asset": one.asset,
        "received_through": runs[-1].last_seq if runs else 0,
        "first_received": min(run.received_from for run in runs) // 1_000_000 if runs else None,
        "last_received": max(run.received_to for run in runs) // 1_000_000 if runs else None,
        **figures(one.account),
        "gaps": [
            {
                "first_seq": gap.first_seq,
                "last_seq": gap.last_seq,
                "samples": gap.last_seq - gap.first_seq + 1,
                "found": gap.found_at // 1_000_000,
                "reason": gap.reason,
            }
            for gap in one.account.gaps[:_NAMED]
        ],
    }


async def _without_numbers(request: Request, asked: Question) -> list[dict[str, Any]]:
    service = service_of(request)
    agents: list[str] | None = list(asked.agents) or None
    if asked.reach or asked.assets:
        paths = asked.assets or (asked.reach,)
        visible = {one for path in paths for one in service.book.below(path)} & set(
            service.book.below(asked.reach)
        )
        agents = sorted(visible & set(agents) if agents else visible)
    if asked.streams:
        return []
    rows = await service.plant.run(
        spans.without_numbers, service.plant.engine, agents, asked.span.from_ns, asked.span.to_ns, _NAMED
    )
    return [
        {
            "agent": row["agent_id"],
            "source": row["source"],
            "asset": row["asset"],
            "kind": row["kind"],
            "reason": row["reason"],
            "from": row["from_time"] // 1_000_000,
            "to": row["to_time"] // 1_000_000,
            "samples": row["count"],
            "at_least": bool(row["at_least"]),
            "recorded": row["recorded_at"] // 1_000_000,
        }
        for row in rows
    ]


def _span(begin: str | None, end: str | None) -> TimeSpan:
    try:
        first = ALWAYS.from_ns if begin is None else question.moment_ms("from", begin) * 1_000_000
        last = ALWAYS.to_ns if end is None else question.moment_ms("to", end) * 1_000_000
    except Unanswerable as error:
        raise Refused(400, {"error": str(error)}) from error
    if first > last:
        raise Refused(400, {"error": "from lies behind to"})
    return TimeSpan(first, last)


def _ms(time_ns: int) -> int | None:
    return None if time_ns in ALWAYS else time_ns // 1_000_000
