"""What a simulated Sparkplug B edge node has to tell: its devices' metrics, their aliases and last values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from shopfloor.sparkplug import (
    REBIRTH,
    DataType,
    Metric,
    Payload,
    bd_seq_metric,
    encode_metric,
    encode_payload,
)

DROPPED: Final = "Store/Dropped samples"
"""The node's own metric: how many samples its full store has given up (Int64)."""

Value = int | float | bool | str | bytes | None
"""None is Sparkplug's null: the metric has no value now."""


class MetricSpec(NamedTuple):
    """A metric of a device."""

    name: str
    """Its folders are separated by slashes."""
    datatype: DataType
    unit: str = ""
    """Becomes the property ``engUnit`` of the birth; empty for none."""


class DeviceSample(NamedTuple):
    """A value of a metric at a time."""

    device: str
    metric_name: str
    time_ms: int
    """UTC, milliseconds since 1970; rises strictly within a metric."""
    value: Value


class _Known:
    """What is known of one metric."""

    __slots__ = ("alias", "last", "spec")

    def __init__(self, spec: MetricSpec, alias: int) -> None:
        self.spec = spec
        self.alias = alias
        self.last: DeviceSample | None = None


class Catalogue:
    """All metrics of an edge node, and the payloads that are made of them.

    Aliases are unique within the node (6.4.5): 0 is the node's own metric, the devices' follow from 1 in the order
    given. They stay the same for the life of the process.
    """

    def __init__(self, devices: Mapping[str, Sequence[MetricSpec]]) -> None:
        self._devices: dict[str, dict[str, _Known]] = {}
        self.refused_total = 0
        """Samples whose value does not fit the data type of their metric: they are not sent."""
        alias = 1
        for device, specs in devices.items():
            known: dict[str, _Known] = {}
            for spec in specs:
                if spec.name in known:
                    raise ValueError(f"device {device} has two metrics {spec.name}")
                known[spec.name] = _Known(spec, alias)
                alias += 1
            self._devices[device] = known

    @property
    def devices(self) -> tuple[str, ...]:
        """The names of the devices, in the order given."""
        return tuple(self._devices)

    def check(self, device: str) -> None:
        """Raise ValueError unless there is a device of that name."""
        if device not in self._devices:
            raise ValueError(f"the edge node has no device {device}")

    def learn(self, samples: Iterable[DeviceSample]) -> list[DeviceSample]:
        """Remember the last values for the next birth; return the samples that can be sent.

        Raises ValueError for a device or metric that there is none of, before anything is remembered.
        """
        found = [(sample, self._known(sample)) for sample in samples]
        fit: list[DeviceSample] = []
        for sample, known in found:
            try:
                encode_metric(_metric(sample, known, historical=False))
            except ValueError:
                self.refused_total += 1
                continue
            known.last = sample
            fit.append(sample)
        return fit

    def _known(self, sample: DeviceSample) -> _Known:
        try:
            return self._devices[sample.device][sample.metric_name]
        except KeyError:
            raise ValueError(f"device {sample.device} has no metric {sample.metric_name}") from None

    def node_birth(self, *, bd_seq: int, dropped: int, now_ms: int) -> bytes:
        """Return an NBIRTH: bdSeq, the rebirth command and the node's own metric; `seq` is 0 (6.4.19)."""
        metrics = (
            bd_seq_metric(bd_seq, now_ms),
            Metric(REBIRTH, None, now_ms, DataType.Boolean, value=False),
            Metric(DROPPED, 0, now_ms, DataType.Int64, dropped),
        )
        return encode_payload(Payload(now_ms, metrics, 0))

    def device_birth(self, device: str, *, seq: int, now_ms: int) -> bytes:
        """Return a DBIRTH: every metric with name, alias, data type, unit and its last value, or null (6.4.21)."""
        metrics = tuple(
            Metric(
                known.spec.name,
                known.alias,
                known.last.time_ms if known.last else now_ms,
                known.spec.datatype,
                known.last.value if known.last else None,
                is_null=known.last is None or known.last.value is None,
                properties={"engUnit": known.spec.unit} if known.spec.unit else None,
            )
            for known in self._devices[device].values()
        )
        return encode_payload(Payload(now_ms, metrics, seq))

    def device_data(
        self, samples: Sequence[DeviceSample], *, seq: int, historical: bool, now_ms: int
    ) -> bytes:
        """Return a DDATA of samples of one device: aliases only, and no data types (6.4.5, 6.4.22)."""
        metrics = tuple(_metric(sample, self._known(sample), historical=historical) for sample in samples)
        return encode_payload(Payload(now_ms, metrics, seq), datatypes=False)

    @staticmethod
    def node_data(*, seq: int, dropped: int, now_ms: int) -> bytes:
        """Return an NDATA of the node's own metric."""
        metric = Metric(None, 0, now_ms, DataType.Int64, dropped)
        return encode_payload(Payload(now_ms, (metric,), seq), datatypes=False)

    @staticmethod
    def node_death(bd_seq: int) -> bytes:
        """Return an NDEATH: bdSeq and nothing else (6.4.23)."""
        return encode_payload(Payload(metrics=(bd_seq_metric(bd_seq),)))

    @staticmethod
    def device_death(*, seq: int, now_ms: int) -> bytes:
        """Return a DDEATH (6.4.24)."""
        return encode_payload(Payload(now_ms, (), seq))


def _metric(sample: DeviceSample, known: _Known, *, historical: bool) -> Metric:
    return Metric(
        None,
        known.alias,
        sample.time_ms,
        known.spec.datatype,
        sample.value,
        is_historical=historical,
        is_null=sample.value is None,
    )
