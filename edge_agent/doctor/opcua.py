"""One OPC UA server as the agent would meet it: its door, its limits, and each node with what the server grants."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.object_ids import ObjectIds

from edge_agent.doctor.certificates import judge_dates
from edge_agent.doctor.opcua_events import look_at_notifiers
from edge_agent.doctor.opcua_nodes import TITLES, look_at_nodes, plain
from edge_agent.sources.opcua.config import OpcUaConfig, SubscribeGroup
from edge_agent.sources.opcua.connect import Applicant, examine, explain, open_session
from edge_agent.sources.opcua.endpoints import describe, describe_tokens, find
from edge_agent.sources.opcua.pki import thumbprint
from edge_agent.sources.opcua.security import DEPRECATED
from edge_agent.sources.opcua.session import ServiceFault, Session, standard_node
from edge_agent.sources.opcua.trust import Verdict as Certificate
from shopfloor.errors import SourceMisconfigured, SourceUnavailable
from shopfloor.findings import Finding, Section, Verdict, failure, ok, warning

_OFF_S: Final = 1.0
_SERVER: Final = {
    "product": ObjectIds.Server_ServerStatus_BuildInfo_ProductName,
    "version": ObjectIds.Server_ServerStatus_BuildInfo_SoftwareVersion,
}
_LIMITS: Final = {
    "sessions": ObjectIds.Server_ServerCapabilities_MaxSessions,
    "sessions_now": ObjectIds.Server_ServerDiagnostics_ServerDiagnosticsSummary_CurrentSessionCount,
    "subscriptions": ObjectIds.Server_ServerCapabilities_MaxSubscriptions,
    "subscriptions_a_session": ObjectIds.Server_ServerCapabilities_MaxSubscriptionsPerSession,
    "items": ObjectIds.Server_ServerCapabilities_MaxMonitoredItems,
    "items_a_subscription": ObjectIds.Server_ServerCapabilities_MaxMonitoredItemsPerSubscription,
    "items_a_call": ObjectIds.Server_ServerCapabilities_OperationLimits_MaxMonitoredItemsPerCall,
    "nodes_a_read": ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerRead,
    "nodes_a_history_read": ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerHistoryReadData,
    "nodes_a_browse": ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerBrowse,
    "nodes_a_translation": (
        ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerTranslateBrowsePathsToNodeIds
    ),
}

_STATED_AS: Final = {
    "read": "nodes_a_read",
    "monitor": "items_a_call",
    "translate": "nodes_a_translation",
    "browse": "nodes_a_browse",
    "history": "nodes_a_history_read",
}
"""The keys of ``limits`` in a configuration."""


async def look_at_opcua(config: OpcUaConfig, *, agent_id: str, pki: Path) -> Section:
    """Connect as the agent would, with a session of its own, and leave nothing on the server.

    Args:
        config: the server and its nodes.
        agent_id: the agent's name.
        pki: its folder of certificates, where the configuration names none. Only a certificate that is new there is
            kept, so that it can be accepted: the server's in ``rejected``, and ours, if it was never made before.
    """
    applicant = Applicant(agent_id, pki)
    findings: list[Finding] = []
    try:
        findings += await _door(config, applicant)
        if not any(finding.verdict is Verdict.FAILURE for finding in findings):
            async with open_session(config, applicant=applicant) as session:
                findings += await _server(session, config)
                findings += await look_at_notifiers(session, config)
                findings += await look_at_nodes(session, config)
    except (SourceUnavailable, SourceMisconfigured) as error:
        findings.append(failure(str(error), _advice(error)))
    except ServiceFault as fault:
        findings.append(
            failure(f"{config.endpoint}: {fault}", "the server refuses what every server has to answer")
        )
    return Section(f"source {config.name} (opcua)", findings, TITLES)


def _advice(error: Exception) -> str:
    if isinstance(error, SourceMisconfigured):
        return "change the configuration, or the server, as it says; the agent tries again every 30 s"
    return "look at power, cable, route and firewall; is the server started, has it sessions left?"


async def _door(config: OpcUaConfig, applicant: Applicant) -> list[Finding]:
    """Look at what can be seen without a session."""
    endpoints, verdict = await examine(config, time.time_ns, applicant)
    offered = describe(endpoints)
    endpoint = find(endpoints, config.security)
    figures: dict[str, Any] = {
        "endpoint": config.endpoint,
        "offered": offered,
        "security": str(config.security),
    }
    if endpoint is None:
        return [
            failure(
                f"{config.endpoint} offers {offered}; but not {config.security}",
                "let security.policy and security.mode name what is offered; there is no downgrade",
                **figures,
            )
        ]
    users = describe_tokens(endpoint.UserIdentityTokens or ()) or "nobody says whom"
    text = f"{config.endpoint} offers {offered}; {config.security} is used, it takes {users}"
    if config.security.policy in DEPRECATED:
        findings = [
            warning(f"{text}; this policy is deprecated", "use a newer one if there is one", **figures)
        ]
    else:
        findings = [ok(text, **figures)]
    if verdict is not None:
        findings += _certificates(config, applicant, verdict)
    return findings


def _certificates(config: OpcUaConfig, applicant: Applicant, verdict: Certificate) -> Iterator[Finding]:
    figures = {
        "trusted": verdict.trusted,
        "thumbprint": thumbprint(verdict.certificate),
        "problems": list(verdict.problems),
        "notes": list(verdict.notes),
        "valid_until": verdict.certificate.not_valid_after_utc.isoformat(),
    }
    remark = verdict.remark(datetime.now(UTC))
    text = explain(verdict)
    if not verdict.accepted:
        yield failure(text, "see shopfloor edge trust list AGENT_YAML", **figures)
    elif verdict.notes or remark:
        yield warning(
            f"{text}{f'; {remark}' if remark else ''}", "have the machine's certificate made anew", **figures
        )
    else:
        yield ok(text, **figures)
    own = applicant.folder(config).own(agent_id=applicant.agent_id or config.name)
    yield judge_dates(
        f"our own certificate {own.file}, {own.application_uri}, thumbprint {thumbprint(own.certificate)}",
        [own.certificate],
    )


async def _server(session: Session, config: OpcUaConfig) -> list[Finding]:
    """Look at the server itself: what it is, its clock, its limits."""
    names = {**_SERVER, **_LIMITS}
    values = await session.read_attributes(
        [standard_node(each) for each in names.values()], AttributeIds.Value
    )
    told = {name: plain(value) for name, value in zip(names, values, strict=True)}
    limits = {name: told[name] for name in _LIMITS if isinstance(told[name], int) and told[name]}
    used = session.limits
    uses = {"read": used.read, "monitor": used.monitor, "history": used.history, "browse": used.browse}
    who = f"{told['product'] or 'a server without name'} {told['version'] or ''}".strip()
    stated = ", ".join(f"{name.replace('_', ' ')} {number:,}" for name, number in limits.items())
    findings = [
        ok(
            f"{who}; session timeout {session.timeout_s:g} s (asked for {config.session_timeout_s:g} s)",
            product=told["product"],
            version=told["version"],
            session_timeout_s=session.timeout_s,
        ),
        ok(
            f"its limits: {stated or 'none stated'}; the agent asks for at most {used.read:,} nodes a read, "
            f"{used.monitor:,} items a call, {used.history:,} nodes a history read",
            limits=limits,
            used=uses,
        ),
    ]
    findings += _overrides(limits, config)
    findings += _crowding(limits, config)
    offset_s = session.offset_ns / 1e9
    text = f"its clock is {abs(offset_s):.3f} s {'ahead of' if offset_s >= 0 else 'behind'} ours"
    if abs(offset_s) > _OFF_S:
        advice = "have it follow a time server; more than a minute ahead makes its samples UNCERTAIN"
        findings.append(warning(text, advice, clock_offset_s=offset_s))
    else:
        findings.append(ok(text, clock_offset_s=offset_s))
    return findings


def _overrides(stated: dict[str, int], config: OpcUaConfig) -> Iterator[Finding]:
    """Say where the configuration asks for larger requests than the server states that it takes."""
    for name, configured in config.limits.model_dump(exclude_none=True).items():
        limit = stated.get(_STATED_AS[name])
        if limit is not None and configured > limit:
            yield warning(
                f"limits.{name}: {configured:,} is configured, the server states {limit:,}",
                "leave it out, unless the server is known to state too little; the agent halves what is refused",
            )


def _crowding(limits: dict[str, int], config: OpcUaConfig) -> Iterator[Finding]:
    """Say where the configuration wants more than the server states that it has."""
    watched = [node.group for node in config.nodes if isinstance(config.group(node.group), SubscribeGroup)]
    most = max((watched.count(group) for group in set(watched)), default=0)
    for name, wanted in (("items", len(watched)), ("items_a_subscription", most)):
        limit = limits.get(name)
        if limit is not None and wanted > limit:
            yield warning(
                f"{wanted:,} nodes are to be watched, the server states {name.replace('_', ' ')} {limit:,}",
                "spread them over groups, or let a group with mode: poll read some of them",
            )
    if "sessions" in limits and limits.get("sessions_now", 0) >= limits["sessions"]:
        yield warning(
            f"all {limits['sessions']} sessions of the server are in use",
            "close other clients, or raise its limit",
        )
