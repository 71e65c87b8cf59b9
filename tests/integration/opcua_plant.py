"""What the OPC UA tests stand on: a server with a history that outlives it, a network that can fail, a sink."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from asyncua import ua
from asyncua.server.history import HistoryStorageInterface
from asyncua.server.server import Server

from edge_agent.buffer.repeats import RepeatIndex
from edge_agent.sources.opcua.config import OpcUaConfig
from shopfloor.block import Sample, SampleBlock
from shopfloor.errors import StoreUnavailable
from shopfloor.messages import SourceState
from simulators.protocols.opcua_standard import SharingServer, without_collection
from tests.ports import free_port

URI = "urn:test:plant"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Disk(HistoryStorageInterface):
    """A server's history that survives its restarts. Times are inclusive, as in asyncua's own."""

    def __init__(self, page: int = 10_000) -> None:
        super().__init__(page)
        self.values: dict[str, list[Any]] = {}
        self.reads = 0

    async def init(self) -> None:
        pass

    async def stop(self) -> None:
        pass

    async def new_historized_node(self, node_id: Any, period: Any, count: int = 0) -> None:  # noqa: ARG002
        self.values.setdefault(str(node_id.Identifier), [])

    async def save_node_value(self, node_id: Any, datavalue: Any) -> None:
        self.values[str(node_id.Identifier)].append(datavalue)

    async def read_node_history(self, node_id: Any, start: Any, end: Any, nb_values: int) -> Any:
        self.reads += 1
        values = [
            value
            for value in self.values.get(str(node_id.Identifier), [])
            if value.SourceTimestamp is not None and start <= value.SourceTimestamp <= end
        ]
        values.sort(key=lambda value: value.SourceTimestamp)
        size = min(nb_values or self.max_history_data_response_size, self.max_history_data_response_size)
        if len(values) <= size:
            return values, None
        return values[:size], values[size].SourceTimestamp


class Plant:
    """A server of variables ``v0``, ``v1``…, and every change that they ever had."""

    def __init__(self, names: Sequence[str] = ("v0", "v1", "v2"), *, history: bool = True) -> None:
        self.port = free_port()
        self.names = list(names)
        self.history = history
        self.disk = Disk()
        self.extra_namespaces: list[str] = []
        self.written: dict[str, list[tuple[int, float]]] = {name: [] for name in names}
        self.server: Server | None = None
        self.users: Any = None
        self._nodes: dict[str, Any] = {}
        self._count = 0

    @property
    def endpoint(self) -> str:
        return f"opc.tcp://127.0.0.1:{self.port}"

    async def start(self, names: Sequence[str] | None = None) -> None:
        server = Server(SharingServer(user_manager=self.users))
        with without_collection():
            await server.init()
        server.set_endpoint(self.endpoint)
        server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        for uri in self.extra_namespaces:
            await server.register_namespace(uri)
        self.index = await server.register_namespace(URI)
        server.iserver.history_manager.set_storage(self.disk)
        self.folder = await server.nodes.objects.add_object(self.index, "IMM_1")
        self.server = server
        self._nodes.clear()
        await server.start()
        for name in self.names if names is None else names:
            await self.add(name)

    async def add(self, name: str) -> None:
        assert self.server is not None
        node = await self.folder.add_variable(
            ua.NodeId(ua.String(name), ua.Int16(self.index)), f"{self.index}:{name}", 0.0
        )
        values = self.written.setdefault(name, [])
        if values:
            await self._write(node, *values[-1])
        if self.history:
            await self.server.historize_node_data_change(node)
        self._nodes[name] = node

    async def remove(self, name: str) -> None:
        """Take a variable out, as loading another program into a controller does."""
        assert self.server is not None
        node = self._nodes.pop(name)
        if self.history:
            await self.server.dehistorize_node_data_change(node)
        await self.server.delete_nodes([node])

    async def stop(self) -> None:
        if self.server is not None:
            server, self.server = self.server, None
            # Sessions of clients that never said goodbye would outlive the server as tasks.
            for session in list(server.iserver._external_sessions.values()):
                await session.close_session(True)
            await server.stop()

    async def tick(self) -> None:
        """Change every variable once."""
        self._count += 1
        for name, node in self._nodes.items():
            await self.write(name, float(self._count), node)

    async def write(self, name: str, value: float, node: Any = None, status: int = 0) -> None:
        now = time.time_ns() // 1000 * 1000
        await self._write(node or self._nodes[name], now, value, status)
        if not math.isnan(value):
            self.written[name].append((now, value))

    async def write_value(self, name: str, value: ua.DataValue) -> None:
        assert self.server is not None
        await self.server.write_attribute_value(self._nodes[name].nodeid, value)

    async def _write(self, node: Any, time_ns: int, value: float, status: int = 0) -> None:
        assert self.server is not None
        moment: Any = EPOCH + timedelta(microseconds=time_ns // 1000)
        await self.server.write_attribute_value(
            node.nodeid,
            ua.DataValue(
                ua.Variant(value, ua.VariantType.Double), ua.StatusCode(ua.UInt32(status)), moment, moment
            ),
        )

    async def run_for(self, seconds: float, every_s: float = 0.02) -> None:
        """Change everything for a while."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            await self.tick()
            await asyncio.sleep(every_s)


