"""Browse paths with wildcards, and the names of what they find."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from edge_agent.sources.opcua.address import NodeAddress, Step, split_path
from shopfloor.asset import parse_asset
from shopfloor.errors import InvalidName
from shopfloor.signal import parse_signal

ANY_DEPTH: Final = "**"
_TOKEN: Final = re.compile(
    r"&(?P<escaped>.)|(?P<star>\*)|\{(?P<name>[a-z][a-z0-9_]*)\}|(?P<other>.)", re.DOTALL
)
_PLACEHOLDER: Final = re.compile(r"\{([^{}]*)\}")
_MAX_SIGNAL_PARTS: Final = 8
_MAX_SEGMENT: Final = 63
PATH: Final = "path"
NAME: Final = "name"
MACHINE: Final = "machine"
"""The wildcard that every profile has."""


class PatternStep(NamedTuple):
    """One name of a pattern."""

    matcher: re.Pattern[str] | None
    """Takes the whole browse name; None for ``**``, which is any number of names, also none."""
    literal: bool
    """Whether it is a name without a wildcard."""
    namespace: str | int | None
    """A URI, an index of the server's table, or None for any."""
    groups: Mapping[str, str]
    """Group of the matcher to the wildcard's name: ``1``, ``2``… for ``*``, and what stands in braces."""


def parse_pattern(text: str, prefixes: Mapping[str, str] | None = None) -> tuple[PatternStep, ...]:
    """Return the steps of a pattern such as ``/2:DeviceSet/IMM_{machine}/MachineStatus/**``.

    It is a browse path as `parse_address` reads it, in which ``*`` stands for any part of a name, ``{machine}`` for one
    that is not empty and is called so, and ``**`` as a whole name for any number of names, at the end for at least one;
    ``&`` also escapes these.

    Args:
        text: begins with ``/``.
        prefixes: names that stand for namespace URIs.

    Raises:
        InvalidName: it is no such path.
    """
    if not text.startswith("/"):
        raise InvalidName(f"{text[:200]!r} is not a browse path: begin it with /")
    steps: list[PatternStep] = []
    taken: set[str] = set()
    stars = 0
    for raw, namespace in split_path(text, prefixes or {}):
        if raw == ANY_DEPTH:
            if steps and steps[-1].matcher is None:
                raise InvalidName(f"pattern {text[:200]!r}: one ** is enough")
            steps.append(PatternStep(None, False, None, {}))
            continue
        groups: dict[str, str] = {}
        parts: list[str] = []
        for token in _TOKEN.finditer(raw):
            if token["star"]:
                stars += 1
                groups[f"g{len(groups)}"] = str(stars)
                parts.append(f"(?P<g{len(groups) - 1}>.*?)")
            elif token["name"]:
                name = token["name"]
                if name in taken or name in {PATH, NAME}:
                    raise InvalidName(f"pattern {text[:200]!r}: {{{name}}} has a meaning already")
                taken.add(name)
                groups[f"g{len(groups)}"] = name
                parts.append(f"(?P<g{len(groups) - 1}>.+?)")
            else:
                parts.append(re.escape(token["escaped"] or token["other"]))
        matcher = re.compile("".join(parts), re.DOTALL)
        steps.append(PatternStep(matcher, not groups, namespace, groups))
    return tuple(steps)


def captured_names(steps: Iterable[PatternStep]) -> list[str]:
    """Return what the wildcards of a pattern are called."""
    return [name for step in steps for name in step.groups.values()]


class Found(NamedTuple):
    """One match: what the wildcards stood for, and the whole path."""

    captures: Mapping[str, str]
    path: tuple[Step, ...]
    below: int
    """How many names of the path lie above those that ``{path}`` stands for."""


class Match(NamedTuple):
    """Where the matching of one pattern stands at one node; immutable."""

    position: int
    captures: tuple[tuple[str, str], ...] = ()
    depth: int = 0
    """Names so far."""
    below: int = 0
    """Depth of the innermost name with a wildcard within it."""


class Offer(NamedTuple):
    """What there is one name further on."""

    name: str
    namespace: str | int | None
    hidden: bool
    """Only a name without a wildcard takes it."""


def begin(steps: Sequence[PatternStep]) -> list[Match]:
    """Return where matching stands at the start node."""
    return _reached(steps, Match(0))


def advance(steps: Sequence[PatternStep], match: Match, offer: Offer) -> list[Match]:
    """Return where matching stands after one more name; empty where it does not match.

    A namespace that one side gives by its index and the other by its URI counts as the same: only a server knows.
    """
    if match.position == len(steps):
        return []
    step = steps[match.position]
    depth = match.depth + 1
    if step.matcher is None:
        if offer.hidden:
            return []
        here = match._replace(depth=depth)
        return [here, *_reached(steps, here._replace(position=match.position + 1))]
    if (offer.hidden and not step.literal) or (
        step.namespace is not None and not _same_namespace(step.namespace, offer.namespace)
    ):
        return []
    fits = step.matcher.fullmatch(offer.name)
    if fits is None:
        return []
    captures = match.captures + tuple((called, fits[group]) for group, called in step.groups.items())
    below = depth if step.groups and match.position + 1 < len(steps) else match.below
    return _reached(steps, Match(match.position + 1, captures, depth, below))


def is_whole(steps: Sequence[PatternStep], match: Match) -> bool:
    """Tell whether a pattern ends here."""
    return match.position == len(steps)


