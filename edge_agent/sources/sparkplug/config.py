"""What a user writes about a broker with Sparkplug edge nodes, and the assets that those stand for."""

from __future__ import annotations

from typing import Annotated, Final, Self

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from edge_agent.sources.mqtt.broker import BrokerConfig, problem
from edge_agent.sources.mqtt.config import AssetTemplate, all_or_some, clashes
from edge_agent.sources.mqtt.topics import (
    Relation,
    TopicTemplate,
    compare,
    parse_template,
    placeholders,
    subscription_filters,
)
from shopfloor.configfile import ConfigModel, Signal
from shopfloor.errors import InvalidName
from shopfloor.signal import parse_signal
from shopfloor.sparkplug import NAMESPACE, STATE, Topic

_NODE_LEVELS: Final = 2
_DEVICE_LEVELS: Final = 3


def _checked_descriptor(text: str) -> str:
    try:
        levels = parse_template(text).levels
    except InvalidName as error:
        raise _no_descriptor(str(error)) from error
    if len(levels) not in {_NODE_LEVELS, _DEVICE_LEVELS} or "" in levels:
        raise _no_descriptor("must be GROUP/EDGE_NODE for an edge node, or GROUP/EDGE_NODE/DEVICE")
    if levels[0] == STATE:
        raise _no_descriptor(f"{STATE} is where host applications stand, not a group")
    return text


def _no_descriptor(reason: str) -> PydanticCustomError:
    return PydanticCustomError("descriptor", "{reason}", {"reason": reason})


class MetricConfig(ConfigModel):
    """One metric and the signal that it becomes."""

    metric: str = Field(min_length=1, max_length=500)
    """Name of the metric as the birth gives it, such as ``Barrel/Zone 1/Temperature``."""
    signal: Signal
    """Signal name."""
    unit: str = Field(default="", max_length=60)
    """Unit after scaling, in UCUM (``kW``, ``Cel``). Default: the metric's property ``engUnit``, unless scaled."""
    description: str = Field(default="", max_length=500)
    """For people. Default: none."""
    scale: float = 1.0
    """The sample is raw * scale + offset; a metric with scale or offset is a number. Default: 1, without unit."""
    offset: float = 0.0
    """Added after scaling, in ``unit``. Default: 0."""

    @property
    def is_scaled(self) -> bool:
        """Whether values are changed at all."""
        return self.scale != 1.0 or self.offset != 0.0


class PublisherConfig(ConfigModel):
    """Edge nodes or devices of one form, and what they stand for."""

    descriptor: Annotated[str, Field(min_length=1, max_length=1000), AfterValidator(_checked_descriptor)]
    """``GROUP/EDGE_NODE/DEVICE`` for devices, ``GROUP/EDGE_NODE`` for the metrics of an edge node itself;
    ``{name}`` as a whole level stands for any text there. The first descriptor that matches counts."""
    asset: AssetTemplate
    """Asset path; ``{name}`` stands for the descriptor's level of that name."""
    lowercase: bool = False
    """Whether levels are put in lower case before they go into ``asset``. Default: false."""
    metrics: Annotated[tuple[MetricConfig, ...], BeforeValidator(all_or_some)]
    """The metrics to take, or ``all``: ``Barrel/Zone 1/Temperature`` becomes ``prefix.barrel.zone_1.temperature``."""
    prefix: Annotated[str, Field(max_length=500)] = ""
    """With ``metrics: all``, what stands before the names. Default: nothing."""
    max_metrics: int = Field(default=2_000, ge=1, le=20_000)
    """With ``metrics: all``, how many signals one edge node or device may have; further ones are counted.
    Default: 2000."""

    @property
    def template(self) -> TopicTemplate:
        """The parsed descriptor."""
        return parse_template(self.descriptor)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        known = self.template.names
        wrong = [
            problem(("asset",), self.asset, f"the descriptor has no level {{{name}}}")
            for name in placeholders(self.asset)
            if name not in known
        ]
        for field in ("metric", "signal"):
            seen: set[str] = set()
            for number, each in enumerate(self.metrics):
                text: str = getattr(each, field)
                if text in seen:
                    wrong.append(problem(("metrics", number, field), text, "stands here twice"))
                seen.add(text)
        if self.prefix:
            if self.metrics:
                wrong.append(problem(("prefix",), self.prefix, "goes with metrics: all only"))
            try:
                parse_signal(self.prefix)
            except InvalidName as error:
                wrong.append(problem(("prefix",), self.prefix, str(error)))
        if wrong:
            raise ValidationError.from_exception_data("PublisherConfig", wrong)
        return self


