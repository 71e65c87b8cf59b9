"""The way to the ingestion service over HTTP: what each answer means for the data.

One rule decides everything: only a typed refusal in our own media type may ever cost a batch its place; whatever
else answers (a proxy, a captive portal, a service of another version) costs time.
"""

from __future__ import annotations

import email.utils
import ssl
import time
from collections.abc import Callable
from typing import Final, Protocol, TypeVar

import httpx
import msgspec

from shopfloor.errors import BatchRefused, UplinkUnavailable
from shopfloor.messages import (
    BATCH_MEDIA_TYPE,
    REFUSAL_MEDIA_TYPE,
    Batch,
    Heartbeat,
    HeartbeatReply,
    Receipt,
    Refusal,
    SeriesDeclarations,
    SpanRecord,
    encode_json,
)
from shopfloor.wire import encode_batch

_SLOW_RETRY_S: Final = 30.0
_MAX_RETRY_AFTER_S: Final = 300.0
_SHOWN: Final = 200

Message = TypeVar("Message")


class NotAuthorised(UplinkUnavailable):
    """401 or 403: the token is wrong or does not reach that far; keep everything, call for help, retry slowly."""


class BatchTooLarge(UplinkUnavailable):
    """413: send less at once."""


class Uplink(Protocol):
    """One ingestion service."""

    async def send(self, batch: Batch) -> Receipt:
        """Deliver a batch.

        Raises:
            BatchRefused: the service's own word that it will never take it.
            BatchTooLarge: it takes smaller ones.
            NotAuthorised: the token has to change first.
            UplinkUnavailable: anything else; ``retry_after_s`` is the service's wish.
        """
        ...

    async def send_spans(self, spans: list[SpanRecord]) -> None:
        """Deliver span records; raises as `send`, but never BatchRefused."""
        ...

    async def send_heartbeat(self, heartbeat: Heartbeat) -> HeartbeatReply:
        """Deliver a heartbeat; raises as `send_spans`."""
        ...

    async def declare(self, declarations: SeriesDeclarations) -> None:
        """Deliver units and descriptions; raises as `send_spans`."""
        ...


class HttpUplink:
    """An Uplink over HTTP(S) with one bearer token."""

    def __init__(
        self,
        url: str,
        token: str,
        *,
        timeout_s: float,
        ca_file: str | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._now_s = now_s
        self._client = httpx.AsyncClient(
            base_url=url,
            headers={"authorization": f"Bearer {token}", "user-agent": "shopfloor-edge"},
            timeout=httpx.Timeout(timeout_s, connect=min(timeout_s, 5.0)),
            verify=ssl.create_default_context(cafile=ca_file) if url.startswith("https:") else False,
            limits=httpx.Limits(max_connections=4, keepalive_expiry=30.0),
            trust_env=False,
            transport=transport,
        )
        self.sent_bytes_total = 0

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def send(self, batch: Batch) -> Receipt:
        """See Uplink.send."""
        body = encode_batch(batch)
        response = await self._request("POST", "/v1/batches", body, BATCH_MEDIA_TYPE)
        self.sent_bytes_total += len(body)
        if response.headers.get("content-type", "").split(";")[0] == REFUSAL_MEDIA_TYPE:
            try:
                raise BatchRefused(msgspec.json.decode(response.content, type=Refusal).refused)
            except msgspec.MsgspecError as error:
                raise UplinkUnavailable(f"a refusal that can't be read: {error}") from error
        self._judge(response)
        receipt = _decode(response, Receipt)
        if not 0 <= receipt.durable_through <= receipt.received_through:
            raise UplinkUnavailable(f"a receipt that makes no sense: {receipt}")
        return receipt

    async def send_spans(self, spans: list[SpanRecord]) -> None:
        """See Uplink.send_spans."""
        self._judge(await self._request("POST", "/v1/spans", encode_json(spans)))

    async def send_heartbeat(self, heartbeat: Heartbeat) -> HeartbeatReply:
        """See Uplink.send_heartbeat."""
        response = await self._request("POST", "/v1/heartbeats", encode_json(heartbeat))
        self._judge(response)
        return _decode(response, HeartbeatReply)

    async def declare(self, declarations: SeriesDeclarations) -> None:
        """See Uplink.declare."""
        self._judge(await self._request("PUT", "/v1/declarations", encode_json(declarations)))

    async def _request(
        self, method: str, path: str, body: bytes, media_type: str = "application/json"
    ) -> httpx.Response:
        try:
            return await self._client.request(
                method, path, content=body, headers={"content-type": media_type}
            )
        except httpx.HTTPError as error:
            raise UplinkUnavailable(f"{self._client.base_url}: {error or type(error).__name__}") from error

    def _judge(self, response: httpx.Response) -> None:
        """Turn every answer but success into the error that says what to do."""
        status = response.status_code
        if status in {200, 204}:
            return
        said = f"HTTP {status} from {response.request.url.path}: {response.text[:_SHOWN]!r}"
        wish = _retry_after_s(response, self._now_s())
        if status in {401, 403}:
            raise NotAuthorised(said, retry_after_s=wish or _SLOW_RETRY_S)
        if status == 413:
            raise BatchTooLarge(said)
        raise UplinkUnavailable(said, retry_after_s=wish)


def _retry_after_s(response: httpx.Response, now_s: float) -> float | None:
    """Read Retry-After (RFC 9110 §10.2.3): seconds or a date, bounded."""
    text = response.headers.get("retry-after", "").strip()
    if not text:
        return None
    if text.isdigit():
        return min(float(text), _MAX_RETRY_AFTER_S)
    try:
        then = email.utils.parsedate_to_datetime(text).timestamp()
    except ValueError:
        return None
    return min(max(0.0, then - now_s), _MAX_RETRY_AFTER_S)


def _decode(response: httpx.Response, kind: type[Message]) -> Message:
    try:
        return msgspec.json.decode(response.content, type=kind)
    except msgspec.MsgspecError as error:
        # A captive portal answers 200 to everything: nothing is deleted on its word.
        raise UplinkUnavailable(f"HTTP 200 that is no {kind.__name__}: {error}") from error
