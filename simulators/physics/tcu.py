"""A temperature control unit: a pump, a heater and a cooler that hold a mould's water at its setpoint."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple, TypeAlias

import msgspec
import numpy as np

from shopfloor import signal
from simulators.physics.line_intervals import (
    Condition,
    Interval,
    Track,
    interval_facts,
    working_time,
)
from simulators.physics.tcu_samples import energy_facts, show_samples
from simulators.physics.tcu_signals import (
    CONTROLLING,
    FLOW_RATE,
    HEATING_UP,
    OFF,
    PRESSURE,
    PROCESS_POWER,
    RETURN_TEMPERATURE,
    SETPOINT,
    STATUS,
    TEMPERATURE,
)
from simulators.physics.tcu_spec import TcuSpec
from simulators.physics.unit import MAX_STRETCH_MS, Energy, Moment, Stretch, Value

_STEP_MS: Final = 10_000
_WATER_KW_PER_L_MIN_K: Final = 4.18 / 60.0
_RUNS: Final = Condition("RUNNING", "", "", "on")
_STANDS_S: Final = 540.0
_PRODUCES_S: Final = 3_060.0
"""Mean times for which the machine stands and produces: 85 % of the time, it heats."""
_HEAT_LAG_S: Final = 90.0
"""From the melt through the mould to the water."""
_CLEANED: Final = 0.02
_STANDBY_KW: Final = 0.01


class _State(msgspec.Struct):
    now_ms: int
    stretch: int
    track: Track
    temperature_c: float
    setpoint_c: float
    past_c: list[float]
    """Of the dead time, oldest first."""
    integral_k: float = 0.0
    on: bool = False
    warm: bool = False
    """The setpoint was reached since it was switched on."""
    look_ms: int = 0
    produces: bool = True
    rhythm_ms: int = 0
    """When the machine stops or goes on next."""
    product_ms: int = 0
    """When another product comes."""
    load_kw: float = 0.0
    clogged: float = _CLEANED
    kwh: float = 0.0
    said: dict[str, float | str] = {}


_Point: TypeAlias = tuple[int, float, float, float, float, float, int]
"""From when on: the water's temperature, setpoint, load, flow, electric power, status."""


class _Detail(NamedTuple):
    before: dict[str, Value]
    names: Sequence[str]
    times: Sequence[int]
    values: Sequence[Sequence[float]]
    """By signal."""


