"""One edge node and the devices behind it: what is born, what each alias means, what is dead. No clock, no socket."""

from __future__ import annotations

from typing import Final

from edge_agent.sources.known_assets import common_ancestor
from edge_agent.sources.sparkplug.catalogue import Catalogue, Slot
from edge_agent.sources.sparkplug.device import Device
from edge_agent.sources.sparkplug.early import EarlyMessages
from edge_agent.sources.sparkplug.findings import Findings, Gap
from edge_agent.sources.sparkplug.ordering import Ordering, Received
from edge_agent.sources.sparkplug.rebirth import RebirthRequests
from edge_agent.sources.sparkplug.values import time_of
from shopfloor.sparkplug import SEQ_MODULO, bd_seq_of

_MAX_DEVICES: Final = 2_000


class EdgeNode:
    """One edge node's session as its messages tell it."""

    def __init__(
        self,
        descriptor: str,
        catalogue: Catalogue,
        findings: Findings,
        dead: dict[str, int],
        *,
        reorder_timeout_s: float,
        rebirth_min_interval_s: float,
        forwards: bool,
    ) -> None:
        self.descriptor = descriptor
        self.rebirth = RebirthRequests(rebirth_min_interval_s)
        self._catalogue = catalogue
        self._found = findings
        self._dead = dead
        self._reorder_timeout_s = reorder_timeout_s
        self._forwards = forwards
        self._ordering = Ordering()
        self._devices: dict[str, Device] = {}
        self._aliases: dict[int, tuple[str, Slot | None]] = {}
        self._is_born = False
        self._bd_seq: int | None = None
        self._born_ms: int | None = None
        self._was_born = False
        self._last: Received | None = None
        """The last message in order."""
        self._doubtful: Received | None = None
        """The first message since then whose place nobody can tell."""
        self._early = EarlyMessages()

    @property
    def is_alive(self) -> bool:
        """Whether its birth is known, and no death came after it."""
        node = self._devices.get("")
        return node is not None and node.is_alive

    @property
    def dead_devices(self) -> list[str]:
        """Descriptors of the devices that the living edge node has lost."""
        return [each.descriptor for each in self._devices.values() if each.dead_at is not None]

    def next_s(self) -> float | None:
        """Return when `tick` has something to do; None while nothing is pending."""
        waiting = (self._ordering.waits_since_s, self._early.waits_since_s)
        pending = [since_s + self._reorder_timeout_s for since_s in waiting if since_s is not None]
        asking_s = self.rebirth.next_s()
        return min(pending if asking_s is None else [*pending, asking_s], default=None)

    def tick(self, now_s: float) -> None:
        """Give up waiting for messages that should have come by now."""
        since_s = self._ordering.waits_since_s
        if since_s is not None and (now_s - since_s >= self._reorder_timeout_s or self._ordering.is_overfull):
            self._give_up(now_s)
        since_s = self._early.waits_since_s
        if since_s is not None and now_s - since_s >= self._reorder_timeout_s:
            self._count_dropped(self._early.drop(), now_s)

    def take(self, message: Received, now_s: float) -> None:
        """Take one message of the edge node or of a device behind it."""
        if message.kind == "NBIRTH":
            self._node_birth(message, now_s)
        elif message.kind == "NDEATH":
            self._node_death(message, now_s)
        elif not self._is_born:
            self._hold_early(message, now_s)
        else:
            self._take_in_order(message, now_s)
        self.tick(now_s)

    def _take_in_order(self, message: Received, now_s: float) -> None:
        if self._was_sent_before_birth(message) and not self._ordering.is_next(message):
            # The birth overtook it; its number would seem to lie far ahead. Or the clock was set back: then the
            # numbers alone can't tell, and new births make everything plain.
            self._doubtful = self._doubtful or message
            self._apply_late(message, now_s)
            self.rebirth.want(now_s)
            return
        ready, is_late = self._ordering.offer(message, now_s)
        if is_late and self._is_newer(message):
            # Not overtaken: the numbers began anew, so the birth that came with them is missing.
            self._end_session(now_s)
            self._hold_early(message, now_s)
            return
        for each in ready:
            if is_late:
                self._apply_late(each, now_s)
            else:
                self._apply(each, now_s)

    def _was_sent_before_birth(self, message: Received) -> bool:
        sent_ms = message.payload.timestamp_ms
        return sent_ms is not None and self._born_ms is not None and sent_ms < self._born_ms

    def _is_newer(self, message: Received) -> bool:
        last_ms = self._last.payload.timestamp_ms if self._last is not None else None
        seq, sent_ms = message.payload.seq, message.payload.timestamp_ms
        if seq is None or seq >= SEQ_MODULO or sent_ms is None or last_ms is None:
            return False
        return sent_ms > last_ms

    def _node_birth(self, message: Received, now_s: float) -> None:
        sent_ms = message.payload.timestamp_ms
        keep = self._ordering.take_since(sent_ms) + self._early.take_since(sent_ms)
        self._count_dropped(self._early.drop(), now_s)
        self._end_session(now_s)
        self._record_dropped(message)
        self._is_born = self._was_born = True
        self._bd_seq = bd_seq_of(message.payload)
        self._born_ms = sent_ms
        self._aliases.clear()
        for device in self._devices.values():
            device.is_alive = False
        self.rebirth.answered()
        self._last = message
        self._birth(message)
        for each in self._ordering.begin(message.payload.seq or 0, keep, now_s):
            self._apply(each, now_s)

    def _end_session(self, now_s: float) -> None:
        """Let nothing more be read by what the last birth said."""
        if self._ordering.waits_since_s is not None:
            self._give_up(now_s)
        if self._doubtful is not None:
            self._gap_until(self._doubtful, 1)
            self._doubtful = None
        self._is_born = False

    def _node_death(self, message: Received, now_s: float) -> None:
        if not self._is_born:
            self._found.count("death_of_unknown_node")
            return
        if self._bd_seq is not None and bd_seq_of(message.payload) != self._bd_seq:
            # The will of an earlier connection, published when the next one stood already (6.4.21).
            self._found.count("stale_death")
            return
        self._end_session(now_s)
        for device in self._devices.values():
            # The time in a will is that of the connection's begin: only the broker's word is as new as the loss.
            device.die(message.received_time, message.received_time)
        self._found.count("node_death")

    def _apply(self, message: Received, now_s: float) -> None:
        self._last = message
        self._doubtful = None
        if message.kind == "DBIRTH":
            self._birth(message)
        elif message.kind == "DDEATH":
            device = self._devices.get(message.device)
            if device is not None:
                device.die(time_of(message.payload.timestamp_ms), message.received_time)
                self._found.count("device_death")
        else:
            self._data(message, now_s)

    def _apply_late(self, message: Received, now_s: float) -> None:
        """Take the values of a message that comes late, or twice; it says nothing about who is alive now."""
        self._found.count("late_message" if message.payload.seq is not None else "missing_seq")
        if message.kind != "DDEATH":
            self._data(message, now_s)

    def _birth(self, message: Received) -> None:
        device = self._device(message.device)
        if device is None:
            return
        self._aliases = {alias: known for alias, known in self._aliases.items() if known[0] != message.device}
        device.slots.clear()
        for metric in message.payload.metrics:
            slot = self._catalogue.born(device.publisher, metric) if device.publisher else None
            if metric.name:
                device.slots[metric.name] = slot
            if metric.alias is not None:
                if metric.alias in self._aliases:
                    why = f"metrics share the alias {metric.alias}"
                    self._catalogue.complain("alias_collision", device.descriptor, why)
                self._aliases[metric.alias] = (message.device, slot)
            if slot is not None:
                device.sample(slot, metric, message, is_birth=True)
        device.live()

    def _data(self, message: Received, now_s: float) -> None:
        device = self._devices.get(message.device)
        if device is None:
            self._found.count("unknown_device")
            self.rebirth.want(now_s)
            return
        if not device.is_alive:
            # Its values are as good as any, but who knows what else it has to say.
            self._found.count("data_without_birth")
            self.rebirth.want(now_s)
        aliases, slots = self._aliases, device.slots
        for metric in message.payload.metrics:
            known = aliases.get(metric.alias) if metric.alias is not None else None
            if known is not None and known[0] == message.device:
                slot = known[1]
            elif metric.name in slots:
                slot = slots[metric.name]
            else:
                self._found.count("unknown_metric")
                self.rebirth.want(now_s)
                continue
            if slot is not None:
                device.sample(slot, metric, message)

    def _device(self, name: str) -> Device | None:
        device = self._devices.get(name)
        if device is None:
            if len(self._devices) >= _MAX_DEVICES:
                self._catalogue.complain("too_many_devices", self.descriptor, f"more than {_MAX_DEVICES}")
                return None
            descriptor = f"{self.descriptor}/{name}" if name else self.descriptor
            device = Device(descriptor, self._catalogue, self._found, self._dead.get(descriptor))
            self._devices[name] = device
        return device

    def _hold_early(self, message: Received, now_s: float) -> None:
        """Keep what came before the edge node's birth: it may have overtaken it."""
        self.rebirth.want(now_s, self._reorder_timeout_s if message.kind == "DBIRTH" else 0.0)
        self._count_dropped(self._early.hold(message, now_s), now_s)

    def _count_dropped(self, number: int, now_s: float) -> None:
        if number:
            self._found.count("unknown_node", number)
            self.rebirth.want(now_s)

    def _record_dropped(self, birth: Received) -> None:
        """Record what could not be read before the birth, unless the edge node sends all of it again.

        It does so after this host was away, not where a birth was lost on the way.
        """
        early = self._early
        if early.dropped_since is not None and (self._was_born or not self._forwards):
            reason = f"messages of {self.descriptor} came before its birth was known"
            self._gap(reason, early.dropped_since, birth.received_time, early.dropped)
        early.begin_anew()

    def _give_up(self, now_s: float) -> None:
        messages, missing = self._ordering.give_up()
        self._found.count("missing_message", missing)
        self._gap_until(messages[0], missing)
        self.rebirth.want(now_s)
        for each in messages:
            self._apply(each, now_s)

    def _gap_until(self, message: Received, missing: int) -> None:
        until = message.received_time
        since = self._last.received_time if self._last is not None else until
        self._gap(f"messages of {self.descriptor} are missing", since, until, missing)

    def _gap(self, reason: str, from_time: int, to_time: int, messages: int) -> None:
        assets = [each.publisher.asset for each in self._devices.values() if each.publisher is not None]
        self._found.gaps.append(Gap(reason, from_time, to_time, common_ancestor(assets), messages))
