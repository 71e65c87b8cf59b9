"""The door of the service: how often an address may knock, and what is written down of what was done inside."""

from __future__ import annotations

import ipaddress
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from prometheus_client import Counter
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ingest_service.access import audit
from ingest_service.access.audit import Act
from ingest_service.access.config import AccessConfig
from ingest_service.access.logins import Logins
from ingest_service.access.origin import Network, client_address, networks
from ingest_service.access.rates import Buckets
from ingest_service.auth import Identity
from ingest_service.metrics import Metrics
from ingest_service.plant.store import PlantStore
from shopfloor.errors import StoreUnavailable

_DAY_NS: Final = 86_400 * 1_000_000_000
_PRUNE_AFTER_S: Final = 600.0
_PRUNE_AFTER: Final = 200
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Note:
    """What the audit log will say of a request; whoever handles it fills in what it knows better."""

    identity: Identity
    action: str
    subject: str = ""
    detail: dict[str, Any] = field(default_factory=dict)


class Access:
    """Everything about who gets in that is no look-up: logins, rates, the audit log. Belongs to the event loop."""

    def __init__(
        self,
        config: AccessConfig,
        plant: PlantStore,
        metrics: Metrics,
        *,
        behind_proxy: bool = False,
        clock: Callable[[], float] = time.monotonic,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.config = config
        self.proxies: tuple[Network, ...] = networks(config.proxies) if behind_proxy else ()
        self.logins = Logins(config, plant, clock=clock, clock_ns=clock_ns)
        self.addresses = Buckets(
            config.address_requests_per_s, 2 * config.address_requests_per_s, clock=clock
        )
        self.identities = Buckets(config.token_requests_per_s, 2 * config.token_requests_per_s, clock=clock)
        self.too_often = Counter(
            "shopfloor_ingest_too_often",
            "Requests turned away because there were too many, by what was counted",
            ["by"],
            registry=metrics.registry,
        )
        self._unrecorded = Counter(
            "shopfloor_ingest_audit_failures",
            "Entries of the audit log that could not be kept; they are in the process's log",
            registry=metrics.registry,
        )
        self._plant = plant
        self._clock = clock
        self._clock_ns = clock_ns
        self._prune_at = -math.inf
        self._recorded = 0

    def close(self) -> None:
        """End the threads that hash passwords."""
        self.logins.close()

    async def record(self, act: Act) -> None:
        """Keep an entry of the audit log; where that fails, the process's log has it (IEC 62443-4-2 CR 2.10)."""
        engine = self._plant.engine
        try:
            await self._plant.run(audit.record, engine, act, self._clock_ns())
            self._recorded += 1
            if self._recorded >= _PRUNE_AFTER or self._clock() >= self._prune_at:
                self._recorded, self._prune_at = 0, self._clock() + _PRUNE_AFTER_S
                oldest = self._clock_ns() - int(self.config.audit_days * _DAY_NS)
                await self._plant.run(audit.prune, engine, most=self.config.audit_entries, oldest=oldest)
        except StoreUnavailable as error:
            self._unrecorded.inc()
            _log.error("the audit log takes no entry (%s): %s", error, act)


class Gate:
    """Bounds the requests of one address, and keeps an entry of the audit log for each that has a `Note`.

    The entry is durable before the answer goes out.
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        access = self._access
        state: dict[str, Any] = scope.setdefault("state", {})
        address = state["address"] = client_address(scope, access.proxies)
        wait = access.addresses.take(_rate_key(address))
        if wait:
            access.too_often.labels("address").inc()
            await _turn_away(send, wait)
            return

        async def recording(message: Message) -> None:
            note: Note | None = state.get("note")
            if note is not None and message["type"] == "http.response.start":
                await access.record(_act(note, address, message["status"]))
            await send(message)

        await self._app(scope, receive, recording)


def outcome(status: int) -> str:
    """Return what the audit log calls an answer."""
    if status < 400:
        return audit.DONE
    return audit.REFUSED if status < 500 else audit.FAILED


def retry_after(wait_s: float) -> str:
    """Return a ``Retry-After`` of whole seconds, at least one (RFC 9110, section 10.2.3)."""
    return str(max(1, math.ceil(wait_s)))


def _act(note: Note, address: str, status: int) -> Act:
    detail = note.detail if status < 400 else {**note.detail, "status": status}
    actor, reach = note.identity.actor, note.identity.asset
    return Act(actor, address, note.action, note.subject, outcome(status), reach, detail)


def _rate_key(address: str) -> str:
    """Return what is counted together: an IPv4 address, or the network of an IPv6 one (RFC 4291, /64)."""
    if ":" not in address:
        return address
    try:
        return str(ipaddress.ip_network((address.partition("%")[0], 64), strict=False))
    except ValueError:
        return address


async def _turn_away(send: Send, wait_s: float) -> None:
    body = msgspec.json.encode({"error": "too many requests from this address"})
    message: Message = {"type": "http.response.start", "status": 429, "headers": []}
    headers = MutableHeaders(scope=message)
    headers["content-type"] = "application/json"
    headers["content-length"] = str(len(body))
    headers["retry-after"] = retry_after(wait_s)
    await send(message)
    await send({"type": "http.response.body", "body": body})
