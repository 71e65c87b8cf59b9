"""The Sparkplug side of a simulated edge node, without sockets: events in, messages out.

Section numbers are those of Eclipse Sparkplug 3.0. The order of things:

- `begin` gives the will for a CONNECT; `connected` says that it was accepted.
- With a primary host, births wait until that host's STATE says online (5.4). When it says offline, the node
  publishes its NDEATH and leaves, connects anew and waits again (5.5); a STATE older than the last one is ignored.
- Live samples go out at once as DDATA. All others wait in the store and go out as is_historical beside them.
- Whatever may have been lost is sent again as is_historical: after a broken connection, after the host was away, when
  the host shows a new session (a later STATE timestamp) and when it asks for a rebirth, for it does so when it
  missed something. Receivers know repeats by series, time and value.

A broker that comes back may show a STATE that its host published before both went down, and keep showing it until the
host is back. So for the first while after connecting nothing that was sent is forgotten: the host's new STATE, with
its later timestamp, brings all of it back.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from shopfloor.sparkplug import (
    REBIRTH,
    SEQ_MODULO,
    HostState,
    SparkplugDecodeError,
    Topic,
    decode_payload,
    decode_state,
    parse_topic,
)
from simulators.protocols.sparkplug_metrics import Catalogue, DeviceSample, MetricSpec
from simulators.protocols.sparkplug_outbox import Leave, Outbox, Publish
from simulators.protocols.sparkplug_store import SampleStore

_REPORT_DROPS_EVERY_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """Bounds and times of an edge node."""

    history_s: float = 15.0
    """How long after it was written a sample is sent again if a loss is noticed: longer than the host's keepalive
    times 1.5, after which the broker tells of a silent host."""
    settle_s: float = 60.0
    """How long after connecting nothing is forgotten: longer than a host takes to find a restarted broker again."""
    store_samples: int = 500_000
    """Samples that wait at most, and as many of each device that is down; beyond that the oldest are dropped."""
    message_samples: int = 500
    """Samples of one message at most."""
    window_messages: int = 200
    """Messages handed over and not written at most; beyond that samples wait in the store."""
    backfill_messages: int = 20
    """Historical messages a tick at most."""


class EdgeSession:
    """An edge node's state. Every method returns at once and leaves in the outbox what is to be sent."""

    def __init__(
        self,
        group: str,
        edge: str,
        devices: Mapping[str, Sequence[MetricSpec]],
        primary_host: str | None,
        limits: SessionLimits | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._node = Topic("NDATA", group, edge)
        self._catalogue = Catalogue(devices)
        for device in devices:
            _refuse_bad_id("device", device)
        _refuse_bad_id("group", group)
        _refuse_bad_id("edge node", edge)
        self._primary_host = primary_host
        self._limits = limits or SessionLimits()
        self._clock = clock
        self._wall_ms = wall_ms
        self._store = SampleStore(self._limits.store_samples)
        self._outbox = Outbox(self._store)
        self._bd_seq = 0
        self._connected_at: float | None = None
        self._host: HostState | None = None
        self._born = False
        self._leaving = False
        self._down: set[str] = set()
        self._unborn: set[str] = set()
        self._reported_drops = (0, 0.0)
        self.births_total = 0
        """Times that all births were published."""
        self.ignored_total = 0
        """Commands and STATE messages that were not followed: unknown, malformed or stale."""

    @property
    def topics(self) -> tuple[str, ...]:
        """What to subscribe to with QoS 1."""
        commands = (
            str(self._node._replace(type="NCMD")),
            str(self._node._replace(type="DCMD", device="+")),
        )
        if self._primary_host is None:
            return commands
        return (str(Topic("STATE", host=self._primary_host)), *commands)

    @property
    def outbox(self) -> deque[Publish | Leave]:
        """What is to be handed to the connection, from the left."""
        return self._outbox.messages

    @property
    def is_live(self) -> bool:
        """Whether samples go out as they come."""
        return self._born

    @property
    def waiting(self) -> int:
        """Samples that are held back: in the store, or of devices that are down."""
        return self._store.waiting

    @property
    def unacknowledged(self) -> int:
        """Samples that are held back or that the socket has not taken yet."""
        return self.waiting + self._store.unwritten_samples + self._outbox.held_samples

    @property
    def dropped_total(self) -> int:
        """Samples that the full store gave up."""
        return self._store.dropped_total

    @property
    def refused_total(self) -> int:
        """Samples whose value does not fit their metric's data type."""
        return self._catalogue.refused_total

    # What happens to it

    def begin(self, bd_seq: int) -> Publish:
        """Return the will for the next CONNECT: the NDEATH with this bdSeq, QoS 1 (6.4.23)."""
        self._bd_seq = bd_seq % SEQ_MODULO
        return self._death()

    def connected(self) -> None:
        """The broker accepted the CONNECT; the subscriptions go out before anything in the outbox."""
        self._connected_at = self._clock()
        self._host = None
        if self._primary_host is None:
            self._bear()

    def lost(self) -> None:
        """The connection is gone, or was never made; whatever it was handed may be lost."""
        self._outbox.clear()
        self._store.recall(connection_lost=True)
        self._connected_at = None
        self._host = None
        self._born = False
        self._leaving = False

    def written(self, messages: int) -> None:
        """The socket has taken so many more of the messages with QoS 0."""
        self._store.written(messages, self._clock())

    def message(self, topic: str, payload: bytes) -> None:
        """A message has arrived; whatever is wrong with it, it is counted and nothing else happens."""
        parsed = parse_topic(topic)
        if parsed is None or self._connected_at is None or self._leaving:
            self.ignored_total += 1
            return
        try:
            if parsed.type == "STATE" and parsed.host == self._primary_host:
                self._state(decode_state(payload))
                return
            if parsed == self._node._replace(type="NCMD"):
                command = decode_payload(payload)
                if any(metric.name == REBIRTH and metric.value is True for metric in command.metrics):
                    self._rebirth()
                    return
        except SparkplugDecodeError:
            pass
        self.ignored_total += 1

    def publish(self, samples: Sequence[DeviceSample]) -> None:
        """Take samples of one moment, of any devices; raises ValueError for metrics that there are none of."""
        for device, own in _by_device(self._catalogue.learn(samples)).items():
            live = self._born and device not in self._down
            for begin in range(0, len(own), self._limits.message_samples):
                part = own[begin : begin + self._limits.message_samples]
                if live and self._store.unwritten_messages < self._limits.window_messages:
                    self._data(device, part, historical=False)
                else:
                    self._store.wait(part)

    def tick(self) -> None:
        """Send what waits, as far as the window allows, and forget what is old; call it every tick."""
        now = self._clock()
        if self._connected_at is not None and now >= self._connected_at + self._limits.settle_s:
            self._store.expire(now - self._limits.history_s)
        if not self._born:
            return
        messages = 0
        while (
            self._store.has_ready
            and messages < self._limits.backfill_messages
            and self._store.unwritten_messages < self._limits.window_messages
        ):
            for device, own in _by_device(self._store.take(self._limits.message_samples)).items():
                self._data(device, own, historical=True)
                messages += 1
        reported, at = self._reported_drops
        if self.dropped_total != reported and now >= at + _REPORT_DROPS_EVERY_S:
            self._reported_drops = (self.dropped_total, now)
            payload = self._catalogue.node_data(
                seq=self._outbox.next_seq(), dropped=self.dropped_total, now_ms=self._wall_ms()
            )
            self._outbox.add(Publish(str(self._node), payload))

    def leave(self) -> None:
        """Publish the NDEATH and disconnect, as the specification asks of a node that goes on purpose (5.5)."""
        if self._connected_at is None or self._leaving:
            return
        self._born = False
        self._leaving = True
        self._outbox.add_last(self._death())

    # Faults that a plant may have

    def device_down(self, device: str) -> None:
        """The node loses the device: DDEATH, and its samples are held back."""
        self._catalogue.check(device)
        if device in self._down:
            return
        self._down.add(device)
        self._store.park(device)
        if self._born:
            payload = self._catalogue.device_death(seq=self._outbox.next_seq(), now_ms=self._wall_ms())
            self._outbox.add(Publish(str(self._node._replace(type="DDEATH", device=device)), payload))

    def device_up(self, device: str) -> None:
        """The node has the device again: DBIRTH, and what was held back follows as historical."""
        self._catalogue.check(device)
        if device not in self._down:
            return
        self._down.discard(device)
        if self._born:
            self._bear_device(device)
        self._store.release(device)

    def skip_birth_of(self, device: str) -> None:
        """Leave the device out of the next births, and use its aliases all the same."""
        self._catalogue.check(device)
        self._unborn.add(device)

    def swap_next_messages(self) -> None:
        """Publish the next two data messages in the wrong order."""
        self._outbox.swap_next()

    def duplicate_next(self) -> None:
        """Publish the next data message twice."""
        self._outbox.duplicate_next()

    # What it does

    def _state(self, state: HostState) -> None:
        last = self._host
        if last is not None and state.timestamp_ms < last.timestamp_ms:
            self.ignored_total += 1
            return
        self._host = state
        if state.online and not self._born:
            self._bear()
        elif state.online and last is not None and state.timestamp_ms > last.timestamp_ms:
            self._rebirth()
        elif not state.online and self._born:
            self.leave()

    def _rebirth(self) -> None:
        if not self._born:
            # It was asked by somebody, but a primary host that is away would miss the births.
            self.ignored_total += 1
            return
        self._bear()
        self._store.recall(connection_lost=False)

    def _bear(self) -> None:
        self._outbox.begin_birth()
        now_ms = self._wall_ms()
        self._born = True
        self.births_total += 1
        payload = self._catalogue.node_birth(bd_seq=self._bd_seq, dropped=self.dropped_total, now_ms=now_ms)
        self._outbox.add(Publish(str(self._node._replace(type="NBIRTH")), payload))
        for device in self._catalogue.devices:
            if device not in self._down and device not in self._unborn:
                self._bear_device(device)
        self._unborn.clear()

    def _bear_device(self, device: str) -> None:
        payload = self._catalogue.device_birth(device, seq=self._outbox.next_seq(), now_ms=self._wall_ms())
        self._outbox.add(Publish(str(self._node._replace(type="DBIRTH", device=device)), payload))

    def _data(self, device: str, samples: Sequence[DeviceSample], *, historical: bool) -> None:
        payload = self._catalogue.device_data(
            samples, seq=self._outbox.next_seq(), historical=historical, now_ms=self._wall_ms()
        )
        message = Publish(str(self._node._replace(type="DDATA", device=device)), payload)
        self._outbox.add_data(message, samples)

    def _death(self) -> Publish:
        return Publish(str(self._node._replace(type="NDEATH")), self._catalogue.node_death(self._bd_seq), 1)


def _by_device(samples: Iterable[DeviceSample]) -> dict[str, list[DeviceSample]]:
    found: dict[str, list[DeviceSample]] = {}
    for sample in samples:
        found.setdefault(sample.device, []).append(sample)
    return found


def _refuse_bad_id(what: str, name: str) -> None:
    if not name or any(character in name for character in "/+#\0"):
        raise ValueError(f"{what} id {name!r}: it is one level of an MQTT topic, without + and #")
