"""From measurement, tags and field to asset and signal: the rules of `config`, ready to be applied."""

from __future__ import annotations

import re
from collections.abc import Callable
from fnmatch import translate
from typing import Final, NamedTuple

from ingest_service.line_protocol.config import OWN_LAYOUT, PLACEHOLDER, MappingConfig, RuleConfig
from ingest_service.line_protocol.lines import Key
from shopfloor.asset import AssetPath, parse_asset
from shopfloor.errors import InvalidName
from shopfloor.signal import parse_signal

_WORDS: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_FOREIGN: Final = re.compile(r"[^a-z0-9_]+")
_FOREIGN_IN_ASSET: Final = re.compile(r"[^a-z0-9_-]+")
_MAX_SIGNAL_LEVELS: Final = 8
_MAX_SEGMENT: Final = 63


class Unplaceable(Exception):
    """A rule applies, but what it makes is no asset path or signal; the message says why."""


def tidy_asset_name(text: str) -> str:
    """Return a tag's value as one segment of an asset path, as far as it can be one: ``IMM 01`` is ``imm_01``."""
    return _FOREIGN_IN_ASSET.sub("_", text.lower()).lstrip("_-")[:_MAX_SEGMENT]


def tidy_signal_name(text: str) -> str:
    """Return any name as a signal's, as far as it can be one: ``Barrel.Zone1Temp (C)`` is ``barrel.zone1_temp_c``."""
    levels = [_FOREIGN.sub("_", _WORDS.sub("_", level).lower()).strip("_") for level in text.split(".")]
    return ".".join(level[:_MAX_SEGMENT].rstrip("_") for level in levels if level)


class _Part(NamedTuple):
    """A piece of a template: fixed text, or the name of what stands there."""

    text: str
    is_name: bool = False
    is_tag: bool = False
    optional: bool = False


class Rule:
    """A rule that is ready to be applied."""

    def __init__(self, config: RuleConfig) -> None:
        self.config = config
        self.single = not any(part.is_name and part.text == "field" for part in _parts(config.signal))
        """Whether a line is one sample."""
        self._measurement = _matcher((config.measurement,))
        self._tags = {name: _matcher((glob,)) for name, glob in config.tags.items()}
        self._wanted = _matcher(config.fields)
        self._unwanted = _matcher(config.exclude)
        self._asset = [_parts(level) for level in config.asset.strip("/").split("/")]
        self._signal = _parts(config.signal)
        self._units = [(_matcher((glob,)), unit) for glob, unit in config.units.items()]
        self._tidy = config.names == "tidy"

    def fits(self, key: Key) -> bool:
        """Tell whether the rule is for such lines."""
        tags = key.tags
        return self._measurement(key.measurement) and all(
            name in tags and matches(tags[name]) for name, matches in self._tags.items()
        )

    def wants(self, field: str) -> bool:
        """Tell whether a field becomes a sample."""
        if self.single:
            return field in {self.config.value, self.config.text}
        return self._wanted(field) and not self._unwanted(field)

    def asset(self, key: Key) -> AssetPath:
        """Return the asset of a line; raises Unplaceable."""
        levels = [self._fill(parts, key, "", tidy_asset_name) for parts in self._asset]
        while levels and not levels[-1]:
            levels.pop()
        try:
            return parse_asset("/".join(levels))
        except InvalidName as error:
            raise Unplaceable(str(error)) from error

    def signal(self, key: Key, field: str) -> str:
        """Return the signal of a field; raises Unplaceable."""
        text = self._fill(self._signal, key, field, tidy_signal_name)
        if self._tidy:
            text = tidy_signal_name(text)
            levels = text.split(".")
            if len(levels) > _MAX_SIGNAL_LEVELS:
                kept, rest = levels[: _MAX_SIGNAL_LEVELS - 1], levels[_MAX_SIGNAL_LEVELS - 1 :]
                text = ".".join([*kept, "_".join(rest)[:_MAX_SEGMENT].rstrip("_")])
        try:
            return parse_signal(text)
        except InvalidName as error:
            raise Unplaceable(str(error)) from error

    def unit(self, field: str) -> str:
        """Return the unit of a field, empty where none is configured."""
        return next((unit for matches, unit in self._units if matches(field)), "")

    def _fill(self, parts: list[_Part], key: Key, field: str, tidy: Callable[[str], str]) -> str:
        return "".join(self._piece(part, key, field, tidy) if part.is_name else part.text for part in parts)

    def _piece(self, part: _Part, key: Key, field: str, tidy: Callable[[str], str]) -> str:
        if part.is_tag:
            text = key.tags.get(part.text, "")
        else:
            text = key.measurement if part.text == "measurement" else field
        named = tidy(text) if self._tidy else text
        if not named and not part.optional:
            what = f"tag {part.text}" if part.is_tag else part.text
            raise Unplaceable(f"{what} is missing" if not text else f"{what} {text[:80]!r} holds no name")
        return named


class LineMapping:
    """All rules, in order."""

    def __init__(self, config: MappingConfig) -> None:
        self._rules = [Rule(rule) for rule in config.rules]
        if config.own_layout:
            self._rules.append(Rule(OWN_LAYOUT))

    def rule(self, key: Key) -> Rule | None:
        """Return the rule for such lines, None where there is none."""
        return next((rule for rule in self._rules if rule.fits(key)), None)


def _parts(template: str) -> list[_Part]:
    parts: list[_Part] = []
    at = 0
    for found in PLACEHOLDER.finditer(template):
        parts.append(_Part(template[at : found.start()]))
        name = found[1].removesuffix("?")
        tag = name.removeprefix("tag:")
        is_tag = tag != name or name not in {"measurement", "field"}
        parts.append(_Part(tag, is_name=True, is_tag=is_tag, optional=found[1].endswith("?")))
        at = found.end()
    parts.append(_Part(template[at:]))
    return [part for part in parts if part.text]


def _matcher(globs: tuple[str, ...]) -> Callable[[str], bool]:
    """Return a test for any of some globs; names and asterisks, by far the most, take no regular expression."""
    if "*" in globs:
        return lambda _text: True
    if not any(sign in glob for glob in globs for sign in "*?["):
        names = frozenset(globs)
        return names.__contains__
    patterns = [re.compile(translate(glob)).match for glob in globs]
    return lambda text: any(matches(text) is not None for matches in patterns)
