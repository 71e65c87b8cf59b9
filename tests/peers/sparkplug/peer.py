"""PyPI pysparkplug behind JSON lines; runs in the environment beside it. See README.md for what goes in and out."""

import datetime as dt
import json
import sys
from typing import Any

from pysparkplug import DataType, DBirth, Metric  # type: ignore[import-not-found]

TYPES = {
    "Int8": DataType.INT8,
    "Int16": DataType.INT16,
    "Int32": DataType.INT32,
    "Int64": DataType.INT64,
    "UInt8": DataType.UINT8,
    "UInt16": DataType.UINT16,
    "UInt32": DataType.UINT32,
    "UInt64": DataType.UINT64,
    "Float": DataType.FLOAT,
    "Double": DataType.DOUBLE,
    "Boolean": DataType.BOOLEAN,
    "String": DataType.STRING,
    "DateTime": DataType.DATETIME,
    "Text": DataType.TEXT,
    "UUID": DataType.UUID,
    "Bytes": DataType.BYTES,
    "File": DataType.FILE,
    "Int32Array": DataType.INT32_ARRAY,
}
NAMES = {datatype: name for name, datatype in TYPES.items()}
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def to_peer(name: str, value: Any) -> Any:
    if value is None:
        return None
    if name == "DateTime":
        return EPOCH + dt.timedelta(milliseconds=int(value))
    if "Int" in name:
        return tuple(value) if name.endswith("Array") else int(value)
    return bytes.fromhex(value) if name in {"Bytes", "File"} else value


def from_peer(name: str, value: Any) -> Any:
    if value is None:
        return None
    if name == "DateTime":
        return str((value - EPOCH) // dt.timedelta(milliseconds=1))
    if "Int" in name:
        return list(value) if name.endswith("Array") else str(value)
    return value.hex() if name in {"Bytes", "File"} else value


def optional_int(text: str | None) -> int | None:
    return None if text is None else int(text)


def encode(payload: dict[str, Any]) -> Any:
    metrics = tuple(
        Metric(
            timestamp=optional_int(each.get("timestamp")),
            name=each["name"],
            datatype=TYPES[each["type"]],
            value=to_peer(each["type"], each["value"]),
            alias=optional_int(each.get("alias")),
            is_historical=each.get("isHistorical", False),
            is_transient=each.get("isTransient", False),
            is_null=each["value"] is None,
        )
        for each in payload["metrics"]
    )
    return (
        DBirth(timestamp=int(payload["timestamp"]), seq=int(payload["seq"]), metrics=metrics).encode().hex()
    )


def decode(data: str) -> dict[str, Any]:
    payload = DBirth.decode(bytes.fromhex(data))
    metrics = []
    for each in payload.metrics:
        name = NAMES[each.datatype]
        told = {"name": each.name, "type": name, "value": from_peer(name, each.value)}
        for key, number in (("alias", each.alias), ("timestamp", each.timestamp)):
            if number is not None:
                told[key] = str(number)
        if each.is_historical:
            told["isHistorical"] = True
        if each.is_transient:
            told["isTransient"] = True
        metrics.append(told)
    return {"timestamp": str(payload.timestamp), "seq": str(payload.seq), "metrics": metrics}


for line in sys.stdin:
    request = json.loads(line)
    answer = encode(request["encode"]) if "encode" in request else decode(request["decode"])
    sys.stdout.write(json.dumps(answer) + "\n")
