"""The OPC UA source against the contract of sources, with a real server that keeps a history."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Coroutine, Iterable, Iterator, Mapping
from typing import Any, TypeVar

import pytest
from asyncua import ua
from asyncua.ua.status_codes import StatusCodes

from edge_agent.sources.opcua import OpcUaSource
from shopfloor.asset import parse_asset
from shopfloor.signal import SeriesKey
from tests.contract.source_contract import SourceContract
from tests.contract.source_peer import Said
from tests.integration.opcua_plant import URI, Plant, config

Result = TypeVar("Result")

_ABSENT = "absent"
"""A configured node that the server never has."""
_ODD = "odd"
"""A node that has a number of its own only once, and then whatever it likes."""


class PlantThread:
    """A server in a loop of its own: it starts once for all tests, and what it leaves open is not the source's."""

    def __init__(self) -> None:
        self.plant = Plant(())
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="plant")
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self.plant.start(), self._loop).result(60)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._end = asyncio.Event()
        await self._end.wait()
        await self.plant.stop()

    async def do(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Await ``work`` in the server's loop."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(60)


class OpcUaPeer:
    """The variables of one test on the shared server, and the machine behind them."""

    def __init__(self, thread: PlantThread, test: int) -> None:
        self._thread = thread
        self._plant = thread.plant
        self.port = self._plant.port
        self._asset = parse_asset(f"acme/hk01/moulding/cell-a/imm-{test}")
        self._names = [f"{test}.{signal}" for signal in ("temperature", "pressure")]
        self._odd, self._absent = f"{test}.{_ODD}", f"{test}.{_ABSENT}"
        units = dict(zip([*self._names, self._odd, self._absent], ["Cel", "bar", "mm", "kW"], strict=True))
        self._nodes = [
            {"node": f"nsu={URI};s={name}", "asset": self._asset, "signal": f"s{name}", "unit": unit}
            for name, unit in units.items()
        ]
        self.units: Mapping[SeriesKey, str] = {self._series(name): unit for name, unit in units.items()}

    def _series(self, name: str) -> SeriesKey:
        return SeriesKey(self._asset, f"s{name}")

    async def begin(self) -> None:
        """Put the variables into the server's address space."""
        for name in (*self._names, self._odd):
            self._plant.names.append(name)
            await self._thread.do(self._plant.add(name))

    def source(self, port: int | None = None, *, patient: bool = True) -> OpcUaSource:
        endpoint = f"opc.tcp://127.0.0.1:{port or self.port}"
        # Where nothing is in between, a slow answer shall not look like a broken network; and however long a busy
        # computer takes between a change and its publishing, what was stored last is read once more.
        patience = {} if port else {"request_timeout_s": 30, "keepalive_s": 5}
        if not patient:
            patience = {"request_timeout_s": 1}
        history = {"backfill_h": 1, "overlap_s": 1 if port else 5, "settle_s": 0.3}
        return OpcUaSource(
            config(self._plant, endpoint=endpoint, nodes=self._nodes, history=history, **patience)
        )

    async def start(self) -> None:
        await self._thread.do(self._plant.start())

    async def stop(self) -> None:
        await self._thread.do(self._plant.stop())

    async def say(self, numbers: Iterable[int]) -> list[Said]:
        async def write() -> list[Said]:
            said = []
            for number in numbers:
                name = self._names[number % len(self._names)]
                await self._plant.write(name, float(number))
                said.append(Said(self._series(name), *self._plant.written[name][-1]))
            return said

        return await self._thread.do(write())

    async def say_nonsense(self) -> None:
        nonsense = [
            ua.DataValue(ua.Variant(b"\xff\x00", ua.VariantType.ByteString)),
            ua.DataValue(ua.Variant(float("nan"), ua.VariantType.Double)),
            ua.DataValue(ua.Variant(None, ua.VariantType.Null)),
            ua.DataValue(StatusCode=ua.StatusCode(ua.UInt32(StatusCodes.BadDeviceFailure))),
        ]
        for value in nonsense:
            await self._thread.do(self._plant.write_value(self._odd, value))


class TestOpcUaSource(SourceContract):
    """One asyncua server, which every test gives variables of its own."""

    _tests = itertools.count(1)

    @pytest.fixture(scope="class")
    @classmethod
    def plant(cls) -> Iterator[PlantThread]:
        thread = PlantThread()
        yield thread
        thread.close()

    @pytest.fixture
    async def peer(self, plant: PlantThread) -> OpcUaPeer:
        peer = OpcUaPeer(plant, next(self._tests))
        await peer.begin()
        return peer
