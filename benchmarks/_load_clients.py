"""Receivers that count and check every value of a load, with as little work as that takes."""

from __future__ import annotations

import asyncio
import select
import socket
import struct
import threading
import time
from collections import deque
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt
from asyncua import ua
from asyncua.client.client import Client
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.ua_binary import struct_from_binary

from edge_agent.sources.opcua.binary import read_extension, skip_node_id
from simulators.load import mqtt_packets
from simulators.load.mqtt_json import JsonMessages
from simulators.load.opcua_records import date_time
from simulators.load.opcua_space import NAMESPACE_URI
from simulators.load.plan import LoadPlan, machine_name, signal_name, split_value, values

_ITEMS_PER_CALL: Final = 5_000
_OUTSTANDING: Final = 4
_GATHER_S: Final = 0.002
"""Messages come one by one; many at once cost the receiver less of what all share."""
_ENCODED: Final[dict[int, np.dtype[np.void]]] = {
    mask: np.dtype(
        [("handle", "<u4"), ("mask", "u1"), ("kind", "u1"), ("value", "<f8")]
        + ([("status", "<u4")] if mask & 2 else [])
        + ([("source", "<i8")] if mask & 4 else [])
        + ([("server", "<i8")] if mask & 8 else [])
    )
    for mask in (1, 3, 5, 7, 9, 11, 13, 15)
}
_any: Any = ua


