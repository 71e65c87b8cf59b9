"""What a user writes about one OPC UA server."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import cached_property
from typing import Annotated, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, PrivateAttr, field_validator, model_validator
from pydantic_core import PydanticCustomError

from edge_agent.sources.opcua.address import NodeAddress, parse_address
from edge_agent.sources.opcua.event_config import AlarmConfig, EventConfig
from edge_agent.sources.opcua.pattern_config import (
    EnumMode,
    GlobConfig,
    ProfileConfig,
    glob_rule,
    start_address,
)
from edge_agent.sources.opcua.patterns import Rule
from edge_agent.sources.opcua.profile import Profile, load_profile, profile_rules
from edge_agent.sources.opcua.request_config import DeadbandConfig, HistoryConfig, LimitsConfig
from edge_agent.sources.opcua.security import SecurityConfig
from shopfloor.configfile import Asset, ConfigModel, FilePath, Secret, Signal, compacted
from shopfloor.errors import ConfigError, InvalidName

DEFAULT_PORT: Final = 4840
DEFAULT_GROUP: Final = "live"


class SubscribeGroup(ConfigModel):
    """Nodes whose changes the server reports by itself; one OPC UA subscription."""

    mode: Literal["subscribe"] = "subscribe"
    """``subscribe``."""
    publishing_interval_ms: Annotated[float, Field(ge=10, le=3_600_000)] = 250.0
    """How often the server sends what has changed, in milliseconds; default 250."""
    sampling_interval_ms: Annotated[float, Field(ge=-1, le=3_600_000)] = 0.0
    """How often the server looks at a value, in milliseconds; 0 (default) is as fast as it can, -1 is the
    publishing interval."""
    queue_size: Annotated[int, Field(ge=1, le=1_000_000)] = 100
    """Changes of one node that the server keeps between two publishings; default 100. When more happen, some are
    lost there; the agent notices and reads them from the server's history if it has one."""
    discard: Literal["oldest", "newest"] = "oldest"
    """Which of them are lost then, ``oldest`` (default) or ``newest``."""
    deadband: DeadbandConfig | None = None
    """Smaller changes are not reported; default none. Nodes that the server does not grant it for are watched
    without."""


class PollGroup(ConfigModel):
    """Nodes that the agent reads at fixed times."""

    mode: Literal["poll"] = "poll"
    """``poll``."""
    interval_s: Annotated[float, Field(ge=0.01, le=86_400)] = 5.0
    """Seconds between two readings; default 5. The schedule does not drift; what a slow server makes impossible is
    skipped and counted as ``poll_overrun``."""


Group = Annotated[SubscribeGroup | PollGroup, Field(discriminator="mode")]


class NodeConfig(ConfigModel):
    """One variable of the server and the series that it becomes."""

    node: str
    """The variable: a NodeId such as ``nsu=urn:x;s=IMM_1.Temp`` (recommended: a namespace URI stays when indices
    move) or ``ns=2;i=1001``, or a browse path from the Objects folder such as ``/2:IMM_1/Temp`` or
    ``/nsu=urn:x;IMM_1/Temp`` (names without a namespace match in any)."""
    start: str | None = None
    """The NodeId where a browse path begins; default the Objects folder."""
    asset: Asset
    """Asset path that the value belongs to."""
    signal: Signal
    """Signal name within the asset."""
    group: str = DEFAULT_GROUP
    """Name of the group that says how it is read; default ``live``."""
    unit: Annotated[str, Field(max_length=100)] = ""
    """Unit of the value after scaling, UCUM such as ``Cel`` or ``bar``; by default what the server says
    (EngineeringUnits), unless values are scaled."""
    description: Annotated[str, Field(max_length=1000)] = ""
    """For people; by default what the server says (Description and EURange)."""
    scale: float = 1.0
    """The value is raw x scale + offset; default 1."""
    offset: float = 0.0
    """See ``scale``; default 0."""
    enum: EnumMode = "value"
    """What becomes of an enumeration, also in an array or a structure: its ``value`` (default), its ``text`` (EnumStrings
    or EnumValues of its data type), or ``both``: the value, and the text as the signal ``SIGNAL.text``."""
    deadband: DeadbandConfig | None = None
    """Instead of the group's ``deadband``; only in groups that subscribe."""
    max_elements: Annotated[int, Field(ge=1, le=10_000)] = 64
    """How many elements of an array or structure become signals of their own, ``SIGNAL.0``, ``SIGNAL.FIELD``;
    default 64. What is beyond is counted as ``element_left_out`` and reported."""

    @field_validator("node")
    @classmethod
    def _check_node(cls, text: str) -> str:
        try:
            parse_address(text)
        except InvalidName as error:
            raise PydanticCustomError("opcua_node", "{reason}", {"reason": str(error)}) from error
        return text

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.start is not None:
            try:
                start_address(self.start)
            except InvalidName as error:
                raise PydanticCustomError("opcua_node", "{reason}", {"reason": str(error)}) from error
            if not self.node.startswith("/"):
                raise PydanticCustomError("opcua_node", "start: node is no browse path, it begins nowhere")
        if self.enum != "value" and self.is_scaled:
            raise PydanticCustomError("opcua_node", "enum: a text can't be scaled")
        return compacted(self)

    @property
    def address(self) -> NodeAddress:
        """The parsed ``node``, from its ``start``."""
        address = parse_address(self.node)
        return address if self.start is None else address.below(parse_address(self.start))

    @property
    def is_scaled(self) -> bool:
        """Whether values are stored as others than the server has, so that its unit is not theirs."""
        return (self.scale, self.offset) != (1.0, 0.0)

    @property
    def label(self) -> str:
        """How messages name this node."""
        path = "/".join(["", *(step.name for step in self.address.path)])
        return f"{self.asset}:{self.signal} ({path if len(path) > 1 else self.node})"


