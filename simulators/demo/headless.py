"""A run that proves something: so many seconds, then the machines stop and every value is accounted for."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import numpy as np

from shopfloor.block import Int64, SampleBlock, concat
from shopfloor.signal import SeriesKey
from simulators.demo.agents import Progress
from simulators.demo.kills import Kill
from simulators.demo.latency import measure
from simulators.demo.parts import INGEST, SIMULATORS
from simulators.demo.plan import Plan
from simulators.demo.process import Usage
from simulators.demo.report import Report
from simulators.demo.service import ServiceTrouble
from simulators.demo.session import Session
from simulators.demo.untimed import LATE_NS
from simulators.demo.verify import Comparison, compare
from simulators.emissions import read_emissions, read_untimed
from simulators.plant import emission_folder

STOP_TIMEOUT_S: Final = 30.0
DRAIN_TIMEOUT_S: Final = 120.0
_QUIET_S: Final = 5.0
"""Longer than an agent's heartbeat (its figures are that old) and than the broker's wait before it sends again."""
_LOOK_EVERY_S: Final = 0.5
_FEW_PENDING: Final = 2_000


@dataclass(slots=True)
class SteadyPhase:
    """CPU time of the parts in the second half of a run, when start-up and backfill are over."""

    session: Session
    parts: Sequence[str]
    after_s: float
    _from_s: float | None = None
    _from_usage: dict[str, Usage] = field(default_factory=dict)
    _looked_s: float = 0.0

    def look(self, now_s: float) -> None:
        """Notice that the agents have caught up; call it often."""
        if self._from_s is not None or now_s < max(self.after_s, self._looked_s + 2.0):
            return
        self._looked_s = now_s
        if self.session.agents.caught_up(_FEW_PENDING):
            self._from_s = time.monotonic()
            self._from_usage = {part: self.session.supervisor.usage(part) for part in self.parts}

    def cpu_percent(self) -> dict[str, float] | None:
        """Return each part's share of one core since then; None if the agents never caught up."""
        if self._from_s is None:
            return None
        elapsed_s = time.monotonic() - self._from_s
        return {
            part: round(
                100.0
                * (self.session.supervisor.usage(part).cpu_s - self._from_usage[part].cpu_s)
                / elapsed_s,
                1,
            )
            for part in self.parts
        }


@dataclass(frozen=True, slots=True)
class Accounts:
    """What came out at the end of a run."""

    comparison: Comparison
    drained: bool
    """Whether everything came to rest in time."""
    drain_s: float
    """Until something last moved."""


def run_headless(
    session: Session,
    duration_s: float,
    kills: Sequence[Kill],
    seed: int | None,
    say: Callable[[str], None],
) -> tuple[Report, Comparison]:
    """Run a started session for ``duration_s``, stop its machines, wait until all is stored, and account for it.

    Args:
        session: started already.
        duration_s: from now until the machines stop.
        kills: what is killed when, in seconds from now.
        seed: of the kills, for the report.
        say: for progress.
    """
    plan, supervisor = session.plan, session.supervisor
    agents = [site.agent for site in plan.sites]
    steady = SteadyPhase(session, [*agents, INGEST, SIMULATORS], duration_s / 2)
    session.run(duration_s, kills, steady.look)
    cpu = steady.cpu_percent()
    stopped_ns = time.time_ns()
    say("stopping the machines")
    if not session.stop_machines(STOP_TIMEOUT_S):
        say(f"the simulators did not confirm within {STOP_TIMEOUT_S:g} s that the machines have stopped")
    since_ns = plan.kept_since_ns(stopped_ns)
    untimed = read_untimed_series(plan)
    # What carries no time is stored when it is received: said before the limit, it may lie after it.
    said = read_log(plan, since_ns - LATE_NS)
    emitted = said.take(said.source_time >= since_ns)

    def progress() -> Progress:
        supervisor.tick()
        return session.agents.progress()

    assets = [site.asset for site in plan.sites]
    accounts = settle(session.service, said, untimed, assets, since_ns, progress, say)
    live = emitted.take((emitted.source_time >= session.ready_ns) & (emitted.source_time <= stopped_ns))
    latency = measure(live, session.live.arrivals(), untimed)
    comparison = accounts.comparison
    report = Report(
        sites=len(plan.sites),
        machines=sum(site.machines for site in plan.sites),
        series=len(np.unique(emitted.series_index)),
        emitted=comparison.emitted,
        stored=comparison.stored,
        missing=comparison.missing,
        duplicated=comparison.duplicated,
        wrong=comparison.wrong,
        reordered=comparison.reordered,
        gaps_recorded=session.gaps.total(),
        kills=supervisor.kills,
        latency_p50_ms=latency.p50_ms,
        latency_p99_ms=latency.p99_ms,
        latency_unseen=latency.unseen,
        agent_rss_mb=max(_peak_mb(supervisor.usage(agent)) for agent in agents),
        ingest_rss_mb=_peak_mb(supervisor.usage(INGEST)),
        live_emitted=len(live),
        agent_cpu_percent={agent: cpu[agent] for agent in agents} if cpu else None,
        simulator_cpu_percent=cpu[SIMULATORS] if cpu else None,
        ingest_cpu_percent=cpu[INGEST] if cpu else None,
        seconds_to_first_machine=_rounded(session.seconds_to_first_machine),
        seconds_to_ready=round(session.seconds_to_ready, 2),
        run_s=duration_s,
        drain_s=round(accounts.drain_s, 2),
        drained=accounts.drained,
        restarts=supervisor.restarts,
        seed=seed if kills else None,
    )
    return report, comparison


