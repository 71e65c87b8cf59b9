"""Events as they come in notifications and histories, and the samples that their fields become."""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np

from edge_agent.normalise import NO_TIME, Oddities, normalise
from edge_agent.sources.opcua.binary import (
    BYTE_STRING,
    DATE_TIME,
    EXTENSION_OBJECT,
    I64,
    NODE_ID,
    U32,
    MalformedMessage,
    read_bytes,
    read_length,
    read_node_id,
    skip_variant,
)
from edge_agent.sources.opcua.columns import ns_of_ticks
from edge_agent.sources.opcua.scalar import read_scalar
from edge_agent.sources.opcua.structures import Types
from edge_agent.sources.opcua.unfold import unfold
from shopfloor.block import SampleBlock
from shopfloor.signal import SeriesKey

_MAX_PARTS: Final = 8
_MAX_ELEMENTS: Final = 64
"""Elements of one field's array that become signals."""
_REMEMBERED: Final = 20_000
_ABSENT: Final = b"\0"
"""An empty Variant: the event has no such field."""


class EventRow(NamedTuple):
    """One event, as far as every one is the same; what was selected behind `HEAD` is in ``fields``."""

    event_id: bytes
    kind: str
    """NodeId of its type."""
    time: int
    """UTC ns by the machine's clock; NO_TIME where it gave none."""
    fields: tuple[bytes, ...]
    """Whole Variants."""


def read_events(content: bytes) -> Iterator[tuple[int, EventRow]]:
    """Yield (client handle, event) of an EventNotificationList (Part 4 §7.25.3); raises MalformedMessage."""
    try:
        count, at = read_length(content, 0)
        for _ in range(count):
            (handle,) = U32.unpack_from(content, at)
            row, at = read_event(content, at + 4)
            yield handle, row
    except (struct.error, IndexError) as error:
        raise MalformedMessage(f"event notification: {error}") from error


def read_event(content: bytes, at: int) -> tuple[EventRow, int]:
    """Read one list of event fields that begin with `HEAD`; raises MalformedMessage, struct.error, IndexError."""
    count, at = read_length(content, at)
    fields = []
    for _ in range(count):
        end = skip_variant(content, at, 0)
        fields.append(content[at:end])
        at = end
    if count < 3:
        raise MalformedMessage(f"an event with {count} fields")
    return EventRow(_bytes(fields[0]), node_text(fields[1]), _time(fields[2]), tuple(fields[3:])), at


def node_text(variant: bytes) -> str:
    """Return the NodeId in a Variant as text, empty where it is something else."""
    return read_node_id(variant, 1)[0] if variant[0] == NODE_ID else ""


def text_of(variant: bytes) -> str:
    """Return the text in a Variant, empty where there is none."""
    return (_scalar_text(variant) or "") if not _is_composed(variant) else ""


def number_of(variant: bytes) -> float | None:
    """Return the number in a Variant (a Boolean is 0 or 1), None where there is none."""
    if variant == _ABSENT or _is_composed(variant):
        return None
    scalar, _ = read_scalar(variant, 1, variant[0] & 0x3F)
    return None if scalar.null or scalar.text is not None else scalar.value


class Target(NamedTuple):
    """What one field becomes."""

    signal: str
    scale: float = 1.0
    offset: float = 0.0


class Series:
    """The series of a source's events: more may come, none goes."""

    def __init__(self) -> None:
        self._numbers: dict[SeriesKey, int] = {}
        self._keys: tuple[SeriesKey, ...] = ()

    def number(self, key: SeriesKey) -> int:
        """Return the position of a series in `keys`."""
        return self._numbers.setdefault(key, len(self._numbers))

    @property
    def keys(self) -> tuple[SeriesKey, ...]:
        """All so far; the same object until there are more."""
        if len(self._keys) != len(self._numbers):
            self._keys = tuple(self._numbers)
        return self._keys


