"""What the agents say of themselves, on their own status pages."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import httpx
import msgspec

from simulators.demo.plan import Plan, Site

_RUNNING = "running"


class _Source(msgspec.Struct):
    name: str
    protocol: str
    state: str
    message: str = ""


class _Buffer(msgspec.Struct):
    pending_samples: int
    waiting_spans: int
    appended_samples_total: int
    delivered_samples_total: int
    repeats_total: int
    dropped_samples_total: int
    quarantined_samples_total: int


class _Uplink(msgspec.Struct):
    connected: bool


class Health(msgspec.Struct):
    """The part of ``/health`` that the demo reads."""

    sources: list[_Source]
    buffer: _Buffer
    uplink: _Uplink

    @property
    def collecting(self) -> bool:
        """Whether all sources run."""
        return all(source.state == _RUNNING for source in self.sources)

    @property
    def at_rest(self) -> bool:
        """Whether all sources run, the service answers, and nothing waits to be sent."""
        return (
            self.collecting
            and self.uplink.connected
            and not self.buffer.pending_samples
            and not self.buffer.waiting_spans
        )


@dataclass(frozen=True, slots=True)
class Progress:
    """All agents at one moment; two equal ones mean that nothing has moved in between."""

    at_rest: bool
    pending: int
    """Samples that wait in all agents."""
    taken: int
    """Samples that the agents made durable since each of them started."""
    counters: tuple[tuple[int, ...], ...]

    def same_as(self, other: Progress | None) -> bool:
        """Whether no agent has taken, recognised or delivered anything since."""
        return other is not None and self.counters == other.counters


class Agents:
    """Asks the agents. Not for several threads."""

    def __init__(self, plan: Plan, *, transport: httpx.BaseTransport | None = None) -> None:
        self._plan = plan
        self._client = httpx.Client(timeout=2.0, trust_env=False, transport=transport)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def health(self, site: Site) -> Health | None:
        """Return what an agent says, None where it does not answer."""
        try:
            answer = self._client.get(f"http://{self._plan.status_address(site)}/health")
            answer.raise_for_status()
            return msgspec.json.decode(answer.content, type=Health)
        except (httpx.HTTPError, msgspec.MsgspecError):
            return None

    def all_collecting(self) -> bool:
        """Whether every source of every agent runs."""
        return all(health is not None and health.collecting for health in self._all())

    def caught_up(self, few: int) -> bool:
        """Whether every source runs, and at most ``few`` samples wait in each agent."""
        return all(
            health is not None and health.collecting and health.buffer.pending_samples <= few
            for health in self._all()
        )

    def progress(self) -> Progress:
        """Return where all agents are; one that does not answer is not at rest."""
        found = list(self._all())
        return Progress(
            at_rest=all(health is not None and health.at_rest for health in found),
            pending=sum(health.buffer.pending_samples for health in found if health),
            taken=sum(health.buffer.appended_samples_total for health in found if health),
            counters=tuple(
                (
                    health.buffer.appended_samples_total,
                    health.buffer.delivered_samples_total,
                    health.buffer.repeats_total,
                    health.buffer.pending_samples,
                )
                if health
                else ()
                for health in found
            ),
        )

    def _all(self) -> Iterable[Health | None]:
        return (self.health(site) for site in self._plan.sites)
