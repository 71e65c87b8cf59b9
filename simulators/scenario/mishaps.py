"""What is to go wrong with a site's data and servers, as a user writes it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Final, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from shopfloor.configfile import ConfigModel, Signal
from simulators.data_faults import BEHIND_MS, MAX_BEHIND_MS, Fault, Kind, Window
from simulators.scenario.refusal import refuse

_H_MS: Final = 3_600_000.0
DEVICE_OUTAGES: Final = frozenset({"missed_birth", "device_down"})
"""Those of one device."""
Hours = Annotated[float, Field(ge=0.0, le=100_000.0)]


class DataFaultConfig(ConfigModel):
    """Data that say what is not so, for a while."""

    kind: Kind
    """What goes wrong."""
    cell: str = Field(min_length=1, max_length=63)
    """With whom: one of the site's machines, stations, workplaces or units. ``data.clock_behind`` is of those that give
    a time over MQTT: meters, stations, workplaces, compressors; ``data.duplicate`` of those and of gateways;
    ``data.counter_wrap`` not of gateways, whose counters have 16 bits anyway."""
    signal: Signal | None = None
    """Only a signal, or several by the first segments of their names; by default all of the cell. Of several, those are
    affected that the kind makes sense for: ``data.counter_…`` counters, ``data.unit_change`` pressures, ``data.stuck``
    and ``data.nan`` what is measured. Not for clocks and messages, which are those of the whole cell."""
    after_h: Hours
    """Hours of the site's life until it begins."""
    for_h: float = Field(gt=0.0, le=10_000.0)
    """Hours that it lasts."""
    behind_s: float = Field(default=BEHIND_MS / 1000.0, gt=0.0, le=MAX_BEHIND_MS / 1000.0)
    """``data.clock_behind``: by how many seconds the clock is put back."""
    modulus: Literal[65_536, 4_294_967_296] = 65_536
    """``data.counter_wrap``: where the counter begins anew."""

    @model_validator(mode="after")
    def _of_the_cell(self) -> Self:
        if self.signal is not None and self.kind in {"data.clock_behind", "data.duplicate"}:
            refuse(("signal",), "{kind} is a fault of a whole cell, not of a signal", kind=self.kind)
        return self

    def fault(self) -> Fault:
        """Return what goes wrong."""
        return Fault(
            self.kind, self.signal or "", behind_ms=round(self.behind_s * 1000.0), modulus=self.modulus
        )

    def window(self, life_ms: int) -> Window:
        """Return when it is on; the site's life began at ``life_ms``."""
        begin_ms = life_ms + round(self.after_h * _H_MS)
        return Window(self.fault(), self.cell, begin_ms, begin_ms + round(self.for_h * _H_MS))


def refuse_two_clocks(faults: Sequence[DataFaultConfig]) -> None:
    """Refuse that a cell's clock is put back while it is put back already; places count from the site."""
    until_h: dict[str, float] = {}
    clocks = [
        (fault.after_h, number, fault)
        for number, fault in enumerate(faults)
        if fault.kind == "data.clock_behind"
    ]
    for after_h, number, fault in sorted(clocks, key=lambda clock: clock[:2]):
        if after_h < until_h.get(fault.cell, 0.0):
            refuse(
                ("data_faults", number, "after_h"),
                "the clock of {cell} is behind already, until {until} h",
                cell=fault.cell,
                until=f"{until_h[fault.cell]:g}",
            )
        until_h[fault.cell] = after_h + fault.for_h


class OutageConfig(ConfigModel):
    """A server or a link that fails, or an edge node that breaks its own protocol."""

    kind: Literal[
        "server_restart", "wan_cut", "device_down", "missed_birth", "reordered_seq", "doubled_message"
    ]
    """``server_restart``: the OPC UA server is gone for a while, and comes back with its history. ``wan_cut``: the
    Sparkplug edge node has no link. ``device_down``: the edge node loses a device (DDEATH); with its next birth comes
    what it measured meanwhile, as historical. ``missed_birth``: a device sends data without its birth.
    ``reordered_seq``: two Sparkplug messages change places. ``doubled_message``: one comes twice."""
    after_h: Hours
    """Hours of the site's life until it begins."""
    for_h: float = Field(default=0.01, gt=0.0, le=1_000.0)
    """Hours that it lasts; of no meaning for ``missed_birth``, ``reordered_seq`` and ``doubled_message``, which take a moment."""
    device: str | None = Field(default=None, min_length=1, max_length=63)
    """``device_down`` and ``missed_birth``: which device."""

    @model_validator(mode="after")
    def _of_a_device(self) -> Self:
        if (self.device is not None) != (self.kind in DEVICE_OUTAGES):
            refuse(("device",), "device belongs to device_down and missed_birth, and has to stand there")
        return self


class Outage(NamedTuple):
    """An outage at its time, UTC ms."""

    kind: str
    begin_ms: int
    end_ms: int
    device: str


def outages(configs: tuple[OutageConfig, ...], life_ms: int) -> Iterator[Outage]:
    """Yield when outages are; the site's life began at ``life_ms``."""
    for config in configs:
        begin_ms = life_ms + round(config.after_h * _H_MS)
        yield Outage(config.kind, begin_ms, begin_ms + round(config.for_h * _H_MS), config.device or "")
