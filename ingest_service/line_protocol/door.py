"""What a request in line protocol becomes: unpacked, read, placed, numbered, durable. Knows no web framework."""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple

from prometheus_client import Counter

from ingest_service.admission import NotYours
from ingest_service.auth import Identity
from ingest_service.backpressure import Reservation, memory_bytes
from ingest_service.line_protocol.columns import read_body
from ingest_service.line_protocol.config import LineProtocolConfig
from ingest_service.line_protocol.mapping import LineMapping
from ingest_service.line_protocol.numbering import Instance, TokenStream
from ingest_service.line_protocol.placing import Places
from ingest_service.line_protocol.points import Fault
from ingest_service.line_protocol.samples import Built, build
from ingest_service.line_protocol.unpacking import BodyTooLarge, unpacked
from ingest_service.service import Service
from shopfloor.errors import StoreUnavailable
from shopfloor.messages import SeriesDeclaration, SeriesDeclarations
from shopfloor.signal import SeriesKey

_THREADS: Final = 2
_REMEMBERED_TOKENS: Final = 1000
_REMEMBERED_KEYS: Final = 500_000
"""Of all tokens together."""
_REMEMBERED_BYTES: Final = 64 * 2**20
"""Of layouts of all tokens together."""
_LOOK_EVERY: Final = 64
_REMEMBERED_BODIES: Final = 100_000
_REMEMBERED_UNITS: Final = 100_000
_SHOWN_FAULTS: Final = 10
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


class Taken(NamedTuple):
    """What became of a body that is durable now."""

    faults: tuple[Fault, ...]
    """The first lines that could not be read."""
    unreadable: int
    """How many there were."""
    homeless: int
    """Lines, or fields of them, that lie in quarantine because no rule says what they are."""
    lines: int
    """All lines, blank ones and comments left out."""


class _Read(NamedTuple):
    """A body as samples."""

    built: Built
    taken: Taken
    units: dict[SeriesKey, str]
    """Of series that were met for the first time."""
    digest: bytes | None
    """None where a line has no time: the same body would mean something new."""


class _Body(NamedTuple):
    """A body that was here before."""

    until: float
    taken: Taken
    durable: asyncio.Future[None]


class _Token:
    """What is kept of one token."""

    def __init__(self, places: Places, stream: TokenStream) -> None:
        self.places = places
        self.stream = stream
        self.undeclared: dict[SeriesKey, str] = {}
        self.reading = threading.Lock()
        self.requests = 0
        """Requests that use it now: two streams with one name would give the same numbers."""


