"""What was learned of a server and could not be saved is saved the next time."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

import pytest
from asyncua import ua
from asyncua.ua.ua_binary import struct_to_binary

from edge_agent.sources.opcua.columns import Columns
from edge_agent.sources.opcua.config import OpcUaConfig
from edge_agent.sources.opcua.decode import read_values
from edge_agent.sources.opcua.described import Described
from edge_agent.sources.opcua.live import Live
from edge_agent.sources.opcua.nodes import Nodes
from shopfloor.block import SampleBlock
from shopfloor.errors import StoreUnavailable
from shopfloor.messages import SourceState

CONFIG = OpcUaConfig.model_validate(
    {
        "name": "plc",
        "endpoint": "opc.tcp://plc:4840",
        "nodes": [{"node": "ns=2;i=1", "asset": "a/b/c/d/e", "signal": "zones"}],
    }
)


class FailingOnce:
    """A sink whose disk does not take the first put."""

    def __init__(self) -> None:
        self.saved: dict[str, bytes] = {}
        self.puts = 0
        self.reported: list[str] = []

    async def put(self, _block: SampleBlock, state: Mapping[str, bytes] | None = None) -> None:
        self.puts += 1
        if self.puts == 1:
            raise StoreUnavailable("the disk is full")
        self.saved |= state or {}

    def state(self) -> Mapping[str, bytes]:
        return self.saved

    def report(self, _state: SourceState, message: str = "") -> None:
        self.reported.append(message)

    def count(self, _what: str, _number: int = 1) -> None:
        pass


def live_of(nodes: Nodes, sink: FailingOnce) -> Live:
    nodes.begin()
    return Live(cast("Any", None), CONFIG, cast("Any", sink), nodes, cast("Any", None), lambda: 0)


def columns(values: list[float]) -> Columns:
    response: Any = ua.ReadResponse()
    response.Results = [ua.DataValue(ua.Variant(values, ua.VariantType.Double, is_array=True))]
    read = Columns()
    read_values(struct_to_binary(response), [0], read)
    return read


async def test_elements_that_a_full_disk_did_not_take_are_saved_with_the_next_value() -> None:
    nodes, sink = Nodes(CONFIG), FailingOnce()
    live = live_of(nodes, sink)
    with pytest.raises(StoreUnavailable):
        await live.samples(columns([1.0, 2.0]), 0)
    assert sink.reported == []
    # Another session, as the source ends with what it raised; the same value comes again.
    live = live_of(nodes, sink)
    await live.samples(columns([1.0, 2.0]), 0)
    assert json.loads(sink.saved["plc/elements"]) == {"a/b/c/d/e:zones": ["0", "1"]}
    assert len(sink.reported) == 1
    await live.samples(columns([1.0, 2.0]), 0)
    assert sink.puts == 2, "there is nothing new any more"
    # Another life knows them.
    after = Nodes(CONFIG)
    live_of(after, sink)
    after.expansion.elements.fit()
    assert list(after.expansion.elements.of(0)) == ["0", "1"]


async def test_descriptions_that_a_full_disk_did_not_take_are_saved_the_next_time() -> None:
    nodes, sink = Nodes(CONFIG), FailingOnce()
    live = live_of(nodes, sink)
    described = Described(nodes)
    described.note(0, "bar", "Clamp pressure")
    with pytest.raises(StoreUnavailable):
        await described.save(live)
    await described.save(live)
    puts = sink.puts
    await described.save(live)
    assert sink.puts == puts == 2
    again = Described(Nodes(CONFIG))
    again.restore(sink.state())
    (declaration,) = again.declarations()
    assert (declaration.unit, declaration.description) == ("bar", "Clamp pressure")
