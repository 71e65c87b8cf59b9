"""Where events and alarms of one OPC UA server are listened for: whether the objects exist and report any."""

from __future__ import annotations

from asyncua import ua
from asyncua.ua.attribute_ids import AttributeIds

from edge_agent.sources.opcua.config import OpcUaConfig
from edge_agent.sources.opcua.event_config import AlarmConfig, EventConfig
from edge_agent.sources.opcua.resolve import resolve
from edge_agent.sources.opcua.session import Session
from shopfloor.findings import Finding, failure, ok

_SUBSCRIBE, _HISTORY = 0x01, 0x04
"""Bits of EventNotifier (Part 3 §8.59)."""


async def look_at_notifiers(session: Session, config: OpcUaConfig) -> list[Finding]:
    """Return a finding for each of ``events`` and ``alarms``, in this order."""
    wanted: list[EventConfig | AlarmConfig] = [*config.events, *config.alarms]
    found = await resolve(session, [each.address for each in wanted])
    nodes = [node for node in found if isinstance(node, ua.NodeId)]
    values = iter(await session.read_attributes(nodes, AttributeIds.EventNotifier))
    findings: list[Finding] = []
    for each, node in zip(wanted, found, strict=True):
        figures = {"notifier": each.notifier, "asset": str(each.asset)}
        if not isinstance(node, ua.NodeId):
            advice = "correct notifier, or leave it out for the Server object; the agent tries again for ever"
            findings.append(failure(f"{each.label}: {node.reason}", advice, **figures))
            continue
        variant = next(values).Value
        bits = variant.Value if variant is not None else 0
        if not isinstance(bits, int) or not bits & _SUBSCRIBE:
            advice = "let notifier name an object that does, such as the machine or the Server object"
            findings.append(failure(f"{each.label}: this object reports no events", advice, **figures))
            continue
        kept = (
            "with a history" if bits & _HISTORY else "without a history: what an interruption hides is lost"
        )
        findings.append(ok(f"{each.label}: reported, {kept}", **figures, history=bool(bits & _HISTORY)))
    return findings
