"""What variables hold before anything is known: the null of their data type."""

from __future__ import annotations

from typing import Any, Final

from asyncua import ua
from asyncua.ua.object_ids import ObjectIds

from simulators.protocols.opcua_declarations import TypeReader

_BUILT_IN: Final = frozenset(kind.value for kind in ua.VariantType)
_STRUCTURE: Final = 22
_NULLS: Final[dict[ua.VariantType, Any]] = {
    ua.VariantType.Boolean: False,
    ua.VariantType.Float: 0.0,
    ua.VariantType.Double: 0.0,
    ua.VariantType.String: "",
    ua.VariantType.LocalizedText: ua.LocalizedText(""),
    ua.VariantType.ByteString: b"",
    ua.VariantType.NodeId: ua.NodeId(),
    ua.VariantType.DateTime: ua.get_win_epoch(),
}


def variant_type(types: TypeReader, data_type: ua.NodeId) -> ua.VariantType:
    """Return how values of a data type travel: as the built-in type above it, enumerations as Int32."""
    for above in types.supertypes(data_type):
        if above.NamespaceIndex == 0:
            if above.Identifier == ObjectIds.Enumeration:
                return ua.VariantType.Int32
            if above.Identifier in _BUILT_IN:
                number: Any = above.Identifier
                return ua.VariantType(number)
    return ua.VariantType.Null


def null_value(types: TypeReader, data_type: ua.NodeId, rank: int) -> ua.Variant:
    """Return the null of a data type: 0, the empty text, the empty array; of structures, no value."""
    kind = variant_type(types, data_type)
    if rank >= 0:
        return ua.Variant([], kind, is_array=True)
    if kind.value >= _STRUCTURE or kind == ua.VariantType.Null:
        return ua.Variant(None)
    return ua.Variant(_NULLS.get(kind, 0), kind)
