"""An OPC UA server process with numbered values: ``python -m tests.faults.opcua_machine FOLDER NAME PORT …``.

With a history, its log is the history. Without one, it says so, and what nobody heard in time is gone. Its queues
overflow as the specification wants it (OPC 10000-4 §7.38 Overflow bit; asyncua drops without a word), and a node that is
taken away tells those who watch it (asyncua forgets to).
"""

from __future__ import annotations

import argparse
import asyncio
import logging
from bisect import insort
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from asyncua import ua
from asyncua.server.history import HistoryStorageInterface
from asyncua.server.internal_subscription import InternalSubscription
from asyncua.server.server import Server
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.status_codes import StatusCodes

from simulators.protocols.opcua_standard import without_collection
from tests.faults.number_log import GO, NumberLog, Pace, last_values

URI: Final = "urn:faults:machine"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_OVERFLOW: Final = 0x0480
_PAGE: Final = 5_000


class LoggedHistory(HistoryStorageInterface):
    """The machine's own log, by time of the machine."""

    def __init__(self) -> None:
        super().__init__(_PAGE)
        self._values: dict[int, list[tuple[int, int]]] = {}

    def note(self, series: int, source_time: int, number: int) -> None:
        """Take a value in, wherever the clock says that it belongs."""
        insort(self._values.setdefault(series, []), (source_time, number))

    async def init(self) -> None:
        """See HistoryStorageInterface: nothing to do."""

    async def stop(self) -> None:
        """See HistoryStorageInterface: nothing to do."""

    async def read_node_history(self, node_id: Any, start: Any, end: Any, nb_values: int) -> Any:
        series = int(node_id.Identifier.removeprefix("v"))
        begin_ns, end_ns = (
            round((moment - _EPOCH) / timedelta(microseconds=1)) * 1000 for moment in (start, end)
        )
        found = [each for each in self._values.get(series, ()) if begin_ns <= each[0] <= end_ns]
        size = min(nb_values or _PAGE, _PAGE)
        more = _moment(found[size][0]) if len(found) > size else None
        return [_value(number, time_ns) for time_ns, number in found[:size]], more


def _moment(time_ns: int) -> Any:
    return _EPOCH + timedelta(microseconds=time_ns // 1000)


def _value(number: int, time_ns: int) -> ua.DataValue:
    moment = _moment(time_ns)
    return ua.DataValue(
        ua.Variant(float(number), ua.VariantType.Double), ua.StatusCode(ua.UInt32(0)), moment, moment
    )


def _bad(status: int) -> ua.DataValue:
    return ua.DataValue(ua.Variant(None, ua.VariantType.Null), ua.StatusCode(ua.UInt32(status)))


class _MarkedQueue(InternalSubscription):
    """A subscription whose queues say that they have dropped something."""

    async def _enqueue_event(self, mid: int, eventdata: Any, size: int, queue: dict[int, list[Any]]) -> None:
        waiting = queue.get(mid, [])
        full = 0 < size <= len(waiting)
        await super()._enqueue_event(mid, eventdata, size, queue)
        if full:
            oldest = queue[mid][0]
            value = oldest.Value
            queue[mid][0] = ua.MonitoredItemNotification(
                oldest.ClientHandle,
                ua.DataValue(
                    value.Value,
                    ua.StatusCode(ua.UInt32(value.StatusCode.value | _OVERFLOW)),
                    value.SourceTimestamp,
                    value.ServerTimestamp,
                ),
            )


class Machine:
    """The server and its nodes ``v0``, ``v1``…"""

    def __init__(
        self, folder: Path, name: str, port: int, *, variables: int, history: bool, shift: int
    ) -> None:
        self._log = NumberLog(folder / f"{name}.numbers")
        self._removed_file = folder / f"{name}.removed"
        self._go = folder / GO
        self._port = port
        self._shift = shift
        self._history = LoggedHistory() if history else None
        self._last = last_values(self._log.past)
        self._all = range(variables)
        self._nodes: dict[int, Any] = {}
        for row in self._log.past:
            self._keep(row)

    def _keep(self, row: Any) -> None:
        self._last[int(row["series"])] = row
        if self._history is not None:
            self._history.note(int(row["series"]), int(row["source_time"]), int(row["number"]))

    async def run(self, rate_hz: float) -> None:
        """Serve for ever; speak while the file ``go`` is there."""
        self._server = server = Server()
        with without_collection():
            await server.init()
        server.set_endpoint(f"opc.tcp://127.0.0.1:{self._port}")
        server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        for number in range(self._shift):
            await server.register_namespace(f"urn:faults:shift:{number}")
        self._index = await server.register_namespace(URI)
        if self._history is not None:
            server.iserver.history_manager.set_storage(self._history)
        self._folder = await server.nodes.objects.add_object(self._index, "Machine")
        removed = self._removed()
        for series in self._all:
            if series not in removed:
                await self._add(series)
        async with server:
            pace = Pace(rate_hz)
            while True:
                await asyncio.sleep(pace.wait_s())
                await self._add_and_remove()
                if self._go.exists():
                    await self._speak()

    async def _speak(self) -> None:
        rows = self._log.say(sorted(self._nodes))
        for row in rows:
            self._keep(row)
        for row in rows:
            node = self._nodes[int(row["series"])]
            await self._write(node, _value(int(row["number"]), int(row["source_time"])))

    async def _write(self, node: Any, value: ua.DataValue) -> None:
        await self._server.write_attribute_value(node.nodeid, value)

    def _removed(self) -> set[int]:
        try:
            return set(map(int, self._removed_file.read_text().split()))
        except FileNotFoundError:
            return set()

    async def _add_and_remove(self) -> None:
        removed = self._removed()
        for series in self._all:
            if series in removed and series in self._nodes:
                node = self._nodes.pop(series)
                await self._write(node, _bad(StatusCodes.BadNodeIdUnknown))
                await self._server.delete_nodes([node])
            elif series not in removed and series not in self._nodes:
                await self._add(series)

    async def _add(self, series: int) -> None:
        name = f"v{series}"
        node = await self._folder.add_variable(
            ua.NodeId(ua.String(name), ua.Int16(self._index)),
            f"{self._index}:{name}",
            0.0,
            varianttype=ua.VariantType.Double,
        )
        row = self._last.get(series)
        await self._write(
            node,
            _bad(StatusCodes.BadWaitingForInitialData)
            if row is None
            else _value(int(row["number"]), int(row["source_time"])),
        )
        if self._history is not None:
            await node.write_attribute(
                AttributeIds.Historizing, ua.DataValue(ua.Variant(True, ua.VariantType.Boolean))
            )
            await node.set_attr_bit(AttributeIds.AccessLevel, ua.AccessLevel.HistoryRead)
        self._nodes[series] = node


def main() -> None:
    """Run one machine until it is killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("name")
    parser.add_argument("port", type=int)
    parser.add_argument("--variables", type=int, default=10)
    parser.add_argument("--rate", type=float, default=10.0)
    parser.add_argument("--history", action="store_true")
    parser.add_argument("--shift", type=int, default=0, help="foreign namespaces registered before ours")
    given = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    import asyncua.server.subscription_service as service

    service.InternalSubscription = _MarkedQueue  # type: ignore[attr-defined]
    machine = Machine(
        given.folder,
        given.name,
        given.port,
        variables=given.variables,
        history=given.history,
        shift=given.shift,
    )
    asyncio.run(machine.run(given.rate))


if __name__ == "__main__":
    main()
