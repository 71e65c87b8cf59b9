"""A stream of events goes on only as long as whoever watches it may read."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from fastapi import Request

from ingest_service.access.authenticator import TRUST_S
from ingest_service.auth import Identity
from ingest_service.routes import Refused, reader
from shopfloor.errors import StoreUnavailable


async def while_allowed(
    request: Request, identity: Identity, events: AsyncGenerator[bytes, None]
) -> AsyncIterator[bytes]:
    """Yield ``events`` until the token is revoked, the session ended, or the reach is another; asked every few seconds."""
    due = time.monotonic() + TRUST_S
    async with aclosing(events):
        async for event in events:
            if time.monotonic() >= due:
                due = time.monotonic() + TRUST_S
                if not await _still(request, identity):
                    return
            yield event


async def _still(request: Request, identity: Identity) -> bool:
    try:
        return (await reader(request)).asset == identity.asset
    except Refused as refused:
        return refused.status not in {401, 403}
    except StoreUnavailable:
        return True
