"""Runs the sites of a scenario behind their protocols, in real time or faster, until it is told to stop.

In the data folder it writes ``ready`` (JSON) once every server listens. USR2 freezes the machines: nothing new
happens, history is served on, messages are flushed, and when the brokers have acknowledged all of them ``stopped``
(JSON) says how much was emitted.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from shopfloor.errors import ShopfloorError
from simulators.emissions import EmissionLog
from simulators.plant import Plant, emission_folder
from simulators.scenario import Scenario

_TICK_S: Final = 0.25
_FLUSH_S: Final = 3.0
_MAX_STEP_NS: Final = 15_000_000_000
_LATE_NS: Final = 1_800_000_000_000
"""Half an hour of the plants' time that did not pass as fast as asked is worth a word."""
_log = logging.getLogger(__name__)


class Ready(msgspec.Struct):
    """The content of ``ready``."""

    pid: int
    endpoints: dict[str, str]
    """Site to the URL of its OPC UA server, where it has one."""
    broker: str
    series_total: int
    history_total: int
    """Values of the past that HistoryRead serves or that come as historical."""
    startup_s: float


class Emitted(msgspec.Struct):
    """What one site said."""

    values_total: int
    """Values since this process started, the past that it made included."""
    logged_total: int
    """Rows ever appended to the site's log, by earlier processes too."""
    last_time_ns: int


class Stopped(msgspec.Struct):
    """The content of ``stopped``."""

    sites: dict[str, Emitted]
    unacknowledged: int
    """Messages and samples that are not known to have arrived: 0."""


class Clock:
    """The plants' time: from some hours ago at ``speed`` times the real one, until it has caught up with that.

    It never runs ahead of the real time: no collector believes a machine that lives in the future. It stands until
    `start`; then, while it is behind, one tick never moves it by more than `_MAX_STEP_NS`: a computer that is too slow
    for the speed gets a slower one, and no plant sleeps through its past.
    """

    def __init__(self, speed: float, ago_h: float, real_ns: Callable[[], int] = time.time_ns) -> None:
        self._speed = speed
        self._real_ns = real_ns
        self._behind = ago_h > 0.0
        self._now_ns = real_ns() - round(ago_h * 3.6e12)
        self._ticked_ns: int | None = None
        self._late_ns = 0

    def start(self) -> None:
        """Begin to run."""
        self._ticked_ns = self._real_ns()

    def now_ns(self) -> int:
        """Return the plants' time, UTC ns, and let it go on."""
        real_ns = self._real_ns()
        if not self._behind:
            self._now_ns = real_ns
        elif self._ticked_ns is not None:
            passed_ns = round((real_ns - self._ticked_ns) * self._speed)
            step_ns = min(max(passed_ns, 0), _MAX_STEP_NS)
            self._late_ns += max(passed_ns - step_ns, 0)
            self._now_ns = min(self._now_ns + step_ns, real_ns)
            self._behind = self._now_ns < real_ns
            self._ticked_ns = real_ns
            if self._late_ns > _LATE_NS:
                _log.warning("this computer is too slow for a speed of %g; time passes slower", self._speed)
                self._late_ns = 0
        return self._now_ns


async def run(scenario: Scenario, data: Path, clock: Clock, nodeset_dir: Path | None = None) -> None:
    """Run a scenario's sites until TERM or Ctrl-C.

    Args:
        scenario: checked; see `simulators.check`.
        data: folder of logs, truth and checkpoints.
        clock: the plants' time.
        nodeset_dir: NodeSet2 files to serve the standard's types from.

    Raises:
        ConfigError: a nodeset does not load.
        StoreUnavailable: a port is taken, or the log can't be written.
        LogDamaged: the log holds what was never written there.
    """
    began = time.monotonic()
    loop = asyncio.get_running_loop()
    stop, freeze = asyncio.Event(), asyncio.Event()
    for number, event in ((signal.SIGTERM, stop), (signal.SIGINT, stop), (signal.SIGUSR2, freeze)):
        loop.add_signal_handler(number, event.set)
    _clear(data)
    plants: list[Plant] = []
    # Building makes hundreds of thousands of objects that all stay: collecting garbage meanwhile only costs.
    gc.disable()
    try:
        for site in scenario.sites:
            log = EmissionLog(emission_folder(data, site), scenario.keep_h)
            plants.append(Plant(scenario, site, data, log, clock.now_ns(), nodeset_dir))
        for plant in plants:
            await plant.start()
        gc.freeze()
        gc.enable()
        ready = Ready(
            os.getpid(),
            {plant.site.asset: plant.endpoint for plant in plants if plant.endpoint},
            scenario.broker.url,
            sum(plant.series_total for plant in plants),
            sum(plant.values_total for plant in plants),
            round(time.monotonic() - began, 3),
        )
        clock.start()
        _write(data / "ready", ready)
        _log.info("%d series at %s", ready.series_total, ", ".join(ready.endpoints.values()) or ready.broker)
        await _run(plants, data, clock, stop, freeze)
        await _flush(plants)
    finally:
        gc.enable()
        (data / "ready").unlink(missing_ok=True)
        await _stop(plants)


async def _run(
    plants: Sequence[Plant], data: Path, clock: Clock, stop: asyncio.Event, freeze: asyncio.Event
) -> None:
    reported = False
    while not stop.is_set():
        began = time.monotonic()
        now_ns = clock.now_ns()
        for plant in plants:
            plant.frozen = freeze.is_set()
            await plant.advance(now_ns)
        if freeze.is_set() and not reported and not _unacknowledged(plants):
            _write(data / "stopped", _stopped(plants))
            reported = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(_TICK_S - (time.monotonic() - began), 0.01)):
                await stop.wait()


async def _stop(plants: Sequence[Plant]) -> None:
    """Stop every plant, whatever becomes of the others; raises the first error."""
    errors: list[Exception] = []
    for plant in plants:
        try:
            await plant.stop()
        except (ShopfloorError, OSError) as error:
            errors.append(error)
    if errors:
        raise errors[0]


async def _flush(plants: Sequence[Plant]) -> None:
    """Give the brokers a moment to acknowledge what they were sent."""
    deadline = time.monotonic() + _FLUSH_S
    while _unacknowledged(plants) and time.monotonic() < deadline:
        for plant in plants:
            plant.feed()
        await asyncio.sleep(0.05)
    left = _unacknowledged(plants)
    if left:
        _log.warning("%d messages or samples did not get through to the broker", left)


def _unacknowledged(plants: Sequence[Plant]) -> int:
    return sum(plant.unacknowledged for plant in plants)


def _stopped(plants: Sequence[Plant]) -> Stopped:
    return Stopped(
        {
            plant.site.asset: Emitted(plant.values_total, plant.log.rows_total, plant.log.last_time_ns or 0)
            for plant in plants
        },
        _unacknowledged(plants),
    )


def _clear(data: Path) -> None:
    """Remove what an earlier run said of itself."""
    data.mkdir(parents=True, exist_ok=True)
    for name in ("ready", "stopped"):
        (data / name).unlink(missing_ok=True)


def _write(path: Path, content: msgspec.Struct) -> None:
    draft = path.with_name(path.name + ".new")
    draft.write_bytes(msgspec.json.encode(content))
    draft.replace(path)