class OpcUaConfig(ConfigModel):
    """One OPC UA server."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-]{0,63}$")]
    """Name of this source, unique within the agent."""
    endpoint: str
    """``opc.tcp://host:port[/path]``; the port defaults to 4840."""
    security: SecurityConfig = SecurityConfig()
    """Security of the channel; by default nothing is encrypted."""
    user: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    """User name; default none (anonymous)."""
    password: Secret | None = None
    """Password, as ``${ENVIRONMENT_VARIABLE}`` or ``file:PATH``; default none."""
    allow_insecure_user: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    """The user name once more, to let it and its password travel unencrypted, where others can read them;
    default none: refused."""
    user_certificate: FilePath | None = None
    """Certificate (DER or PEM) that says who the user is, instead of a name; needs a security policy. Default none."""
    user_key: FilePath | None = None
    """Private key of ``user_certificate`` (DER or PEM, without a pass phrase)."""
    request_timeout_s: Annotated[float, Field(ge=0.1, le=300)] = 5.0
    """How long an answer may take, in seconds; default 5. HistoryRead gets four times as long."""
    session_timeout_s: Annotated[float, Field(ge=5, le=3_600)] = 60.0
    """After how many seconds without contact the server may forget our session; default 60."""
    watchdog_s: Annotated[float, Field(ge=0.1, le=300)] = 10.0
    """How often the server is asked whether it lives, in seconds; default 10. With ``request_timeout_s`` it says how
    long a network that swallows everything can stay unnoticed."""
    keepalive_s: Annotated[float, Field(ge=0.1, le=300)] = 2.5
    """How often an idle subscription says that it lives, in seconds; default 2.5. After three times as long
    without a word, the connection counts as dead."""
    retry_s: Annotated[float, Field(ge=0.1, le=3_600)] = 5.0
    """After how many seconds a node that failed is tried again, doubling up to a minute; default 5."""
    limits: LimitsConfig = LimitsConfig()
    """Sizes of requests, where the server states none or wrong ones."""
    history: HistoryConfig = HistoryConfig()
    """Closing of gaps."""
    groups: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_\-]{0,63}$")], Group] = Field(
        default_factory=dict
    )
    """Ways of reading, by name; ``live`` (subscribe with its defaults) exists also when it is not written."""
    events: Annotated[tuple[EventConfig, ...], Field(max_length=1_000)] = ()
    """Events whose fields become samples; default none."""
    alarms: Annotated[tuple[AlarmConfig, ...], Field(max_length=1_000)] = ()
    """Where alarms and conditions are listened for; default nowhere."""
    nodes: Annotated[tuple[NodeConfig, ...], Field(max_length=200_000)] = ()
    """Variables to read, one by one; may be empty where something else is taken."""
    globs: Annotated[tuple[GlobConfig, ...], Field(max_length=1_000)] = ()
    """Variables to read that are found by patterns; default none."""
    profiles: Annotated[tuple[ProfileConfig, ...], Field(max_length=100)] = ()
    """Machines to read that are found and understood by themselves; default none."""
    profile_folder: FilePath | None = None
    """Folder of profiles of your own, one YAML file each; default none. One with the name of ours counts instead."""
    rebrowse_s: Annotated[float, Field(ge=1, le=86_400)] = 300.0
    """How often the server is searched for what ``globs`` and ``profiles`` may find anew, in seconds; default 300. It
    is also searched after every connecting, when nodes come back, when it reports that its address space has changed, and
    every ``retry_s``, doubling up to a minute, as long as one of them has found nothing."""
    read_metadata: bool = True
    """Ask the server once a session for units, ranges and descriptions where the configuration gives none; default
    true. It is done beside everything else, some hundred nodes at a time."""
    # Read once, and compared with everything else: a changed profile is a changed configuration.
    _read_profiles: tuple[Profile, ...] = PrivateAttr(default=())

    @field_validator("endpoint")
    @classmethod
    def _check_endpoint(cls, text: str) -> str:
        try:
            url = urlsplit(text)
            port = url.port
        except ValueError as error:
            raise PydanticCustomError("endpoint", "{reason}", {"reason": str(error)}) from error
        if url.username is not None or url.password is not None:
            raise PydanticCustomError(
                "endpoint", "credentials go into user and password, not into the address"
            )
        if url.scheme != "opc.tcp" or not url.hostname:
            raise PydanticCustomError("endpoint", "must look like opc.tcp://host:4840")
        return text if port else f"opc.tcp://{url.netloc.rstrip(':')}:{DEFAULT_PORT}{url.path}"

    @model_validator(mode="after")
    def _check(self) -> Self:
        known = {DEFAULT_GROUP, *self.groups}
        seen: dict[tuple[str, str], int] = {}
        problems = []
        for number, node in enumerate(self.nodes):
            if node.group not in known:
                problems.append(f"nodes.{number}.group: no group {node.group!r}; there are {sorted(known)}")
            if node.deadband is not None and isinstance(self.groups.get(node.group), PollGroup):
                problems.append(f"nodes.{number}.deadband: group {node.group!r} polls, so all values come")
            first = seen.setdefault((node.asset, node.signal), number)
            if first != number:
                problems.append(
                    f"nodes.{number}: {node.asset}:{node.signal} is already what nodes.{first} becomes"
                )
        for place, event in enumerate(self.events):
            for path, field in event.named.items():
                if (event.asset, field.signal) in seen:
                    problems.append(
                        f"events.{place}.fields.{path}: {event.asset}:{field.signal} is already something else"
                    )
                seen[event.asset, field.signal] = -1
        if not (self.nodes or self.globs or self.profiles or self.events or self.alarms):
            problems.append("nodes: there is nothing to read, nor events or alarms to listen for")
        problems.extend(self._identity_problems())
        problems.extend(self._search_problems(known))
        if problems:
            raise PydanticCustomError("opcua", "{reason}", {"reason": "; ".join(problems[:20])})
        return self

    def _search_problems(self, groups: Collection[str]) -> Iterator[str]:
        used_groups = {f"globs.{number}": glob.group for number, glob in enumerate(self.globs)}
        used_groups |= {f"profiles.{number}": used.group for number, used in enumerate(self.profiles)}
        for place, group in used_groups.items():
            if group not in groups:
                yield f"{place}.group: no group {group!r}; there are {sorted(groups)}"
        read: list[Profile] = []
        for number, used in enumerate(self.profiles):
            try:
                read.append(load_profile(used.profile, self.profile_folder))
                profile_rules(read[-1], used, "")
            except InvalidName as error:
                yield f"profiles.{number}.asset: {error}"
            except ConfigError as error:
                yield f"profiles.{number}: {error}"
        self._read_profiles = tuple(read)

    def _identity_problems(self) -> Iterator[str]:
        if self.password is not None and self.user is None:
            yield "password: it needs a user"
        if self.user is not None and self.user_certificate is not None:
            yield "user_certificate: there is a user as well; one of them says who connects"
        if (self.user_certificate is None) != (self.user_key is None):
            yield "user_certificate and user_key belong together"
        if self.allow_insecure_user not in {None, self.user}:
            yield "allow_insecure_user: must be the same name as user"
        if self.security.policy != "None":
            return
        if self.user is not None and self.allow_insecure_user is None:
            yield (
                "user: name and password would travel unencrypted; choose a security.policy, "
                "or set allow_insecure_user to this name"
            )
        if self.user_certificate is not None:
            yield "user_certificate: it needs a security.policy other than None"

    @cached_property
    def rules(self) -> tuple[Rule, ...]:
        """What searches the server for variables: of ``globs``, then of ``profiles``; the first that finds one has it."""
        rules = [glob_rule(glob, number) for number, glob in enumerate(self.globs)]
        for number, used in enumerate(self.profiles):
            rules += profile_rules(self._read_profiles[number], used, f"profiles.{number} ({used.profile})")
        return tuple(rules)

    @property
    def read_profiles(self) -> tuple[Profile, ...]:
        """What the files of ``profiles`` say, in their order."""
        return self._read_profiles

    @property
    def host(self) -> str:
        """The host of ``endpoint``."""
        return urlsplit(self.endpoint).hostname or ""

    def group(self, name: str) -> SubscribeGroup | PollGroup:
        """Return the settings of a group, the default ones of ``live`` where it is not configured."""
        return self.groups[name] if name in self.groups else SubscribeGroup()
