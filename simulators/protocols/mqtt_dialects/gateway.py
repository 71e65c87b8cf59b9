"""The gateway of old hydraulic machines: all numbers as text with a decimal comma, 16-bit counters, no time at all.

It polls a machine at fixed intervals (``TOPIC/ist``), and passes on what the machine prints at the end of a cycle
(``TOPIC/zyklus``). ``n`` numbers the messages of each topic, so that no two of them are equal by chance: what is equal
was sent twice. (Of two topics brokers need not keep the order: MQTT 3.1.1 §4.6.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias

import msgspec

from shopfloor import signal
from shopfloor.asset import AssetPath
from simulators.physics import signals
from simulators.physics.unit import MS, Change, Moment, Value
from simulators.protocols.mqtt_dialects.said import Message, Said, Stored, Topic, signal_entry

INTERVAL_MS: Final = 10_000
STATE: Final = "status.state"
"""The machine's own word for its state: AUTO, MAN, STOP or AUS (off)."""
POLL_NUMBER: Final = "gateway.poll"
"""Running number of the gateway's polls of a machine."""
CYCLE_NUMBER: Final = "gateway.cycle"
"""Running number of its messages of cycles."""

StateWord: TypeAlias = Callable[[Mapping[str, Value]], str]


class Field(NamedTuple):
    """A number in the gateway's messages."""

    key: str
    signal: str
    decimals: int
    unit: str = ""
    bits: int = 0
    """Width of a counter, which begins again at 0; 0 for other numbers."""


POLLED: Final = tuple(Field(f"t{zone}", signals.barrel_temperature(zone), 1, "Cel") for zone in range(1, 6))
"""What an old machine tells at any time: five zones."""
CYCLE: Final = (
    Field("zyk", signal.CYCLE_COUNTER, 0, "1", bits=16),
    Field("zeit", signal.CYCLE_TIME, 2, "s"),
    Field("p_max", signals.PEAK_PRESSURE, 0, "bar"),
    Field("polster", signals.CUSHION, 2, "mm"),
    Field("gut", signal.GOOD_PARTS_COUNTER, 0, "1", bits=16),
    Field("aus", signal.BAD_PARTS_COUNTER, 0, "1", bits=16),
)
"""What it prints when a cycle is over."""


def state_word(values: Mapping[str, Value]) -> str:
    """Return AUTO, MAN, STOP or AUS from power, mode and standstill reason; what is not known counts as off."""
    mode = values.get(signal.MACHINE_MODE, 0.0)
    if not values.get(signal.POWER_ON, 1.0) or signal.MACHINE_MODE not in values:
        return "AUS"
    if mode in {1.0, 2.0}:
        return "STOP" if values.get(signal.STANDSTILL_REASON) else "AUTO"
    return "MAN" if mode in {3.0, 4.0} else "STOP"


