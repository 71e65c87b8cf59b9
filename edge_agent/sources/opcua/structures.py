"""What structures are made of (StructureDefinition, Part 3 §8.48), as far as their bytes have to be understood."""

from __future__ import annotations

import enum
import functools
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Final, NamedTuple

from asyncua import ua

from edge_agent.sources.opcua.binary import EXTENSION_OBJECT
from edge_agent.sources.opcua.patterns import legal

_INT32: Final = 6
_MAX_SEGMENT: Final = 63


class Form(enum.Enum):
    """How the fields of a structure lie in its bytes (Part 6 §5.2.6 to §5.2.8)."""

    PLAIN = enum.auto()
    OPTIONAL = enum.auto()
    """Behind a mask of those optional fields that are there."""
    UNION = enum.auto()
    """One of the fields, behind its number; 0 is none."""


class Field(NamedTuple):
    """One field of a structure."""

    segment: str
    """Its part of the signal's name, unique within the structure."""
    kind: int
    """Number of the built-in type (Part 6 §5.1.2); EXTENSION_OBJECT also where ``structure`` lies there without a frame."""
    structure: str = ""
    """Data type of a structure that lies there without a frame, as text; empty for built-in types."""
    rank: int = 0
    """Dimensions: 0 is a single value."""
    optional: bool = False
    enumeration: str = ""
    """Where it is of an enumeration, that one's key in `Types.enumerations`."""


class Structure(NamedTuple):
    """A structured data type."""

    name: str
    form: Form
    fields: tuple[Field, ...]


@dataclass(slots=True)
class Types:
    """The structures that a session has learned. A text in place of a structure says why it can't be had."""

    by_encoding: dict[str, Structure | str] = field(default_factory=dict)
    """By NodeId of the binary encoding, which is what stands in an ExtensionObject."""
    by_data_type: dict[str, Structure | str] = field(default_factory=dict)
    enumerations: dict[str, Mapping[int, str]] = field(default_factory=dict)
    """Names of the values of enumerations, by data type (of OPC UA's own structures by its name)."""
    named: bool = False
    """Whether they are wanted, so that a server is asked for them where a definition does not have them."""

    def find(self, encoding: str) -> Structure | str | None:
        """Return what is known of an encoding, None where the server has to be asked."""
        known = self.by_encoding.get(encoding)
        if known is None and is_standard(encoding):
            known = standard_encoding(encoding, self)
            if known is not None:
                self.by_encoding[encoding] = known
        return known

    def clear(self) -> None:
        """Forget everything: another session may meet other types."""
        self.by_encoding.clear()
        self.by_data_type.clear()
        self.enumerations.clear()


def segments(names: Iterable[str]) -> Iterator[str]:
    """Yield the names of one structure's fields as parts of signal names, each unique; a nameless one is ``field_3``."""
    taken: set[str] = set()
    for number, name in enumerate(names, 1):
        plain = legal(name) if name else f"field_{number}"
        unique, count = plain, 1
        while unique in taken:
            count += 1
            unique = f"{plain[: _MAX_SEGMENT - 5]}_{count}"
        taken.add(unique)
        yield unique


def is_standard(node_id: str) -> bool:
    """Tell whether a NodeId, as text, is one of OPC UA's own."""
    return node_id.startswith("i=")


def standard_encoding(node_id: str, types: Types) -> Structure | None:
    """Return the structure of one of OPC UA's own encodings (``i=886`` is a Range's), None where asyncua knows none."""
    return _known(ua.extension_objects_by_typeid.get(_standard(node_id)), types)


def standard_data_type(node_id: str, types: Types) -> Structure | None:
    """Return one of OPC UA's own structures by its data type (``i=884`` is Range), None where asyncua knows none."""
    return _known(_classes_by_data_type().get(node_id), types)


def _standard(node_id: str) -> ua.NodeId:
    return ua.NodeId(ua.Int32(int(node_id.removeprefix("i="))), ua.Int16(0))


@functools.cache
def _classes_by_data_type() -> dict[str, type[Any]]:
    return {
        f"i={vars(kind)['data_type'].Identifier}": kind
        for kind in (getattr(ua, name) for name in dir(ua))
        if isinstance(kind, type) and is_dataclass(kind) and "data_type" in vars(kind)
    }


def _known(kind: Any, types: Types) -> Structure | None:
    if not (isinstance(kind, type) and is_dataclass(kind)) or issubclass(kind, ua.UaUnion):
        return None
    made = _Made({}, {})
    try:
        structure = _of_class(kind, made)
    except (TypeError, NameError, AttributeError, LookupError, RecursionError):
        return None
    for name, nested in made.structures.items():
        types.by_data_type.setdefault(name, nested)
    for name, values in made.enumerations.items():
        types.enumerations.setdefault(name, values)
    return structure


class _Made(NamedTuple):
    """What lies in a structure, by its name."""

    structures: dict[str, Structure]
    enumerations: dict[str, Mapping[int, str]]


def _of_class(kind: Any, made: _Made) -> Structure:
    """Return what asyncua's class says of its fields; raises TypeError where that does not tell how they lie."""
    hints = _hints(kind)
    known = fields(kind)
    names = segments(each.name for each in known)
    return Structure(
        kind.__name__,
        Form.PLAIN,
        tuple(_of_hint(name, hints[each.name], made) for name, each in zip(names, known, strict=True)),
    )


def _of_hint(name: str, hint: Any, made: _Made) -> Field:
    if typing.get_origin(hint) is list:
        return _of_hint(name, typing.get_args(hint)[0], made)._replace(rank=1)
    if not isinstance(hint, type):
        raise TypeError(f"{name}: {hint}")
    if issubclass(hint, enum.IntFlag):
        return Field(name, _BUILT_IN[hint.datatype() if hasattr(hint, "datatype") else "UInt32"])
    if issubclass(hint, enum.Enum):
        made.enumerations[hint.__name__] = {int(each.value): each.name for each in hint}
        return Field(name, _INT32, enumeration=hint.__name__)
    built_in = _BUILT_IN.get(hint.__name__)
    if built_in is not None:
        return Field(name, built_in)
    if not is_dataclass(hint) or issubclass(hint, ua.UaUnion):
        raise TypeError(f"{name}: {hint}")
    data_type = f"i={vars(hint)['data_type'].Identifier}"
    if data_type not in made.structures:
        made.structures[data_type] = Structure(hint.__name__, Form.PLAIN, ())
        made.structures[data_type] = _of_class(hint, made)
    return Field(name, EXTENSION_OBJECT, data_type)


_BUILT_IN: Final = {kind.name: int(kind.value) for kind in ua.VariantType if kind.value <= 25} | {
    "datetime": int(ua.VariantType.DateTime.value),
    "UUID": int(ua.VariantType.Guid.value),
}


def _hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind, localns={"ua": ua})
