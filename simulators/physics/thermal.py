"""First-order temperatures under control, exact for any step, so that coarse and fine clocks agree."""

from __future__ import annotations

import math
import random


class Zone:
    """A heated (or cooled) body held at a set point.

    Its deviation is an Ornstein-Uhlenbeck process: it forgets with the time constant ``tau_s`` and is disturbed to
    a standard deviation of ``wander``; the sensor adds white noise of ``noise``. All in kelvin.
    """

    __slots__ = ("_forget", "_kick", "_step_ms", "noise", "setpoint", "tau_s", "temperature", "wander")

    def __init__(
        self, setpoint: float, temperature: float, tau_s: float, wander: float = 0.5, noise: float = 0.15
    ) -> None:
        self.setpoint = setpoint
        self.temperature = temperature
        self.tau_s = tau_s
        self.wander = wander
        self.noise = noise
        self._step_ms = -1
        self._forget = 0.0
        self._kick = 0.0

    def advance(self, step_ms: int, rng: random.Random) -> None:
        """Let ``step_ms`` milliseconds pass."""
        if step_ms != self._step_ms:
            self._step_ms = step_ms
            self._forget = math.exp(-step_ms / 1000.0 / self.tau_s)
            self._kick = self.wander * math.sqrt(1.0 - self._forget**2)
        deviation = self.temperature - self.setpoint
        self.temperature = self.setpoint + deviation * self._forget + rng.gauss(0.0, self._kick)

    def reading(self, rng: random.Random) -> float:
        """Return what the sensor shows, in steps of 0.1."""
        return round(self.temperature + rng.gauss(0.0, self.noise), 1)
