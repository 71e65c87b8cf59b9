"""Random faults against running machines, and every value accounted for: ``python -m tests.faults.campaign --help``."""

# ruff: noqa: T201  what a command prints is its purpose

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Final, Never

from shopfloor.errors import ShopfloorError
from simulators.demo.service import Service, ServiceTrouble
from tests.faults.accounts import account
from tests.faults.books import read_books
from tests.faults.databases import Databases, databases
from tests.faults.evidence import Held, Said
from tests.faults.holdings import Holdings, Places, ledger, losses, quarantined_numbers
from tests.faults.inflicting import Inflictor
from tests.faults.permitting import at_any_time, permits_of
from tests.faults.plant_config import LINE, MQTT_SOURCE
from tests.faults.plant_site import Plant, environment_allows
from tests.faults.report import Report, print_table, write_evidence
from tests.faults.schedule import SEVERAL, TARGETS, Fault, plan_faults
from tests.faults.sent import Taken, balanced, taken
from tests.faults.serving import one_process, two_processes
from tests.faults.sizes import Sizes
from tests.faults.watch import Watch

SOURCES: Final = frozenset({"history", "plain", MQTT_SOURCE})
SLOT_S: Final = 5.0
"""Between two faults, unless the time is given."""
_START_TIMEOUT_S: Final = 180.0
_SETTLE_TIMEOUT_S: Final = 300.0
_UNCHANGED_S: Final = 150.0
"""What has not come so long after the last arrival will not come: many times any backoff of the agent."""
_SETTLE_LOOK_S: Final = 1.0
_QUIET_S: Final = 1.0
"""Before the first fault, and after the last."""


class DidNotStart(ShopfloorError):
    """The plant was not ready in time, before any fault."""


async def run(
    folder: Path,
    faults: Sequence[Fault],
    seed: int,
    sizes: Sizes,
    duration_s: float,
    say: Callable[[str], None],
    *,
    databases: Databases | None = None,
    timed: bool = True,
) -> Report:
    """Run a campaign in an empty folder and return what came out.

    Args:
        folder: for all that it leaves.
        faults: in order of time.
        seed: of what a fault leaves to chance.
        sizes: what is said.
        duration_s: how long the machines speak.
        say: takes the lines that tell how it goes.
        databases: two processes serve on these; without them one with the embedded store.
        timed: whether what may be lost has to be lost when a fault permits it; what is not recorded is missing anyway.

    Raises:
        CannotRun: something is not installed here.
        DidNotStart: the plant did not come up.
    """
    environment_allows()
    folder.mkdir(parents=True, exist_ok=True)
    serving = one_process(folder) if databases is None else two_processes(folder, databases, sizes, seed)
    plant, places, holdings = Plant(folder, sizes, serving), Places(sizes), serving.holdings
    inflictor = Inflictor(plant, random.Random(f"{seed}/pages"), places.position)
    watch = Watch(plant.status_url)
    beside: list[asyncio.Task[Never]] = [asyncio.create_task(watch.run())]
    try:
        await plant.start()
        await _until_running(plant, watch)
        plant.actors["mqtt"].start()
        plant.speak(on=True)
        began_s = time.monotonic()
        beside.append(asyncio.create_task(inflictor.keep_running()))
        await asyncio.sleep(_QUIET_S)
        await _play(inflictor, faults, say)
        await asyncio.sleep(max(0.0, began_s + duration_s - time.monotonic()))
        inflictor.heal()
        healed_s = time.monotonic()
        await asyncio.sleep(_QUIET_S)
        plant.speak(on=False)
        say("all is healed; waiting until everything has arrived")
        await _settle(plant, places, inflictor, watch, say, timed=timed)
        settled_s = time.monotonic()
        await _end(plant)
        books = await read_books(serving.config)
    finally:
        for task in beside:
            task.cancel()
        ended = await asyncio.gather(*beside, return_exceptions=True)
        await plant.close()
    for result in ended:
        if isinstance(result, Exception):  # what looked after the plant has failed: nothing of this counts
            raise result
    recorded = losses(holdings)
    of_service = ledger(holdings, recorded)
    samples, balancer = holdings.samples(), serving.balancer
    came: Taken | None = None
    if balancer is not None:
        aside = quarantined_numbers(holdings)
        came = taken(balancer.batches, of_service.batches, aside, places.position)
    permits = permits_of(inflictor.log, inflictor.clock_steps["plain"], watch.looks)
    accounts = account(
        places.said(folder),
        places.stored(samples),
        places.quarantined(holdings),
        recorded,
        permits if timed else at_any_time(permits),
        of_service,
        places.names,
        None if came is None else came.held,
    )
    write_evidence(folder, inflictor, watch, accounts)
    return Report(
        faults=len(inflictor.log),
        minutes=round((settled_s - began_s) / 60, 2),
        seed=seed,
        by_kind=dict(sorted(Counter(str(each.fault.kind) for each in inflictor.log).items())),
        settled_s=round(settled_s - healed_s, 1),
        crashed=inflictor.crashed,
        accounts=accounts,
        books=books,
        balanced=None if came is None or balancer is None else balanced(balancer, came, samples),
    )


