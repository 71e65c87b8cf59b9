"""What a load says of itself: a line for people every few seconds, one JSON line at the end."""

from __future__ import annotations

from typing import Final

import msgspec

from simulators.load.channel import Counters, Protocol
from simulators.load.plan import LoadPlan

_HELD: Final = 0.995
"""So much of what was asked for is as good as all: the last messages are under way when the count is taken."""


class Report(msgspec.Struct, frozen=True):
    """The JSON line."""

    load: Protocol
    machines: int
    signals: int
    hz: float
    processes: int
    startup_s: float
    seconds: float
    held: bool
    """Whether the asked rate was held."""
    offered_values_per_s: float
    sent_values_per_s: float
    offered_messages_per_s: float
    sent_messages_per_s: float
    cpu_cores: float
    """Of all processes, on average."""
    totals: Counters


def report(
    protocol: Protocol,
    plan: LoadPlan,
    totals: Counters,
    *,
    processes: int,
    startup_s: float,
    seconds: float,
) -> Report:
    """Return what a load that ran for ``seconds`` has to say."""
    time_s = max(seconds, 0.001)
    return Report(
        protocol,
        plan.machines,
        plan.signals,
        plan.hz,
        processes,
        round(startup_s, 3),
        round(seconds, 3),
        not shortcomings(totals),
        round(totals.offered_values / time_s, 1),
        round(totals.sent_values / time_s, 1),
        round(totals.offered_messages / time_s, 1),
        round(totals.sent_messages / time_s, 1),
        round(totals.cpu_s / time_s, 3),
        totals,
    )


def shortcomings(totals: Counters) -> list[str]:
    """Return in words what a load that has ended did not do as it was asked to; empty where it did."""
    found = []
    if totals.sent_messages < _HELD * totals.offered_messages:
        percent = 100 * totals.sent_messages / totals.offered_messages
        found.append(
            f"the rate was not held: {totals.sent_messages} of {totals.offered_messages} messages sent ({percent:.1f} %)"
        )
    if totals.unacknowledged_messages:
        found.append(f"{totals.unacknowledged_messages} messages were not acknowledged when the load ended")
    if totals.lost_messages:
        found.append(f"{totals.lost_messages} messages of QoS 0 were lost when the connection broke")
    if totals.late_ticks:
        found.append(f"{totals.late_ticks} ticks were late")
    if totals.discarded_values:
        found.append(
            f"{totals.discarded_values} values found no room in the queues that subscribers asked for"
        )
    return found


def progress(protocol: Protocol, before: Counters, now: Counters, seconds: float) -> str:
    """Return a line about the ``seconds`` between two counts."""
    values = (now.sent_values - before.sent_values) / seconds
    messages = (now.sent_messages - before.sent_messages) / seconds
    parts = [f"{values:,.0f} values/s", f"{messages:,.0f} messages/s"]
    if protocol == "opcua":
        offered = (now.offered_values - before.offered_values) / seconds
        parts.insert(0, f"{offered:,.0f} values/s offered to {now.subscribers:,} monitored items")
    behind = now.offered_messages - now.sent_messages
    if behind > max(100, 0.02 * now.offered_messages):
        parts.append(f"BEHIND by {behind:,} messages")
    parts.extend(
        f"{count:,} {what}"
        for count, what in (
            (now.unacknowledged_messages, "unacknowledged"),
            (now.lost_messages, "lost"),
            (now.late_ticks, "ticks late"),
            (now.discarded_values, "values discarded"),
            (now.reconnects, "reconnects"),
            (now.rebirths, "rebirths"),
        )
        if count
    )
    parts.append(f"CPU {100 * (now.cpu_s - before.cpu_s) / seconds:.0f} %")
    return ", ".join(parts)
