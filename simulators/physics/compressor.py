"""An air compressor: its receiver's pressure swings within a band, its power follows the air that is taken."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec
import numpy as np

from shopfloor import signal
from simulators.physics.compressor_signals import (
    FLOW,
    LOADED,
    LOADED_HOURS,
    OIL_TEMPERATURE,
    PRESSURE,
    RUNNING_HOURS,
    STATE,
    STOPPED,
    UNLOADED,
)
from simulators.physics.compressor_spec import AirLeak, CompressorSpec
from simulators.physics.compressor_state import CompressorDetail, CompressorState, Point
from simulators.physics.line_intervals import Condition, Interval, Track, interval_facts, working_time
from simulators.physics.tcu_samples import energy_facts, show_samples
from simulators.physics.unit import MAX_STRETCH_MS, Energy, Facts, Moment, Stretch

_LOOK_MS: Final = 10_000
_STEP_MS: Final = 30_000
_NEVER: Final = 2**62
_LEAK_OF_BASE_LOAD: Final = 0.2
"""Fault 10 of the faults that plants are simulated with: base load up by a fifth."""
_CONDITIONS: Final = {
    STOPPED: Condition("IDLE", "", "Ready", "stopped"),
    UNLOADED: Condition("IDLE", "", "Unloaded", "unloaded"),
    LOADED: Condition("RUNNING", "", "", "loaded"),
}
_OIL_C: Final = {STOPPED: 0.0, UNLOADED: 38.0, LOADED: 54.0}
"""Above ambient, in the long run."""
_OIL_TAU_S: Final = 600.0


class Compressor:
    """One compressor on an injected clock.

    Args:
        spec: what it is.
        seed: of everything random in it.
        start_ms: UTC ms at which its life begins.
    """

    def __init__(self, spec: CompressorSpec, seed: int | str, start_ms: int) -> None:
        self.spec = spec
        self._seed = seed
        rng = random.Random(f"{seed}:start")
        pressure = rng.uniform(spec.lower_bar, spec.upper_bar)
        running_ms = round(3.6e6 * rng.uniform(2_000.0, 30_000.0))
        self._state = CompressorState(
            start_ms,
            0,
            Track(Interval(start_ms, _CONDITIONS[LOADED], "")),
            pressure,
            spec.ambient_c + _OIL_C[LOADED],
            running_ms,
            round(running_ms * rng.uniform(0.6, 0.8)),
        )

    @property
    def cells(self) -> Sequence[str]:
        """Its own."""
        return [self.spec.cell]

    def plan(self) -> Stretch:
        """Return the next hour."""
        state, spec = self._state, self.spec
        rng = random.Random(f"{self._seed}:{state.stretch}")
        stretch = Stretch(state.now_ms, state.now_ms + MAX_STRETCH_MS)
        before = dict(state.said)
        points: list[Point] = []
        leaks = [
            leak for leak in spec.leaks if leak.end_ms > stretch.begin_ms and leak.begin_ms < stretch.end_ms
        ]
        taken, delivered = 0.0, state.delivered_nm3
        while state.now_ms < stretch.end_ms:
            points.append(self._step(stretch.end_ms, leaks, rng))
            taken += points[-1].out * (state.now_ms - points[-1].time_ms) / 60_000.0
        times, values = self._seen(points, stretch.end_ms, rng)
        state.said = {name: column[-1] for name, column in values.items()}
        delivered = state.delivered_nm3 - delivered
        stretch.detail = CompressorDetail(
            before, list(values), times, list(values.values()), delivered, taken
        )
        knots = np.array([*(point.time_ms for point in points), stretch.end_ms], np.int64)
        drawn = np.array([point.electric_kw for point in points]) * np.diff(knots) / 3.6e6
        kwh = state.kwh + np.concatenate(([0.0], np.cumsum(drawn)))
        state.kwh = float(kwh[-1])
        energy = Energy(knots, kwh, spec.power_factor)
        stretch.energy = {spec.cell: energy}
        intervals = state.track.take()
        stretch.facts += interval_facts(spec.cell, intervals, stretch.begin_ms, stretch.end_ms)
        stretch.facts += energy_facts(spec.cell, intervals, stretch, energy)
        stretch.facts += self._mended(stretch)
        state.stretch += 1
        return stretch

    def play(self, stretch: Stretch) -> Iterator[Moment]:
        """Yield what the compressor shows, every ten seconds and when it switches."""
        detail = stretch.detail
        if not isinstance(detail, CompressorDetail):
            raise TypeError("not a stretch of a compressor")
        return show_samples(self.spec.cell, *detail[:4])

    def snapshot(self) -> bytes:
        """Return the compressor between two stretches."""
        return msgspec.msgpack.encode(self._state)

    def restore(self, snapshot: bytes) -> None:
        """Go on from a snapshot.

        Raises:
            msgspec.ValidationError: it is none of a compressor.
        """
        self._state = msgspec.msgpack.decode(snapshot, type=CompressorState)

    def _step(self, end_ms: int, leaks: Sequence[AirLeak], rng: random.Random) -> Point:
        """Let time pass until something switches, at most to the next look, and return what held meanwhile."""
        state, spec = self._state, self.spec
        now = state.now_ms
        if now >= state.look_ms:
            self._consult_calendar()
        leak, leak_edge_ms = self._leak(leaks, now)
        if now % _STEP_MS == 0:
            state.swing = 0.9 * state.swing + rng.gauss(0.0, 0.12)
            state.use = spec.rated_flow * state.use_share * min(max(1.0 + state.swing, 0.2), 1.8)
        out = min(state.use + leak, 0.98 * spec.rated_flow)
        self._switch()
        into = self._delivery(out)
        until = min((now // _STEP_MS + 1) * _STEP_MS, state.look_ms, leak_edge_ms, end_ms)
        slope = (into - out) / spec.receiver_m3 / 60_000.0
        if state.mode == LOADED and slope > 0.0:
            until = min(until, now + 1 + int(max(spec.upper_bar - state.pressure_bar, 0.0) / slope))
        elif state.mode != LOADED and slope < 0.0:
            until = min(until, now + 1 + int(max(state.pressure_bar - spec.lower_bar, 0.0) / -slope))
        if state.mode == UNLOADED:
            until = min(until, state.unloaded_since_ms + round(1000.0 * spec.run_on_s))
        until = max(until, now + 1)
        electric_kw = self._power_kw(into)
        point = Point(
            now,
            state.pressure_bar,
            state.mode,
            out,
            electric_kw,
            state.oil_c,
            state.running_ms,
            state.loaded_ms,
        )
        passed_ms = until - now
        state.pressure_bar += slope * passed_ms
        goal_c = spec.ambient_c + _OIL_C[state.mode]
        state.oil_c += (goal_c - state.oil_c) * min(passed_ms / 1000.0 / _OIL_TAU_S, 1.0)
        state.running_ms += passed_ms if state.mode != STOPPED else 0
        state.loaded_ms += passed_ms if state.mode == LOADED else 0
        state.delivered_nm3 += into * passed_ms / 60_000.0
        state.now_ms = until
        return point

    def _switch(self) -> None:
        """Load, unload or stop, if the pressure or the time says so."""
        state, spec = self._state, self.spec
        if state.mode == LOADED and state.pressure_bar >= spec.upper_bar:
            state.mode = UNLOADED
            state.unloaded_since_ms = state.now_ms
        elif state.mode != LOADED and state.pressure_bar <= spec.lower_bar:
            state.mode = LOADED
        elif state.mode == UNLOADED and state.now_ms - state.unloaded_since_ms >= round(
            1000.0 * spec.run_on_s
        ):
            state.mode = STOPPED
        state.track.enter(state.now_ms, _CONDITIONS[state.mode], "")

    def _delivery(self, out: float) -> float:
        """Return what the compressor puts into the receiver, in Nm³/min."""
        state, spec = self._state, self.spec
        if state.mode != LOADED:
            return 0.0
        if not spec.variable_speed:
            return spec.rated_flow
        middle = 0.5 * (spec.lower_bar + spec.upper_bar)
        wanted = out + spec.receiver_m3 * (middle - state.pressure_bar)
        return min(max(wanted, spec.least_speed * spec.rated_flow), spec.rated_flow)

    def _power_kw(self, into: float) -> float:
        state, spec = self._state, self.spec
        if state.mode == STOPPED:
            return 0.05
        full_kw = spec.specific_kwh_nm3 * spec.rated_flow * 60.0
        if state.mode == UNLOADED:
            return spec.unloaded_share * full_kw
        # A frequency converter loses a little at any speed.
        return full_kw * (0.06 + 0.94 * into / spec.rated_flow)

    def _leak(self, leaks: Sequence[AirLeak], now_ms: int) -> tuple[float, int]:
        """Return what leaks, in Nm³/min, and until when it is that much."""
        base = self.spec.leak_share * self.spec.rated_flow
        for leak in leaks:
            if now_ms < leak.begin_ms:
                return base, leak.begin_ms
            if now_ms < leak.end_ms:
                return base * (1.0 + _LEAK_OF_BASE_LOAD * leak.severity), leak.end_ms
        return base, _NEVER

    def _consult_calendar(self) -> None:
        state, spec = self._state, self.spec
        span = working_time(spec.calendar, state.now_ms)
        state.look_ms = span.end_ms
        state.use_share = spec.demand_share
        if span.shift is None:
            state.use_share *= spec.break_share if span.reason == "break" else 0.0
        state.use = spec.rated_flow * state.use_share * min(max(1.0 + state.swing, 0.2), 1.8)

    def _seen(
        self, points: Sequence[Point], end_ms: int, rng: random.Random
    ) -> tuple[Sequence[int], dict[str, Sequence[float]]]:
        """Return when the compressor is looked at, and what is seen: every ten seconds and at every switch."""
        state = self._state
        noise = np.random.default_rng(rng.getrandbits(64))
        knots, pressure, mode, out, electric, oil, running, loaded = np.array(points, np.float64).T
        first_ms = -(-points[0].time_ms // _LOOK_MS) * _LOOK_MS
        switches = knots[np.flatnonzero(np.diff(mode, prepend=-1.0))]
        times = np.union1d(np.arange(first_ms, end_ms, _LOOK_MS, dtype=np.float64), switches)
        count = len(times)
        held = np.searchsorted(knots, times, "right") - 1
        passed = times - knots[held]
        mode = mode[held]
        ends = np.append(knots, end_ms)
        pressure = np.interp(times, ends, np.append(pressure, state.pressure_bar))
        oil = np.interp(times, ends, np.append(oil, state.oil_c))
        running = running[held] + passed * (mode != STOPPED)
        loaded = loaded[held] + passed * (mode == LOADED)
        return times.astype(np.int64).tolist(), {
            PRESSURE: np.round(pressure + noise.normal(0.0, 0.004, count), 2).tolist(),
            STATE: mode.tolist(),
            FLOW: np.round(out[held] * (1.0 + noise.normal(0.0, 0.01, count)), 2).tolist(),
            RUNNING_HOURS: (np.floor(running / 36_000.0) / 100.0).tolist(),
            LOADED_HOURS: (np.floor(loaded / 36_000.0) / 100.0).tolist(),
            OIL_TEMPERATURE: np.round(oil + noise.normal(0.0, 0.05, count), 1).tolist(),
            signal.ACTIVE_POWER: np.round(
                electric[held] * (1.0 + noise.normal(0.0, 0.004, count)), 2
            ).tolist(),
        }

    def _mended(self, stretch: Stretch) -> Iterator[Facts]:
        """Yield the leaks that ended in a stretch, as the truth about faults."""
        for leak in self.spec.leaks:
            if stretch.begin_ms < leak.end_ms <= stretch.end_ms:
                yield _fault(self.spec.cell, leak)


def _fault(cell: str, leak: AirLeak) -> Facts:
    return Facts(
        "faults",
        {
            "asset": cell,
            "begin_ms": leak.begin_ms,
            "end_ms": leak.end_ms,
            "kind": "air_leak",
            "severity": leak.severity,
        },
    )
