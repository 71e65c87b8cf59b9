"""The address space of a site: type nodes, and below DeviceSet its machines and temperature control units."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from asyncua import ua
from asyncua.server.server import Server
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.object_ids import ObjectIds

from simulators.protocols.euromap77_events import add_event_types
from simulators.protocols.euromap77_machine import (
    MANUFACTURER,
    Identity,
    machine_item,
    standstill_reasons,
    text,
)
from simulators.protocols.opcua_instances import InstanceBuilder
from simulators.protocols.opcua_nodesets import Nodeset, load_nodesets
from simulators.protocols.opcua_typenodes import add_types
from simulators.protocols.opcua_types import Names, own, read_tables, standard
from simulators.protocols.opcua_variable import Raw, Variable
from simulators.protocols.tcd import TEMPERATURE, Tcu, tcu_item
from simulators.scenario import MachineConfig, SiteConfig

_FAULT_SEVERITY: Final = 700


class Follower(NamedTuple):
    """A node that shows the same as a live variable in another way; it has no history of its own."""

    node: ua.NodeId
    value: Callable[[Raw], ua.Variant]


class SiteSpace(NamedTuple):
    """Where everything is."""

    names: Names
    nodes: list[ua.NodeId]
    """Of each live variable, as they are counted."""
    roots: Mapping[str, ua.NodeId]
    """The object of each machine and unit, by its name."""
    followers: Mapping[int, tuple[Follower, ...]]


async def build_site(
    server: Server,
    site: SiteConfig,
    tcus: Sequence[Tcu],
    variables: Sequence[tuple[str, Variable]],
    nodesets: list[Nodeset],
    reasons: Mapping[str, str],
) -> SiteSpace:
    """Build the address space.

    Node ids of instances are strings in namespace 1, the server's own, whose URI is the site's: they are the same after
    every restart, whatever else changes. Machines are named IMM_<Manufacturer>_<SerialNumber> (OPC 40077 §8).

    Raises:
        ConfigError: a nodeset does not load.
    """
    if nodesets:
        names = await load_nodesets(server, nodesets)
    else:
        names = await add_types(server, read_tables())
    builder = InstanceBuilder(server, names)
    add_event_types(server, names, builder)
    numbered: dict[str, list[tuple[int, Variable]]] = {}
    for number, (name, variable) in enumerate(variables):
        numbered.setdefault(name, []).append((number, variable))
    listed = standstill_reasons(names, reasons)
    device_set = names.type("di:DeviceSet")
    roots = {}
    for machine in site.machines:
        cell = machine.cell
        item = machine_item(_identity(site, machine), machine.zones, numbered[cell], listed)
        roots[cell] = builder.add(device_set, cell, f"own:IMM_{MANUFACTURER}_{cell}", item)
    for number, tcu in enumerate(tcus, start=1):
        item = tcu_item(tcu, number, site.name, site.time_zone, numbered[tcu.name])
        item.at("tcd:DeviceZone", "tcd:TemperatureMainLine").unit = item.at(
            "tcd:DeviceZone", "tcd:Temperature", "gen:ActualValue"
        ).unit
        roots[tcu.name] = builder.add(device_set, tcu.name, f"own:TCD_{MANUFACTURER}_{tcu.name}", item)
    await _notify(server, list(roots.values()))
    followers = {
        number: found
        for number, (name, variable) in enumerate(variables)
        if (found := tuple(_followers(name, variable)))
    }
    return SiteSpace(names, [builder.nodes[number] for number in range(len(variables))], roots, followers)


def _identity(site: SiteConfig, machine: MachineConfig) -> Identity:
    drive = machine.drive.replace("_", "-")
    model = f"Simulated {drive} {machine.clamp_kn:.0f} kN"
    return Identity(machine.cell, model, site.name, site.time_zone, electric=machine.drive == "electric")


def _followers(name: str, variable: Variable) -> list[Follower]:
    if variable.signal == "mould.id":
        return [Follower(own(f"{name}.Moulds.Mould_1.Id"), lambda raw: text(str(raw)))]
    if variable.signal == "status.alarm":
        severity = own(f"{name}.MachineMESStatus.StandstillMessage.Severity")
        return [
            Follower(severity, lambda raw: ua.Variant(_FAULT_SEVERITY if raw else 0, ua.VariantType.UInt16))
        ]
    if variable.signal == TEMPERATURE:
        main_line = own(f"{name}.DeviceZone.TemperatureMainLine")
        return [Follower(main_line, lambda raw: ua.Variant(float(raw), ua.VariantType.Double))]
    return []


async def _notify(server: Server, sources: list[ua.NodeId]) -> None:
    """Let clients listen to the events of each machine, and at the Server object to those of all (Part 3 §7.17)."""
    root = standard(ObjectIds.Server)
    subscribe = ua.Variant(ua.EventNotifier.SubscribeToEvents.mask, ua.VariantType.Byte)
    for node in (root, *sources):
        await server.iserver.aspace.write_attribute_value(
            node, AttributeIds.EventNotifier, ua.DataValue(subscribe)
        )
    references = [
        ua.AddReferencesItem(
            SourceNodeId=source,
            ReferenceTypeId=standard(ObjectIds.HasNotifier),
            IsForward=forward,
            TargetNodeId=target,
        )
        for node in sources
        for source, target, forward in ((root, node, True), (node, root, False))
    ]
    for code in server.iserver.node_mgt_service.add_references(references):
        code.check()
