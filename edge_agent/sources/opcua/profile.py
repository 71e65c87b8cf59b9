"""Profiles: what is worth reading of machines of a kind, as data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Final, NamedTuple, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from edge_agent.sources.opcua.address import Step, path_text, split_path, unescape
from edge_agent.sources.opcua.event_config import EventField, parse_event_type
from edge_agent.sources.opcua.pattern_config import ProfileConfig
from edge_agent.sources.opcua.patterns import MACHINE, Rule, Template, captured_names, parse_pattern
from shopfloor import configfile
from shopfloor.configfile import ConfigModel, Signal
from shopfloor.errors import ConfigError, InvalidName

_SHIPPED: Final = Path(__file__).with_name("profiles")
_MAX_EXTENDED: Final = 5
_MAX_NODES: Final = 20_000
"""Variables of one line of a profile, over all machines of a server."""


class ProfileVariable(ConfigModel):
    """One variable that machines have, or several where its path has wildcards."""

    path: str
    """Browse path from the machine on, without a leading ``/``, with wildcards as in ``globs``; ``gen:Name`` is a name
    in a namespace that ``namespaces`` knows, a name without one matches in any. The first line that finds a
    variable takes it."""
    signal: str
    """Signal name, with places for what the wildcards stood for: ``barrel.zone_{zone}.temperature``."""
    unit: Annotated[str, Field(max_length=100)] = ""
    """Unit of the value after scaling, UCUM; by default what the machine says (EngineeringUnits)."""
    description: Annotated[str, Field(max_length=1000)] = ""
    """For people; by default what the machine says."""
    scale: float = 1.0
    """The value is raw x scale; default 1."""
    required: bool = False
    """Report machines that do not have it; default false."""
    type: str | None = None
    """Only of machines of this type: browse name of the ObjectType, such as ``own:PressType``; those that come from it
    are of it as well. Default: of all."""


class ProfileEvent(ConfigModel):
    """Events that machines send, and the signals that their fields become."""

    type: str
    """Browse name of the event type such as ``gen:CycleParametersEventType``, or its NodeId (``nsu=URI;i=1038``); its
    subtypes are taken as well."""
    fields: Annotated[dict[str, Signal | EventField], Field(min_length=1, max_length=500)]
    """Fields by their path from the event, and the signals that they become: ``gen:CycleTime: cycle.time``, or with
    ``{signal: …, unit: …, scale: …}``."""


class ProfileAlarms(ConfigModel):
    """Alarms that machines raise."""

    prefix: Signal = "alarm"
    """What their signals begin with; default ``alarm``."""


class MachinePath(ConfigModel):
    """Where machines of a kind stand."""

    path: str
    """Browse path from the Objects folder with the wildcard ``{machine}``, which tells one from another, and any
    others: ``/di:DeviceSet/IMM_{manufacturer}_{machine}``."""
    type: str | None = None
    """Only objects of this type are such machines: browse name of the ObjectType, such as ``imm:IMM_MES_InterfaceType``;
    those that come from it are of it as well. Default: objects of any type."""


class ProfileFile(ConfigModel):
    """A profile: one YAML file."""

    title: Annotated[str, Field(min_length=1, max_length=200)]
    """For people."""
    extends: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_\-]{0,63}$")] | None = None
    """Name of a profile whose lines count as well, behind the ones here; default none. What is left out here
    (``machine``) is taken from it."""
    namespaces: Annotated[dict[str, str], Field(max_length=50)] = Field(default_factory=dict)
    """Letters and the namespace URIs that they stand for in all paths; those of ``extends`` are known, too."""
    machine: MachinePath | None = None
    """Where the machines stand; required unless a profile is extended."""
    variables: Annotated[tuple[ProfileVariable, ...], Field(max_length=2_000)] = ()
    """What is read of each machine."""
    events: Annotated[tuple[ProfileEvent, ...], Field(max_length=50)] = ()
    """Which events of each machine are taken; default none."""
    alarms: Annotated[tuple[ProfileAlarms, ...], Field(max_length=10)] = ()
    """Which alarms of each machine are taken; default none."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.machine is None and self.extends is None:
            raise PydanticCustomError("profile", "machine: where do they stand? (required without extends)")
        return self


class Profile(NamedTuple):
    """A profile with everything that it extends."""

    name: str
    title: str
    namespaces: Mapping[str, str]
    machine: str
    """Pattern of the machines' paths."""
    type: Step | None
    """The ObjectType that all machines are of."""
    variables: tuple[ProfileVariable, ...]
    events: tuple[ProfileEvent, ...]
    """Their names with namespace URIs instead of letters."""
    alarms: tuple[ProfileAlarms, ...]


def load_profile(name: str, folder: Path | None = None) -> Profile:
    """Return a profile by name: of ``folder`` where there is one of that name, else one of ours.

    Raises:
        ConfigError: there is none, or its file is wrong; every mistake with its file and line.
    """
    files: list[tuple[Path, ProfileFile]] = []
    wanted: str | None = name
    while wanted is not None:
        path = _find(wanted, folder)
        if any(known == path for known, _ in files) or len(files) == _MAX_EXTENDED:
            raise ConfigError([f"{files[-1][0]}: extends: {wanted} extends itself, or too many others"])
        files.append((path, configfile.load(path, ProfileFile)))
        wanted = files[-1][1].extends
    namespaces = {letter: uri for _, file in reversed(files) for letter, uri in file.namespaces.items()}
    machine = next(file.machine for _, file in files if file.machine is not None)
    problems = [
        f"{path}:{line}:{column}: {'.'.join(map(str, where))}: {reason}"
        for path, file in files
        for where, reason in _problems(file, machine.path, namespaces)
        for line, column in [configfile.locate(path, where)]
    ]
    if problems:
        raise ConfigError(problems)
    return Profile(
        name,
        files[0][1].title,
        namespaces,
        machine.path,
        _machine_type(machine, namespaces),
        tuple(variable for _, file in files for variable in file.variables),
        tuple(_spelled_out(event, namespaces) for _, file in files for event in file.events),
        tuple(alarms for _, file in files for alarms in file.alarms),
    )


