"""Looking at a server without reading it for ever: what works, what does not, and what there is to read."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from asyncua import ua
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.object_ids import ObjectIds

from edge_agent.sources.opcua.config import NodeConfig, OpcUaConfig
from edge_agent.sources.opcua.connect import Applicant, examine, explain, open_session
from edge_agent.sources.opcua.endpoints import describe, describe_tokens, find
from edge_agent.sources.opcua.pki import thumbprint
from edge_agent.sources.opcua.resolve import Problem, resolve
from edge_agent.sources.opcua.search import wanted_nodes
from edge_agent.sources.opcua.security import DEPRECATED
from edge_agent.sources.opcua.session import (
    NO,
    YES,
    ServiceFault,
    Session,
    standard_node,
    status_name,
)
from shopfloor.errors import SourceMisconfigured, SourceUnavailable

_MAX_VARIABLES: Final = 10_000
_MAX_DEPTH: Final = 12
_MAX_CLOCK_OFFSET_NS: Final = 1_000_000_000
_SHOWN: Final = 60


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of a check."""

    text: str
    sound: bool

    def __str__(self) -> str:
        return self.text


async def check(config: OpcUaConfig, *, agent_id: str = "", pki: Path | None = None) -> list[Finding]:
    """Connect as the agent would and look at every node once.

    Args:
        config: the server and its nodes.
        agent_id: the agent's name.
        pki: its folder of certificates, where the configuration names none.

    Returns:
        What the server offers, with a security policy what is to be said of its certificate and ours, then the
        session, then each node in the order of the configuration, those that patterns and profiles find behind them:
        status, type, present value, unit, whether its history can be read; then what these do not find.
    """
    applicant = Applicant(agent_id, pki)
    try:
        door = await _door(config, applicant)
    except (SourceUnavailable, SourceMisconfigured) as error:
        return [Finding(str(error), False)]
    return door + await _inside(config, applicant) if all(finding.sound for finding in door) else door


async def _door(config: OpcUaConfig, applicant: Applicant) -> list[Finding]:
    """Look at what can be seen without a session."""
    endpoints, verdict = await examine(config, time.time_ns, applicant)
    endpoint = find(endpoints, config.security)
    text = f"{config.endpoint} offers {describe(endpoints)}"
    if endpoint is None:
        return [Finding(f"{text}; but not {config.security}", False)]
    users = describe_tokens(endpoint.UserIdentityTokens or ()) or "nobody says whom"
    deprecated = "; its policy is deprecated" if config.security.policy in DEPRECATED else ""
    findings = [Finding(f"{text}; {config.security} takes {users}{deprecated}", True)]
    if verdict is not None:
        findings.append(Finding(explain(verdict), verdict.accepted))
        own = applicant.folder(config).own(agent_id=applicant.agent_id or config.name)
        remark = own.remark(datetime.now(UTC))
        shown = (
            f"our own certificate {own.file}: thumbprint {thumbprint(own.certificate)}, {own.application_uri}"
        )
        findings.append(Finding(remark or shown, not remark))
    return findings


async def _inside(config: OpcUaConfig, applicant: Applicant) -> list[Finding]:
    try:
        async with open_session(config, applicant=applicant) as session:
            nodes, problems = await wanted_nodes(session, config)
            found = await resolve(session, [node.address for node in nodes])
            numbers = [number for number, result in enumerate(found) if not isinstance(result, Problem)]
            looks = await _look(session, [result for result in found if not isinstance(result, Problem)])
            by_number = dict(zip(numbers, looks, strict=True))
            return [
                _server(config, session),
                *(
                    _finding(node, result.reason if isinstance(result, Problem) else by_number[number])
                    for number, (node, result) in enumerate(zip(nodes, found, strict=True))
                ),
                *(Finding(problem, False) for problem in problems),
            ]
    except (SourceUnavailable, SourceMisconfigured) as error:
        return [Finding(str(error), False)]
    except ServiceFault as fault:
        return [Finding(f"{config.endpoint}: {fault}", False)]


