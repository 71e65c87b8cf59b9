"""Refuses mishaps that would be labelled and do nothing: a label without its fault is a wrong oracle."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from simulators.data_faults import makes_sense
from simulators.scenario.cell_signals import cell_signals
from simulators.scenario.mishaps import DEVICE_OUTAGES, DataFaultConfig
from simulators.scenario.refusal import Place, refuse

if TYPE_CHECKING:
    from simulators.scenario.sites import SiteConfig


def refuse_data_faults_without_effect(site: SiteConfig) -> None:
    """Refuse data faults of cells or signals that are not there, or that can't have them; places count from the site."""
    if not site.data_faults:
        return
    cells, signals = site.cells, cell_signals(site)
    gateways = {machine.cell for machine in site.machines if machine.protocol == "gateway"}
    for number, fault in enumerate(site.data_faults):
        place = ("data_faults", number)
        if fault.cell not in cells:
            known = did_you_mean(fault.cell, cells)
            refuse((*place, "cell"), "no cell {cell} at this site{known}", cell=fault.cell, known=known)
        if fault.cell not in signals:
            refuse((*place, "cell"), "line {cell} says nothing itself: its stations do", cell=fault.cell)
        if fault.kind == "data.clock_behind" and fault.cell not in site.clocks:
            refuse(
                (*place, "cell"),
                "{cell} has no clock of its own: nothing of it gives a time over MQTT",
                cell=fault.cell,
            )
        if fault.kind == "data.duplicate" and fault.cell not in site.publishers:
            refuse(
                (*place, "cell"),
                "{cell} publishes no JSON over MQTT: no message of it can come twice",
                cell=fault.cell,
            )
        if fault.kind == "data.counter_wrap" and fault.cell in gateways:
            refuse((*place, "kind"), "the counters of {cell} have 16 bits anyway", cell=fault.cell)
        _refuse_signal(fault, signals[fault.cell], place)


def _refuse_signal(fault: DataFaultConfig, known: tuple[str, ...], place: Place) -> None:
    if fault.kind in {"data.clock_behind", "data.duplicate"}:
        return
    if fault.signal is None:
        if not any(makes_sense(fault.kind, name) for name in known):
            refuse(
                (*place, "kind"),
                "{cell} has no signal that {kind} makes sense for",
                cell=fault.cell,
                kind=fault.kind,
            )
        return
    if not any(name == fault.signal or name.startswith(f"{fault.signal}.") for name in known):
        refuse(
            (*place, "signal"),
            "no signal {signal} at {cell}{known}",
            signal=fault.signal,
            cell=fault.cell,
            known=did_you_mean(fault.signal, {*known, *_prefixes(known)}),
        )
    if not any(fault.fault().covers(name) for name in known):
        refuse(
            (*place, "signal"),
            "{kind} makes no sense for {signal}: counters jump, pressures change their unit, what is measured gets "
            "stuck or lost",
            kind=fault.kind,
            signal=fault.signal,
        )


def _prefixes(names: Iterable[str]) -> Iterator[str]:
    for name in names:
        parts = name.split(".")
        yield from (".".join(parts[:length]) for length in range(1, len(parts)))


def refuse_outages_without_effect(site: SiteConfig) -> None:
    """Refuse outages of servers, edge nodes and devices that the site does not have; places count from the site."""
    devices = {each.cell for each in site.devices}
    if site.sparkplug.wan_cut is not None and not devices:
        refuse(
            ("sparkplug", "wan_cut"), "no machine here has protocol: sparkplug, so there is no link to cut"
        )
    for number, outage in enumerate(site.outages):
        place = ("outages", number)
        if outage.kind == "server_restart":
            if not site.has_opcua:
                refuse((*place, "kind"), "nothing at this site speaks OPC UA: there is no server to restart")
        elif outage.kind in DEVICE_OUTAGES and outage.device not in devices:
            refuse(
                (*place, "device"),
                "no Sparkplug device {device} at this site{known}",
                device=outage.device,
                known=did_you_mean(outage.device or "", devices),
            )
        elif not devices:
            refuse((*place, "kind"), "no machine here has protocol: sparkplug, so there is no edge node")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``, did you mean NAME?`` for the known name that is most like it; nothing where none is."""
    like = difflib.get_close_matches(name, sorted(known), n=1)
    return f", did you mean {like[0]}?" if like else ""
