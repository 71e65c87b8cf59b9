"""Asks the server what its structures are made of (DataTypeDefinition, Part 3 §5.8.3 and §8.47 to §8.51)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from typing import Any, Final

from asyncua import ua
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.ua_binary import nodeid_to_binary
from asyncua.ua.uaerrors._base import UaError

from edge_agent.sources.opcua.binary import EXTENSION_OBJECT, VARIANT, read_node_id
from edge_agent.sources.opcua.limits import LARGEST_LIMIT
from edge_agent.sources.opcua.metadata import names_of_values
from edge_agent.sources.opcua.session import ServiceFault, Session, standard_node
from edge_agent.sources.opcua.structures import (
    Field,
    Form,
    Structure,
    Types,
    is_standard,
    segments,
    standard_data_type,
)

_INT32: Final = 6
_BUILT_IN: Final = {
    **{f"i={number}": number for number in range(1, 26)},
    # Values of abstract numbers say themselves what they are; a structure comes in its frame (Part 6 §5.2.6).
    "i=26": VARIANT,
    "i=27": VARIANT,
    "i=28": VARIANT,
    "i=29": _INT32,
}
"""Kind of what lies in a structure's bytes, by data type: the built-in types, and those that all others come from."""
_STRUCTURE: Final = "i=22"
_ENUMERATION: Final = "i=29"
_MAX_NAMES: Final = 10_000
"""Values of one enumeration."""
_MAX_TYPES: Final = 1_000
_MAX_FIELDS: Final = 1_000
_MAX_ANCESTORS: Final = 32
_SUBTYPED: Final = {ua.StructureType.StructureWithSubtypedValues, ua.StructureType.UnionWithSubtypedValues}
_FORMS: Final = {
    ua.StructureType.StructureWithOptionalFields: Form.OPTIONAL,
    ua.StructureType.Union: Form.UNION,
    ua.StructureType.UnionWithSubtypedValues: Form.UNION,
}


async def learn(session: Session, types: Types, encodings: Iterable[str]) -> None:
    """Find out what structures are made of; each has its definition in ``types`` after that, or why there is none.

    Args:
        session: where to ask.
        types: what is known, and what is added to.
        encodings: NodeIds of binary encodings, as text.

    Raises:
        SourceUnavailable: no answer in time.
    """
    asked = [encoding for encoding in encodings if types.find(encoding) is None]
    if not asked:
        return
    lookup = _Lookup(session, types)
    try:
        data_types = await lookup.data_types(asked)
        await lookup.define(sorted(set(data_types.values())))
    except ServiceFault as fault:
        lookup.problems.update(
            dict.fromkeys(asked, f"the server does not tell what structures it has: {fault}")
        )
        data_types = {}
    for encoding in asked:
        data_type = data_types.get(encoding)
        found = types.by_data_type.get(data_type) if data_type is not None else None
        if found is None:
            found = lookup.problems.get(
                encoding, f"the server does not tell what structure {encoding} is made of"
            )
        types.by_encoding[encoding] = found


