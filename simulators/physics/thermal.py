"""Barrel zones that warm each other, under PI control.

Every zone is of first order; what its heater is told takes a step of `STEP_S` to come through, which is its dead time.
A step is short against the time constants; in between, whoever looks interpolates.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from simulators.physics.zones import BarrelState, Trace, Upset, ZoneSpec

STEP_S: Final = 30.0
AMBIENT_C: Final = 26.0
_WARM_UP_DUTY: Final = 0.45
"""Heaters start softly: full power would crack their ceramics."""
_WARM_UP_BAND_K: Final = 50.0
_FINE: Final = Upset()
BLOCK_STEPS: Final = 32
_STEP_MS: Final = round(STEP_S * 1000.0)


class Barrel:
    """A row of zones under PI control, stepped in one go for any span.

    Tuned by the lambda rule: the closed loop follows four dead times behind. The neighbours pull with 7 % of the
    zone's own loss (5 to 10 % is usual). While no heater is at a limit the loop is linear, so that blocks of steps are
    one matrix product; the matrix is measured on the step itself.
    """

    coupling: Final = 0.07

    def __init__(self, zones: Sequence[ZoneSpec]) -> None:
        self.zones = tuple(zones)
        self._gains = [
            (zone.tau_s / (zone.gain_k * 4.0 * (zone.dead_s + STEP_S / 2.0)), 1.0 / zone.tau_s)
            for zone in zones
        ]
        self._wander = np.array([zone.wander_k for zone in zones])
        self._centre, self._answer, self._of_state, self._of_kicks = self._measure()

    def cold(self) -> BarrelState:
        """Return the state of a barrel that was off for long."""
        count = len(self.zones)
        return BarrelState([AMBIENT_C] * count, [0.0] * count, [0.0] * count)

    def settled(self, setpoints: Sequence[float]) -> BarrelState:
        """Return the state of a barrel that has been at its set points for long."""
        duty = [(point - AMBIENT_C) / zone.gain_k for point, zone in zip(setpoints, self.zones, strict=True)]
        return BarrelState(list(setpoints), list(duty), list(duty))

    def run(
        self,
        state: BarrelState,
        begin_ms: int,
        end_ms: int,
        setpoints: Sequence[float] | None,
        load: float,
        rng: np.random.Generator,
        upsets: Sequence[Upset] | None = None,
    ) -> Trace:
        """Let time pass; changes ``state``.

        Args:
            state: of the zones at the begin.
            begin_ms: UTC ms.
            end_ms: UTC ms.
            setpoints: degrees Celsius; None where the heaters are off.
            load: how much is plasticised, 0 to about 1.
            rng: of the disturbances.
            upsets: by zone.

        Returns:
            True temperatures, not what a faulty sensor shows; the last row stands at ``end_ms``.
        """
        whole, rest_ms = divmod(end_ms - begin_ms, _STEP_MS)
        kicks = rng.standard_normal((whole + 1, len(self.zones))) * self._wander
        kicks[:-1] *= math.sqrt(STEP_S / 60.0)
        kicks[-1] *= math.sqrt(rest_ms / 60_000.0)
        rows = [_row(state)]
        pushes = self.pushes(kicks[:-1])
        for block, push in enumerate(pushes):
            done = block * BLOCK_STEPS
            part = kicks[done : min(done + BLOCK_STEPS, whole)]
            found = None
            if setpoints is not None and upsets is None:
                found = self.jump(state, setpoints, load, push[: len(part)])
            if found is None:
                found = self.steps(state, STEP_S, setpoints, load, part, upsets, done * STEP_S)
            rows.append(found)
        if rest_ms:
            last = self.steps(state, rest_ms / 1000.0, setpoints, load, kicks[-1:], upsets, whole * STEP_S)
            rows.append(last)
        if setpoints is None:
            state.integral = [0.0] * len(self.zones)
        times = begin_ms + np.arange(whole + 1 + bool(rest_ms), dtype=np.int64) * _STEP_MS
        times[-1] = end_ms
        joined = np.concatenate(rows)
        most = [self._most(each, setpoints, load, upset) for each, upset in enumerate(upsets or ())]
        return Trace(times, joined[:, 0], joined[:, 1], np.array(most or 1.0))

    def steps(
        self,
        state: BarrelState,
        step_s: float,
        setpoints: Sequence[float] | None,
        load: float,
        kicks: npt.NDArray[np.float64],
        upsets: Sequence[Upset] | None = None,
        since_s: float = 0.0,
    ) -> npt.NDArray[np.float64]:
        """Step by step: whatever the heaters' limits and faults do. Changes ``state``.

        Args:
            state: of the zones at the begin.
            step_s: length of a step.
            setpoints: degrees Celsius; None where the heaters are off.
            load: how much is plasticised, 0 to about 1.
            kicks: kelvin, shape (steps, zones).
            upsets: by zone.
            since_s: seconds since the upsets' ``sensor_k``.

        Returns:
            Temperatures and duties after each step, shape (steps, 2, zones).
        """
        count = len(self.zones)
        temperature, integral, duty = state.temperature_c, state.integral, state.duty
        wrong = upsets or (_FINE,) * count
        bodies = [
            (
                step_s / zone.tau_s,
                zone.gain_k,
                self._most(number, setpoints, load, upset),
                AMBIENT_C + zone.shear_k * load,
                *gains,
                upset.sensor_k + upset.sensor_k_per_h * since_s / 3600.0,
                upset.sensor_k_per_h * step_s / 3600.0,
            )
            for number, (zone, gains, upset) in enumerate(zip(self.zones, self._gains, wrong, strict=True))
        ]
        last, coupling = count - 1, self.coupling
        rows = []
        for step, kick in enumerate(kicks.tolist()):
            before, temperature = temperature, []
            integral, duty = list(integral), list(duty)
            for number, (share, gain, most, rest, kp, ki, offset, drift) in enumerate(bodies):
                own = before[number]
                neighbours = (before[number - 1] if number else own) + (
                    before[number + 1] if number < last else own
                )
                temperature.append(
                    own
                    + share
                    * (rest - own + gain * min(duty[number], most) + coupling * (neighbours - 2.0 * own))
                    + kick[number]
                )
                if setpoints is None:
                    duty[number] = 0.0
                    continue
                error = setpoints[number] - own - offset - drift * step
                proportional = kp * error
                total = proportional + integral[number]
                limit = _WARM_UP_DUTY if error > _WARM_UP_BAND_K else 1.0
                if 0.0 < total < min(limit, most):
                    integral[number] += proportional * ki * step_s
                    duty[number] = total
                elif total >= min(limit, most):
                    # The integral waits while the heater can do no more.
                    duty[number] = limit
                    integral[number] = min(integral[number], limit, most)
                else:
                    duty[number] = 0.0
                    integral[number] = max(integral[number] + proportional * ki * step_s, 0.0)
            rows.append((temperature, integral, duty))
        state.temperature_c, state.integral, state.duty = temperature, integral, duty
        return np.array(rows)[:, ::2]

    def _most(self, number: int, setpoints: Sequence[float] | None, load: float, upset: Upset) -> float:
        """Return the most that a zone's heater still gives, as a share of what it should."""
        if setpoints is None or not upset.short_k:
            return 1.0
        zone, held = self.zones[number], setpoints[number] - upset.short_k
        beside = [setpoints[each] for each in (number - 1, number + 1) if 0 <= each < len(self.zones)]
        pull = self.coupling * sum(each - held for each in beside)
        return max((held - AMBIENT_C - zone.shear_k * load - pull) / zone.gain_k, 0.0)

    def pushes(self, kicks: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return what kicks (kelvin, shape (steps, zones)) do to blocks of steps that are taken in one go.

        Shape (blocks, `BLOCK_STEPS`, 2, zones): temperatures and duties.
        """
        blocks = -(-len(kicks) // BLOCK_STEPS)
        padded = np.zeros((blocks * BLOCK_STEPS, len(self.zones)))
        padded[: len(kicks)] = kicks
        pushes = padded.reshape(blocks, BLOCK_STEPS * len(self.zones)) @ self._of_kicks
        return pushes.reshape(blocks, BLOCK_STEPS, 2, len(self.zones))

    def jump(
        self,
        state: BarrelState,
        setpoints: Sequence[float],
        load: float,
        push: npt.NDArray[np.float64],
    ) -> npt.NDArray[np.float64] | None:
        """Do as `steps` does, all at once; None (and ``state`` as it was) where a heater would come to a limit.

        Args:
            state: of the zones at the begin.
            setpoints: degrees Celsius.
            load: how much is plasticised, 0 to about 1.
            push: the kicks' part, one of `pushes`, cut to as many steps as are taken.
        """
        given = np.array((*state.temperature_c, *state.integral, *state.duty, *setpoints, load))
        rows = ((given - self._centre) @ self._of_state + self._answer).reshape(BLOCK_STEPS, 2, -1)
        rows = rows[: len(push)] + push
        temperature, duty = rows[:, 0], rows[:, 1]
        if duty.min() <= 0.0 or duty.max() >= 1.0:
            return None
        if max(map(operator.sub, setpoints, state.temperature_c)) > _WARM_UP_BAND_K or (
            (setpoints - temperature).max() > _WARM_UP_BAND_K
        ):
            return None
        before = state.temperature_c if len(rows) == 1 else temperature[-2].tolist()
        state.temperature_c, state.duty = rows[-1].tolist()
        state.integral = [
            total - kp * (point - own) * (1.0 - ki * STEP_S)
            for total, point, own, (kp, ki) in zip(state.duty, setpoints, before, self._gains, strict=True)
        ]
        return rows

    def _measure(self) -> tuple[npt.NDArray[np.float64], ...]:
        """Return where the step was measured, what it gave there, and how that changes with each input.

        Inputs are temperatures, integrals, duties, set points and the load; and by themselves the kicks of
        `BLOCK_STEPS` steps.
        """
        count = len(self.zones)
        points = [200.0] * count
        still = np.zeros((BLOCK_STEPS, count))
        base = self.settled(points)
        centre = np.array((*base.temperature_c, *base.integral, *base.duty, *points, 0.0))
        answer = self.steps(msgspec.structs.replace(base), STEP_S, points, 0.0, still)
        columns = []
        for number in range(4 * count + 1):
            nudge = 1e-3 if count <= number < 3 * count else 0.1
            given = centre.copy()
            given[number] += nudge
            state = BarrelState(*given[: 3 * count].reshape(3, count).tolist())
            found = self.steps(
                state, STEP_S, given[3 * count :][:count].tolist(), float(given[4 * count]), still
            )
            columns.append(((found - answer) / nudge).ravel())
        # A kick is a temperature that changes a step later: its answer is known, shifted.
        kicked = []
        zones = [columns[number].reshape(answer.shape) for number in range(count)]
        for step in range(BLOCK_STEPS):
            for zone in range(count):
                shifted = np.zeros_like(answer)
                shifted[step, 0, zone] = 1.0
                shifted[step + 1 :] = zones[zone][: BLOCK_STEPS - step - 1]
                kicked.append(shifted.ravel())
        return centre, answer.ravel(), np.array(columns), np.array(kicked)


def _row(state: BarrelState) -> npt.NDArray[np.float64]:
    return np.array([[state.temperature_c, state.duty]])