def _same_namespace(wanted: str | int, offered: str | int | None) -> bool:
    # One of them by its index and the other by its URI: nobody here can tell.
    return wanted == offered or type(wanted) is not type(offered)


def match_path(steps: Sequence[PatternStep], path: Sequence[Step]) -> Found | None:
    """Return what a pattern makes of a whole path, None where it does not match."""
    states = begin(steps)
    for name, namespace in path:
        states = [
            further
            for state in states
            for further in advance(steps, state, Offer(name, namespace, hidden=False))
        ]
    for state in states:
        if is_whole(steps, state):
            return Found(dict(state.captures), tuple(path), state.below)
    return None


def _reached(steps: Sequence[PatternStep], match: Match) -> list[Match]:
    """Return a state, and where a ``**`` follows that may stand for no names, the one behind it."""
    ahead = match.position + 1
    if ahead < len(steps) and steps[match.position].matcher is None:
        return [match, match._replace(position=ahead)]
    return [match]


class Template:
    """The text of an asset path or signal name with places for what a pattern found.

    Args:
        text: such as ``acme/hk/{machine}`` or ``{path}``.
        asset: whether it makes asset paths; else signal names.
        names: what may stand in braces, beside ``path`` and ``name``.

    Raises:
        InvalidName: it names something else, or what stands outside the braces is not legal.
    """

    def __init__(self, text: str, *, asset: bool, names: Iterable[str]) -> None:
        known = {PATH, NAME, *names}
        unknown = [found for found in _PLACEHOLDER.findall(text) if found not in known]
        if unknown:
            raise InvalidName(
                f"{text[:200]!r}: no {{{unknown[0]}}} is found; there are {_braced(sorted(known))}"
            )
        self.text = text
        self._asset = asset
        # What stands around the braces has to be legal whatever stands in them.
        self._checked(_PLACEHOLDER.sub("x", text))

    def fill(self, found: Found) -> str:
        """Return a legal name.

        Raises:
            InvalidName: it has too many levels.
        """
        names = [step.name for step in found.path]
        separator = "/" if self._asset else "."

        def value(match: re.Match[str]) -> str:
            key = match[1]
            if key == PATH:
                return separator.join(legal(name, dash=self._asset) for name in names[found.below :])
            return legal(names[-1] if key == NAME else found.captures[key], dash=self._asset)

        text = _PLACEHOLDER.sub(value, self.text)
        if not self._asset:
            text = ".".join(part[:_MAX_SEGMENT] for part in text.split(".")[-_MAX_SIGNAL_PARTS:])
        return self._checked(text)

    def _checked(self, text: str) -> str:
        return str(parse_asset(text)) if self._asset else parse_signal(text)


def _braced(names: Iterable[str]) -> str:
    return ", ".join(f"{{{name}}}" for name in names)


@lru_cache(maxsize=16_384)
def legal(name: str, *, dash: bool = False) -> str:
    """Return a browse name as part of a signal name, with ``dash`` of an asset path.

    CamelCase is parted by ``_``, accents are dropped, and everything but letters, digits, ``_`` (and ``-`` in assets)
    becomes ``_``. Where letters of another script are lost, eight hexadecimal digits of a hash of the name take
    their place, so that two names stay two.
    """
    plain = unicodedata.normalize("NFKD", name)
    kept = "".join(letter for letter in plain if not unicodedata.combining(letter))
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", kept)
    text = re.sub(r"[^a-z0-9_-]+" if dash else r"[^a-z0-9]+", "_", words.lower()).strip("_-")
    text = re.sub(r"_{2,}", "_", text)
    if not text or any(letter.isalnum() and not letter.isascii() for letter in kept):
        digest = hashlib.blake2b(name.encode(), digest_size=4).hexdigest()
        text = f"{text[: _MAX_SEGMENT - 9]}_{digest}".strip("_-")
    return text[:_MAX_SEGMENT].rstrip("_-")


class Rule(NamedTuple):
    """A pattern and what becomes of the variables that it finds."""

    label: str
    """How messages name it."""
    start: NodeAddress | None
    """Where the pattern begins; None is the Objects folder."""
    steps: tuple[PatternStep, ...]
    excluded: tuple[tuple[PatternStep, ...], ...]
    """Patterns of what is left out, from the same start."""
    asset: Template
    signal: Template
    settings: Mapping[str, object]
    """Of the `NodeConfig` that each variable becomes."""
    max_nodes: int
    assets: Mapping[str, str] = {}
    """Asset paths that count instead of ``asset``, by what ``{machine}`` is, made legal."""
    profile: str = ""
    """Which profile it belongs to, one of many: that some of them find nothing is no news."""
    objects: bool = False
    """Whether it is objects that are found: the machines of a profile."""
    required: bool = False
    """Whether every machine of a profile should have it."""
    types: tuple[Step, ...] = ()
    """Names of ObjectTypes: the machine is of all of them, or of types that come from them."""
    machine_steps: int = 0
    """How many of the steps lead to the machine."""

    def asset_of(self, found: Found) -> str:
        """Return the asset path of what was found; raises InvalidName."""
        if self.assets:
            asset = self.assets.get(legal(found.captures.get(MACHINE, ""), dash=True))
            if asset is not None:
                return asset
        return self.asset.fill(found)


def address_text(address: NodeAddress) -> str:
    """Return a NodeId as `parse_address` reads it."""
    if isinstance(address.namespace, str):
        return f"nsu={address.namespace};{address.identifier}"
    return f"ns={address.namespace};{address.identifier}" if address.namespace else address.identifier