async def _until_running(plant: Plant, watch: Watch) -> None:
    deadline_s = time.monotonic() + _START_TIMEOUT_S
    while not watch.last.running >= SOURCES:
        ended = [name for name, actor in plant.actors.items() if actor.ended]
        if ended or time.monotonic() > deadline_s:
            raise DidNotStart(
                f"running sources: {sorted(watch.last.running)}; ended: {ended}; see {plant.folder / 'logs'}"
            )
        await asyncio.sleep(0.1)


async def _play(inflictor: Inflictor, faults: Sequence[Fault], say: Callable[[str], None]) -> None:
    began_s = time.monotonic()
    async with asyncio.TaskGroup() as tasks:
        for number, fault in enumerate(faults, 1):
            await asyncio.sleep(max(0.0, began_s + fault.at_s - time.monotonic()))
            say(
                f"{number}/{len(faults)} at {fault.at_s:.0f} s: {fault.kind} {fault.target} for {fault.hold_s:.1f} s"
            )
            tasks.create_task(inflictor.inflict(fault))


async def _settle(
    plant: Plant,
    places: Places,
    inflictor: Inflictor,
    watch: Watch,
    say: Callable[[str], None],
    *,
    timed: bool,
) -> None:
    """Wait until all sources run, the buffer is empty and nothing is missing; what is missing in the end, is missing."""
    deadline_s = time.monotonic() + _SETTLE_TIMEOUT_S
    fewest, since_s = 2**62, time.monotonic()
    service = Service(plant.serving.url) if plant.serving.url else None
    try:
        while time.monotonic() < deadline_s:
            await asyncio.sleep(_SETTLE_LOOK_S)
            last = watch.last
            if last.pending != 0 or not last.running >= SOURCES:
                continue
            said = places.said(plant.folder)
            try:
                held = await asyncio.to_thread(_held, service, plant.serving.holdings, places, said)
            except ServiceTrouble as error:
                say(str(error))
                continue
            permits = permits_of(inflictor.log, inflictor.clock_steps["plain"], watch.looks)
            found = account(
                said,
                held,
                places.quarantined(plant.serving.holdings),
                losses(plant.serving.holdings),
                permits if timed else at_any_time(permits),
            )
            if not found.missing:
                return
            if found.missing < fewest:
                fewest, since_s = found.missing, time.monotonic()
            if time.monotonic() - since_s > _UNCHANGED_S:
                break
            say(f"{found.missing} values have not arrived yet")
    finally:
        if service is not None:
            service.close()
    say(f"not everything has arrived; the agent says: {watch.last}")


def _held(service: Service | None, holdings: Holdings, places: Places, said: Said) -> Held:
    if service is None:
        return places.stored(holdings.samples())
    return places.held(service.everything([LINE], said.source_time))


async def _end(plant: Plant) -> None:
    """End agent and service as an operator would: then the databases are whole, and nobody holds them."""
    for name in ("agent", *plant.serving.actors):
        await asyncio.to_thread(plant.actors[name].end)


def main(words: Sequence[str] | None = None) -> int:
    """Run the command; 0 where nothing was amiss, 1 where something was, 2 where it could not run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, help=f"time for the faults; default: {SLOT_S:g} s for each")
    parser.add_argument("--rate", type=float, default=Sizes().rate_hz, help="values a second of each series")
    parser.add_argument(
        "--processes",
        type=int,
        choices=(1, 2),
        default=1,
        help="ingestion processes; two share an InfluxDB and a PostgreSQL behind a balancer",
    )
    parser.add_argument("--keep", type=Path, help="an empty or new folder for all that the campaign leaves")
    parser.add_argument("--json", action="store_true", help="one line of JSON instead of a table")
    given = parser.parse_args(words)
    duration_s = given.minutes * 60 if given.minutes else given.faults * SLOT_S
    targets = TARGETS if given.processes == 1 else SEVERAL
    faults = plan_faults(given.faults, given.seed, duration_s, targets)
    folder = given.keep or Path(tempfile.mkdtemp(prefix="shopfloor-faults-"))
    if folder.exists() and any(folder.iterdir()):
        parser.error(f"--keep {folder}: not empty")
    try:
        with nullcontext() if given.processes == 1 else databases() as servers:
            report = asyncio.run(
                run(
                    folder.resolve(),
                    faults,
                    given.seed,
                    replace(Sizes(), rate_hz=given.rate, batch=1000 if given.processes == 1 else 300),
                    duration_s,
                    lambda text: print(text, file=sys.stderr, flush=True),
                    databases=servers,
                )
            )
    except ShopfloorError as error:
        print(f"{error}; what is there lies in {folder}", file=sys.stderr)
        return 2
    if given.json:
        print(json.dumps(report.as_json()))
    else:
        print_table(report)
    if report.clean and not given.keep:
        shutil.rmtree(folder)
    elif not report.clean:
        print(f"evidence: {folder}", file=sys.stderr)
    return 0 if report.clean else 1


if __name__ == "__main__":
    sys.exit(main())
