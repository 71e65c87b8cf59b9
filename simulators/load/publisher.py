"""One process of an MQTT or Sparkplug load: the messages of its machines, each when it is due."""

from __future__ import annotations

import math
import time
from typing import Final, Protocol

from simulators.load import mqtt_packets
from simulators.load.channel import Channel, Counters, MqttJob, Ready, Start, Stop
from simulators.load.mqtt_json import JsonMessages, Packets
from simulators.load.mqtt_link import KEEPALIVE_S, Greeting, Link
from simulators.load.plan import LoadPlan
from simulators.load.sparkplug_node import SparkplugNode

_REPORT_S: Final = 0.5
_FLUSH_S: Final = 5.0
_TURN_S: Final = 0.005
_LONGEST_TURN_S: Final = 0.1
_SLICE_BYTES: Final = 2**18
_LATE_MS: Final = 50.0


class Messages(Protocol):
    """The messages of a tick."""

    values_per_message: int

    def __len__(self) -> int: ...

    def at(self, tick: int) -> Packets:
        """Return the packets of a tick, valid until the next call."""


class Pacer:
    """When which message is due: a tick's messages are spread over the time until the next."""

    def __init__(self, plan: LoadPlan, per_tick: int, first_tick: int) -> None:
        self._plan = plan
        self._per_tick = per_tick
        self._first = first_tick

    def due(self, now_ms: float) -> int:
        """Return how many messages should have been sent by now."""
        tick = self._plan.newest_tick(now_ms)
        if tick < self._first:
            return 0
        begin_ms, end_ms = self._plan.tick_ms(tick), self._plan.tick_ms(tick + 1)
        part = math.floor((now_ms - begin_ms) / (end_ms - begin_ms) * self._per_tick) + 1
        return (tick - self._first) * self._per_tick + min(part, self._per_tick)

    def place(self, sent: int) -> tuple[int, int]:
        """Return the tick of the message after so many, and which of the tick's messages it is."""
        tick, index = divmod(sent, self._per_tick)
        return self._first + tick, index

    def late(self, tick: int, now_ms: float) -> bool:
        """Whether a tick whose last message goes now is late: by more than a tick, and more than 50 ms."""
        end_ms = self._plan.tick_ms(tick + 1)
        return now_ms > max(end_ms + _LATE_MS, self._plan.tick_ms(tick + 2))


class _Publisher:
    def __init__(self, job: MqttJob) -> None:
        self.node = SparkplugNode(job) if job.sparkplug else None
        self.messages: Messages = self.node or JsonMessages(
            job.plan,
            range(job.first, job.last),
            job.topic_root,
            qos=job.qos,
            values_per_message=job.values_per_message,
        )
        self.link = Link(job.host, job.port, qos=0 if job.sparkplug else job.qos, window=job.window)
        if self.node is not None:
            self.link.greeting = self.node.greeting
            self.link.received = self._command
        else:
            hello = mqtt_packets.connect(
                job.client_id, KEEPALIVE_S, username=job.username, password=job.password
            )
            self.link.greeting = lambda: Greeting(hello, b"")
        self.pacer: Pacer | None = None
        self.sent_total = 0
        self.late_total = 0
        self.rebirths_total = 0
        self.cpu_before_s = 0.0
        self._plan = job.plan
        self._tick = -1

    def begin(self, tick: int) -> None:
        self.pacer = Pacer(self._plan, len(self.messages), tick)
        self.cpu_before_s = time.process_time()

    def _command(self, packet: bytes) -> None:
        assert self.node is not None
        self.link.send(self.node.received(packet))

    def pump(self) -> None:
        """Hand the link what is due, as far as it has room."""
        if self.node is not None and self.node.wants_rebirth and self.link.connected:
            self.rebirths_total += 1
            self.link.send(self.node.births())
        if self.pacer is None:
            return
        now_ms = time.time() * 1000
        due = self.pacer.due(now_ms)
        while self.sent_total < due:
            tick, index = self.pacer.place(self.sent_total)
            if tick != self._tick:
                self._packets, self._tick = self.messages.at(tick), tick
            count = min(
                due - self.sent_total,
                len(self.messages) - index,
                self.link.room,
                1 + _SLICE_BYTES // self._packets.itemsize,
            )
            if count <= 0:
                return
            part = self._packets[index : index + count]
            if self.node is not None:
                self.node.stamp(part)
            self.link.publish(part)
            self.sent_total += count
            if index + count == len(self.messages):
                self.late_total += self.pacer.late(tick, now_ms)

    def counters(self, now_ms: float) -> Counters:
        due = 0 if self.pacer is None else self.pacer.due(now_ms)
        each = self.messages.values_per_message
        sent = self.sent_total - self.link.lost_total
        return Counters(
            offered_values=due * each,
            offered_messages=due,
            sent_values=sent * each,
            sent_messages=sent,
            acknowledged_messages=self.link.acknowledged_total,
            unacknowledged_messages=self.link.unacknowledged,
            lost_messages=self.link.lost_total,
            late_ticks=self.late_total,
            reconnects=self.link.connections_total - 1,
            rebirths=self.rebirths_total,
            cpu_s=time.process_time() - self.cpu_before_s,
        )


def publish(job: MqttJob, channel: Channel) -> None:
    """Publish until told to stop.

    Raises:
        SourceUnavailable: the broker can't be reached at the beginning; later that is waited for.
        ParentGone: nobody is there any more.
    """
    began_s = time.monotonic()
    publisher = _Publisher(job)
    link = publisher.link
    link.connect()
    channel.tell(Ready(round(time.monotonic() - began_s, 3)))
    between_s = 1 / (job.plan.hz * len(publisher.messages))
    turn_s = min(max(between_s, _TURN_S), _LONGEST_TURN_S)
    report_s = time.monotonic()
    stopped = False
    while not stopped:
        publisher.pump()
        if link.turn(turn_s, channel):
            for command in channel.commands():
                if isinstance(command, Start):
                    publisher.begin(command.tick)
                elif isinstance(command, Stop):
                    stopped = True
        if time.monotonic() >= report_s:
            report_s = time.monotonic() + _REPORT_S
            channel.tell(publisher.counters(time.time() * 1000))
    stopped_ms = time.time() * 1000
    publisher.pump()
    if publisher.node is not None and link.connected:
        link.send(publisher.node.death())
    deadline_s = time.monotonic() + _FLUSH_S
    while not link.idle and time.monotonic() < deadline_s:
        link.turn(_TURN_S)
    channel.tell(publisher.counters(stopped_ms))
    link.close()
