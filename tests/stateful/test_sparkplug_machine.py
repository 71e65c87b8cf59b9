"""A simulated edge node in a world where everything dies: at the end a strict host has every sample.

Losses are noticed in time (the history of 15 s covers them), and a host finds a restarted broker again within a
minute; these two are the node's stated conditions, and the only mercy of the world.
"""

from __future__ import annotations

from collections import Counter, deque

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from shopfloor.sparkplug import (
    REBIRTH,
    DataType,
    HostState,
    Metric,
    Payload,
    Topic,
    encode_payload,
    encode_state,
)
from simulators.protocols.sparkplug_metrics import DeviceSample, MetricSpec
from simulators.protocols.sparkplug_outbox import Leave, Publish
from simulators.protocols.sparkplug_session import EdgeSession, SessionLimits
from tests.integration.sparkplug_reader import Reader

DEVICES = {
    name: [MetricSpec("Temperature", DataType.Double, "Cel"), MetricSpec("Shots", DataType.Int16)]
    for name in ("imm-1", "imm-2")
}
NAMES = st.sampled_from(sorted(DEVICES))
STATE = str(Topic("STATE", host="scada"))
NCMD = "spBv1.0/vn01/NCMD/edge"
ASK = encode_payload(Payload(metrics=(Metric(REBIRTH, datatype=DataType.Boolean, value=True),)))
NOTICE_S = 4.0
DELIVER_S = 5.0
RETURN_S = 40.0