class OpcuaCounter:
    """Subscribes to all variables of one server and takes the notifications as arrays.

    Session and subscription are asyncua's; the answers to Publish it never sees.
    """

    def __init__(self, plan: LoadPlan, machines: range, url: str, *, check: bool = True) -> None:
        self._plan = plan
        self._machines = machines
        self._client = Client(url, timeout=60, watchdog_intervall=60.0)
        self._client.session_timeout = 60_000
        self._check = check
        self._numbers = plan.numbers(machines)
        self._next = np.full(len(self._numbers), -1, np.int64)
        """The tick that each variable should bring next, -1 before the first."""
        self._first = self._next.copy()
        self._sequence = 0
        self._acknowledge: list[Any] = []
        self._task: asyncio.Task[None] | None = None
        self.values_total = 0
        self.mistakes: list[str] = []

    async def start(self) -> None:
        """Connect, subscribe and take from then on."""
        await self._client.connect()
        namespace = await self._client.get_namespace_index(NAMESPACE_URI)
        request: Any = ua.CreateSubscriptionRequest()
        request.Parameters.RequestedPublishingInterval = 50.0
        request.Parameters.RequestedMaxKeepAliveCount = 100
        request.Parameters.RequestedLifetimeCount = 1_000
        request.Parameters.PublishingEnabled = True
        # Past asyncua's own subscriptions, which would begin to publish too.
        self._protocol: Any = cast("Any", self._client.uaclient).protocol
        answer = await self._protocol.send_request(request, 60)
        created: Any = struct_from_binary(ua.CreateSubscriptionResponse, answer).Parameters
        names = [
            f"{machine_name(machine)}.{signal_name(signal)}"
            for machine in self._machines
            for signal in range(self._plan.signals)
        ]
        for first in range(0, len(names), _ITEMS_PER_CALL):
            await self._monitor(
                created.SubscriptionId, namespace, first, names[first : first + _ITEMS_PER_CALL]
            )
        self._task = asyncio.create_task(self._run())

    async def _monitor(self, subscription: int, namespace: int, first: int, names: list[str]) -> None:
        request: Any = ua.CreateMonitoredItemsRequest()
        request.Parameters.SubscriptionId = subscription
        request.Parameters.TimestampsToReturn = ua.TimestampsToReturn.Both
        request.Parameters.ItemsToCreate = [
            _any.MonitoredItemCreateRequest(
                ItemToMonitor=_any.ReadValueId(
                    NodeId=_any.NodeId(name, namespace), AttributeId=AttributeIds.Value
                ),
                MonitoringMode=ua.MonitoringMode.Reporting,
                RequestedParameters=_any.MonitoringParameters(
                    ClientHandle=first + number, SamplingInterval=0.0, QueueSize=1_000, DiscardOldest=True
                ),
            )
            for number, name in enumerate(names)
        ]
        await self._protocol.send_request(request, 60)

    async def _run(self) -> None:
        outstanding = deque(self._publish() for _ in range(_OUTSTANDING))
        try:
            while True:
                answer = await outstanding[0]
                outstanding.popleft()
                self.take(answer._data)  # noqa: SLF001 - the bytes behind asyncua's Buffer
                outstanding.append(self._publish())
        finally:
            for future in outstanding:
                future.cancel()

    def _publish(self) -> asyncio.Future[Any]:
        request: Any = ua.PublishRequest()
        request.Parameters.SubscriptionAcknowledgements, self._acknowledge = self._acknowledge, []
        return cast("asyncio.Future[Any]", self._protocol._send_request(request, 0))  # noqa: SLF001

    def take(self, body: bytes) -> None:
        """Count and check one answer to a Publish request."""
        at = skip_node_id(body, 0)
        (result,) = struct.unpack_from("<I", body, at + 12)
        if result:
            self.mistakes.append(f"Publish: {result:#010x}")
            return
        at += 4 + 8 + 4 + 1
        (strings,) = struct.unpack_from("<i", body, at)
        assert strings <= 0
        _, _, at = read_extension(body, at + 4)
        subscription, numbers = struct.unpack_from("<Ii", body, at)
        at += 8 + 4 * max(numbers, 0) + 1
        sequence, _, count = struct.unpack_from("<Iqi", body, at)
        at += 16
        if count > 0:
            if sequence != self._sequence + 1:
                self.mistakes.append(f"message {sequence} after {self._sequence}")
            self._sequence = sequence
            self._acknowledge.append(_any.SubscriptionAcknowledgement(subscription, sequence))
        for _ in range(max(count, 0)):
            kind, start, at = read_extension(body, at)
            if kind == ObjectIds.DataChangeNotification_Encoding_DefaultBinary:
                self._values(body, start)

    def _values(self, body: bytes, at: int) -> None:
        (count,) = struct.unpack_from("<i", body, at)
        self.values_total += count
        if not self._check:
            return
        at += 4
        while count > 0:
            layout = _ENCODED[body[at + 4]]
            found = np.frombuffer(body, layout, min(count, (len(body) - at) // layout.itemsize), at)
            same = found["mask"] == body[at + 4]
            found = found if same.all() else found[: np.argmin(same)]
            self._compare(found)
            at += found.nbytes
            count -= len(found)

    def _compare(self, found: npt.NDArray[np.void]) -> None:
        ticks, _ = split_value(found["value"])
        for part in np.split(np.arange(len(found)), np.flatnonzero(np.diff(ticks)) + 1):
            tick, rows = int(ticks[part[0]]), found[part]
            handles = rows["handle"]
            expected = self._next[handles]
            self._first[handles[expected < 0]] = tick
            if not (((expected == tick) | (expected < 0)).all() and "status" not in (rows.dtype.names or ())):
                self.mistakes.append(f"tick {tick}: expected {np.unique(expected).tolist()[:5]}")
            if not (rows["value"] == values(tick, self._numbers[handles])).all():
                self.mistakes.append(f"tick {tick}: other values than foreseen")
            if not (rows["source"] == date_time(self._plan.tick_ms(tick))).all():
                self.mistakes.append(f"tick {tick}: other source times than foreseen")
            self._next[handles] = tick + 1

    def verdict(self) -> list[str]:
        """Return what was wrong: missing, repeated, out of order, other than foreseen; empty where nothing was."""
        if self._check and int((self._next - self._first).sum()) != self.values_total:
            return [*self.mistakes, "some values came twice"]
        return self.mistakes

    async def stop(self) -> None:
        """Take no more and disconnect."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        await self._client.disconnect()


class MqttCounter:
    """Subscribes with QoS 1 and compares every packet with what was to be sent, in a thread of its own."""

    def __init__(self, messages: JsonMessages, plan: LoadPlan, topic_root: str, port: int) -> None:
        self._messages = messages
        self._plan = plan
        self._next = np.full(len(messages), -1, np.int64)
        self._first = self._next.copy()
        self._per_machine = plan.signals // messages.values_per_message
        self._socket = socket.create_connection(("127.0.0.1", port), 10)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.sendall(
            mqtt_packets.connect("counter", 600) + mqtt_packets.subscribe(f"{topic_root}/#", 1, 1)
        )
        greeting = b""
        while len(greeting) < 9:
            greeting += self._socket.recv(9 - len(greeting))
        assert greeting == b"\x20\x02\x00\x00\x90\x03\x00\x01\x01", greeting
        self._expected: dict[int, npt.NDArray[np.void]] = {}
        self._stopped = False
        self._thread = threading.Thread(target=self._run)
        self.messages_total = 0
        self.cpu_s = 0.0
        self.mistakes: list[str] = []

    def start(self) -> None:
        """Take from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Take no more and disconnect."""
        self._stopped = True
        self._thread.join()
        self._socket.close()

    def _run(self) -> None:
        layout = self._messages.at(0).dtype
        buffer = b""
        while not self._stopped:
            if not select.select([self._socket], [], [], 0.1)[0]:
                continue
            time.sleep(_GATHER_S)
            buffer += self._socket.recv(2**20)
            whole = len(buffer) // layout.itemsize
            found = np.frombuffer(buffer, layout, whole)
            if whole:
                self._socket.sendall(_acknowledgements(found["id"]))
                self._compare(found)
                self.messages_total += whole
            buffer = buffer[whole * layout.itemsize :]
            self.cpu_s = time.thread_time()

    def _compare(self, found: npt.NDArray[np.void]) -> None:
        ticks = found["values"]["tick"][:, 0].astype(np.int64) - 1_000_000
        rows = (_digits(found["head"], -4, None) - 1) * self._per_machine
        rows += (_digits(found["values"]["key"][:, 0], 3, 6) - 1) // self._messages.values_per_message
        for part in np.split(np.arange(len(found)), np.flatnonzero(np.diff(ticks)) + 1):
            tick, some = int(ticks[part[0]]), rows[part]
            wanted = self._wanted(tick)[some]
            wanted["id"] = found["id"][part]
            if wanted.tobytes() != found[part].tobytes():
                self.mistakes.append(f"tick {tick}: other bytes than foreseen")
            expected = self._next[some]
            self._first[some[expected < 0]] = tick
            if not ((expected == tick) | (expected < 0)).all():
                self.mistakes.append(f"tick {tick}: expected {np.unique(expected).tolist()[:5]}")
            self._next[some] = tick + 1

    def _wanted(self, tick: int) -> npt.NDArray[np.void]:
        if tick not in self._expected:
            if len(self._expected) > 4:
                del self._expected[min(self._expected)]
            self._expected[tick] = self._messages.at(tick).copy()
        return self._expected[tick]

    def verdict(self) -> list[str]:
        """Return what was wrong; empty where nothing was."""
        if int((self._next - self._first).sum()) != self.messages_total:
            return [*self.mistakes, "some messages came twice"]
        return self.mistakes


def _digits(texts: npt.NDArray[np.void], first: int, last: int | None) -> npt.NDArray[np.int64]:
    """Read numbers of the same width out of texts of the same width."""
    found = np.ascontiguousarray(texts).view(np.uint8).reshape(len(texts), -1)[:, first:last]
    weights = 10 ** np.arange(found.shape[1])[::-1]
    numbers: npt.NDArray[np.int64] = (found.astype(np.int64) - ord("0")) @ weights
    return numbers


def _acknowledgements(ids: npt.NDArray[Any]) -> bytes:
    packets = np.empty((len(ids), 2), ">u2")
    packets[:, 0] = 0x4002
    packets[:, 1] = ids
    return packets.tobytes()