class TemperatureControlUnit:
    """One unit on an injected clock.

    Args:
        spec: what it is.
        seed: of everything random in it.
        start_ms: UTC ms at which its life begins, with the water at its setpoint if it is on.
    """

    def __init__(self, spec: TcuSpec, seed: int | str, start_ms: int) -> None:
        self.spec = spec
        self._seed = seed
        rng = random.Random(f"{seed}:start")
        setpoint = rng.choice(spec.setpoints_c)
        works = spec.calendar.at(start_ms).shift is not None
        water_c = setpoint if works else spec.ambient_c
        past = [water_c] * max(round(spec.dead_s * 1000.0 / _STEP_MS), 1)
        track = Track(Interval(start_ms, _RUNS, ""))
        self._state = _State(start_ms, 0, track, water_c, setpoint, past, warm=works)
        self._state.rhythm_ms = start_ms + round(1000.0 * rng.expovariate(1.0 / _PRODUCES_S))
        self._state.product_ms = start_ms + round(1000.0 * rng.expovariate(1.0 / spec.between_products_s))
        self._state.clogged = rng.uniform(_CLEANED, 1.0 - spec.clean_below)
        self._state.load_kw = spec.heat_kw if works else 0.0

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
        points: list[_Point] = []
        while state.now_ms < stretch.end_ms:
            self._switch(rng)
            edge_ms = min(state.look_ms, state.rhythm_ms, state.product_ms, stretch.end_ms)
            self._run(edge_ms, rng, points)
        stretch.detail = self._show(points, before, rng)
        times = np.array([*(point[0] for point in points), stretch.end_ms], np.int64)
        drawn = np.array([point[5] for point in points]) * np.diff(times) / 3.6e6
        kwh = state.kwh + np.concatenate(([0.0], np.cumsum(drawn)))
        state.kwh = float(kwh[-1])
        energy = Energy(times, kwh, spec.power_factor)
        stretch.energy = {spec.cell: energy}
        intervals = state.track.take()
        stretch.facts += interval_facts(spec.cell, intervals, stretch.begin_ms, stretch.end_ms)
        stretch.facts += energy_facts(spec.cell, intervals, stretch, energy)
        state.stretch += 1
        return stretch

    def play(self, stretch: Stretch) -> Iterator[Moment]:
        """Yield what the unit shows, every ten seconds and when it is switched."""
        detail = stretch.detail
        if not isinstance(detail, _Detail):
            raise TypeError("not a stretch of a temperature control unit")
        return show_samples(self.spec.cell, detail.before, detail.names, detail.times, detail.values)

    def snapshot(self) -> bytes:
        """Return the unit between two stretches."""
        return msgspec.msgpack.encode(self._state)

    def restore(self, snapshot: bytes) -> None:
        """Go on from a snapshot.

        Raises:
            msgspec.ValidationError: it is none of a temperature control unit.
        """
        self._state = msgspec.msgpack.decode(snapshot, type=_State)

    def _run(self, edge_ms: int, rng: random.Random, points: list[_Point]) -> None:
        """Let time pass to a time before which nothing is switched, and note what held from each step on."""
        state, spec = self._state, self.spec
        on, now, past = state.on, state.now_ms, deque(state.past_c)
        water, load, integral = state.temperature_c, state.load_kw, state.integral_k
        mean_kw = spec.heat_kw * (_PRODUCES_S + _STANDS_S) / _PRODUCES_S if on and state.produces else 0.0
        gain = spec.capacity_kj_k / spec.tau_s
        idle_kw, heater_kw, cooler_kw = spec.pump_kw + 0.05, spec.heater_kw, -spec.cooler_kw
        flow = spec.flow_l_min * (1.0 - state.clogged) if on else 0.0
        power = 0.0
        while now < edge_ms:
            until = (now // _STEP_MS + 1) * _STEP_MS
            until = min(until, edge_ms)
            step_s = (until - now) / 1000.0
            status = OFF
            if on:
                error = state.setpoint_c - past[0]
                power = wanted = gain * (error + integral)
                if wanted > heater_kw or wanted < cooler_kw:
                    power = heater_kw if wanted > 0.0 else cooler_kw
                elif -3.0 < error < 3.0:
                    # Further away, this would wind up, and the temperature would shoot over.
                    integral += error * step_s / (4.0 * spec.tau_s)
                if not state.warm and -2.0 < error < 2.0:
                    state.warm = True
                status = CONTROLLING if state.warm else HEATING_UP
            electric = (idle_kw + (max(0.0, power))) if on else _STANDBY_KW
            points.append((now, water, state.setpoint_c, load, flow, electric, status))
            water += (power + load - spec.loss_kw_k * (water - spec.ambient_c)) * step_s / spec.capacity_kj_k
            load += (mean_kw * (0.9 + 0.2 * rng.random()) - load) * step_s / _HEAT_LAG_S
            past.popleft()
            past.append(water)
            now = until
        state.temperature_c, state.load_kw, state.integral_k, state.past_c = water, load, integral, list(past)
        if on:
            state.clogged += spec.clogs_per_week * (edge_ms - state.now_ms) / 604_800_000.0
        state.now_ms = edge_ms

    def _switch(self, rng: random.Random) -> None:
        """Do what is due: the calendar's, the machine's, or the next product's."""
        state, spec = self._state, self.spec
        now = state.now_ms
        if now >= state.look_ms:
            self._consult_calendar()
        if now >= state.rhythm_ms:
            state.produces = not state.produces
            mean_s = _PRODUCES_S if state.produces else _STANDS_S
            state.rhythm_ms = now + 1 + round(1000.0 * rng.expovariate(1.0 / mean_s))
        if now >= state.product_ms:
            others = [each for each in spec.setpoints_c if each != state.setpoint_c]
            state.setpoint_c = rng.choice(others or [state.setpoint_c])
            state.product_ms = now + 1 + round(1000.0 * rng.expovariate(1.0 / spec.between_products_s))

    def _consult_calendar(self) -> None:
        state = self._state
        span = working_time(self.spec.calendar, state.now_ms)
        state.look_ms = span.end_ms
        on = span.shift is not None or span.reason == "break"
        if on != state.on:
            state.on = on
            state.warm = False
            if not on and state.clogged > 1.0 - self.spec.clean_below:
                state.clogged = _CLEANED
        state.track.enter(state.now_ms, _RUNS if on else Condition("OFF", "planned", span.reason, "off"), "")

    def _show(self, points: Sequence[_Point], before: dict[str, Value], rng: random.Random) -> _Detail:
        state, spec = self._state, self.spec
        noise = np.random.default_rng(rng.getrandbits(64))
        columns = np.array(points, np.float64).T
        _, water, setpoint, load, flow, electric, status = columns
        on = status != OFF
        seen_flow = flow * (1.0 + noise.normal(0.0, 0.004, len(points)))
        # What the mould gives off warms the water on its way through it.
        warmer = np.divide(load, seen_flow * _WATER_KW_PER_L_MIN_K, out=np.zeros_like(load), where=on)
        main = np.round(water + noise.normal(0.0, 0.04, len(points)), 1)
        back = np.round(water + warmer + noise.normal(0.0, 0.04, len(points)), 1)
        pressure = np.where(on, spec.pressure_bar * (1.0 + 0.6 * (1.0 - flow / spec.flow_l_min)), 0.0)
        values: dict[str, Sequence[float]] = {
            TEMPERATURE: main.tolist(),
            SETPOINT: setpoint.tolist(),
            RETURN_TEMPERATURE: back.tolist(),
            FLOW_RATE: np.round(seen_flow, 2).tolist(),
            PRESSURE: np.round(pressure * (1.0 + noise.normal(0.0, 0.003, len(points))), 2).tolist(),
            PROCESS_POWER: (np.round(np.where(on, -load, 0.0), 2) + 0.0).tolist(),
            STATUS: status.tolist(),
            signal.ACTIVE_POWER: np.round(electric, 2).tolist(),
        }
        state.said = {name: column[-1] for name, column in values.items()}
        return _Detail(before, list(values), [point[0] for point in points], list(values.values()))