class LineProtocol:
    """Takes bodies of line protocol. Belongs to the event loop; reads on threads of its own."""

    def __init__(
        self, config: LineProtocolConfig, service: Service, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.config = config
        self._service = service
        self._clock = clock
        self._mapping = LineMapping(config.mapping)
        self._threads = ThreadPoolExecutor(_THREADS, "line-protocol")
        self._instance = Instance(service.config.data / "line_protocol.instance")
        self._tokens: OrderedDict[tuple[int, str], _Token] = OrderedDict()
        self._asked = 0
        self._bodies: OrderedDict[tuple[int, bytes], _Body] = OrderedDict()
        registry = service.metrics.registry
        self._lines = Counter(
            "shopfloor_ingest_lines", "Lines of line protocol that were read", registry=registry
        )
        self._repeats = Counter(
            "shopfloor_ingest_line_repeats", "Bodies of line protocol that came again", registry=registry
        )

    async def close(self) -> None:
        """Wait for what is being written, then end the threads; call it before the store closes."""
        for token in self._tokens.values():
            await token.stream.close()
        self._threads.shutdown()
        self._instance.close()

    async def write(
        self,
        body: bytes,
        identity: Identity,
        multiplier: int,
        *,
        gzip: bool = False,
        reservation: Reservation | None = None,
    ) -> Taken:
        """Make what a body says durable.

        Args:
            body: as it travelled.
            identity: whose it is.
            multiplier: nanoseconds of one unit of the lines' times.
            gzip: whether it is packed.
            reservation: the bytes that it holds already; what its samples take beyond them is added.

        Raises:
            Busy: there is no room for its samples.
            BodyTooLarge: more than ``unpacked_bytes``.
            TooManySamples: more fields than a batch may have samples, or too many lines for quarantine.
            NotGzip: it can't be unpacked.
            NotYours: everything in it lies outside of the token's asset path.
            StoreUnavailable: nothing of it is promised.
        """
        token = self._token(identity)
        token.requests += 1
        try:
            return await self._write(token, body, identity, multiplier, reservation, gzip=gzip)
        finally:
            token.requests -= 1

    async def _write(
        self,
        token: _Token,
        body: bytes,
        identity: Identity,
        multiplier: int,
        reservation: Reservation | None,
        *,
        gzip: bool,
    ) -> Taken:
        read = await asyncio.get_running_loop().run_in_executor(
            self._threads, self._read, token, body, multiplier, gzip
        )
        if len(token.undeclared) < _REMEMBERED_UNITS:
            # Before anything can fail: they are told once.
            token.undeclared.update(read.units)
        now = self._clock()
        key = (identity.token_id, read.digest or b"")
        before = self._bodies.get(key) if read.digest else None
        if before is not None and now < before.until:
            self._repeats.inc()
            await asyncio.shield(before.durable)
            return before.taken
        if read.built.all_foreign:
            raise NotYours(f"nothing in it lies in {identity.asset}, which is all that the token reaches")
        if reservation is not None:
            reservation.grow(max(0, memory_bytes(read.built.block) - reservation.taken_bytes))
        durable = token.stream.write(identity, read.built.block, read.built.refused)
        if read.digest:
            self._remember(key, _Body(now + self.config.repeat_s, read.taken, durable), now)
        await asyncio.shield(durable)
        block = read.built.block
        book = self._service.book
        if len(block):
            # A token that reaches everything speaks for the enterprise that it writes.
            asset = identity.asset or block.series[int(block.series_index[0])].asset.partition("/")[0]
            book.take_batch(token.stream.agent_id, block.series, asset)
        book.take_write(token.stream.agent_id, self._service.clock_ns(), int(self.config.contact_s * 1e9))
        if token.undeclared:
            await self._declare(token)
        return read.taken

    def _token(self, identity: Identity) -> _Token:
        key = (identity.token_id, identity.asset)
        token = self._tokens.get(key)
        if token is None:
            name = f"line-protocol.{identity.token_id}"
            stream = TokenStream(
                f"{name}.{self._instance.name}",
                name,
                self._service.admission,
                self._service.store,
                self._service.plant,
            )
            token = self._tokens[key] = _Token(Places(self._mapping, identity.asset), stream)
        self._tokens.move_to_end(key)
        self._asked += 1
        if len(self._tokens) > _REMEMBERED_TOKENS or self._asked % _LOOK_EVERY == 0:
            self._forget_tokens(token)
            self._forget_layouts()
        return token

    def _forget_tokens(self, kept: _Token) -> None:
        """Forget whom nobody has heard of for longest, while there are too many or they know too much."""
        known = sum(len(token.places) for token in self._tokens.values())
        for key, token in list(self._tokens.items()):
            if len(self._tokens) <= _REMEMBERED_TOKENS and known <= _REMEMBERED_KEYS:
                return
            if not token.requests and token is not kept and token.stream.idle:
                known -= len(token.places)
                del self._tokens[key]

    def _forget_layouts(self) -> None:
        """Forget the layouts of whom nobody has heard of for longest, while all together take too much."""
        size = sum(token.places.layouts.size for token in self._tokens.values())
        for token in self._tokens.values():
            if size <= _REMEMBERED_BYTES:
                return
            if token.reading.acquire(blocking=False):
                size -= token.places.layouts.size
                token.places.layouts.clear()
                token.reading.release()

    def _read(self, token: _Token, body: bytes, multiplier: int, gzip: bool) -> _Read:  # noqa: FBT001
        """Unpack, read and place a body; on a thread."""
        limit = self.config.unpacked_bytes
        if gzip:
            body = unpacked(body, limit)
        elif len(body) > limit:
            raise BodyTooLarge
        body = body.removeprefix(_BYTE_ORDER_MARK)
        places = token.places
        with token.reading:
            places.trim()
            most = self._service.config.limits.batch_samples
            points = read_body(body, multiplier, most, places.readable, places.layouts)
            built = build(points, body, places, self._service.clock_ns())
            units, places.undeclared = places.undeclared, {}
        faults = points.faults
        lines = len(points) + len(faults)
        self._lines.inc(lines)
        taken = Taken(tuple(faults[:_SHOWN_FAULTS]), len(faults), len(built.refused) - len(faults), lines)
        again = bool(points.timed.all()) and self.config.repeat_s > 0
        if not again:
            return _Read(built, taken, units, None)
        digest = built.digest
        if not digest:
            whole = hashlib.sha256(b"%d " % multiplier)
            whole.update(body)
            digest = whole.digest()
        return _Read(built, taken, units, digest)

    def _remember(self, key: tuple[int, bytes], body: _Body, now: float) -> None:
        bodies = self._bodies
        bodies[key] = body
        bodies.move_to_end(key)
        while len(bodies) > _REMEMBERED_BODIES or (bodies and next(iter(bodies.values())).until <= now):
            bodies.popitem(last=False)

        def forget_failure(durable: asyncio.Future[None]) -> None:
            kept = bodies.get(key)
            if (durable.cancelled() or durable.exception()) and kept is not None and kept.durable is durable:
                del bodies[key]

        body.durable.add_done_callback(forget_failure)

    async def _declare(self, token: _Token) -> None:
        """Keep the units of new series; what is written is durable already, so that a failure is for later."""
        new, token.undeclared = token.undeclared, {}
        agent = token.stream.agent_id
        service = self._service
        # What an agent has said of a series in words stays; a line has none.
        series = tuple(
            SeriesDeclaration(
                str(key.asset),
                key.signal,
                unit,
                service.declared.get((str(key.asset), key.signal), ("", ""))[1],
            )
            for key, unit in new.items()
        )
        try:
            await service.plant.run(service.plant.put_declarations, SeriesDeclarations(agent, "", series))
        except StoreUnavailable:
            token.undeclared = new | token.undeclared
            return
        service.note_declared(series)
