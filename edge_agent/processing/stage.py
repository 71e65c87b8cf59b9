"""The stage between one source and the buffer."""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import msgspec
import numpy as np

from edge_agent.processing.config import FRESHNESS, RuleConfig
from edge_agent.processing.freshness import Freshness
from edge_agent.processing.held import PREFIX
from edge_agent.processing.step import NOTHING, Step, joined
from edge_agent.processing.thinning import Thinner
from edge_agent.processing.transform import Conversion, Converter, conversion_of, renamed
from shopfloor.asset import parse_asset
from shopfloor.block import Int64, SampleBlock, UInt32
from shopfloor.messages import SeriesDeclaration
from shopfloor.signal import SeriesKey

_log = logging.getLogger(__name__)

_TUPLES_REMEMBERED: Final = 256
CONFIRMS_WHILE_RUNNING: Final = frozenset({"sparkplug"})
"""Sparkplug B 3.0 reports by exception, and a death certificate makes values BAD: what runs confirms."""


class Moment(NamedTuple):
    """Both clocks at one moment."""

    wall_ns: int
    """UTC ns; stands in samples."""
    now_ns: int
    """Monotonic ns; measures ages."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """What the rules mean for one tuple of series; arrays are by position in it."""

    origin: tuple[SeriesKey, ...]
    """The tuple itself: while it is held here, its identity means it."""
    series: tuple[SeriesKey, ...]
    index: UInt32 | None
    """Old position to new one, where two series have got one name."""
    conversion: Conversion | None
    thinned: Int64
    watched: Int64
    touches: bool
    """Whether any of its series has a rule that does something to its samples, or a limit."""


class Stage:
    """Rules at work on one source. Pure but for its memory: no clock, no disk; one caller at a time.

    Every `Step` it returns has either become durable or been undone before the next one is asked for.
    """

    def __init__(
        self, rules: Sequence[RuleConfig], source: str, protocol: str, saved: Mapping[str, bytes]
    ) -> None:
        """Begin.

        Args:
            rules: the first that takes a series counts.
            source: its name, for the log.
            protocol: see `edge_agent.sources.Source`.
            saved: what the source's scope saved last; what this stage held is found in it.
        """
        self._rules = tuple(rules)
        self._renames = any(rule.rename for rule in rules)
        self._source = source
        self._rule_of: dict[SeriesKey, RuleConfig | None] = {}
        self._thinned: dict[SeriesKey, int] = {}
        self._watched: dict[SeriesKey, int] = {}
        self._origin: dict[SeriesKey, SeriesKey] = {}
        self._plans: OrderedDict[int, _Plan] = OrderedDict()
        self._thinner = Thinner(saved)
        self._freshness = Freshness(confirms_while_running=protocol in CONFIRMS_WHILE_RUNNING)
        self._converter = Converter(source)
        self.counts: Counter[str] = Counter()
        """What else there is to count; whoever reads it clears it."""

    def passes(self, block: SampleBlock) -> bool:
        """Whether the block goes through untouched, and nothing waits that has to go first."""
        return not self._thinner.is_unsettled and not self._plan(block.series).touches

    def take(self, block: SampleBlock, moment: Moment) -> Step:
        """Return what goes to the buffer instead of a block; without any rule for it, the block itself."""
        first = self._thinner.settle(moment.now_ns) if self._thinner.is_unsettled else Step(NOTHING)
        plan = self._plan(block.series)
        if not plan.touches or not len(block):
            return (
                joined(first, Step(block)) if len(first.block) or first.state or first.back else Step(block)
            )
        thinned, watched = plan.thinned[block.series_index], plan.watched[block.series_index]
        block = self._converted(block, plan)
        return joined(
            first,
            self._thinner.take(block, thinned, moment.now_ns),
            self._freshness.read(block, watched, *moment),
        )

    def look(self, moment: Moment, *, running: bool) -> Step:
        """Return what is due without any new reading: held ones whose time is over, verdicts that changed."""
        return joined(
            self._thinner.settle(moment.now_ns),
            self._freshness.look(*moment, running=running),
        )

    def confirm(self, now_ns: int) -> None:
        """Take note that the source would have reported any change."""
        self._freshness.confirm(now_ns)

    def interrupt(self) -> None:
        """Take note that the source stopped: the next reading of every series is kept."""
        self._thinner.interrupt()
        self._freshness.interrupt()

    def agrees(self, rules: Sequence[RuleConfig]) -> bool:
        """Tell whether other rules say the same of every series that was met or declared so far."""
        return all(rule_for(key, rules) == rule for key, rule in self._rule_of.items())

    def take_over(self, rules: Sequence[RuleConfig]) -> None:
        """Use other rules, with which it agrees, for the series that are still to come."""
        self._rules = tuple(rules)
        self._renames = any(rule.rename for rule in rules)

    def declare(self, declarations: Sequence[SeriesDeclaration]) -> tuple[SeriesDeclaration, ...]:
        """Return what there is to declare, and watch the series that the source names from now on."""
        made: list[SeriesDeclaration] = []
        keys = [SeriesKey(parse_asset(each.asset), each.signal) for each in declarations]
        self._make_plan(tuple(keys))
        for key, each in zip(keys, declarations, strict=True):
            rule = self._rule(key)
            signal, unit = each.signal, each.unit
            if rule is not None:
                signal = rule.rename or signal
                unit = ("" if rule.to_text else unit) if rule.unit is None else rule.unit
            made.append(msgspec.structs.replace(each, signal=signal, unit=unit))
            if self._watched.get(SeriesKey(key.asset, signal), -1) >= 0:
                made.append(
                    SeriesDeclaration(each.asset, f"{signal}.{FRESHNESS}", "", f"How fresh {signal} is")
                )
        return tuple(made)

    def _converted(self, block: SampleBlock, plan: _Plan) -> SampleBlock:
        if plan.conversion is not None:
            block, unmapped = self._converter.convert(block, plan.conversion)
            if unmapped:
                self.counts["not_mapped"] += unmapped
        if plan.series is plan.origin:
            return block
        return SampleBlock(
            plan.series,
            block.series_index if plan.index is None else plan.index[block.series_index],
            block.source_time,
            block.received_time,
            block.value,
            block.quality,
            block.status,
            block.text,
        )

    def _plan(self, series: tuple[SeriesKey, ...]) -> _Plan:
        plan = self._plans.get(id(series))
        if plan is None or plan.origin is not series:
            plan = self._plans[id(series)] = self._make_plan(series)
            if len(self._plans) > _TUPLES_REMEMBERED:
                self._plans.popitem(last=False)
        return plan

    def _make_plan(self, series: tuple[SeriesKey, ...]) -> _Plan:
        rules = [self._rule(key) for key in series]
        names = renamed(series, rules)
        for old, new in zip(series, names, strict=True) if self._renames else ():
            first = self._origin.setdefault(new, old)
            if first != old:
                self.counts["name_collision"] += 1
                _log.error("source %s: %s and %s are both called %s", self._source, first, old, new)
        limits = {
            name: rule.freshness_s
            for name, rule in zip(names, rules, strict=True)
            if rule and rule.freshness_s is not None and name not in self._watched
        }
        if limits:
            self._watched.update(zip(limits, self._freshness.register(limits), strict=True))
        thinned = [
            self._number(name, rule) if rule and rule.thins else -1
            for name, rule in zip(names, rules, strict=True)
        ]
        watched = [
            self._watched[name] if rule and rule.freshness_s is not None else -1
            for name, rule in zip(names, rules, strict=True)
        ]
        conversion = conversion_of(rules)
        distinct = tuple(dict.fromkeys(names))
        index: UInt32 | None = None
        if len(distinct) < len(names):
            positions = {name: number for number, name in enumerate(distinct)}
            index = np.array([positions[name] for name in names], dtype=np.uint32)
        return _Plan(
            series,
            series if names is series else distinct,
            index,
            conversion,
            np.array(thinned, dtype=np.int64),
            np.array(watched, dtype=np.int64),
            touches=names is not series or conversion is not None or max(thinned + watched, default=-1) >= 0,
        )

    def _rule(self, key: SeriesKey) -> RuleConfig | None:
        if key not in self._rule_of:
            self._rule_of[key] = rule_for(key, self._rules)
        return self._rule_of[key]

    def _number(self, key: SeriesKey, rule: RuleConfig) -> int:
        number = self._thinned.get(key)
        if number is None:
            number = self._thinned[key] = self._thinner.register(key, rule)
        return number


def rule_for(key: SeriesKey, rules: Sequence[RuleConfig]) -> RuleConfig | None:
    """Return the rule that counts for a series: the first that takes it."""
    return next((rule for rule in rules if rule.selector.takes(key)), None)


def make_stage(
    rules: Sequence[RuleConfig], source: str, protocol: str, saved: Mapping[str, bytes]
) -> Stage | None:
    """Return the stage of a source; None where there are no rules, and none held anything back before."""
    if not rules and not any(key.startswith(PREFIX) for key in saved):
        return None
    return Stage(rules, source, protocol, saved)


__all__ = ["CONFIRMS_WHILE_RUNNING", "Moment", "Stage", "make_stage", "rule_for"]
