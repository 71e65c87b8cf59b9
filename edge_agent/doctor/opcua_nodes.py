"""The nodes of one OPC UA server: what each is, and what the server grants to the agent's subscriptions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from asyncua import ua
from asyncua.ua.attribute_ids import AttributeIds

from edge_agent.doctor.opcua_trial import GrantedItem, GrantedSubscription, try_history, try_subscription
from edge_agent.sources.opcua.config import NodeConfig, OpcUaConfig, PollGroup, SubscribeGroup
from edge_agent.sources.opcua.metadata import read_metadata
from edge_agent.sources.opcua.resolve import resolve
from edge_agent.sources.opcua.search import wanted_nodes
from edge_agent.sources.opcua.session import ServiceFault, Session, status_name
from shopfloor.findings import Finding, Verdict, failure, ok, warning
from shopfloor.tables import cut

_SHOWN: Final = 14
_SLOWER: Final = 1.5
TITLES: Final = ("node", "status", "type", "value", "unit", "ms", "queue", "history")


@dataclass(slots=True)
class _Look:
    """All that was found out about one node."""

    config: NodeConfig
    problem: str = ""
    value: ua.DataValue | None = None
    unit: str = ""
    """As the server has it."""
    history: str = ""
    """``yes``, ``no``, or why it can't be read though the node says that it has one."""
    granted: GrantedItem | None = None
    remarks: list[str] = field(default_factory=list)


async def look_at_nodes(session: Session, config: OpcUaConfig) -> list[Finding]:
    """Resolve and read every node, try every group's subscription; a finding a group, then one a node in order."""
    nodes, not_found = await wanted_nodes(session, config)
    looks = [_Look(node) for node in nodes]
    found: list[tuple[_Look, ua.NodeId]] = []
    for look, result in zip(looks, await resolve(session, [each.address for each in nodes]), strict=True):
        if isinstance(result, ua.NodeId):
            found.append((look, result))
        else:
            look.problem = result.reason
    await _read(session, config, found)
    found = [(look, node) for look, node in found if not look.problem]
    findings = [warning(text, "see `edge browse` for what there is") for text in not_found]
    for name in dict.fromkeys(node.group for node in nodes):
        members = [(look, node) for look, node in found if look.config.group == name]
        settings = config.group(name)
        if isinstance(settings, PollGroup):
            findings.append(
                ok(f"group {name}: {len(members)} nodes read every {settings.interval_s:g} s", group=name)
            )
        elif members:
            findings.append(await _group(session, config, name, settings, members))
    return [*findings, *(_finding(look) for look in looks)]


async def _read(session: Session, config: OpcUaConfig, found: Sequence[tuple[_Look, ua.NodeId]]) -> None:
    nodes = [node for _, node in found]
    levels = await session.read_attributes(nodes, AttributeIds.UserAccessLevel)
    values = await session.read_attributes(nodes, AttributeIds.Value)
    units = await _units(session, nodes) if config.read_metadata else [""] * len(nodes)
    with_history: list[tuple[_Look, ua.NodeId]] = []
    for (look, node), level, value, unit in zip(found, levels, values, units, strict=True):
        status = level.StatusCode
        bits = plain(level)
        if status is not None and not status.is_good():
            look.problem = status_name(status.value)
            continue
        look.value, look.unit, look.history = value, unit, "no"
        if isinstance(bits, int) and not bits & ua.AccessLevel.CurrentRead.mask:
            look.remarks.append("this user may not read it")
        if isinstance(bits, int) and bits & ua.AccessLevel.HistoryRead.mask:
            with_history.append((look, node))
    answers = await try_history(session, [node for _, node in with_history])
    for (look, _), answer in zip(with_history, answers, strict=True):
        look.history = answer or "yes"
        if answer not in {"", "yes"}:
            look.remarks.append(f"it says that it has a history, but reading that fails: {answer}")


async def _units(session: Session, nodes: Sequence[ua.NodeId]) -> list[str]:
    """Return the unit of each node as the agent would store it, empty where the server names none."""
    try:
        return [said.unit for said in await read_metadata(session, nodes)]
    except ServiceFault:
        return [""] * len(nodes)  # nor does the agent make more of it