class SparkplugConfig(BrokerConfig):
    """One broker where this agent is a Sparkplug B host application, and what it takes from the edge nodes."""

    client_id: str = Field(min_length=1, max_length=128, pattern=r"^[!-~]+$")
    """Identifier at the broker. Never use it twice: the second client would drive out the first."""
    host_id: str = Field(min_length=1, max_length=128, pattern=r"^[^/+#\x00-\x20]+$")
    """Name of this host application, unique among those of the broker; edge nodes wait for it as primary host."""
    keepalive_s: int = Field(default=10, ge=2, le=3_600)
    """A broker silent for this many seconds is given up, and one and a half times as long edge nodes may take a
    host for online that is cut off. Default: 10."""
    max_payload_bytes: int = Field(default=4 * 2**20, ge=1, le=16 * 2**20)
    """Larger payloads are counted and dropped; a birth carries every metric. Default: 4194304 bytes."""
    store_and_forward: bool = False
    """Whether the edge nodes, having this host as primary host, send again as historical what they measured from
    shortly before it went offline until it is back. With false, each absence is recorded as a gap. Default: false."""
    reorder_timeout_s: float = Field(default=2.0, ge=0, le=600)
    """For how many seconds a missing message may still come, overtaken by later ones, before it counts as lost and
    the edge node is asked for its births. Default: 2."""
    rebirth_min_interval_s: float = Field(default=10.0, ge=1, le=3_600)
    """Least seconds between two requests to one edge node for its births. Default: 10."""
    max_edge_nodes: int = Field(default=200, ge=1, le=10_000)
    """Edge nodes that are followed; further ones are counted. Default: 200."""
    publishers: tuple[PublisherConfig, ...] = Field(max_length=500)
    """Whose metrics to take, and what they stand for."""

    @property
    def filters(self) -> tuple[str, ...]:
        """The subscription filters: everything of the wanted edge nodes, and this host's own STATE."""
        nodes = subscription_filters(self._edge_nodes)
        return (
            *(f"{NAMESPACE}/{group}/+/{edge}/#" for group, edge in (node.split("/") for node in nodes)),
            self.state_topic,
        )

    @property
    def state_topic(self) -> str:
        """Where this host says whether it is online."""
        return str(Topic(STATE, host=self.host_id))

    def wants(self, edge_node: str) -> bool:
        """Tell whether anything of the edge node ``GROUP/EDGE_NODE`` is wanted."""
        return any(template.match(edge_node) is not None for template in self._edge_nodes)

    @property
    def _edge_nodes(self) -> list[TopicTemplate]:
        return [
            parse_template("/".join(each.descriptor.split("/")[:_NODE_LEVELS])) for each in self.publishers
        ]

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        wrong = self.problems_of_reach()
        if not self.publishers:
            wrong.append(problem(("publishers",), "", "give at least one descriptor"))
        found = clashes(
            [(each.descriptor, each.template) for each in self.publishers], "publishers", "descriptor"
        )
        wrong += found or self._crossing_nodes()
        if wrong:
            raise ValidationError.from_exception_data("SparkplugConfig", wrong)
        return self

    def _crossing_nodes(self) -> list[InitErrorDetails]:
        """Two subscriptions that share some topics would bring those messages twice."""
        nodes = self._edge_nodes
        return [
            problem(
                ("publishers", later, "descriptor"),
                self.publishers[later].descriptor,
                f"some edge nodes belong to this and to publishers.{earlier}, and each takes others too; "
                "name the group, or the edge node, in both",
            )
            for later, node in enumerate(nodes)
            for earlier in range(later)
            if compare(nodes[earlier], node) is Relation.CROSSING
        ]
