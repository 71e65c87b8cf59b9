"""The result of a run: one line of JSON, and whether it passed."""

from __future__ import annotations

from typing import Final

import msgspec

ENOUGH_PER_MACHINE_S: Final = 12.5
"""A run whose machines emitted fewer live values a second than this each proves too little and fails."""


class Report(msgspec.Struct, kw_only=True):
    """The figures of one headless run. Times are in the unit that their names end with."""

    sites: int
    machines: int
    series: int
    emitted: int
    """All values in the simulators' log, those of the history before the start included."""
    stored: int
    missing: int
    duplicated: int
    wrong: int
    reordered: int
    """Values without a machine's time that are stored in another order than they were said in; no failure."""
    gaps_recorded: int
    kills: int
    latency_p50_ms: float | None
    latency_p99_ms: float | None
    agent_rss_mb: float
    """The largest of the agents' peaks."""
    ingest_rss_mb: float
    live_emitted: int
    """Values emitted between "all ready" and the machines' stop."""
    latency_unseen: int
    """Live values that no event on the live stream covered."""
    agent_cpu_percent: dict[str, float] | None
    """Per agent, of one core, over the second half of the run; None where an agent was still catching up."""
    simulator_cpu_percent: float | None
    ingest_cpu_percent: float | None
    seconds_to_first_machine: float | None
    seconds_to_ready: float
    run_s: float
    drain_s: float
    """From the machines' stop until the last sample was stored."""
    drained: bool
    """Whether everything came to rest in time."""
    restarts: int
    """Parts that died by themselves and were started again."""
    seed: int | None

    def shortcomings(self) -> list[str]:
        """Say what makes the run a failure; empty for a success."""
        found = [
            f"{count} values {what}"
            for what, count in (
                ("missing", self.missing),
                ("duplicated", self.duplicated),
                ("wrong", self.wrong),
            )
            if count
        ]
        enough_per_s = ENOUGH_PER_MACHINE_S * self.machines
        if self.live_emitted < enough_per_s * self.run_s:
            found.append(
                f"only {self.live_emitted} values in {self.run_s:g} s: "
                f"fewer than {enough_per_s:g} a second from {self.machines} machines prove too little"
            )
        return found

    def line(self) -> str:
        """Return the report as one line of JSON."""
        return msgspec.json.encode(self).decode()
