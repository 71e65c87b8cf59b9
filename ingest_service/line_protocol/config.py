"""Configuration of the line protocol: what is taken, and how measurements, tags and fields become assets and signals."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError
from pydantic_core.core_schema import ValidationInfo

from shopfloor.configfile import ConfigModel, load, resolve
from shopfloor.errors import ConfigError

PLACEHOLDER: Final = re.compile(r"\{([^{}]*)\}")
_KNOWN: Final = re.compile(r"(tag:.+|measurement|field|[^:?]+)\??")


def _template(text: str) -> str:
    rest = PLACEHOLDER.sub("", text)
    if "{" in rest or "}" in rest:
        raise ValueError(
            "a brace without its counterpart; placeholders are written as {measurement} or {tag:machine}"
        )
    for name in PLACEHOLDER.findall(text):
        if not _KNOWN.fullmatch(name):
            raise ValueError(
                f"unknown placeholder {{{name}}}; known are {{measurement}}, {{field}}, {{TAG}} and {{tag:TAG}}"
            )
    return text


def _asset_template(text: str) -> str:
    _template(text)
    if text and not text.strip("/"):
        raise ValueError("an asset path is needed, such as acme/{site}/{line}/{tag:machine}")
    if "{field}" in text or "{field?}" in text:
        raise ValueError("all fields of a line belong to one asset: {field} stands in the signal")
    return text


Template = Annotated[str, AfterValidator(_template), Field(max_length=1000)]
AssetTemplate = Annotated[str, AfterValidator(_asset_template), Field(max_length=1000)]
Glob = Annotated[str, Field(min_length=1, max_length=200)]


class RuleConfig(ConfigModel):
    """What lines of some measurements become."""

    measurement: Glob = "*"
    """Name of the measurement; a glob such as ``opcua_*``."""
    tags: dict[str, Glob] = Field(default={})
    """Tags that a line must have, with globs for their values; empty for any line."""
    asset: AssetTemplate = ""
    """Asset path with placeholders: ``acme/{site}/{line}/{tag:machine}``. ``{site}`` and ``{tag:site}`` are the value of the
    tag ``site``, ``{measurement}`` the measurement. ``{cell?}`` may be missing at the end of the path."""
    signal: Template = "{measurement}.{field}"
    """Signal name with the same placeholders and ``{field}``. Without ``{field}`` a line is one sample: its fields ``value``
    and ``text`` (below)."""
    value: str = "value"
    """Field with the value of the one sample, where ``signal`` has no ``{field}``."""
    text: str = "text"
    """Field with its text; where it is there, it is the value."""
    fields: tuple[Glob, ...] = ("*",)
    """Fields that become samples."""
    exclude: tuple[Glob, ...] = ()
    """Fields that are left out, deliberately and without a trace."""
    quality: str = ""
    """Field with the quality of all samples of its line: 0 good, 1 uncertain, 2 bad, or a word such as ``Good``, ``OK (0x0)``,
    ``Uncertain``, ``Bad``; any other word is bad."""
    status: str = ""
    """Field with the OPC UA StatusCode of all samples of its line; without ``quality`` it decides the quality, too."""
    units: dict[Glob, Annotated[str, Field(max_length=100)]] = Field(default={})
    """Units of fields, by globs of the field's name: ``{"*_temp": Cel}``; the first that fits holds."""
    names: Literal["tidy", "strict"] = "tidy"
    """``tidy`` makes names of what tags and fields hold: small letters, and ``_`` for what can't stand in a name.
    ``strict`` quarantines lines with names that are none."""
    discard: bool = False
    """Leave such lines out, deliberately and without a trace, instead of mapping them."""

    @model_validator(mode="after")
    def _has_asset(self) -> Self:
        if not self.discard and not self.asset:
            raise ValueError("asset is required, unless the rule says discard: true")
        return self


class MappingConfig(ConfigModel):
    """What lines become; the first rule that fits a line holds, and a line that none fits is quarantined."""

    rules: tuple[RuleConfig, ...] = Field(default=(), max_length=1000)
    """The rules, in order."""
    own_layout: bool = True
    """After them, the measurement ``sample`` is read as this project writes it to InfluxDB: tags enterprise, site, area, line,
    cell and signal, fields value, text, quality and status."""


OWN_LAYOUT: Final = RuleConfig(
    measurement="sample",
    asset="{enterprise}/{site?}/{area?}/{line?}/{cell?}",
    signal="{signal}",
    quality="quality",
    status="status",
    names="strict",
)


def _read_mapping(given: object, info: ValidationInfo) -> object:
    if not isinstance(given, str | Path):
        return given
    try:
        return load(resolve(str(given), info), MappingConfig)
    except ConfigError as error:
        raise PydanticCustomError(
            "mapping_file", "{reason}", {"reason": "; ".join(error.problems)}
        ) from error


class LineProtocolConfig(ConfigModel):
    """InfluxDB's line protocol, for Telegraf and other clients of InfluxDB."""

    enabled: bool = True
    """Whether ``/api/v2/write`` and ``/write`` take anything."""
    mapping: Annotated[MappingConfig, BeforeValidator(_read_mapping)] = MappingConfig()
    """What becomes of measurements, tags and fields: a section, or the path of a YAML file with what would stand in it."""
    unpacked_bytes: int = Field(default=64 * 2**20, ge=1024, le=2**30)
    """Bytes of one body when it is unpacked; ``limits.batch_bytes`` bounds it as it travels."""
    repeat_s: float = Field(default=600.0, ge=0)
    """Seconds in which a body that comes again from the same token is known to be a repeat (if all of its lines have a time)."""
    contact_s: float = Field(default=60.0, gt=0)
    """Seconds after a token's last write in which the assets that it writes have contact."""