class Gateway:
    """One machine behind the gateway.

    Args:
        asset: of the machine.
        topic: without its last level.
        first_ms: when it is polled first, UTC ms.
        interval_ms: between two polls.
        polled: what a poll gives, besides the state.
        cycle: what a finished cycle gives.
        word: tells the state's word from all signals known so far.
        numbered: whether the agent is told that equal payloads are one message.

    Raises:
        ValueError: a signal stands in both, or twice: its order would depend on the broker.
    """

    def __init__(
        self,
        asset: AssetPath,
        topic: str,
        first_ms: int,
        interval_ms: int = INTERVAL_MS,
        polled: Sequence[Field] = POLLED,
        cycle: Sequence[Field] = CYCLE,
        word: StateWord = state_word,
        *,
        numbered: bool = False,
    ) -> None:
        self.asset = asset
        self.signals = (POLL_NUMBER, CYCLE_NUMBER, STATE, *(each.signal for each in (*polled, *cycle)))
        self.untimed = frozenset(self.signals)
        if len(self.untimed) != len(self.signals):
            raise ValueError(f"{asset}: a signal stands in two messages: {', '.join(self.signals)}")
        self.numbered = numbered
        self._topic = topic
        self._interval_ms = interval_ms
        self._polled = tuple(polled)
        self._cycle = tuple(cycle)
        self._word = word
        self._values: dict[str, Value] = {}
        self._numbers = {POLL_NUMBER: 0, CYCLE_NUMBER: 0}
        self._next_ms = first_ms
        self._last_ns = 0

    def moments(self, moments: Sequence[Moment], until_ms: int) -> list[Said]:
        """Return the polls due before ``until_ms`` and the cycles' ends; a poll shows what happened up to its time."""
        said: list[Said] = []
        for moment in moments:
            while self._next_ms * MS < moment.time_ns:
                said.append(self._poll())
            if isinstance(moment, Change):
                self._values[moment.signal] = moment.value
            else:
                self._values.update(moment.values)
                said.append(self._say(CYCLE_NUMBER, moment.time_ns, moment.values))
        while self._next_ms < until_ms:
            said.append(self._poll())
        return said

    def topics(self) -> list[Topic]:
        """Return the entries for polls and for cycles; neither has a time."""
        number = {"type": "number", "decimal_comma": True}
        state = {"path": "state", "signal": STATE, "type": "text"}
        return [
            {
                "topic": f"{self._topic}/{name}",
                "asset": str(self.asset),
                **({"numbered": True} if self.numbered else {}),
                "signals": [
                    signal_entry("n", count, "1", **number),
                    *own,
                    *(signal_entry(each.key, each.signal, each.unit, **number) for each in fields),
                ],
            }
            for name, count, own, fields in (
                ("ist", POLL_NUMBER, [state], self._polled),
                ("zyklus", CYCLE_NUMBER, [], self._cycle),
            )
        ]

    def snapshot(self) -> bytes:
        """Return its numbers, its next poll and the values known."""
        return msgspec.json.encode(
            [self._numbers, self._next_ms, self._last_ns, [*map(_kept, self._values.items())]]
        )

    def restore(self, snapshot: bytes) -> None:
        """Go on with the next numbers."""
        kept = msgspec.json.decode(
            snapshot, type=tuple[dict[str, int], int, int, list[tuple[str, float | str | None]]]
        )
        self._numbers, self._next_ms, self._last_ns, values = kept
        self._values = {name: math.nan if value is None else value for name, value in values}

    def _poll(self) -> Said:
        time_ns = self._next_ms * MS
        self._next_ms += self._interval_ms
        return self._say(POLL_NUMBER, time_ns, self._values, self._word(self._values))

    def _say(self, count: str, time_ns: int, values: Mapping[str, Value], state: str | None = None) -> Said:
        # It has no clock that could be behind.
        self._last_ns = time_ns = max(time_ns, self._last_ns)
        name, fields = ("ist", self._polled) if count == POLL_NUMBER else ("zyklus", self._cycle)
        number = self._numbers[count]
        self._numbers[count] += 1
        content = {"n": str(number)}
        rows = [Stored(count, None, float(number))]
        if state is not None:
            content["state"] = state
            rows.append(Stored(STATE, None, state))
        for field in fields:
            value = values.get(field.signal)
            if isinstance(value, float | int):
                text = content[field.key] = spelled(value, field.decimals, field.bits)
                rows.append(Stored(field.signal, None, _read(text)))
        return Said(time_ns, Message(f"{self._topic}/{name}", msgspec.json.encode(content)), tuple(rows))


def spelled(value: float, decimals: int, bits: int = 0) -> str:
    """Return a number as the gateway writes it: ``221,4``; ``NaN`` where there is none."""
    if not math.isfinite(value):
        return "NaN"
    if bits:
        value = round(value) % 2**bits
    return f"{value:.{decimals}f}".replace(".", ",")


def _read(text: str) -> float:
    """Return what a collector reads; a number without a comma is an integer, which knows no negative zero."""
    return float(text.replace(",", ".")) if "," in text or text == "NaN" else float(int(text))


def _kept(item: tuple[str, Value]) -> tuple[str, float | str | None]:
    name, value = item
    return name, (None if isinstance(value, float) and math.isnan(value) else value)
