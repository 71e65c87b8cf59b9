"""Rules that hold for every test: nothing leaks, and where servers are required a skip is a failure."""

from __future__ import annotations

import asyncio
import atexit
import gc
import inspect
import os
import threading
import time
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

HERE = Path(__file__).parent
REQUIRE_SERVERS = os.environ.get("SHOPFLOOR_REQUIRE_SERVERS") == "1"

settings.register_profile(
    "shopfloor",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=True,
    max_examples=50,
)
settings.register_profile("explore", settings.get_profile("shopfloor"), derandomize=False, max_examples=200)
# A change is judged by the same examples as the one before it: more of them find nothing that the next run does not
# leave out again. HYPOTHESIS_PROFILE=explore looks for new ones.
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "shopfloor"))


LONGEST = (
    "e2e/test_demo.py",
    "faults/test_campaign_processes.py",
    "e2e/test_edge_bundle.py",
    "integration/test_deploy_procedures.py",
    "integration/test_opcua_security_peer.py",
    "integration/test_simulators_command.py",
    "integration/test_plant_restart.py",
    "e2e/test_demo_lives.py",
    "integration/test_ingest_quarantine.py",
    "e2e/test_bad_input.py",
    "contract/test_store_servers.py",
    "integration/test_ingest_processes.py",
    "e2e/test_chaos.py",
    "integration/test_simulators_opcua.py",
    "integration/test_sparkplug_host.py",
    "contract/test_buffer_sqlite.py",
    "contract/test_buffer_damage.py",
    "e2e/test_bad_input_starting.py",
    "contract/test_source_opcua.py",
    "faults/test_campaign.py",
)
"""The files that take half a minute and more. Workers take files in the order of collection: whichever of these began
last would run on alone while the others have nothing left to do."""


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.obj):
            item.fixturenames.insert(0, "no_leaked_tasks")
    if hasattr(config, "workerinput"):
        _order_for_workers(items)


def pytest_collection_finish() -> None:
    # All that was imported stays; the garbage collector would look through it time and again, for a fifth of the time.
    gc.collect()
    gc.freeze()
    # Nor do the thousands of small objects of a test need a search for every seven hundred of them.
    gc.set_threshold(20_000, 20, 20)
    atexit.register(gc.unfreeze)


def _order_for_workers(items: list[pytest.Item]) -> None:
    """Put the longest files first, then those of all folders in turn: most wait, and those of tests/unit compute."""
    files: dict[str, dict[Path, None]] = {}
    for item in items:
        files.setdefault(item.path.relative_to(HERE).parts[0], {})[item.path] = None
    place = {path: number / len(paths) for paths in files.values() for number, path in enumerate(paths)}
    place |= {HERE / name: number - len(LONGEST) for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place[item.path])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if REQUIRE_SERVERS and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = (
            f"skipped although SHOPFLOOR_REQUIRE_SERVERS=1: {call.excinfo and call.excinfo.value}"
        )
    return report


@pytest.fixture
async def no_leaked_tasks() -> AsyncIterator[None]:
    yield
    left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task() and not task.done()]
    assert not left, f"tasks left behind: {left}"


@pytest.fixture(autouse=True)
def no_leaked_threads() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    # Threads that have been told to end may take a moment; those that were not would wait for ever.
    deadline = time.monotonic() + 5.0
    while time.monotonic() < deadline:
        left = [
            thread
            for thread in threading.enumerate()
            # The event loop's own executor belongs to the loop, which pytest-asyncio closes after this.
            if thread not in before and thread.is_alive() and not thread.name.startswith("asyncio_")
        ]
        if not left:
            return
        time.sleep(0.01)
    pytest.fail(f"threads left behind: {left}")
