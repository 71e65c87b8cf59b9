"""What the demo asks the ingestion service, over its public HTTP interface only."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator, Sequence
from typing import Final

import httpx
import msgspec
import numpy as np

from shopfloor.block import Int64, SampleBlock, concat
from shopfloor.errors import ShopfloorError, WireError
from shopfloor.wire import DEFAULT_LIMITS, decode_block

BLOCK_MEDIA_TYPE: Final = "application/vnd.shopfloor.block"
_TRUNCATED: Final = "shopfloor-truncated"
_LENGTH: Final = struct.Struct("<I")
_ROWS_A_WINDOW: Final = 50_000
_END_OF_TIME_MS: Final = 2**63 // 1_000_000 - 1
"""The last millisecond that the service can be asked for (the year 2262)."""


class ServiceTrouble(ShopfloorError):
    """The service answered something that its interface does not promise."""


class _Machine(msgspec.Struct):
    contact: bool


class _Machines(msgspec.Struct):
    machines: list[_Machine]


class Service:
    """A client of one ingestion service. Not for several threads."""

    def __init__(
        self, base_url: str, *, transport: httpx.BaseTransport | None = None, timeout_s: float = 30.0
    ) -> None:
        self._client = httpx.Client(
            base_url=base_url,
            transport=transport,
            timeout=httpx.Timeout(timeout_s, connect=2.0),
            trust_env=False,
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def is_ready(self) -> bool:
        """Whether the service is there and its store answers."""
        try:
            return self._client.get("/readyz", timeout=2.0).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False

    def machines_in_contact(self) -> int:
        """Return how many machines the page shows with contact; 0 where the service does not answer."""
        try:
            answer = self._client.get("/v1/machines", timeout=2.0)
            answer.raise_for_status()
            machines = msgspec.json.decode(answer.content, type=_Machines).machines
        except (httpx.HTTPError, msgspec.MsgspecError):
            return 0
        return sum(machine.contact for machine in machines)

    def samples(self, asset: str, from_ms: int, to_ms: int) -> list[SampleBlock]:
        """Return what the store holds below ``asset`` between two times (the second exclusive), exactly.

        Raises:
            ServiceTrouble: it does not answer, or not with blocks, or there is more than it gives at once.
        """
        try:
            answer = self._client.get(
                "/v1/samples",
                params={"asset": asset, "from": from_ms, "to": to_ms},
                headers={"Accept": BLOCK_MEDIA_TYPE},
            )
            answer.raise_for_status()
        except httpx.HTTPError as error:
            raise ServiceTrouble(f"can't read the samples of {asset}: {error}") from error
        if answer.headers.get(_TRUNCATED, "false") != "false":
            raise ServiceTrouble(
                f"there are more samples of {asset} from {from_ms} to {to_ms} ms than it gives at once"
            )
        return list(split_blocks(answer.content))

    def everything(self, assets: Sequence[str], emitted_ns: Int64, since_ns: int = 0) -> SampleBlock:
        """Return all that the store holds below ``assets``, whatever its time (but not before ``since_ns``).

        It is read in windows of time; ``emitted_ns`` (int64[n], the expected times) sizes them so that no answer
        grows beyond what the service gives at once.
        """
        blocks: list[SampleBlock] = []
        edges = [edge for edge in window_edges(emitted_ns) if edge > since_ns // 1_000_000]
        edges.insert(0, since_ns // 1_000_000)
        for asset in assets:
            for begin, end in itertools.pairwise(edges):
                blocks += self.samples(asset, begin, end)
        rows = concat(blocks)
        return rows.take(rows.source_time >= since_ns) if since_ns else rows


def window_edges(emitted_ns: Int64, rows: int = _ROWS_A_WINDOW) -> list[int]:
    """Return times (ms, ascending) that split all of time into windows of about ``rows`` expected samples."""
    inner = np.sort(emitted_ns)[::rows] // 1_000_000
    edges = np.unique(np.concatenate([[0], inner, [_END_OF_TIME_MS]]))
    return [int(edge) for edge in edges]


def split_blocks(content: bytes) -> Iterator[SampleBlock]:
    """Yield the blocks of an answer: each a length (uint32, little-endian) and so many bytes of the wire format.

    Raises:
        ServiceTrouble: the bytes are no such stream.
    """
    at = 0
    while at < len(content):
        if at + _LENGTH.size > len(content):
            raise ServiceTrouble("the samples end in the middle of a length")
        (length,) = _LENGTH.unpack_from(content, at)
        at += _LENGTH.size
        if at + length > len(content):
            raise ServiceTrouble(f"the samples end {at + length - len(content)} bytes short of their block")
        try:
            yield decode_block(content[at : at + length], DEFAULT_LIMITS)
        except WireError as error:
            raise ServiceTrouble(f"the samples are not blocks: {error}") from error
        at += length