class Rows:
    """Samples under construction."""

    def __init__(self, series: Series) -> None:
        self._series = series
        self._index: list[int] = []
        self._time: list[int] = []
        self._value: list[float] = []
        self._status: list[int] = []
        self._null: list[bool] = []
        self._text: dict[int, str] = {}
        self.not_convertible = 0
        self.beyond = 0
        """Elements of arrays that were left out."""

    def __len__(self) -> int:
        return len(self._index)

    def add(
        self,
        key: SeriesKey,
        time: int,
        value: float,
        text: str | None = None,
        *,
        null: bool = False,
        status: int = 0,
    ) -> None:
        """Append one sample."""
        if text is not None:
            self._text[len(self._index)] = text
        self._index.append(self._series.number(key))
        self._time.append(time)
        self._value.append(value)
        self._status.append(status)
        self._null.append(null)

    def add_field(self, key: SeriesKey, target: Target, time: int, variant: bytes, types: Types) -> None:
        """Append what a field becomes: nothing where the event has it not, several samples for an array."""
        if variant == _ABSENT:
            return
        if not _is_composed(variant):
            scalar, _ = read_scalar(variant, 1, variant[0] & 0x3F)
            if not scalar.convertible:
                self.not_convertible += 1
            elif not scalar.null:
                self.add(key, time, scalar.value * target.scale + target.offset, scalar.text)
            return
        room = _MAX_PARTS - key.signal.count(".") - 1
        leaves = unfold(variant, types, _MAX_ELEMENTS, room)
        self.not_convertible += leaves.not_convertible
        self.beyond += leaves.beyond
        for place, path in enumerate(leaves.paths):
            if leaves.status[place] or leaves.null[place]:
                continue
            inner = SeriesKey(key.asset, f"{key.signal}.{path}") if path else key
            value = float(leaves.value[place]) * target.scale + target.offset
            self.add(inner, time, value, leaves.text.get(place))

    def block(self, received: int) -> tuple[SampleBlock, Oddities]:
        """Return the samples; ``received`` is UTC ns by the agent's clock."""
        return normalise(
            self._series.keys,
            np.array(self._index, np.uint32),
            np.array(self._time, np.int64),
            received,
            np.array(self._value, np.float64),
            np.array(self._status, np.uint32),
            self._text,
            np.array(self._null, np.bool_),
        )


class News:
    """Events that are not durable yet."""

    def __init__(self) -> None:
        self.times: dict[tuple[int, bytes, int], int] = {}
        self.taken: set[tuple[int, int]] = set()
        self.behind: dict[tuple[int, int], int] = {}
        """The first time behind all that were given to events of one listener that state the same time."""


class Recent:
    """The events that came lately: which are repeats, and what time each has among those of its listener.

    Events of one time get times 1 ns apart, in the order of their coming: else the second of two cycles that say the
    same would look like the first one again.
    """

    def __init__(self, most: int = _REMEMBERED) -> None:
        self._most = most
        self._times: OrderedDict[tuple[int, bytes, int], int] = OrderedDict()
        self._taken: set[tuple[int, int]] = set()
        self._behind: OrderedDict[tuple[int, int], int] = OrderedDict()

    def place(self, listener: int, row: EventRow, news: News, *, spread: bool = True) -> int | None:
        """Return the time for an event, None where it came before.

        Args:
            listener: who heard it.
            row: the event.
            news: what this notification has brought so far; it is added to, and counts only once it is kept.
            spread: whether events of one time are moved apart.
        """
        key = (listener, row.event_id, row.time)
        if row.event_id and (key in self._times or key in news.times):
            return None
        time = row.time
        if spread and time != NO_TIME:
            stated = (listener, row.time)
            time = news.behind.get(stated) or self._behind.get(stated, time)
            while (listener, time) in self._taken or (listener, time) in news.taken:
                time += 1
            news.taken.add((listener, time))
            news.behind[stated] = time + 1
        # Without an id they are no repeats of one another: each has a place of its own, and is forgotten in its turn.
        news.times[key if row.event_id else (listener, b"", time)] = time
        return time

    def keep(self, news: News) -> None:
        """Remember what is durable now."""
        self._times.update(news.times)
        self._taken |= news.taken
        self._behind.update(news.behind)
        while len(self._behind) > self._most:
            self._behind.popitem(last=False)
        while len(self._times) > self._most:
            (listener, _, _), time = self._times.popitem(last=False)
            self._taken.discard((listener, time))


def split(variants: Sequence[bytes], targets: Sequence[Target]) -> Iterator[tuple[Target, bytes]]:
    """Yield each target with its field; raises MalformedMessage where their numbers differ."""
    if len(variants) != len(targets):
        raise MalformedMessage(f"an event with {len(variants)} fields where {len(targets)} were selected")
    yield from zip(targets, variants, strict=True)


def _is_composed(variant: bytes) -> bool:
    return bool(variant[0] & 0x80) or variant[0] & 0x3F >= EXTENSION_OBJECT


def _scalar_text(variant: bytes) -> str | None:
    return read_scalar(variant, 1, variant[0] & 0x3F)[0].text


def _bytes(variant: bytes) -> bytes:
    return (read_bytes(variant, 1)[0] or b"") if variant[0] == BYTE_STRING else b""


def _time(variant: bytes) -> int:
    return ns_of_ticks(I64.unpack_from(variant, 1)[0]) if variant[0] == DATE_TIME else NO_TIME
