"""A simulated Sparkplug B 3.0 edge node with its devices, on an MQTT 3.1.1 broker.

Three layers, so that the rules can be tested without a socket: `sparkplug_session` decides (births, deaths, the
primary host, what is sent again), `sparkplug_link` is one connection, and the node here joins them in the thread of
its caller: paho's thread only leaves events behind, which `feed` takes up. Whoever owns a node calls `feed` every
tick, a second or less apart; nothing happens in between.

Nothing is given up while the process lives and the store has room: QoS 0 is made at-least-once by sending again, as
is_historical, what was written to the socket shortly before a loss was noticed. Receivers drop the repeats by series,
time and value. A restarted process begins with an empty store, and with the next bdSeq.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import quote

from shopfloor.sparkplug import SEQ_MODULO
from simulators.protocols.sparkplug_link import Arrived, Connected, Ended, Link
from simulators.protocols.sparkplug_metrics import DeviceSample, MetricSpec
from simulators.protocols.sparkplug_outbox import Leave
from simulators.protocols.sparkplug_session import EdgeSession, SessionLimits
from simulators.scenario import BrokerConfig

__all__ = ["DeviceSample", "MetricSpec", "SessionLimits", "SparkplugNode"]

_RETRY_S: Final = 1.0
_LEAVE_S: Final = 2.0
"""How long a DISCONNECT may take before the connection is cut."""
_LOOK_AGAIN_S: Final = 5.0
"""How often a node that waits for its host subscribes anew: a broker can miss that a STATE that is being retained at
the moment of the subscription belongs to it (seen with nats-server)."""

logger = logging.getLogger(__name__)


class SparkplugNode:
    """An edge node; all methods belong to one thread and do not block, but for `stop`."""

    def __init__(
        self,
        broker: BrokerConfig,
        group: str,
        edge: str,
        primary_host: str | None,
        folder: Path,
        devices: Mapping[str, Sequence[MetricSpec]],
        limits: SessionLimits | None = None,
        *,
        wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        """Make a node that does nothing before `start`.

        ``folder`` keeps the bdSeq over restarts; ``wall_ms`` is the plant's clock (UTC, milliseconds), for births and
        payloads. Raises ValueError for ids that can't be a level of a topic and for two metrics of one name.
        """
        self.session = EdgeSession(group, edge, devices, primary_host, limits, wall_ms=wall_ms)
        """The node's rules and counters."""
        self._broker = broker
        self._client_id = f"{group}-{edge}"
        self._bd_seq_file = folder / f"bdseq-{quote(group, safe='')}-{quote(edge, safe='')}"
        self._bd_seq = _read_bd_seq(self._bd_seq_file)
        self._link: Link | None = None
        self._written = 0
        self._connected = False
        self._running = False
        self._retry_at = 0.0
        self._cut_at: float | None = None
        self._look_at = 0.0
        self._old: list[Link] = []

    @property
    def connected(self) -> bool:
        """Whether there is a connection now."""
        return self._connected

    @property
    def waiting(self) -> int:
        """Samples that are held back: no connection, no primary host, or older samples first."""
        return self.session.waiting

    @property
    def unacknowledged(self) -> int:
        """Samples that are held back or that the socket has not taken yet."""
        return self.session.unacknowledged

    def start(self) -> None:
        """Connect, and again whenever the connection is lost."""
        self._running = True
        self._retry_at = 0.0
        self.feed()

    def publish(self, samples: Sequence[DeviceSample]) -> None:
        """Take the samples of one tick, of any devices; raises ValueError for metrics that there are none of.

        The times of a metric rise strictly from call to call. A value that does not fit its data type is counted in
        ``session.refused_total`` and costs nothing else.
        """
        self._take_events()
        self.session.publish(samples)
        self._send()

    def feed(self) -> None:
        """Take up what happened, send what waits, connect if it is time: call it every tick."""
        self._take_events()
        self.session.tick()
        self._send()
        now = time.monotonic()
        if self._cut_at is not None and now >= self._cut_at and self._link is not None:
            self._cut_at = None
            self._link.drop()
        if self._connected and not self.session.is_live and self._link is not None and now >= self._look_at:
            self._look_at = now + _LOOK_AGAIN_S
            self._link.subscribe()
        if self._running and self._link is None and now >= self._retry_at:
            self._connect()

    def pause(self) -> None:
        """Cut the connection as an outage does: the broker publishes the will, samples wait until `resume`."""
        self._running = False
        self._abandon()

    def resume(self) -> None:
        """End the outage: connect again, and send what waited as historical."""
        if not self._running:
            self.start()

    def stop(self) -> None:
        """Publish the NDEATH, disconnect, and forget what waits; takes some seconds if the broker does not answer."""
        self._running = False
        self.session.leave()
        self._send()
        deadline = time.monotonic() + _LEAVE_S
        while self._link is not None and self._connected and time.monotonic() < deadline:
            time.sleep(0.005)
            self._take_events()
        self._abandon()
        for link in self._old:
            link.join()
        self._old.clear()

    def _connect(self) -> None:
        _write_bd_seq(self._bd_seq_file, self._bd_seq)
        self._written = 0
        self._link = Link(
            self._broker, self._client_id, self.session.begin(self._bd_seq), self.session.topics
        )

    def _take_events(self) -> None:
        link = self._link
        if link is None:
            return
        written = link.written_total
        self.session.written(written - self._written)
        self._written = written
        while link.events:
            match link.events.popleft():
                case Connected():
                    self._connected = True
                    self._look_at = time.monotonic() + _LOOK_AGAIN_S
                    self.session.connected()
                case Arrived(topic, payload):
                    self.session.message(topic, payload)
                case Ended():
                    self._let_go(link)
                    return

    def _send(self) -> None:
        outbox = self.session.outbox
        while outbox and self._link is not None:
            match outbox.popleft():
                case Leave():
                    self._cut_at = time.monotonic() + _LEAVE_S
                    self._link.leave()
                case message:
                    self._link.publish(message)

    def _abandon(self) -> None:
        if self._link is not None:
            self._link.drop()
            self._let_go(self._link)

    def _let_go(self, link: Link) -> None:
        if link.was_opened:
            self._bd_seq = (self._bd_seq + 1) % SEQ_MODULO
        # Its thread may still be at its last line, or connecting; those that have ended are let go.
        self._old = [old for old in self._old if not old.has_ended]
        self._old.append(link)
        self._link = None
        self._connected = False
        self._cut_at = None
        self._retry_at = time.monotonic() + _RETRY_S
        self.session.lost()


def _read_bd_seq(path: Path) -> int:
    """Return the bdSeq of the next CONNECT: 0 at first, then one more than the last one that was written."""
    try:
        return (int(path.read_text()) + 1) % SEQ_MODULO
    except FileNotFoundError:
        return 0
    except ValueError:
        logger.warning("%s holds no number; bdSeq begins with 0", path)
        return 0


def _write_bd_seq(path: Path, number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(path.name + ".new")
    new.write_text(f"{number}\n")
    new.replace(path)
