"""A value that is made of others, as the elements that a signal each is made of.

Elements have a path: ``3`` is the fourth of an array, ``1.2`` lies in a matrix (row, column; rows first), ``motor.speed``
is a field of a structure in a structure. What is no number, text or null is an element that is not convertible; it never
costs its neighbours.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from math import prod
from typing import Final

from edge_agent.sources.opcua.arrays import MAX_DIMENSIONS, Leaves, paths_of, plain_array, shape_of
from edge_agent.sources.opcua.binary import (
    DATA_VALUE,
    EXTENSION_OBJECT,
    NULL,
    NUMBERS,
    U32,
    VARIANT,
    MalformedMessage,
    read_count,
    read_length,
    read_node_id,
    skip_scalar,
)
from edge_agent.sources.opcua.collected import Collected
from edge_agent.sources.opcua.pattern_config import EnumMode
from edge_agent.sources.opcua.scalar import NOT_CONVERTIBLE, NOTHING, read_scalar
from edge_agent.sources.opcua.structures import Field, Form, Structure, Types

_MAX_DEPTH: Final = 32
_MAX_STRUCTURES: Final = 100_000
"""In one value: those without any fields take no bytes, so that their number could be any."""
_DATA_VALUE_FIELDS: Final = ((0x04, 8), (0x10, 2), (0x08, 8), (0x20, 2))
"""What lies behind a DataValue's status."""


def unfold(
    variant: bytes,
    types: Types,
    most: int,
    room: int,
    enum: EnumMode = "value",
    names: Mapping[int, str] | None = None,
) -> Leaves:
    """Take a value apart.

    Args:
        variant: a whole Variant (Part 6 §5.2.2.16), sound as far as skipping it shows.
        types: the structures known so far.
        most: how many elements are kept.
        room: of how many parts a path may consist.
        enum: what becomes of the values of enumerations; with ``both`` their names lie in elements ``PATH.text``.
        names: where it is an array of an enumeration, those of its values.

    Raises:
        MalformedMessage: it is no Variant after all.
    """
    try:
        plain = None if names and enum != "value" else plain_array(variant, most, room)
        if plain is not None:
            return plain
        found = Collected(most, room, enum)
        walk = _Walk(variant, types, found)
        walk.variant(0, "", 0, names=names)
    except (struct.error, IndexError) as error:
        raise MalformedMessage(f"a value ends too early: {error}") from error
    return found.leaves(frozenset(walk.unknown))


class _Misfit(Exception):
    """The bytes of a structure are not what its definition says."""


