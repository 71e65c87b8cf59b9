"""What a user writes to have an OPC UA server's variables found: patterns of paths, and profiles of machines."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from edge_agent.sources.opcua.address import NodeAddress, parse_address
from edge_agent.sources.opcua.patterns import Rule, Template, captured_names, parse_pattern
from shopfloor.configfile import Asset, ConfigModel
from shopfloor.errors import InvalidName

EnumMode = Literal["value", "text", "both"]


class GlobConfig(ConfigModel):
    """Variables that are found by a pattern, also those that appear later; what was found once stays wanted."""

    path: str
    """A browse path with wildcards such as ``/DeviceSet/IMM_{machine}/MachineStatus/**``: ``*`` is any part of a
    name, ``{machine}`` the same with a name of its own (at least one character), ``**`` as a whole name any number
    of names, at the end at least one. Only variables are found; the Server object, properties of variables
    and OPC UA's own properties only where the path names them without a wildcard. ``&`` escapes ``/ : & * {``.
    The first pattern that finds a variable takes it; what ``nodes`` names is not found again."""
    start: str | None = None
    """The NodeId where ``path`` begins; default the Objects folder."""
    exclude: tuple[str, ...] = ()
    """Patterns of what is left out, from the same start, such as ``/**/Diagnostics/**``; default none."""
    asset: str
    """Asset path that the values belong to, with places for what was found: ``acme/hk01/{machine}``. ``{1}``, ``{2}``…
    are what the first ``*``, the second… stood for, ``{name}`` the variable's name, ``{path}`` the names below the
    innermost name with a wildcard in it (all names where there is none). CamelCase is parted by ``_``, accents are
    dropped, and what else is not legal becomes ``_``; where letters of other scripts are lost, a short hash of
    the name takes their place."""
    signal: str = "{path}"
    """Signal name within the asset, made as ``asset``; default ``{path}``. Of more than eight parts the last eight
    count."""
    group: str = "live"
    """Name of the group that says how they are read; default ``live``."""
    unit: Annotated[str, Field(max_length=100)] = ""
    """Unit of the values after scaling, UCUM; by default what the server says (EngineeringUnits)."""
    description: Annotated[str, Field(max_length=1000)] = ""
    """For people; by default what the server says (Description and EURange)."""
    scale: float = 1.0
    """The value is raw x scale + offset; default 1."""
    offset: float = 0.0
    """See ``scale``; default 0."""
    enum: EnumMode = "value"
    """What becomes of enumerations; see ``nodes``. Other variables are not concerned. Default ``value``."""
    max_nodes: Annotated[int, Field(ge=1, le=200_000)] = 2_000
    """So many variables are taken at most; default 2000. More are named in the report and not read."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        try:
            glob_rule(self, 0)
        except InvalidName as error:
            raise PydanticCustomError("opcua_glob", "{reason}", {"reason": str(error)}) from error
        return self


def glob_rule(glob: GlobConfig, number: int) -> Rule:
    """Return the rule that a glob is; raises InvalidName."""
    steps = parse_pattern(glob.path)
    names = captured_names(steps)
    return Rule(
        label=f"globs.{number} ({glob.path})",
        start=start_address(glob.start),
        steps=steps,
        excluded=tuple(parse_pattern(text) for text in glob.exclude),
        asset=Template(glob.asset, asset=True, names=names),
        signal=Template(glob.signal, asset=False, names=names),
        settings={
            "group": glob.group,
            "unit": glob.unit,
            "description": glob.description,
            "scale": glob.scale,
            "offset": glob.offset,
            "enum": glob.enum,
        },
        max_nodes=glob.max_nodes,
    )


def start_address(text: str | None) -> NodeAddress | None:
    """Return where a path begins; raises InvalidName for what is no NodeId."""
    if text is None:
        return None
    address = parse_address(text)
    if address.path:
        raise InvalidName(f"start: {text[:200]!r} is a path: write it in front of the other one")
    return address


class ProfileConfig(ConfigModel):
    """Machines of a kind that a profile knows: all of them are found, and read under the names of the profile."""

    profile: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_\-]{0,63}$")]
    """Name of the profile: ``euromap77`` (injection moulding machines, OPC 40077), or NAME for ``NAME.yaml`` in
    ``profile_folder``."""
    asset: str
    """Asset path of a machine, with a place for what the profile finds: ``acme/hk01/moulding/cell-a/{machine}``; made
    legal as for ``globs``."""
    assets: Annotated[dict[str, Asset], Field(max_length=10_000)] = Field(default_factory=dict)
    """Asset paths of single machines, by what ``{machine}`` is for them (made legal); default none."""
    group: str = "live"
    """Name of the group that says how variables are read for which the profile names none; default ``live``."""
    enum: EnumMode = "value"
    """What becomes of the profile's enumerations; see ``nodes``. Default ``value``."""
    events: bool = True
    """Take the events and alarms that the profile names; default true."""
