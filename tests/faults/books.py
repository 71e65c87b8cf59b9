"""The ledger of a service that has ended, as it would tell it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from ingest_service.bookkeeping import Question, accounts
from ingest_service.config import IngestConfig
from ingest_service.ledger import Account
from ingest_service.plant import spans
from ingest_service.service import Service
from shopfloor.configfile import load


@dataclass(frozen=True, slots=True)
class Books:
    """All streams together."""

    handed_over: int
    stored: int
    missing: int
    """Numbers that nothing explains, where no record says that a damaged file held more than can be known."""
    amiss: tuple[str, ...]
    """Streams whose figures do not add up."""


async def read_books(config: Path) -> Books:
    """Return the ledger of the service with that ``ingest.yaml``, which must not run."""
    async with Service(load(config, IngestConfig)) as service:
        found = await accounts(Question(), service.store, service.plant, service.book, time.time_ns)
        vague = await service.plant.run(
            spans.without_numbers, service.plant.engine, None, -(2**63), 2**63 - 1, 100_000
        )
    total = Account()
    for one in found:
        total.add(one.account)
    is_vague = any(row["at_least"] and row["kind"] == "dropped" for row in vague)
    return Books(
        total.handed_over,
        total.stored,
        0 if is_vague else total.missing,
        tuple(one.facts.stream_id for one in found if not _adds_up(one.account)),
    )


def _adds_up(account: Account) -> bool:
    holes = sum(gap.last_seq - gap.first_seq + 1 for gap in account.gaps)
    settled = account.stored + account.quarantined + account.dropped.total() + account.pending
    return account.handed_over == settled + holes and account.missing == holes
