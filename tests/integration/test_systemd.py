"""What the service manager hears: read from the other end of a real datagram socket."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shopfloor.systemd import Notifier
from tests.integration.systemd_manager import Manager


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    path = str(tmp_path / "notify")
    manager = Manager(path if request.param == "path" else f"@{path}")
    yield manager
    manager.close()


def test_each_step_of_a_life_is_told(manager: Manager) -> None:
    notifier = Notifier(manager.address)
    notifier.ready()
    assert manager.hear() == {"READY": "1"}
    before = time.monotonic_ns() // 1000
    notifier.reloading()
    told = manager.hear()
    assert told.keys() == {"RELOADING", "MONOTONIC_USEC"}
    assert before <= int(told["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
    notifier.stopping()
    assert manager.hear() == {"STOPPING": "1"}


def test_the_status_is_one_bounded_line_and_told_when_it_changes(manager: Manager) -> None:
    notifier = Notifier(manager.address)
    notifier.status("2 of 3 sources\nREADY=1\n running")
    assert manager.hear() == {"STATUS": "2 of 3 sources READY=1 running"}
    notifier.status("2 of 3 sources READY=1 running")
    assert manager.heard_nothing()
    notifier.status("x" * 10_000)
    assert len(manager.hear()["STATUS"]) == 400


async def test_the_watchdog_is_fed_only_while_all_is_well(manager: Manager) -> None:
    well, asked = True, list[float]()

    def is_well(within_s: float) -> bool:
        asked.append(within_s)
        return well

    notifier = Notifier.from_environment(
        {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "20000", "WATCHDOG_PID": "7"}, 7
    )
    feeding = asyncio.create_task(notifier.feed_watchdog(is_well))
    try:
        for _ in range(3):
            assert await asyncio.to_thread(manager.hear) == {"WATCHDOG": "1"}
        well = False
        seen = len(asked)
        async with asyncio.timeout(30):
            while len(asked) < seen + 2:
                await asyncio.sleep(0.005)
            while not manager.heard_nothing():
                pass
            seen = len(asked)
            while len(asked) < seen + 3:
                await asyncio.sleep(0.005)
        assert manager.heard_nothing()
        assert set(asked) == {0.02}
    finally:
        feeding.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await feeding


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"WATCHDOG_USEC": "1000"},
        {"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "soon"},
        {"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "0"},
        {"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "1000", "WATCHDOG_PID": "8"},
    ],
)
def test_nobody_is_fed_who_does_not_watch_this_process(environment: dict[str, str]) -> None:
    assert Notifier.from_environment(environment, 7).watchdog_s is None


def test_a_manager_that_is_gone_or_deaf_costs_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        notifier = Notifier(str(tmp_path / "nobody"))
        for _ in range(10):
            notifier.alive()
        assert len(caplog.records) == 1
        assert "WATCHDOG=1" in caplog.text
        deaf = Manager(str(tmp_path / "deaf"))
        notifier = Notifier(deaf.address)
        for _ in range(10_000):
            notifier.alive()
        deaf.close()
    assert len(caplog.records) == 2


def test_without_a_manager_nothing_is_said(caplog: pytest.LogCaptureFixture) -> None:
    notifier = Notifier()
    notifier.ready()
    notifier.status("fine")
    assert caplog.records == []