def config(plant: Plant, **changes: Any) -> OpcUaConfig:
    nodes = [
        {"node": f"nsu={URI};s={name}", "asset": "acme/hk01/moulding/cell-a/imm-01", "signal": name}
        for name in plant.names
    ]
    return OpcUaConfig.model_validate(
        {
            "name": "imm",
            "endpoint": plant.endpoint,
            "history": {"backfill_h": 1, "overlap_s": 1, "settle_s": 0.3},
            "groups": {"live": {"mode": "subscribe", "publishing_interval_ms": 50}},
            # Patient: servers of tests share one loop with the source, on processors that may be busy.
            "keepalive_s": 1,
            "request_timeout_s": 10,
            "retry_s": 0.2,
            "nodes": nodes,
            **changes,
        }
    )


class MemorySink:
    """A BlockSink in memory, with the buffer's own recognition of repeats, durable state, and a disk that can fail."""

    def __init__(self) -> None:
        self.samples: list[Sample] = []
        self.saved: dict[str, bytes] = {}
        self.gaps: list[tuple[str, int, int, str]] = []
        self.reports: list[tuple[SourceState, str]] = []
        self.counts: Counter[str] = Counter()
        self.offset_ns: int | None = None
        self.fail_next = 0
        self.puts = 0
        self.repeats = 0
        self.moved = 0
        self._index = RepeatIndex(200_000)
        self._changed = asyncio.Event()

    async def put(self, block: SampleBlock, state: Mapping[str, bytes] | None = None) -> None:
        await asyncio.sleep(0)
        if self.fail_next and len(block):
            self.fail_next -= 1
            raise StoreUnavailable("the disk is full")
        self.puts += 1
        admitted = self._index.admit(block)
        self._index.settle()
        self.repeats += admitted.repeats
        self.moved += admitted.moved
        self.samples.extend(admitted.block.rows())
        for key, raw in (state or {}).items():
            if raw:
                self.saved[key] = raw
            else:
                self.saved.pop(key, None)
        self._changed.set()

    def state(self) -> Mapping[str, bytes]:
        return dict(self.saved)

    async def gap(
        self,
        reason: str,
        from_time: int,
        to_time: int,
        *,
        asset: str = "",
        count: int = 0,  # noqa: ARG002
    ) -> None:
        await asyncio.sleep(0)
        self.gaps.append((reason, from_time, to_time, asset))
        self._changed.set()

    def report(self, state: SourceState, message: str = "") -> None:
        self.reports.append((state, message))
        self._changed.set()

    def clock_offset(self, offset_ns: int) -> None:
        self.offset_ns = offset_ns

    def count(self, what: str, number: int = 1) -> None:
        self.counts[what] += number
        self._changed.set()

    async def until(self, condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
        """Wait for something that this sink can see."""
        async with asyncio.timeout(timeout_s):
            while not condition():
                self._changed.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(0.1):
                        await self._changed.wait()

    @property
    def running(self) -> bool:
        return bool(self.reports) and self.reports[-1][0] is SourceState.RUNNING

    def series(self, signal: str) -> list[tuple[int, float]]:
        return sorted((s.source_time, s.value) for s in self.samples if s.series.signal == signal)


@asynccontextmanager
async def running(source: Any, sink: MemorySink, *, again: bool = False) -> AsyncIterator[asyncio.Task[Any]]:
    """Run a source; with ``again`` start it anew whatever it raises, as the supervisor does."""

    async def keep() -> None:
        while True:
            try:
                await source.run(sink)
            except Exception as error:
                sink.report(SourceState.UNAVAILABLE, f"{type(error).__name__}: {error}")
                if not again:
                    raise
            await asyncio.sleep(0.1)

    task = asyncio.create_task(keep())
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await task