class _Lookup:
    """One search for definitions."""

    def __init__(self, session: Session, types: Types) -> None:
        self._session = session
        self._types = types
        self._kinds: dict[str, int] = {}
        """Data types that are no structures, and the built-in types that they come from."""
        self._enumerations: set[str] = set()
        self.problems: dict[str, str] = {}

    async def data_types(self, encodings: Sequence[str]) -> dict[str, str]:
        """Return the data type of each encoding; one that leads to none may be a data type itself."""
        found = await self._backwards(encodings, ObjectIds.HasEncoding)
        return {encoding: found.get(encoding, encoding) for encoding in encodings}

    async def define(self, data_types: Sequence[str]) -> None:
        """Put the definitions of structures, and of those that lie in them, into ``types``."""
        found: dict[str, ua.StructureDefinition] = {}
        pending = [each for each in data_types if each not in self._types.by_data_type]
        while pending and len(found) < _MAX_TYPES:
            definitions = await self._definitions(pending)
            plain = [each for each in pending if each not in definitions]
            await self._find_kinds(plain)
            found |= definitions
            pending = sorted(
                {
                    data_type
                    for definition in definitions.values()
                    for data_type in map(_field_type, definition.Fields or ())
                    if self._is_new(data_type, found)
                }
            )
        await self._name_values()
        for data_type, definition in found.items():
            self._types.by_data_type[data_type] = self._structure(data_type, definition, found)

    async def _name_values(self) -> None:
        """Ask for the names of the values of enumerations that were wanted and not in their definitions."""
        known = self._types.enumerations
        nameless = sorted(each for each in self._enumerations if not known.get(each))
        if nameless and self._types.named:
            # Without names they are numbers, and the structure is read all the same.
            with suppress(ServiceFault):
                told = await names_of_values(self._session, [_node(each) for each in nameless])
                known.update(zip(nameless, told, strict=True))

    def _is_new(self, data_type: str, found: dict[str, ua.StructureDefinition]) -> bool:
        if data_type in _BUILT_IN or data_type in self._kinds or data_type in found:
            return False
        if data_type in self._types.by_data_type:
            return False
        known = standard_data_type(data_type, self._types) if is_standard(data_type) else None
        if known is not None:
            self._types.by_data_type[data_type] = known
        return known is None

    def _structure(
        self, data_type: str, definition: ua.StructureDefinition, found: Collection[str]
    ) -> Structure | str:
        fields = definition.Fields or []
        subtyped = definition.StructureType in _SUBTYPED
        form = _FORMS.get(definition.StructureType, Form.PLAIN)
        made: list[Field] = []
        for name, each in zip(segments(field.Name or "" for field in fields), fields, strict=True):
            kind = _field_type(each)
            structure = ""
            if kind in _BUILT_IN:
                number = _BUILT_IN[kind]
            elif kind in self._kinds:
                number = self._kinds[kind]
            elif kind in found or isinstance(self._types.by_data_type.get(kind), Structure):
                number, structure = EXTENSION_OBJECT, kind
            else:
                return (
                    f"the server does not tell what data type {kind} is, which lies in structure {data_type}"
                )
            if subtyped and each.IsOptional:
                # Whatever is of the type or of one that comes from it: it says itself what it is.
                number, structure = (EXTENSION_OBJECT if number == EXTENSION_OBJECT else VARIANT), ""
            optional = form is Form.OPTIONAL and bool(each.IsOptional)
            enumeration = kind if kind in self._enumerations and number == _INT32 else ""
            made.append(Field(name, number, structure, max(0, each.ValueRank), optional, enumeration))
        if len(made) > _MAX_FIELDS:
            return f"structure {data_type} has {len(made)} fields"
        return Structure(data_type, form, tuple(made))

    async def _definitions(self, data_types: Sequence[str]) -> dict[str, ua.StructureDefinition]:
        """Return the definitions of those that are structures; abstract ones come in a frame, so they are none."""
        nodes = [_node(each) for each in data_types]
        values = await self._read(nodes, AttributeIds.DataTypeDefinition)
        abstract = await self._read(nodes, AttributeIds.IsAbstract)
        found: dict[str, ua.StructureDefinition] = {}
        for data_type, value, is_abstract in zip(data_types, values, abstract, strict=True):
            if isinstance(value, ua.StructureDefinition):
                if is_abstract is True:
                    self._kinds[data_type] = EXTENSION_OBJECT
                else:
                    found[data_type] = value
            elif isinstance(value, ua.EnumDefinition) and len(value.Fields or ()) <= _MAX_NAMES:
                self._types.enumerations[data_type] = {
                    int(each.Value): (each.DisplayName and each.DisplayName.Text) or each.Name or ""
                    for each in value.Fields or ()
                }
        return found

    async def _find_kinds(self, data_types: Sequence[str]) -> None:
        """Find out which built-in types others come from, such as Duration from Double."""
        reached = {each: each for each in data_types if each not in self._kinds}
        for _ in range(_MAX_ANCESTORS):
            if not reached:
                return
            parents = await self._backwards(sorted(set(reached.values())), ObjectIds.HasSubtype)
            after: dict[str, str] = {}
            for data_type, ancestor in reached.items():
                parent = parents.get(ancestor)
                if parent in _BUILT_IN and parent != _STRUCTURE:
                    self._kinds[data_type] = _BUILT_IN[parent]
                    if parent == _ENUMERATION:
                        self._enumerations.add(data_type)
                elif parent is not None and parent != _STRUCTURE:
                    after[data_type] = parent
            reached = after

    async def _backwards(self, nodes: Sequence[str], reference: int) -> dict[str, str]:
        """Return where an inverse reference of each node leads to, for those that have one."""

        async def browse(part: Sequence[str]) -> Sequence[Any]:
            return await self._browse(part, reference)

        results = await self._session.in_batches("browse", nodes, browse, LARGEST_LIMIT)
        return {
            node: _text(result.References[0].NodeId)
            for node, result in zip(nodes, results, strict=True)
            if result.StatusCode.is_good() and result.References
        }

    async def _browse(self, nodes: Sequence[str], reference: int) -> Sequence[Any]:
        request = ua.BrowseRequest()
        request.Parameters.RequestedMaxReferencesPerNode = ua.UInt32(1)
        request.Parameters.NodesToBrowse = [
            ua.BrowseDescription(
                NodeId=_node(each),
                BrowseDirection=ua.BrowseDirection.Inverse,
                ReferenceTypeId=standard_node(reference),
                IncludeSubtypes=True,
                NodeClassMask=ua.NodeClass.Unspecified,
                ResultMask=ua.BrowseResultMask.None_,
            )
            for each in nodes
        ]
        return (await self._session.ask(request, ua.BrowseResponse)).Results or []

    async def _read(self, nodes: Sequence[ua.NodeId], attribute: AttributeIds) -> list[Any]:
        """Return the values of an attribute, None where there is none."""
        return [
            each.Value.Value if each.Value is not None and _is_good(each) else None
            for each in await self._session.read_attributes(nodes, attribute)
        ]


def _is_good(value: ua.DataValue) -> bool:
    return value.StatusCode is None or value.StatusCode.is_good()


def _field_type(field: ua.StructureField) -> str:
    return _text(field.DataType)


def _text(node: ua.NodeId) -> str:
    return read_node_id(nodeid_to_binary(node), 0)[0]


def _node(text: str) -> ua.NodeId:
    try:
        return ua.NodeId.from_string(text)
    except UaError:
        # Such as the id of another server: nobody answers to it.
        return ua.NodeId()