def _find(name: str, folder: Path | None) -> Path:
    for place in (folder, _SHIPPED):
        if place is not None and (place / f"{name}.yaml").is_file():
            return place / f"{name}.yaml"
    ours = ", ".join(sorted(path.stem for path in _SHIPPED.glob("*.yaml")))
    where = "" if folder is None else f", and no {name}.yaml in {folder}"
    raise ConfigError([f"there is no profile {name!r}: ours are {ours}{where}"])


def _problems(
    file: ProfileFile, machine: str, namespaces: Mapping[str, str]
) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Yield what is wrong with a file, each with the key that it is about."""
    if file.machine is not None:
        try:
            if MACHINE not in captured_names(parse_pattern(machine, namespaces)):
                yield (
                    ("machine", "path"),
                    "a name needs {machine} in it, which tells one machine from another",
                )
        except InvalidName as error:
            yield ("machine", "path"), str(error)
        try:
            _machine_type(file.machine, namespaces)
        except InvalidName as error:
            yield ("machine", "type"), str(error)
    for number, variable in enumerate(file.variables):
        try:
            rule = _rule(variable, machine, namespaces, "x/{machine}")
            if variable.required and not all(step.literal for step in rule.steps[_depth(machine) :]):
                yield ("variables", number, "required"), "only a path without wildcards can be required"
        except InvalidName as error:
            yield ("variables", number), str(error)
        if variable.required and variable.type is not None:
            yield ("variables", number, "required"), "machines of another type can't be missed for it"
    for number, event in enumerate(file.events):
        try:
            _spelled_out(event, namespaces)
        except InvalidName as error:
            yield ("events", number), str(error)


def profile_rules(profile: Profile, config: ProfileConfig, label: str) -> list[Rule]:
    """Return what a profile finds on a server: its machines themselves, then their variables.

    Args:
        profile: what to find.
        config: under which names.
        label: of this use of the profile, in messages.

    Raises:
        InvalidName: the asset path names what the profile does not find, or is not legal.
    """
    steps = parse_pattern(profile.machine, profile.namespaces)
    asset = Template(config.asset, asset=True, names=captured_names(steps))
    machines = Rule(
        label=f"{label} ({profile.machine}{'' if profile.type is None else f', {profile.type.name}'})",
        start=None,
        steps=steps,
        excluded=(),
        asset=asset,
        signal=Template("machine", asset=False, names=()),
        settings={},
        max_nodes=_MAX_NODES,
        assets=config.assets,
        profile=label,
        objects=True,
        types=() if profile.type is None else (profile.type,),
        machine_steps=len(steps),
    )
    rules = [machines]
    for variable in profile.variables:
        rule = _rule(variable, profile.machine, profile.namespaces, config.asset)
        rules.append(
            rule._replace(
                label=f"{label}: {variable.path}",
                settings={**rule.settings, "group": config.group, "enum": config.enum},
                assets=config.assets,
                profile=label,
                types=(*machines.types, *rule.types),
            )
        )
    return rules


def _rule(variable: ProfileVariable, machine: str, namespaces: Mapping[str, str], asset: str) -> Rule:
    steps = parse_pattern(f"{machine}/{variable.path}", namespaces)
    depth = _depth(machine)
    return Rule(
        label=variable.path,
        start=None,
        steps=steps,
        excluded=(),
        asset=Template(asset, asset=True, names=captured_names(steps[:depth])),
        signal=Template(variable.signal, asset=False, names=captured_names(steps)),
        settings={"unit": variable.unit, "description": variable.description, "scale": variable.scale},
        max_nodes=_MAX_NODES,
        required=variable.required,
        types=() if variable.type is None else (_type(variable.type, namespaces),),
        machine_steps=depth,
    )


def _type(text: str, namespaces: Mapping[str, str]) -> Step:
    """Return the browse name of an ObjectType; raises InvalidName."""
    steps = split_path(f"/{text}", namespaces)
    if len(steps) != 1:
        raise InvalidName(f"type: {text[:200]!r} is a path; give the browse name of an ObjectType")
    (name, namespace), *_ = steps
    return Step(unescape(name), namespace)


def _machine_type(machine: MachinePath, namespaces: Mapping[str, str]) -> Step | None:
    return None if machine.type is None else _type(machine.type, namespaces)


def _depth(path: str) -> int:
    return len(split_path(path))


def _spelled_out(event: ProfileEvent, namespaces: Mapping[str, str]) -> ProfileEvent:
    """Return an event whose names have URIs instead of letters; raises InvalidName."""
    kind = event.type
    if "=" not in kind:
        kind = _with_uris(kind, namespaces)
    parse_event_type(kind)
    return event.model_copy(
        update={
            "type": kind,
            "fields": {_with_uris(path, namespaces): field for path, field in event.fields.items()},
        }
    )


def _with_uris(path: str, namespaces: Mapping[str, str]) -> str:
    steps = [Step(unescape(name), space) for name, space in split_path(f"/{path}", namespaces)]
    return path_text(steps)[1:]
