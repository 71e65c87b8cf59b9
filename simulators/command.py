"""``shopfloor simulate``: run a scenario's sites until TERM or Ctrl-C.

In the data folder it writes ``ready`` (JSON) once every server listens. USR2 freezes the machines: nothing new
happens, history is served on, the meters' messages are flushed, and when the broker has acknowledged all of them
``stopped`` (JSON) says how much was emitted.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from shopfloor import logs
from shopfloor.errors import ConfigError, ShopfloorError
from simulators.emissions import EmissionLog
from simulators.plant import Plant, emission_folder
from simulators.scenario import THREE_PLANTS, BrokerConfig, Scenario, load_scenario

_TICK_S: Final = 0.25
_FLUSH_S: Final = 3.0
_log = logging.getLogger(__name__)


class Ready(msgspec.Struct):
    """The content of ``ready``."""

    pid: int
    endpoints: dict[str, str]
    """Site to the URL of its OPC UA server."""
    broker: str
    series_total: int
    history_total: int
    """Values of the past that HistoryRead serves."""
    startup_s: float


class Emitted(msgspec.Struct):
    """What one site said."""

    opcua_total: int
    """OPC UA values since this process started, the past that it made included."""
    mqtt_total: int
    """Values in the meters' messages since this process started."""
    logged_total: int
    """Rows ever appended to the site's log, by earlier processes too."""
    last_time_ns: int


class Stopped(msgspec.Struct):
    """The content of ``stopped``."""

    sites: dict[str, Emitted]
    unacknowledged: int
    """MQTT messages that the broker has not acknowledged: 0."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument(
        "scenario", type=Path, nargs="?", default=THREE_PLANTS, help="default: three_plants.yaml"
    )
    parser.add_argument(
        "--data", type=Path, default=Path("simulator-data"), help="folder of the emission log"
    )
    parser.add_argument("--seed", type=int, help="instead of the scenario's")
    parser.add_argument("--site", action="append", metavar="ASSET", help="only this site; may be repeated")
    parser.add_argument(
        "--port-base", type=int, help="OPC UA ports count up from here, in the scenario's order"
    )
    parser.add_argument("--broker", metavar="URL", help="instead of the scenario's")


def main(arguments: argparse.Namespace) -> int:
    """Run; returns 0 after TERM or Ctrl-C, 2 where the configuration is wrong, 1 for what else goes wrong."""
    logs.set_up()
    # Its servers run here: what goes wrong in one of their callbacks is said nowhere else.
    logging.getLogger("asyncua").setLevel(logging.ERROR)
    try:
        scenario = chosen_scenario(
            load_scenario(arguments.scenario),
            seed=arguments.seed,
            sites=arguments.site,
            port_base=arguments.port_base,
            broker=arguments.broker,
        )
        asyncio.run(run(scenario, arguments.data))
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    except (ShopfloorError, OSError) as error:
        print(f"shopfloor simulate: {error}", file=sys.stderr)
        return 1
    return 0


def chosen_scenario(
    scenario: Scenario,
    *,
    seed: int | None = None,
    sites: Sequence[str] | None = None,
    port_base: int | None = None,
    broker: str | None = None,
) -> Scenario:
    """Return the scenario with what the command line says instead; raises ConfigError."""
    known = [site.asset for site in scenario.sites]
    unknown = sorted(set(sites or ()) - set(known))
    if unknown:
        raise ConfigError([f"--site {name}: the scenario has {', '.join(known)}" for name in unknown])
    if seed is not None and seed < 0:
        raise ConfigError([f"--seed {seed}: must not be negative"])
    changes: dict[str, object] = {} if seed is None else {"seed": seed}
    if broker is not None:
        try:
            url = BrokerConfig(url=broker).url
        except ValueError as error:
            raise ConfigError(["--broker: a broker is written mqtt://HOST[:PORT]"]) from error
        changes["broker"] = scenario.broker.model_copy(update={"url": url})
    chosen = list(scenario.sites)
    if port_base is not None:
        if not 1 <= port_base <= 65_536 - len(chosen):
            raise ConfigError(
                [f"--port-base {port_base}: must leave room for {len(chosen)} ports up to 65535"]
            )
        chosen = [
            site.model_copy(update={"opcua_port": port_base + number}) for number, site in enumerate(chosen)
        ]
    changes["sites"] = tuple(site for site in chosen if not sites or site.asset in sites)
    return scenario.model_copy(update=changes)


async def run(scenario: Scenario, data: Path) -> None:
    """Run a scenario's sites until TERM or Ctrl-C.

    Raises:
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
            plants.append(Plant(scenario, site, log, time.time_ns()))
        for plant in plants:
            await plant.start()
        gc.freeze()
        gc.enable()
        ready = Ready(
            os.getpid(),
            {plant.site.asset: plant.server.endpoint for plant in plants},
            scenario.broker.url,
            sum(plant.series_total for plant in plants),
            sum(plant.history_total for plant in plants),
            round(time.monotonic() - began, 3),
        )
        _write(data / "ready", ready)
        _log.info("%d series at %s", ready.series_total, ", ".join(ready.endpoints.values()))
        await _run(plants, data, stop, freeze)
        await _flush(plants)
    finally:
        gc.enable()
        for plant in plants:
            await plant.stop()
        (data / "ready").unlink(missing_ok=True)


async def _run(plants: Sequence[Plant], data: Path, stop: asyncio.Event, freeze: asyncio.Event) -> None:
    reported = False
    while not stop.is_set():
        now_ns = time.time_ns()
        for plant in plants:
            plant.frozen = freeze.is_set()
            await plant.advance(now_ns)
        if freeze.is_set() and not reported and not _unacknowledged(plants):
            _write(data / "stopped", _stopped(plants))
            reported = True
        with contextlib.suppress(TimeoutError):
            spent_s = (time.time_ns() - now_ns) / 1e9
            async with asyncio.timeout(max(_TICK_S - spent_s, 0.01)):
                await stop.wait()


async def _flush(plants: Sequence[Plant]) -> None:
    """Give the broker a moment to acknowledge what it was sent, where there is one."""
    deadline = time.monotonic() + _FLUSH_S
    while _unacknowledged(plants) and time.monotonic() < deadline:
        if not any(plant.publisher.connected for plant in plants if plant.publisher.unacknowledged):
            break
        for plant in plants:
            plant.publisher.feed()
        await asyncio.sleep(0.05)
    left = _unacknowledged(plants)
    if left:
        _log.warning("%d meter messages were not acknowledged by the broker", left)


def _unacknowledged(plants: Sequence[Plant]) -> int:
    return sum(plant.publisher.unacknowledged for plant in plants)


def _stopped(plants: Sequence[Plant]) -> Stopped:
    return Stopped(
        {
            plant.site.asset: Emitted(
                plant.opcua_total, plant.mqtt_total, plant.log.rows_total, plant.log.last_time_ns or 0
            )
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