async def _group(
    session: Session,
    config: OpcUaConfig,
    name: str,
    settings: SubscribeGroup,
    members: Sequence[tuple[_Look, ua.NodeId]],
) -> Finding:
    """Try a group's subscription, and note with each node what it was granted."""
    asked_ms = settings.publishing_interval_ms
    try:
        granted, items = await try_subscription(
            session, config, settings, [(look.config, node) for look, node in members]
        )
    except ServiceFault as fault:
        return failure(
            f"group {name}: no subscription: {fault}",
            "let the group have mode: poll, or close other clients of the server",
            group=name,
        )
    for (look, _), item in zip(members, items, strict=True):
        look.granted = item
        look.remarks += _shortfall(settings, granted, item)
    text = (
        f"group {name}: {len(members)} nodes, published every {granted.publishing_interval_ms:g} ms "
        f"(asked for {asked_ms:g}), keep-alive after {granted.keepalive_count} times, lifetime {granted.lifetime_count}"
    )
    figures = {"group": name, "publishing_interval_ms": granted.publishing_interval_ms, "asked_ms": asked_ms}
    if granted.publishing_interval_ms > _SLOWER * asked_ms:
        return warning(
            text, "the server publishes no faster; a larger queue_size keeps what happens between", **figures
        )
    return ok(text, **figures)


def _shortfall(settings: SubscribeGroup, granted: GrantedSubscription, item: GrantedItem) -> Iterator[str]:
    """Say in which way a node gets less than was asked for, so much that it loses changes."""
    if item.refused:
        yield f"can't be watched: {item.refused}"
        return
    if item.deadband_refused:
        yield f"watched without its deadband: {item.deadband_refused}"
    asked_ms = settings.sampling_interval_ms
    if asked_ms > 0 and item.sampling_interval_ms > _SLOWER * asked_ms:
        yield f"sampled every {item.sampling_interval_ms:g} ms, asked for {asked_ms:g}"
    kept_ms = item.queue_size * item.sampling_interval_ms
    if item.queue_size < settings.queue_size and kept_ms < granted.publishing_interval_ms:
        yield (
            f"the server keeps {item.queue_size} changes of it, asked for {settings.queue_size}: more of them within "
            f"{granted.publishing_interval_ms:g} ms are lost there unless it has a history"
        )


def _finding(look: _Look) -> Finding:
    node, granted = look.config, look.granted
    name = f"{node.asset}:{node.signal}"
    figures: dict[str, Any] = {"asset": str(node.asset), "signal": node.signal, "node": node.node}
    if look.problem or look.value is None:
        reason = look.problem or "not read"
        return Finding(
            text=f"{node.label}: {reason}",
            verdict=Verdict.FAILURE,
            advice="correct node, or remove it; the agent tries again for ever and reads the others meanwhile",
            figures=figures | {"problem": reason},
            cells=(name, cut(reason, 20), "-", "-", "-", "-", "-", "-"),
        )
    status = look.value.StatusCode
    code = 0 if status is None else int(status.value)
    shown = "Good" if code == 0 else status_name(code)
    value, unit, kind = *_stored(look, look.value), _kind(look.value)
    remarks = [*([f"its status is {shown}"] if code >> 30 else []), *look.remarks]
    figures |= {"status": shown, "type": kind, "value": _shown(value)}
    if node.is_scaled:
        figures |= {"server_value": _shown(plain(look.value)), "server_unit": look.unit}
    figures |= {"unit": unit, "history": look.history, "remarks": remarks}
    if granted is not None and not granted.refused:
        figures |= {"sampling_interval_ms": granted.sampling_interval_ms, "queue_size": granted.queue_size}
    cells = (
        name,
        shown,
        kind,
        cut(str(value), _SHOWN),
        unit or "-",
        "-" if granted is None or granted.refused else f"{granted.sampling_interval_ms:g}",
        "-" if granted is None or granted.refused else str(granted.queue_size),
        "yes" if look.history == "yes" else "no",
    )
    refused = granted is not None and bool(granted.refused)
    verdict = Verdict.FAILURE if refused else Verdict.WARNING if remarks else Verdict.OK
    return Finding(text=f"{node.label}: {'; '.join(remarks)}", verdict=verdict, figures=figures, cells=cells)


def _stored(look: _Look, value: ua.DataValue) -> tuple[Any, str]:
    """Return a node's value and unit as the agent stores them."""
    node, raw = look.config, plain(value)
    if not node.is_scaled:
        return raw, node.unit or look.unit
    return (raw * node.scale + node.offset if isinstance(raw, int | float) else raw), node.unit


def _shown(value: Any) -> Any:
    return value if _is_json(value) else str(value)[:200]


def _kind(value: ua.DataValue) -> str:
    variant = value.Value
    if variant is None or variant.VariantType is None:
        return "nothing"
    return f"{variant.VariantType.name}{'[]' if variant.is_array else ''}"


def plain(value: ua.DataValue) -> Any:
    """Return what a DataValue holds, None where it holds nothing."""
    return value.Value.Value if value.Value is not None else None


def _is_json(value: object) -> bool:
    return (
        value is None
        or isinstance(value, bool | int | str)
        or (isinstance(value, float) and math.isfinite(value))
    )