class World(RuleBasedStateMachine):
    """The session on one side, the reader on the other, and a broker and a network between that lose things."""

    @initialize(swapped=st.booleans(), with_host=st.booleans())
    def begin(self, swapped: bool, with_host: bool) -> None:
        self.now = 1000.0
        self.session = EdgeSession(
            "vn01",
            "edge",
            DEVICES,
            "scada",
            SessionLimits(message_samples=5, window_messages=12, backfill_messages=3),
            clock=lambda: self.now,
            wall_ms=lambda: int(self.now * 1000),
        )
        self.reader = Reader()
        self.published: set[tuple[str, str, int, object]] = set()
        self.times: Counter[tuple[str, str]] = Counter()
        self.bd_seq = 0
        self.broker_up = True
        self.node_connected = False
        self.node_connected_at = 0.0
        self.host_alive = False
        self.host_subscribed = False
        self.died_at: float | None = None
        self.retained: HostState | None = None
        self.socket: deque[Publish] = deque()
        self.flight: deque[tuple[float, Publish]] = deque()
        if swapped:
            self.session.swap_next_messages()
        if with_host:
            self.host_starts(will_seen=False)

    # The node and its connection

    def connect_node(self) -> None:
        self.session.begin(self.bd_seq)
        self.bd_seq = (self.bd_seq + 1) % 256
        self.node_connected = True
        self.node_connected_at = self.now
        self.session.connected()
        if self.retained is not None:
            self.session.message(STATE, encode_state(self.retained))

    def lose_node(self) -> None:
        self.node_connected = False
        self.socket.clear()
        self.session.lost()

    def drain(self) -> None:
        while self.session.outbox:
            message = self.session.outbox.popleft()
            if isinstance(message, Leave):
                self.write(len(self.socket))
                self.lose_node()
                return
            if message.qos == 0:
                self.socket.append(message)
            else:
                self.write(len(self.socket))
                self.flight.append((self.now, message))

    def write(self, count: int) -> None:
        for _ in range(min(count, len(self.socket))):
            self.flight.append((self.now, self.socket.popleft()))
            self.session.written(1)

    def arrive(self, count: int) -> None:
        for _ in range(min(count, len(self.flight))):
            _, message = self.flight.popleft()
            if not self.host_subscribed:
                continue
            if self.reader.take(message.topic, message.payload, self.now) and self.node_connected:
                self.session.message(NCMD, ASK)
        self.drain()

    @rule(count=st.integers(1, 6), device=NAMES)
    def samples(self, count: int, device: str) -> None:
        made = []
        for number in range(count):
            metric = DEVICES[device][number % 2].name
            self.times[device, metric] += 1
            time = self.times[device, metric]
            value = -time if metric == "Shots" else time / 8
            made.append(DeviceSample(device, metric, time, value))
            self.published.add((device, metric, time, value))
        self.session.publish(made)
        self.drain()

    @rule()
    def tick(self) -> None:
        self.session.tick()
        self.drain()

    @rule(count=st.integers(1, 20))
    def socket_takes(self, count: int) -> None:
        self.write(count)

    @rule(count=st.integers(1, 20))
    def messages_arrive(self, count: int) -> None:
        self.arrive(count)

    @precondition(lambda self: self.broker_up and not self.node_connected)
    @rule()
    def node_connects(self) -> None:
        self.connect_node()
        self.drain()

    @precondition(lambda self: self.node_connected)
    @rule(survive=st.integers(0, 5))
    def cable_is_cut(self, survive: int) -> None:
        while len(self.flight) > survive:
            self.flight.pop()
        self.lose_node()

    @rule(half_seconds=st.sampled_from([1, 4, 16, 40]))
    def time_passes(self, half_seconds: int) -> None:
        for _ in range(half_seconds):
            self.half_second_passes()

    def half_second_passes(self) -> None:
        self.now += 0.5
        self.session.tick()
        self.drain()
        self.write(len(self.socket))
        self.arrive(sum(at <= self.now - DELIVER_S for at, _ in self.flight))
        if self.died_at is not None and self.now >= self.died_at + NOTICE_S:
            self.will_of_host()
        away = (
            self.node_connected and not self.host_subscribed and self.now > self.node_connected_at + RETURN_S
        )
        if away and self.retained is not None and self.retained.online:
            self.host_starts(will_seen=True)

    # The host and its broker

    def state(self, *, online: bool) -> None:
        stamp = int(self.now * 1000) if online else (self.retained or HostState(online, 0)).timestamp_ms
        self.retained = HostState(online, stamp)
        if self.node_connected:
            self.session.message(STATE, encode_state(self.retained))
            self.drain()

    def will_of_host(self) -> None:
        self.died_at = None
        if self.broker_up:
            self.state(online=False)

    @precondition(lambda self: self.host_alive and self.host_subscribed)
    @rule()
    def host_is_killed(self) -> None:
        self.host_alive = self.host_subscribed = False
        self.died_at = self.now
        self.flight.clear()
        self.reader.forget()

    @precondition(lambda self: self.broker_up and not self.host_subscribed)
    @rule(will_seen=st.booleans())
    def host_starts(self, will_seen: bool) -> None:
        if self.died_at is not None and will_seen:
            self.will_of_host()
        self.died_at = None
        # What was on its way to the former session is not for this one.
        self.flight.clear()
        self.now += 0.001
        self.host_alive = self.host_subscribed = True
        self.state(online=True)

    @precondition(lambda self: self.broker_up)
    @rule()
    def broker_is_killed(self) -> None:
        self.broker_up = self.host_subscribed = False
        self.died_at = None
        self.flight.clear()
        if self.node_connected:
            self.lose_node()

    @precondition(lambda self: not self.broker_up)
    @rule(kept_state=st.booleans())
    def broker_starts(self, kept_state: bool) -> None:
        self.broker_up = True
        if not kept_state:
            self.retained = None

    # Faults

    @rule(device=NAMES)
    def birth_is_skipped(self, device: str) -> None:
        self.session.skip_birth_of(device)

    @rule(what=st.sampled_from(["swap", "duplicate"]))
    def messages_are_mixed_up(self, what: str) -> None:
        if what == "swap":
            self.session.swap_next_messages()
        else:
            self.session.duplicate_next()

    @rule(device=NAMES, up=st.booleans())
    def device_goes_or_comes(self, device: str, up: bool) -> None:
        if up:
            self.session.device_up(device)
        else:
            self.session.device_down(device)
        self.drain()

    @invariant()
    def nothing_comes_that_was_not_published(self) -> None:
        if hasattr(self, "reader"):
            assert set(self.reader.samples) <= self.published
            assert self.session.unacknowledged <= len(self.published) * 4

    def teardown(self) -> None:
        if not hasattr(self, "session"):
            return
        for device in DEVICES:
            self.session.device_up(device)
        self.drain()
        self.broker_up = True
        for _ in range(400):
            if not self.node_connected:
                self.connect_node()
            if not self.host_subscribed:
                self.host_starts(will_seen=True)
            self.session.tick()
            self.drain()
            self.write(len(self.socket))
            self.arrive(len(self.flight))
            self.now += 0.5
            if self.published <= set(self.reader.samples) and not self.session.unacknowledged:
                break
            if self.now % 10 < 0.5 and self.node_connected:
                # Messages that wait for their place in a swap go out with the next ones.
                self.samples(1, "imm-1")
        assert self.session.dropped_total == 0
        assert self.published <= set(self.reader.samples), self.published - set(self.reader.samples)


TestWorld = World.TestCase
TestWorld.settings = settings(
    max_examples=200, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
