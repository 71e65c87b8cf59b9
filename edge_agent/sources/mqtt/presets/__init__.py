"""Presets: what devices of one make publish, as data. A YAML file here, or one of the user's own, is one preset."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field, ValidationError

from edge_agent.sources.mqtt.topic_config import TopicConfig
from shopfloor import configfile
from shopfloor.configfile import ConfigModel
from shopfloor.errors import ConfigError

_FOLDER: Final = Path(__file__).parent
_BASE: Final = "{base}"
_NAME: Final = re.compile(r"[a-z0-9_]{1,63}")


class UnusablePreset(ValueError):
    """There is no such preset, it has mistakes, or it does not go with the entry; the message says where."""


def _without_assets(given: object) -> object:
    """Let the topics of a preset do without an asset, which the entry has (a validator to run before)."""
    if not isinstance(given, list | tuple):
        return given
    for each in given:
        if isinstance(each, dict) and "asset" in each:
            raise ValueError("leave asset out: the entry that names the preset says it")
    return [{**each, "asset": "x"} if isinstance(each, dict) else each for each in given]


class Preset(ConfigModel):
    """What devices of one make publish."""

    description: str = Field(max_length=2_000)
    """For people: which devices, and what has to be set up in them."""
    base: str = Field(default="", max_length=500)
    """Topic levels that ``{base}`` stands for in ``topics``, unless an entry names others in its ``topic``."""
    asset: str = Field(default="", max_length=500)
    """Asset template, unless an entry has one."""
    lowercase: bool = False
    """See the entry's; an entry that says so itself counts."""
    needs_zone: bool = False
    """Whether the devices give their local time, so that an entry has to name the zone."""
    topics: Annotated[
        tuple[TopicConfig, ...], Field(min_length=1, max_length=50), BeforeValidator(_without_assets)
    ]
    """As in an agent's configuration, but without ``asset``."""


def names() -> tuple[str, ...]:
    """Return the names of the presets that come with the agent."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.yaml")))


def load(name: str) -> Preset:
    """Return a preset by its name, or by the path of its file.

    Raises:
        UnusablePreset: there is none, or it has mistakes; all of them are named with file and line.
    """
    ours = _NAME.fullmatch(name)
    if ours and name not in names():
        raise UnusablePreset(f"no such preset; there are {', '.join(names())}, or give the path of a file")
    try:
        return configfile.load(_FOLDER / f"{name}.yaml" if ours else Path(name), Preset)
    except ConfigError as error:
        raise UnusablePreset("; ".join(error.problems)) from None


def expand(entry: TopicConfig) -> tuple[TopicConfig, ...]:
    """Return the topics that an entry with a preset stands for.

    Raises:
        UnusablePreset: see `load`; or something is missing in the entry, or does not go with this preset.
    """
    preset = load(entry.preset)
    base = entry.topic or preset.base
    if entry.topic and not preset.base:
        raise UnusablePreset("its topics are fixed: leave topic out")
    if preset.needs_zone and entry.zone is None:
        raise UnusablePreset(
            "these devices give their local time: say in which zone, such as zone: Asia/Hong_Kong"
        )
    if entry.zone is not None and not preset.needs_zone:
        raise UnusablePreset("these devices give no local time: leave zone out")
    asset = entry.asset or preset.asset
    if not asset:
        raise UnusablePreset("give an asset")
    return tuple(_made(entry, preset, each, base, asset) for each in preset.topics)


def _made(entry: TopicConfig, preset: Preset, topic: TopicConfig, base: str, asset: str) -> TopicConfig:
    options: dict[str, Any] = {name: getattr(topic, name) for name in topic.model_fields_set}
    if topic.topic:
        options["topic"] = topic.topic.replace(_BASE, base)
    options["asset"] = asset
    options["lowercase"] = entry.lowercase if "lowercase" in entry.model_fields_set else preset.lowercase
    if topic.time is not None and topic.time.format == "iso" and topic.time.zone is None:
        options["time"] = topic.time.model_copy(update={"zone": entry.zone})
    if topic.takes_all:
        prefixes = [each for each in (entry.prefix, topic.prefix) if each]
        options |= {"signals": "all", "prefix": ".".join(prefixes), "max_signals": entry.max_signals}
    elif entry.prefix:
        options["signals"] = tuple(
            each.model_copy(update={"signal": f"{entry.prefix}.{each.signal}"}) for each in topic.signals
        )
    try:
        return TopicConfig.model_validate(options)
    except ValidationError as error:
        mistakes = "; ".join(
            f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors(include_url=False)
        )
        raise UnusablePreset(f"{options.get('topic') or topic.topic_regex}: {mistakes}") from None
