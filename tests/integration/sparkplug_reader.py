"""What a strict Sparkplug host makes of an edge node's messages; without sockets, for models and for real brokers."""

from __future__ import annotations

from collections.abc import Mapping

from shopfloor.sparkplug import (
    DataType,
    Metric,
    Payload,
    Topic,
    bd_seq_of,
    decode_payload,
    parse_topic,
    signed,
)

ASK_AGAIN_S = 5.0


class Reader:
    """Takes messages in the order of their arrival; whatever is out of sequence is lost to it until a rebirth."""

    def __init__(self) -> None:
        self.samples: dict[tuple[str, str, int, object], bool] = {}
        """(device, metric, time, value) -> whether it came as historical at first; outlives `forget`."""
        self.log: list[str] = []
        """What came: ``NBIRTH``, ``DDATA imm-1`` and so on."""
        self.bd_seqs: list[int] = []
        """Of the NBIRTHs."""
        self.deaths: list[int] = []
        """The bdSeq of every NDEATH."""
        self.units: dict[tuple[str, str], object] = {}
        self.ignored_historical = 0
        self._aliases: dict[int, tuple[str, Metric]] = {}
        self._seq: int | None = None
        self._asked_at: float | None = None

    def forget(self) -> None:
        """The host's process ends; what it has stored stays."""
        self._aliases = {}
        self._seq = None
        self._asked_at = None

    @property
    def is_born(self) -> bool:
        """Whether there was a birth, and everything since came in sequence."""
        return self._seq is not None

    def take(self, topic_text: str, data: bytes, now: float) -> bool:
        """Take a message; return whether it wants a rebirth."""
        topic = parse_topic(topic_text)
        assert topic is not None, topic_text
        payload = decode_payload(data)
        self.log.append(f"{topic.type} {topic.device}" if topic.device else topic.type)
        if topic.type == "NDEATH":
            self._death(payload)
            return False
        if topic.type == "NBIRTH":
            self._birth(payload)
            return False
        if self._seq is None or payload.seq != (self._seq + 1) % 256 or not self._follow(topic, payload):
            self._seq = None
            if self._asked_at is not None and now < self._asked_at + ASK_AGAIN_S:
                return False
            self._asked_at = now
            return True
        return False

    def _death(self, payload: Payload) -> None:
        assert payload.seq is None
        number = bd_seq_of(payload)
        assert number is not None
        self.deaths.append(number)
        if self.bd_seqs and number == self.bd_seqs[-1]:
            self.forget()

    def _birth(self, payload: Payload) -> None:
        number = bd_seq_of(payload)
        assert number is not None
        assert payload.seq == 0
        self.forget()
        self.bd_seqs.append(number)
        self._seq = 0
        self._learn("", payload)

    def _learn(self, device: str, payload: Payload) -> None:
        for metric in payload.metrics:
            assert metric.name is not None
            assert metric.datatype is not None
            assert metric.timestamp_ms is not None
            if metric.alias is not None:
                self._aliases[metric.alias] = (device, metric)
            if metric.properties:
                self.units[device, metric.name] = metric.properties.get("engUnit")
            if device and not metric.is_null:
                self._store(device, metric.name, metric)

    def _follow(self, topic: Topic, payload: Payload) -> bool:
        """Return whether everything in the message is known from a birth."""
        assert self._seq is not None
        self._seq = (self._seq + 1) % 256
        if topic.type == "DBIRTH":
            self._learn(topic.device or "", payload)
            return True
        for metric in payload.metrics:
            assert metric.name is None
            assert metric.datatype is None
            known = self._aliases.get(metric.alias if metric.alias is not None else -1)
            if known is None:
                return False
            device, birth = known
            assert birth.name is not None
            assert birth.datatype is not None
            assert device == (topic.device or "")
            if device and not metric.is_null:
                self._store(device, birth.name, metric._replace(datatype=birth.datatype))
        return True

    def _store(self, device: str, name: str, metric: Metric) -> None:
        assert metric.timestamp_ms is not None
        value: object = metric.value
        if isinstance(value, int) and metric.datatype is not None and metric.datatype != DataType.Boolean:
            value = signed(value, metric.datatype)
        key = (device, name, metric.timestamp_ms, value)
        if key in self.samples:
            self.ignored_historical += metric.is_historical
        self.samples.setdefault(key, metric.is_historical)

    def values(self, historical: bool | None = None) -> Mapping[tuple[str, str], list[object]]:
        """Return what is stored, by device and metric in the order of time."""
        found: dict[tuple[str, str], list[object]] = {}
        for (device, name, _, value), was in sorted(self.samples.items(), key=lambda item: item[0][:3]):
            if historical in {None, was}:
                found.setdefault((device, name), []).append(value)
        return found
