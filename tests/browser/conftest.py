"""One Chromium for a module, a page that must behave, and a stub service beside it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, async_playwright, expect

from tests.browser.stub_service import DIST, StubService
from tests.browser.watched_page import OpenPage, Watched

CHROMIUM = "/usr/bin/chromium"
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
HOW = "in dashboards/live: npm ci && npm run build"

# Playwright's five seconds are for a computer that has nothing else to do.
expect.set_options(timeout=60_000)


@pytest.fixture(scope="session", autouse=True)
def built_page() -> None:
    """Skip where the page is not built or there is no Chromium."""
    sources = DIST.parent / "src"
    index = DIST / "index.html"
    if not index.is_file():
        pytest.skip(f"the page is not built ({HOW})")
    if any(file.stat().st_mtime > index.stat().st_mtime for file in sources.rglob("*") if file.is_file()):
        pytest.fail(f"the built page is older than its sources ({HOW})")
    if not Path(CHROMIUM).exists():
        pytest.skip(f"{CHROMIUM} is not installed")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield chromium
        await chromium.close()


@pytest_asyncio.fixture(loop_scope="module")
async def open_page(browser: Browser) -> AsyncIterator[OpenPage]:
    """Yield a function that opens ``service`` at a location hash and returns a Watched page."""
    contexts = []

    async def open_it(service: StubService, location: str = "#/", **options: Any) -> Watched:
        context = await browser.new_context(**options)
        contexts.append(context)
        watched = Watched(await context.new_page())
        await watched.page.goto(f"{service.origin}/{location}")
        return watched

    yield open_it
    for context in contexts:
        await context.close()


@pytest.fixture
def services() -> Iterator[Callable[..., StubService]]:
    """Yield a function that starts stub services; all are gone afterwards."""
    started: list[StubService] = []

    def start(*args: Any, **options: Any) -> StubService:
        service = StubService(*args, **options)
        service.start()
        started.append(service)
        return service

    yield start
    for service in started:
        service.kill()
