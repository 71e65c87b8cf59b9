"""How a configuration names a variable, before any server is asked."""

from __future__ import annotations

import base64
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from shopfloor.errors import InvalidName

_NODE_ID: Final = re.compile(
    r"(?:nsu=(?P<uri>[^;]+);|ns=(?P<index>[0-9]{1,5});)?(?P<rest>[isgb]=.+)", re.DOTALL
)
_NAME: Final = re.compile(r"(?:[^&/]|&.?)*", re.DOTALL)
"""What stands between two slashes; & escapes one."""
_INDEXED: Final = re.compile(r"([0-9]{1,5}):(.+)", re.DOTALL)
_PREFIXED: Final = re.compile(r"([A-Za-z][A-Za-z0-9_]*):(.+)", re.DOTALL)
_UNSAFE: Final = re.compile(r"[/:&]|^(?=nsu=)")
_NO_PREFIXES: Final[Mapping[str, str]] = {}


class Step(NamedTuple):
    """One name of a browse path; without a namespace it matches in any."""

    name: str
    namespace: str | int | None
    """A URI, an index of the server's table, or None."""


class NodeAddress(NamedTuple):
    """A NodeId, whose namespace may be a URI, or a browse path: from the Objects folder, or from such a NodeId."""

    identifier: str
    """``i=…``, ``s=…``, ``g=…`` or ``b=…``; empty for the Objects folder, where a browse path begins."""
    namespace: str | int
    """Of the NodeId: a URI, or an index of the server's table."""
    path: tuple[Step, ...]
    """From there on; empty for the node itself."""

    def below(self, start: NodeAddress) -> NodeAddress:
        """Return this browse path from another node on."""
        return NodeAddress(start.identifier, start.namespace, start.path + self.path)


def parse_address(text: str) -> NodeAddress:
    """Return what ``text`` names.

    ``nsu=URI;s=…``, ``ns=N;i=…`` (also ``g=``, ``b=``) are NodeIds (OPC UA Part 6 §5.3.1.10). A text that begins with
    ``/`` is a browse path whose steps are ``Name``, ``2:Name`` or ``nsu=URI;Name``; ``&`` escapes a ``/``, ``:`` or
    ``&`` of a name (Part 4 Annex A.2).

    Raises:
        InvalidName: it is neither.
    """
    if text.startswith("/"):
        return NodeAddress("", 0, _parse_path(text))
    match = _NODE_ID.fullmatch(text)
    if not match:
        raise InvalidName(
            f"{text[:200]!r} is neither a NodeId (nsu=URI;s=…, ns=2;i=…) nor a browse path (/2:Name/Name)"
        )
    kind, _, identifier = match["rest"].partition("=")
    try:
        _CHECKS[kind](identifier)
    except ValueError as error:
        raise InvalidName(f"{text[:200]!r} is not a NodeId: {error}") from error
    index = int(match["index"] or 0)
    if index > 0xFFFF:
        raise InvalidName(f"{text[:200]!r} is not a NodeId: a namespace index is at most 65535")
    return NodeAddress(match["rest"], match["uri"] or index, ())


def _numeric(text: str) -> None:
    if not text.isascii() or not text.isdigit() or int(text) >= 2**32:
        raise ValueError("i= is followed by a number below 2**32")


_CHECKS: Final[dict[str, Callable[[str], object]]] = {
    "i": _numeric,
    "s": lambda text: text,
    "g": uuid.UUID,
    "b": lambda text: base64.b64decode(text, validate=True),
}


def _parse_path(text: str) -> tuple[Step, ...]:
    return tuple(Step(unescape(raw), namespace) for raw, namespace in split_path(text))


def split_path(text: str, prefixes: Mapping[str, str] = _NO_PREFIXES) -> list[tuple[str, str | int | None]]:
    """Return the names of a browse path, still escaped, each with its namespace as `Step` has it.

    Args:
        text: begins with ``/``.
        prefixes: names that stand for namespace URIs, as in ``di:DeviceSet``.

    Raises:
        InvalidName: a name is empty, or with ``prefixes`` begins with one that is not among them.
    """
    steps: list[tuple[str, str | int | None]] = []
    at = 1
    while at <= len(text):
        namespace: str | int | None = None
        if text.startswith("nsu=", at):
            end = text.find(";", at)
            if end < 0:
                raise InvalidName(f"browse path {text[:200]!r}: nsu= needs a ; behind the URI")
            namespace = text[at + 4 : end]
            at = end + 1
        found = _NAME.match(text, at)
        assert found is not None
        raw, at = found[0], found.end() + 1
        if namespace is None and (match := _INDEXED.fullmatch(raw)):
            namespace, raw = int(match[1]), match[2]
        elif namespace is None and prefixes and (match := _PREFIXED.fullmatch(raw)):
            if match[1] not in prefixes:
                raise InvalidName(f"browse path {text[:200]!r}: {match[1]}: stands for no known namespace")
            namespace, raw = prefixes[match[1]], match[2]
        if not raw:
            raise InvalidName(f"browse path {text[:200]!r} has an empty name")
        steps.append((raw, namespace))
    if not steps:
        raise InvalidName("a browse path needs at least one name")
    return steps


def unescape(text: str) -> str:
    """Return the browse name that stands in a path."""
    return re.sub(r"&(.)", r"\1", text, flags=re.DOTALL) if "&" in text else text


def path_text(steps: Sequence[Step]) -> str:
    """Return a browse path as `parse_address` reads it."""
    return "".join(f"/{_qualifier(step.namespace)}{escape(step.name)}" for step in steps)


def escape(name: str) -> str:
    """Return a browse name as it stands in a path."""
    return _UNSAFE.sub(r"&\g<0>", name)


def _qualifier(namespace: str | int | None) -> str:
    if namespace is None:
        return ""
    return f"nsu={namespace};" if isinstance(namespace, str) else f"{namespace}:"
