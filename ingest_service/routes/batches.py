"""``POST /v1/batches``: the one route where every microsecond counts."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import msgspec
from fastapi import APIRouter, Request, Response

from ingest_service.admission import NotYours
from ingest_service.backpressure import Busy, memory_bytes
from ingest_service.routes import Refused, body_of, json_response, service_of, writer
from ingest_service.service import Service
from shopfloor.errors import StoreUnavailable, WireError, WireVersionUnsupported
from shopfloor.messages import BATCH_MEDIA_TYPE, REFUSAL_MEDIA_TYPE, Batch, Refusal
from shopfloor.wire import READABLE_VERSIONS, Limits, decode_batch

PATH: Final = "/v1/batches"
_DECODE_ON_LOOP_BYTES: Final = 256 * 1024
"""A larger batch is decoded on a thread: the hop costs less than it would hold up everyone else."""
_WIRE_VERSION_RETRY_S: Final = 60
_encoder: Final = msgspec.json.Encoder()

router = APIRouter()
_OPENAPI: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {BATCH_MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}},
    }
}
_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "Receipt: durable, except for the samples that it names",
        "content": {
            "application/json": {
                "example": {
                    "received_through": 5000,
                    "durable_through": 5000,
                    "rejections": [{"seq": 4711, "reason": "outside_scope"}],
                    "rejected": 1,
                }
            }
        },
    },
    401: {"description": "No valid token"},
    403: {"description": "The token's role or asset path does not cover the batch's agent"},
    413: {"description": "Too large: halve the batch"},
    415: {"description": "The media type is not that of a batch"},
    422: {
        "description": "These bytes are no batch and never will be",
        "content": {REFUSAL_MEDIA_TYPE: {"example": {"refused": "damaged or truncated"}}},
    },
    429: {"description": "Busy: see Retry-After"},
    503: {"description": "Store unavailable (Retry-After), or a newer wire version"},
}


@router.post(PATH, responses=_RESPONSES, openapi_extra=_OPENAPI, tags=["agents"])
async def post_batch(request: Request) -> Response:
    """Take one batch; 200 means that it is durable."""
    service = service_of(request)
    identity = await writer(request)
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != BATCH_MEDIA_TYPE:
        raise Refused(415, {"error": f"expected Content-Type {BATCH_MEDIA_TYPE}"})
    limits = service.config.limits
    try:
        with service.backpressure.reserve(identity.token_id) as reservation:
            body = await body_of(request, limits.batch_bytes, limits.body_timeout_s, reservation)
            service.metrics.received_bytes.inc(len(body))
            batch = await _decode(body, service)
            if isinstance(batch, Response):
                return batch
            # What a column of equal values takes in memory is not what it takes on the way.
            reservation.grow(max(0, memory_bytes(batch.block) - len(body)))
            receipt = await service.admission.admit(batch, identity)
    except Busy as error:
        raise Refused(429, {"error": "too many batches wait"}, {"Retry-After": "1"}) from error
    except NotYours as error:
        raise Refused(403, {"error": str(error)}) from error
    except StoreUnavailable as error:
        retry = {"Retry-After": str(round(error.retry_after_s or 2))}
        raise Refused(503, {"error": "store_unavailable"}, retry, reason="store_unavailable") from error
    service.book.take_batch(batch.agent_id, batch.block.series, identity.asset)
    return Response(_encoder.encode(receipt), media_type="application/json")


async def _decode(body: bytes, service: Service) -> Batch | Response:
    limits = service.config.limits
    # What is beyond our own limit but sound is halved by the agent (413); the decoder's bound is only for safety.
    hard = Limits(compressed_bytes=limits.batch_bytes, samples=max(500_000, limits.batch_samples))
    try:
        if len(body) > _DECODE_ON_LOOP_BYTES:
            batch = await asyncio.to_thread(decode_batch, body, hard)
        else:
            batch = decode_batch(body, hard)
    except WireVersionUnsupported as error:
        supported = {"error": "wire_version", "supported": sorted(READABLE_VERSIONS)}
        retry = {"Retry-After": str(_WIRE_VERSION_RETRY_S)}
        raise Refused(503, supported, retry, reason="wire_version") from error
    except WireError as error:
        service.metrics.refusals.labels("422").inc()
        refusal = json_response(Refusal(str(error)[:1000]), 422)
        refusal.headers["content-type"] = REFUSAL_MEDIA_TYPE
        return refusal
    if len(batch.block) > limits.batch_samples:
        raise Refused(413, {"error": f"at most {limits.batch_samples} samples are taken"})
    return batch
