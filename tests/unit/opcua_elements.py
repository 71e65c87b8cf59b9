"""Values of nodes as they arrive, and the samples of their elements."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from asyncua import ua
from asyncua.ua.status_codes import StatusCodes
from asyncua.ua.ua_binary import struct_to_binary

from edge_agent.sources.opcua.columns import Columns
from edge_agent.sources.opcua.config import OpcUaConfig
from edge_agent.sources.opcua.decode import read_values
from edge_agent.sources.opcua.nodes import Nodes
from shopfloor.block import Sample
from tests.unit.opcua_values import EPOCH

ASSET = "a/b/c/d/e"
T = ua.VariantType
THEN: Any = EPOCH + timedelta(seconds=1)
GONE = int(StatusCodes.BadIndexRangeNoData)


class Counts(Counter[str]):
    """The sink's counters."""

    def count(self, what: str, number: int = 1) -> None:
        self[what] += number


def nodes(*signals: str, **options: Any) -> Nodes:
    return Nodes(
        OpcUaConfig.model_validate(
            {
                "name": "plc",
                "endpoint": "opc.tcp://plc:4840",
                "nodes": [
                    {"node": f"ns=2;s={signal}", "asset": ASSET, "signal": signal, **options}
                    for signal in signals
                ],
            }
        )
    )


def read(
    wanted: Nodes, values: Sequence[Any], numbers: Sequence[int] | None = None
) -> tuple[dict[str, Sample], Counts]:
    """Have values arrive, one for each node; return the samples by signal."""
    response: Any = ua.ReadResponse()
    response.Results = [
        replace(value if isinstance(value, ua.DataValue) else ua.DataValue(value), SourceTimestamp=THEN)
        for value in values
    ]
    columns = Columns()
    read_values(struct_to_binary(response), list(numbers or range(len(values))), columns)
    readings = wanted.known(columns)
    leaves, _ = wanted.expansion.take_apart(readings)
    counts: Any = Counts()
    block, expanded = wanted.block(readings, leaves, 2 * 10**9, counts)
    assert len(block) == len(expanded.handle) == len(expanded.series)
    rows = list(block.rows())
    samples = {sample.series.signal: sample for sample in rows}
    assert len(samples) == len(rows)
    assert {str(sample.series.asset) for sample in rows} <= {ASSET}
    return samples, counts


def doubles(*values: float) -> ua.Variant:
    return ua.Variant(list(values), T.Double, is_array=True)


def double(value: float) -> ua.Variant:
    return ua.Variant(value, T.Double)


def bad(code: int) -> ua.DataValue:
    return ua.DataValue(ua.Variant(), ua.StatusCode(ua.UInt32(code)))


def values_of(samples: dict[str, Sample]) -> dict[str, float]:
    return {signal: sample.value for signal, sample in samples.items()}
