"""The address space of a load server: a folder a machine, whose variables are never stored but computed.

The nodes are put straight into asyncua's address space, and what all variables have in common is shared: its own way
of adding nodes takes a millisecond a node, and more the larger the folder.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from asyncua import ua
from asyncua.server.address_space import AddressSpace, AttributeValue, NodeData
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.object_ids import ObjectIds

from simulators.load.plan import LoadPlan, machine_name, signal_name, value

NAMESPACE_URI: Final = "urn:shopfloor:load"
ROOT_NAME: Final = "Load"
_READABLE: Final = ua.AccessLevel.CurrentRead.mask
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NOTHING: Final = ua.DataValue()
_any: Any = ua  # asyncua's annotations distinguish kinds of NodeId that its code does not

Now = Callable[[], tuple[int, int]]
"""The newest tick, and when it was made (UTC ms)."""


def build_machines(
    space: AddressSpace, namespace: int, plan: LoadPlan, machines: range, now: Now
) -> dict[ua.NodeId, int]:
    """Add the machines below Objects/Load; returns `LoadPlan.number` of every variable by its node id.

    Node ids are strings: ``machine-0001``, and ``machine-0001.signal-001`` for its variables.
    """
    root = _folder(space, _standard(ObjectIds.ObjectsFolder), _own(ROOT_NAME, namespace), ROOT_NAME)
    labels = [signal_name(signal) for signal in range(plan.signals)]
    attributes = [{**_named(label, namespace, ua.NodeClass.Variable), **_shared(plan)} for label in labels]
    variable_type = space[_standard(ObjectIds.BaseDataVariableType)]
    is_variable = _reference(ObjectIds.HasTypeDefinition, variable_type, None, forward=True)
    numbers: dict[ua.NodeId, int] = {}

    def read(node_id: ua.NodeId, _attribute: AttributeIds) -> ua.DataValue:
        tick, server_ms = now()
        return data_value(plan, tick, numbers[node_id], server_ms)

    for machine in machines:
        name = machine_name(machine)
        folder = space[_folder(space, root, _own(name, namespace), name)]
        to_folder = _reference(ObjectIds.HasComponent, folder, ObjectIds.FolderType, forward=False)
        for signal, label in enumerate(labels):
            node = NodeData(_own(f"{name}.{label}", namespace))
            numbers[node.nodeid] = plan.number(machine, signal)
            current: Any = AttributeValue(_NOTHING)
            current.value, current.value_callback = None, read
            own: dict[Any, AttributeValue] = {
                AttributeIds.NodeId: _attribute(node.nodeid, ua.VariantType.NodeId),
                AttributeIds.Value: current,
            }
            node.attributes = attributes[signal] | own
            node.references = [is_variable, to_folder]
            folder.references.append(
                _reference(ObjectIds.HasComponent, node, ObjectIds.BaseDataVariableType, forward=True)
            )
            space[node.nodeid] = node
    return numbers


def data_value(plan: LoadPlan, tick: int, number: int, server_ms: int) -> ua.DataValue:
    """Return one value as asyncua has it."""
    return ua.DataValue(
        ua.Variant(value(tick, number), ua.VariantType.Double),
        SourceTimestamp=_time(plan.tick_ms(tick)),
        ServerTimestamp=_time(server_ms),
    )


def _time(time_ms: int) -> ua.DateTime:
    moment: Any = _EPOCH + timedelta(milliseconds=time_ms)
    return moment  # type: ignore[no-any-return]


def _standard(number: Any) -> ua.NodeId:
    return ua.NodeId(number)


def _own(name: Any, namespace: Any) -> ua.NodeId:
    return ua.NodeId(name, namespace)


def _attribute(content: Any, kind: ua.VariantType) -> AttributeValue:
    return AttributeValue(ua.DataValue(ua.Variant(content, kind)))


def _named(name: str, namespace: int, node_class: ua.NodeClass) -> dict[Any, AttributeValue]:
    return {
        AttributeIds.NodeClass: _attribute(node_class, ua.VariantType.Int32),
        AttributeIds.BrowseName: _attribute(
            _any.QualifiedName(name, namespace), ua.VariantType.QualifiedName
        ),
        AttributeIds.DisplayName: _attribute(ua.LocalizedText(name), ua.VariantType.LocalizedText),
    }


def _shared(plan: LoadPlan) -> dict[Any, AttributeValue]:
    double = _standard(ObjectIds.Double)
    return {
        AttributeIds.Description: _attribute(
            ua.LocalizedText("1000000 + the tick's number, and four digits that tell the signal"),
            ua.VariantType.LocalizedText,
        ),
        AttributeIds.WriteMask: _attribute(0, ua.VariantType.UInt32),
        AttributeIds.UserWriteMask: _attribute(0, ua.VariantType.UInt32),
        AttributeIds.DataType: _attribute(double, ua.VariantType.NodeId),
        AttributeIds.ValueRank: _attribute(int(ua.ValueRank.Scalar), ua.VariantType.Int32),
        AttributeIds.AccessLevel: _attribute(_READABLE, ua.VariantType.Byte),
        AttributeIds.UserAccessLevel: _attribute(_READABLE, ua.VariantType.Byte),
        AttributeIds.MinimumSamplingInterval: _attribute(1000 / plan.hz, ua.VariantType.Double),
        AttributeIds.Historizing: _attribute(False, ua.VariantType.Boolean),
    }


def _folder(space: AddressSpace, parent: ua.NodeId, node_id: ua.NodeId, name: str) -> ua.NodeId:
    node = NodeData(node_id)
    node.attributes = _named(name, node_id.NamespaceIndex, ua.NodeClass.Object)
    node.attributes[AttributeIds.NodeId] = _attribute(node_id, ua.VariantType.NodeId)
    node.attributes[AttributeIds.Description] = _attribute(ua.LocalizedText(""), ua.VariantType.LocalizedText)
    node.attributes[AttributeIds.EventNotifier] = _attribute(0, ua.VariantType.Byte)
    node.attributes[AttributeIds.WriteMask] = _attribute(0, ua.VariantType.UInt32)
    node.attributes[AttributeIds.UserWriteMask] = _attribute(0, ua.VariantType.UInt32)
    above = space[parent]
    above.references.append(_reference(ObjectIds.Organizes, node, ObjectIds.FolderType, forward=True))
    node.references = [
        _reference(ObjectIds.HasTypeDefinition, space[_standard(ObjectIds.FolderType)], None, forward=True),
        # Objects and our own folder: both are folders.
        _reference(ObjectIds.Organizes, above, ObjectIds.FolderType, forward=False),
    ]
    space[node_id] = node
    return node_id


def _reference(
    reference: int, target: NodeData, node_type: int | None, *, forward: bool
) -> ua.ReferenceDescription:
    attributes: Any = target.attributes
    description: Any = _any.ReferenceDescription(
        ReferenceTypeId=_standard(reference),
        IsForward=forward,
        NodeId=target.nodeid,
        BrowseName=attributes[AttributeIds.BrowseName].value.Value.Value,
        DisplayName=attributes[AttributeIds.DisplayName].value.Value.Value,
        NodeClass=ua.NodeClass(attributes[AttributeIds.NodeClass].value.Value.Value),
        TypeDefinition=_any.NodeId() if node_type is None else _any.NodeId(node_type),
    )
    return description  # type: ignore[no-any-return]