class _Walk:
    """Collects the elements of one value."""

    def __init__(self, body: bytes, types: Types, found: Collected) -> None:
        self._body = body
        self._types = types
        self._found = found
        self._structures = 0
        self.unknown: set[str] = set()

    def variant(
        self, at: int, path: str, depth: int, status: int = 0, names: Mapping[int, str] | None = None
    ) -> int:
        """Collect a Variant's value; ``status`` is what a DataValue around it says."""
        encoding = self._body[at]
        kind = encoding & 0x3F
        at += 1
        if not encoding & 0x80:
            return self._value(at, kind, path, depth, status)
        count, at = read_count(self._body, at, kind)
        end = _skip(self._body, at, kind, count, depth) if encoding & 0x40 else at
        shape = shape_of(self._body, end, count, encoding)
        return self._elements(at, kind, shape, path, depth, status, encoding, names)

    def _elements(
        self,
        at: int,
        kind: int,
        shape: tuple[int, ...],
        path: str,
        depth: int,
        status: int,
        encoding: int = 0,
        names: Mapping[int, str] | None = None,
    ) -> int:
        """Collect an array's elements, and skip its dimensions where a Variant's ``encoding`` says that there are any."""
        count = prod(shape)
        kept = min(count, self._found.left)
        for index in paths_of(shape, kept):
            at = self._value(at, kind, _below(path, index), depth, status, names)
        at = _skip(self._body, at, kind, count - kept, depth)
        self._found.beyond += count - kept
        if encoding & 0x40:
            dimensions, at = read_length(self._body, at)
            at += 4 * dimensions
        return at

    def _value(
        self,
        at: int,
        kind: int,
        path: str,
        depth: int,
        status: int,
        names: Mapping[int, str] | None = None,
    ) -> int:
        if depth > _MAX_DEPTH:
            raise MalformedMessage("nested too deeply")
        if kind == VARIANT:
            return self.variant(at, path, depth + 1, status)
        if kind == DATA_VALUE:
            return self._data_value(at, path, depth + 1, status)
        if kind == EXTENSION_OBJECT:
            return self._extension(at, path, depth + 1, status)
        scalar, at = read_scalar(self._body, at, kind)
        if not scalar.convertible:
            self._found.complain(f"a value of type {kind}, or a text of more than 64 KiB")
        self._found.keep(path, scalar, status, names)
        return at

    def _data_value(self, at: int, path: str, depth: int, status: int) -> int:
        """Collect a DataValue's value; of what else stands in it, only a status that is not Good counts."""
        mask = self._body[at]
        start = at = at + 1
        if mask & 0x01:
            at = skip_scalar(self._body, at, VARIANT, depth)
        if mask & 0x02:
            status = max(status, U32.unpack_from(self._body, at)[0], key=lambda code: code >> 30)
            at += 4
        if mask & 0x01:
            self.variant(start, path, depth, status)
        else:
            self._found.keep(path, NOTHING, status)
        return at + sum(size for bit, size in _DATA_VALUE_FIELDS if mask & bit)

    def _extension(self, at: int, path: str, depth: int, status: int) -> int:
        """Collect the fields of a structure in its frame (ExtensionObject, Part 6 §5.2.2.15)."""
        type_id, at = read_node_id(self._body, at)
        encoding = self._body[at]
        at += 1
        if encoding == 0:
            self._found.keep(path, NOTHING, status)
            return at
        length, start = read_length(self._body, at)
        end = start + length
        if end > len(self._body):
            raise MalformedMessage("a structure ends behind the message")
        definition = self._types.find(type_id)
        if encoding != 1:
            self._found.refuse(path, status, f"structure {type_id} is encoded as XML")
        elif definition is None:
            self.unknown.add(type_id)
            self._found.keep(path, NOT_CONVERTIBLE, status)
        elif isinstance(definition, str):
            self._found.refuse(path, status, definition)
        else:
            self._framed(definition, start, end, path, depth, status)
        return end

    def _framed(
        self, definition: Structure, start: int, end: int, path: str, depth: int, status: int
    ) -> None:
        """Collect a structure's fields; where its bytes are others than its definition says, it is refused as a whole."""
        whole, before = self._body, self._found.place
        self._body = whole[:end]
        try:
            sound = self._structure(start, definition, path, depth, status) == end
        except (_Misfit, MalformedMessage, struct.error, IndexError):
            sound = False
        finally:
            self._body = whole
        if not sound:
            self._found.back_to(before)
            self._found.refuse(path, status, f"structure {definition.name} is not what its definition says")

    def _structure(self, at: int, definition: Structure, path: str, depth: int, status: int) -> int:
        self._structures += 1
        if depth > _MAX_DEPTH or self._structures > _MAX_STRUCTURES:
            raise _Misfit
        chosen = 0
        if definition.form is not Form.PLAIN:
            (chosen,) = U32.unpack_from(self._body, at)
            at += 4
        if definition.form is Form.UNION:
            if chosen > len(definition.fields):
                raise _Misfit
            for number, field in enumerate(definition.fields, 1):
                if number == chosen:
                    at = self._field(at, field, _below(path, field.segment), depth, status)
                else:
                    self._absent(field, path, status)
            return at
        bit = 1
        for field in definition.fields:
            here = _below(path, field.segment)
            if not field.optional:
                at = self._field(at, field, here, depth, status)
                continue
            if chosen & bit:
                at = self._field(at, field, here, depth, status)
            else:
                self._absent(field, path, status)
            bit <<= 1
        return at

    def _absent(self, field: Field, path: str, status: int) -> None:
        """Say that a field is not there, where it would be one element."""
        if (
            not field.structure
            and not field.rank
            and field.kind not in {VARIANT, DATA_VALUE, EXTENSION_OBJECT}
        ):
            self._found.keep(_below(path, field.segment), NOTHING, status, self._names(field))

    def _field(self, at: int, field: Field, path: str, depth: int, status: int) -> int:
        if not field.rank:
            return self._member(at, field, path, depth, status)
        count, at = read_length(self._body, at)
        shape: tuple[int, ...] = (count,)
        if field.rank > 1:
            if count > MAX_DIMENSIONS:
                raise _Misfit
            shape = struct.unpack_from(f"<{count}i", self._body, at)
            at += 4 * count
            if min(shape, default=0) <= 0:
                return at
            if prod(shape) > len(self._body) - at:
                raise _Misfit
        if not field.structure:
            return self._elements(at, field.kind, shape, path, depth, status, names=self._names(field))
        count = prod(shape)
        kept = min(count, self._found.left)
        for index in paths_of(shape, kept):
            at = self._member(at, field, _below(path, index), depth, status)
        full, self._found.full = self._found.full, True
        for _ in range(count - kept):
            at = self._member(at, field, path, depth, status)
        self._found.full = full
        return at

    def _member(self, at: int, field: Field, path: str, depth: int, status: int) -> int:
        if not field.structure:
            return self._value(at, field.kind, path, depth, status, self._names(field))
        definition = self._types.by_data_type.get(field.structure)
        if not isinstance(definition, Structure):
            raise _Misfit
        return self._structure(at, definition, path, depth + 1, status)

    def _names(self, field: Field) -> Mapping[int, str] | None:
        return self._types.enumerations.get(field.enumeration) if field.enumeration else None


def _skip(body: bytes, at: int, kind: int, count: int, depth: int) -> int:
    """Skip elements of an array."""
    if kind in NUMBERS:
        return at + count * NUMBERS[kind].size
    for _ in range(count if kind != NULL else 0):
        at = skip_scalar(body, at, kind, depth)
    return at


def _below(path: str, part: str) -> str:
    return f"{path}.{part}" if path else part
