"""The way to the ingestion service over HTTP: what each answer means for the data.

One rule decides everything: only a typed refusal in our own media type may ever cost a batch its place; whatever
else answers (a proxy, a captive portal, a service of another version) costs time.
"""

from __future__ import annotations

import email.utils
import ssl
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, NamedTuple, Protocol, TypeVar

import aiohttp
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
_MAX_ANSWER_BYTES: Final = 2**20

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


class Answer(NamedTuple):
    """What came back, whoever sent it."""

    status: int
    content: bytes
    content_type: str
    retry_after: str


Exchange = Callable[[str, str, bytes, str], Awaitable[Answer]]
"""Method, path, body, media type; raises UplinkUnavailable where nothing came back."""


def client_context(ca_file: Path | None, cert: Path | None = None, key: Path | None = None) -> ssl.SSLContext:
    """Return how TLS is spoken with the service.

    Args:
        ca_file: authority of the service; the system's own without one.
        cert: certificate that the agent shows; None for none.
        key: its private key.

    Raises:
        OSError: a file can't be read, is no certificate, or the two do not belong together; it names which.
    """
    try:
        context = ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
    except OSError as error:
        # A file that is not there, or holds no certificate; ssl does not say which one.
        raise OSError(f"{ca_file or 'certificates of the system'}: {error}") from error
    if cert is not None:
        try:
            context.load_cert_chain(cert, key)
        except OSError as error:
            raise OSError(f"{cert} and {key}: {error}") from error
    return context


class AiohttpExchange:
    """An Exchange with one service over HTTP(S), with one bearer token."""

    def __init__(self, url: str, token: str, *, timeout_s: float, tls: ssl.SSLContext | None = None) -> None:
        """Needs a running event loop; ``tls`` is for https, the system's authorities without it."""
        self._url = url
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=4, ssl=tls or True, keepalive_timeout=30.0),
            timeout=aiohttp.ClientTimeout(total=timeout_s, sock_connect=min(timeout_s, 5.0)),
            headers={"authorization": f"Bearer {token}", "user-agent": "shopfloor-edge"},
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def __call__(self, method: str, path: str, body: bytes, media_type: str) -> Answer:
        """See Exchange; redirects are not followed: the token stays with the service that it is for."""
        try:
            async with self._session.request(
                method,
                self._url + path,
                data=body,
                headers={"content-type": media_type},
                allow_redirects=False,
            ) as response:
                content = await response.content.read(_MAX_ANSWER_BYTES)
                headers = response.headers
                return Answer(
                    response.status, content, headers.get("content-type", ""), headers.get("retry-after", "")
                )
        except TimeoutError as error:
            raise UplinkUnavailable(f"{self._url}: no answer in time") from error
        except (aiohttp.ClientError, OSError) as error:
            raise UplinkUnavailable(f"{self._url}: {error or type(error).__name__}") from error

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()


class HttpUplink:
    """An Uplink in terms of HTTP answers."""

    def __init__(
        self, exchange: Exchange, *, agent_id: str = "", now_s: Callable[[], float] = time.time
    ) -> None:
        self._exchange = exchange
        self._agent_id = agent_id
        self._now_s = now_s
        self.sent_bytes_total = 0

    async def send(self, batch: Batch) -> Receipt:
        """See Uplink.send."""
        body = encode_batch(batch)
        answer = await self._exchange("POST", "/v1/batches", body, BATCH_MEDIA_TYPE)
        self.sent_bytes_total += len(body)
        if answer.content_type.partition(";")[0].strip() == REFUSAL_MEDIA_TYPE:
            try:
                refusal = msgspec.json.decode(answer.content, type=Refusal)
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                raise UplinkUnavailable(f"a refusal that can't be read: {error}") from error
            raise BatchRefused(refusal.refused)
        self._judge(answer, "/v1/batches")
        receipt = _decode(answer, Receipt)
        if not 0 <= receipt.durable_through <= receipt.received_through:
            raise UplinkUnavailable(f"a receipt that makes no sense: {receipt}")
        return receipt

    async def send_spans(self, spans: list[SpanRecord]) -> None:
        """See Uplink.send_spans."""
        named = [msgspec.structs.replace(span, agent_id=self._agent_id) for span in spans]
        await self._tell("POST", "/v1/spans", encode_json(named))

    async def send_heartbeat(self, heartbeat: Heartbeat) -> HeartbeatReply:
        """See Uplink.send_heartbeat."""
        return _decode(await self._tell("POST", "/v1/heartbeats", encode_json(heartbeat)), HeartbeatReply)

    async def declare(self, declarations: SeriesDeclarations) -> None:
        """See Uplink.declare."""
        await self._tell("PUT", "/v1/declarations", encode_json(declarations))

    async def _tell(self, method: str, path: str, body: bytes) -> Answer:
        answer = await self._exchange(method, path, body, "application/json")
        self._judge(answer, path)
        return answer

    def _judge(self, answer: Answer, path: str) -> None:
        """Turn every answer but success into the error that says what to do."""
        if answer.status in {200, 204}:
            return
        text = answer.content[:_SHOWN].decode(errors="replace")
        said = f"HTTP {answer.status} from {path}: {text!r}"
        wish = _retry_after_s(answer.retry_after, self._now_s())
        if answer.status in {401, 403}:
            raise NotAuthorised(said, retry_after_s=wish or _SLOW_RETRY_S)
        if answer.status == 413:
            raise BatchTooLarge(said)
        raise UplinkUnavailable(said, retry_after_s=wish)


def _retry_after_s(text: str, now_s: float) -> float | None:
    """Read Retry-After (RFC 9110 §10.2.3): seconds or a date, bounded."""
    text = text.strip()
    if not text:
        return None
    if text.isdecimal():
        return min(float(text), _MAX_RETRY_AFTER_S)
    try:
        then = email.utils.parsedate_to_datetime(text).timestamp()
    except ValueError:
        return None
    return min(max(0.0, then - now_s), _MAX_RETRY_AFTER_S)


def _decode(answer: Answer, kind: type[Message]) -> Message:
    try:
        return msgspec.json.decode(answer.content, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        # A captive portal answers 200 to everything: nothing is deleted on its word.
        raise UplinkUnavailable(f"HTTP {answer.status} that is no {kind.__name__}: {error}") from error
