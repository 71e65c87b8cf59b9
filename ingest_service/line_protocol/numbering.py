"""Numbers for samples that come without: each token writes a stream of its own, continued behind its watermark.

Line protocol knows no sequence numbers. The service gives them, one batch at a time per stream, so that ledger,
watermark and group commit work as for agents. What waits while a batch is written goes into the next one together.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from pathlib import Path
from typing import IO, Final, NamedTuple

import sqlalchemy as sa

from ingest_service.admission import Admission
from ingest_service.auth import Identity
from ingest_service.plant import discards
from ingest_service.plant.schema import quarantine
from ingest_service.plant.store import PlantStore
from ingest_service.stores import Refused, SampleStore
from shopfloor.block import SampleBlock, concat
from shopfloor.errors import ShopfloorError, StoreUnavailable
from shopfloor.messages import Batch, Lane, new_id

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows
    fcntl = None  # type: ignore[assignment]

_MAX_ROWS: Final = 200_000
_INSTANCE_CHARACTERS: Final = 12


class Instance:
    """A name for this process's streams that outlives it, and that no other process uses at the same time.

    Two processes that number the samples of one stream would take each other's for repeats.
    """

    def __init__(self, path: Path) -> None:
        self.name = new_id()[:_INSTANCE_CHARACTERS]
        self._file: IO[str] | None = None
        if fcntl is None:
            return
        file = path.open("a+", encoding="ascii")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            return
        file.seek(0)
        kept = file.read(_INSTANCE_CHARACTERS)
        if len(kept) == _INSTANCE_CHARACTERS and kept.isalnum():
            self.name = kept
        else:
            file.truncate(0)
            file.write(self.name)
            file.flush()
        self._file = file

    def close(self) -> None:
        """Let another process have the name."""
        if self._file:
            self._file.close()
            self._file = None


class _Part(NamedTuple):
    """The samples of one request."""

    identity: Identity
    block: SampleBlock
    refused: Refused
    durable: asyncio.Future[None]


def forget_unacknowledged(plant: PlantStore, stream_id: str, mark: int) -> None:
    """Delete what an attempt that failed put aside above a stream's watermark.

    Its client was told to come again, and what comes then has these numbers. Blocking.
    """
    discards.forget_above(plant.engine, stream_id, mark)
    with plant.engine.begin() as connection:
        result = connection.execute(
            sa.delete(quarantine).where(quarantine.c.stream_id == stream_id, quarantine.c.seq > mark)
        )
    plant.quarantined -= max(0, result.rowcount)


class TokenStream:
    """The stream of one token. Belongs to the event loop."""

    def __init__(
        self, stream_id: str, agent_id: str, admission: Admission, store: SampleStore, plant: PlantStore
    ) -> None:
        self.stream_id = stream_id
        self.agent_id = agent_id
        self._admission = admission
        self._store = store
        self._plant = plant
        self._waiting: deque[_Part] = deque()
        self._writing: asyncio.Task[None] | None = None
        self._settled = False

    @property
    def idle(self) -> bool:
        """Whether nothing is being written."""
        return self._writing is None

    def write(self, identity: Identity, block: SampleBlock, refused: Refused) -> asyncio.Future[None]:
        """Queue samples; the future is done once they are durable, or has the reason why they are not.

        Args:
            identity: the token.
            block: samples.
            refused: the rows of it that are to be quarantined.
        """
        durable: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Part(identity, block, refused, durable))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write_all(), name=f"line-protocol-{self.stream_id}")
        return durable

    async def close(self) -> None:
        """Wait for what is being written."""
        if self._writing is not None:
            with contextlib.suppress(asyncio.CancelledError):
                await self._writing

    async def _write_all(self) -> None:
        try:
            while self._waiting:
                parts = self._take()
                try:
                    await self._write(parts)
                except ShopfloorError as error:
                    _settle(parts, error)
                except BaseException:
                    _settle(parts, StoreUnavailable("the write was broken off", retry_after_s=2.0))
                    raise
                else:
                    _settle(parts, None)
        finally:
            self._writing = None
            _settle(list(self._waiting), StoreUnavailable("the write was broken off", retry_after_s=2.0))
            self._waiting.clear()

    def _take(self) -> list[_Part]:
        """Take what goes into one batch: parts with the same table, which is by far most of them."""
        parts = [self._waiting.popleft()]
        rows = len(parts[0].block)
        while self._waiting and not len(parts[-1].refused):
            after = self._waiting[0]
            rows += len(after.block)
            if after.block.series is not parts[0].block.series or len(after.refused) or rows > _MAX_ROWS:
                break
            parts.append(self._waiting.popleft())
        return parts

    async def _write(self, parts: list[_Part]) -> None:
        block = concat([part.block for part in parts])
        if not len(block):
            return
        mark = (await self._store.watermark(self.stream_id)).received_through
        if not self._settled:
            await self._plant.run(forget_unacknowledged, self._plant, self.stream_id, mark)
            self._settled = True
        batch = Batch(self.agent_id, self.stream_id, Lane.LIVE, mark + 1, block)
        try:
            await self._admission.admit(batch, parts[-1].identity, parts[-1].refused)
        except BaseException:
            self._settled = False
            raise


def _settle(parts: list[_Part], error: ShopfloorError | None) -> None:
    for part in parts:
        if part.durable.done():
            continue
        if error is None:
            part.durable.set_result(None)
        else:
            part.durable.set_exception(error)
            # Nobody may be waiting any more.
            part.durable.exception()