class Store(Protocol):
    """What `settle` asks: see `simulators.demo.service.Service`."""

    def everything(self, assets: Sequence[str], emitted_ns: Int64, since_ns: int) -> SampleBlock:
        """Return all that is stored below ``assets``."""
        ...


def settle(
    store: Store,
    emitted: SampleBlock,
    untimed: Collection[SeriesKey],
    assets: Sequence[str],
    since_ns: int,
    progress: Callable[[], Progress],
    say: Callable[[str], None],
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Accounts:
    """Wait until nothing moves any more and every emission is found, at most `DRAIN_TIMEOUT_S`; then compare.

    "At rest" is no proof that all has come: a source may be about to read its history. So while values are
    missing, the wait goes on; a value too many never goes away, and ends it.

    Args:
        store: holds what arrived.
        emitted: all that the machines said; they have stopped.
        untimed: series whose messages carry no time.
        assets: where to look.
        since_ns: rows before this time (UTC ns) are left out.
        progress: gives the agents' state; also keeps the parts running.
        say: for progress.
        clock: monotonic seconds.
        sleep: moves the clock.

    Raises:
        ServiceTrouble: the store can't be read, to the very end.
    """
    began_s = clock()
    deadline_s = began_s + DRAIN_TIMEOUT_S
    while True:
        at_rest, last_move_s = _wait_until_quiet(progress, deadline_s, clock, sleep)
        try:
            stored = store.everything(assets, emitted.source_time, since_ns)
            comparison = compare(emitted, stored, untimed, since_ns)
        except ServiceTrouble as error:
            if clock() >= deadline_s:
                raise
            say(str(error))
            continue
        if not comparison.missing or clock() >= deadline_s:
            return Accounts(comparison, at_rest, max(last_move_s - began_s, 0.0))
        say(f"{comparison.missing} values are not stored yet")


def _wait_until_quiet(
    progress: Callable[[], Progress],
    deadline_s: float,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> tuple[bool, float]:
    """Return whether all agents came to rest, and when something last moved."""
    before = None
    last_move_s = clock()
    while (now_s := clock()) < deadline_s:
        now = progress()
        if not now.same_as(before) or not now.at_rest:
            last_move_s = now_s
        elif now_s - last_move_s >= _QUIET_S:
            return True, last_move_s
        before = now
        sleep(_LOOK_EVERY_S)
    return False, last_move_s


def read_log(plan: Plan, since_ns: int) -> SampleBlock:
    """Return all that the simulators of all sites said since then (UTC ns)."""
    folders = [emission_folder(plan.simulators, site) for site in plan.scenario.sites]
    emitted = concat([read_emissions(folder) for folder in folders])
    return emitted.take(emitted.source_time >= since_ns)


def read_untimed_series(plan: Plan) -> frozenset[SeriesKey]:
    """Return the series of all sites whose messages carry no time."""
    folders = [emission_folder(plan.simulators, site) for site in plan.scenario.sites]
    return frozenset().union(*map(read_untimed, folders))


def _peak_mb(usage: Usage) -> float:
    return round(usage.peak_rss_bytes / 1e6, 1)


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 2)