@dataclass(frozen=True, slots=True)
class _Look:
    value: ua.DataValue
    unit: str
    history: bool


def _server(config: OpcUaConfig, session: Session) -> Finding:
    limits = session.limits
    offset_s = session.offset_ns / 1e9
    text = (
        f"{config.endpoint} answers; nodes in a request: read {limits.read}, watch {limits.monitor}, "
        f"history {limits.history}; session timeout {session.timeout_s:g} s; its clock is {abs(offset_s):.3f} s {'ahead' if offset_s >= 0 else 'behind'}"
    )
    return Finding(text, abs(session.offset_ns) < _MAX_CLOCK_OFFSET_NS)


def _finding(node: NodeConfig, look: _Look | str) -> Finding:
    if isinstance(look, str):
        return Finding(f"{node.label}: {look}", False)
    status = look.value.StatusCode
    variant = look.value.Value
    good = status is None or status.is_good()
    kind = variant.VariantType.name if variant is not None and variant.VariantType is not None else "nothing"
    parts = [kind + ("[]" if variant is not None and variant.is_array else "")]
    if variant is not None and variant.Value is not None:
        parts.append(f"{variant.Value!s:.{_SHOWN}}")
    if look.unit:
        parts.append(f"unit {look.unit}" + ("" if node.unit else " (the configuration states none)"))
    parts.append("history" if look.history else "no history: what an interruption hides is lost")
    if not good and status is not None:
        parts.insert(0, status_name(status.value))
    return Finding(
        f"{node.label}: {', '.join(parts)}", good and not (variant is not None and variant.is_array)
    )


async def _look(session: Session, nodes: Sequence[ua.NodeId]) -> list[_Look | str]:
    levels = await session.read_attributes(nodes, AttributeIds.AccessLevel)
    values = await session.read_attributes(nodes, AttributeIds.Value)
    units = await units_of(session, nodes)
    looks: list[_Look | str] = []
    for level, value, unit in zip(levels, values, units, strict=True):
        status = level.StatusCode
        bits = level.Value.Value if level.Value is not None else 0
        if status is not None and not status.is_good():
            looks.append(status_name(status.value))
        else:
            history = isinstance(bits, int) and bool(bits & ua.AccessLevel.HistoryRead.mask)
            looks.append(_Look(value, unit, history))
    return looks


async def units_of(session: Session, nodes: Sequence[ua.NodeId]) -> list[str]:
    """Return the display name of each node's EngineeringUnits, empty where it has none."""
    properties: dict[int, ua.NodeId] = {}
    step = ua.RelativePathElement(
        ReferenceTypeId=standard_node(ObjectIds.HasProperty),
        IsInverse=NO,
        IncludeSubtypes=YES,
        TargetName=ua.QualifiedName("EngineeringUnits", 0),
    )
    for start in range(0, len(nodes), session.limits.translate):
        request = ua.TranslateBrowsePathsToNodeIdsRequest()
        request.Parameters.BrowsePaths = [
            ua.BrowsePath(StartingNode=node, RelativePath=ua.RelativePath(Elements=[step]))
            for node in nodes[start : start + session.limits.translate]
        ]
        answer = await session.ask(request, ua.TranslateBrowsePathsToNodeIdsResponse)
        for number, result in enumerate(answer.Results, start):
            if result.StatusCode.is_good() and result.Targets:
                target = result.Targets[0].TargetId
                properties[number] = ua.NodeId(target.Identifier, target.NamespaceIndex)
    values = await session.read_attributes(list(properties.values()), AttributeIds.Value)
    names = {number: _unit_name(value) for number, value in zip(properties, values, strict=True)}
    return [names.get(number, "") for number in range(len(nodes))]


def _unit_name(value: ua.DataValue) -> str:
    unit: Any = value.Value.Value if value.Value is not None else None
    return str(unit.DisplayName.Text or "") if isinstance(unit, ua.EUInformation) else ""
