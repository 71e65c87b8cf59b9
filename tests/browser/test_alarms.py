"""Alarms on the live page, in a real browser against a stub of docs/specs/http-api.md."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.async_api import Page, expect

from tests.browser import stub_plant
from tests.browser.stub_plant import DG, HK, IMM, VN
from tests.browser.stub_service import StubService
from tests.browser.watched_page import OpenPage

pytestmark = pytest.mark.asyncio(loop_scope="module")

Services = Callable[..., StubService]


async def test_alarms_stand_at_their_site_until_they_are_over(
    services: Services, open_page: OpenPage
) -> None:
    service = services(stub_plant.plant())
    watched = await open_page(service)
    page = watched.page
    tiles = {
        site: page.locator(f'[data-testid=site-tile][data-asset="{site}"]').get_by_test_id("alarm")
        for site in (HK, DG, VN)
    }
    await expect(tiles[DG]).to_have_count(2)
    await expect(tiles[DG].first).to_contain_text("Buffer fills up at agent dg01-gateway")
    await expect(tiles[DG].first).to_contain_text("31 min ago")
    await expect(tiles[DG].last).to_contain_text("acknowledged by user anna")
    await expect(tiles[VN]).to_contain_text("not heard of since")
    await expect(page.get_by_test_id("alarms")).to_have_count(0)

    new = stub_plant.alarm(
        "clock_offset", "hk01-gateway/imm", HK, "the machine's clock is more than 5 s ahead"
    )
    store = stub_plant.alarm("store_unavailable", "samples", "", "the store of samples can't be used")
    service.push("alarms", {"alarms": [new, store]})
    await expect(tiles[HK]).to_contain_text("Clock is off at hk01-gateway/imm")
    await expect(page.get_by_test_id("alarms")).to_contain_text("Store out of order: samples")

    service.push(
        "alarms", {"alarms": [new | {"until": new["since"] + 1}, store | {"until": store["since"] + 1}]}
    )
    await expect(tiles[HK]).to_have_count(0)
    await expect(page.get_by_test_id("alarms")).to_have_count(0)
    await expect(tiles[DG]).to_have_count(2)
    assert watched.unexpected() == []


async def sign_in(page: Page) -> None:
    await page.get_by_label("User", exact=True).fill("anna")
    await page.get_by_label("Password", exact=True).fill("seven words are long")
    await page.keyboard.press("Enter")


@pytest.mark.parametrize("role", ["viewer", "operator"])
async def test_operators_acknowledge_alarms_and_viewers_read_them(
    services: Services, open_page: OpenPage, role: str
) -> None:
    service = services(stub_plant.plant(), user=("anna", "seven words are long"))
    service.role = role
    watched = await open_page(service, f"#/site/{VN}")
    page = watched.page
    await sign_in(page)
    alarm = page.get_by_test_id("alarm")
    await expect(alarm).to_contain_text("Agent silent: vn01-gateway")
    button = alarm.get_by_role("button", name="Acknowledge")
    if role == "operator":
        await page.reload()
        await button.click()
        await expect(alarm).to_contain_text("acknowledged by user anna")
    await expect(button).to_have_count(0)
    assert watched.unexpected("401") == []


async def test_a_machine_shows_what_concerns_it_and_nothing_where_that_is_over(
    services: Services, open_page: OpenPage
) -> None:
    service = services(stub_plant.plant())
    watched = await open_page(service, f"#/machine/{IMM}", timezone_id="America/New_York")
    page = watched.page
    summary = page.locator("main > [role=status]")
    trend = page.get_by_test_id("trend")
    await expect(trend).to_be_visible()
    await expect(page.get_by_test_id("alarms")).to_have_count(0)
    await expect(summary).to_be_empty()
    height = await page.evaluate("document.documentElement.scrollHeight")

    clock = stub_plant.alarm("clock_offset", "hk01-gateway/imm-01", HK, "the machine's clock is off")
    clock["since"] = 1_763_778_000_000
    silent = stub_plant.alarm("agent_silent", "hk01-gateway", HK, "not heard of since then")
    neighbours = [
        stub_plant.alarm("clock_offset", "hk01-gateway/imm-02", HK, "of another machine"),
        stub_plant.alarm("agent_silent", "hk01-second", HK, "of another agent"),
        stub_plant.alarm("gap", "dg01-7f3b", DG, "of another site"),
    ]
    seen = stub_plant.alarm(
        "gap", "hk01-7f3a", HK, "never came", acknowledged_at=1, acknowledged_by="user anna"
    )
    service.push("alarms", {"alarms": [seen, *neighbours, clock, silent]})
    alarms = page.get_by_role("region", name="Alarms").get_by_role("listitem")
    await expect(alarms).to_have_count(3)
    await expect(alarms.nth(0)).to_contain_text("Agent silent: hk01-gateway")
    await expect(alarms.nth(1)).to_contain_text("Clock is off at hk01-gateway/imm-01")
    # The site's time, whatever the browser's is.
    await expect(alarms.nth(1)).to_contain_text(re.compile(r"since .*\b10:20:00 "))
    await expect(alarms.nth(1)).to_contain_text("the machine's clock is off · not acknowledged")
    await expect(alarms.nth(2)).to_contain_text("never came · acknowledged by user anna")
    await expect(alarms.get_by_role("button")).to_have_count(0)
    await expect(summary).to_have_text("3 alarms, 2 not acknowledged")

    service.push("alarms", {"alarms": [one | {"until": 2} for one in (seen, clock, silent)]})
    await expect(page.get_by_test_id("alarms")).to_have_count(0)
    await expect(summary).to_be_empty()
    assert await page.evaluate("document.documentElement.scrollHeight") == height
    assert watched.unexpected() == []


@pytest.mark.parametrize("phone", [False, True])
async def test_a_machines_alarm_is_acknowledged_by_keyboard_which_is_then_not_lost(
    services: Services, open_page: OpenPage, phone: bool
) -> None:
    plant = stub_plant.plant()
    first = stub_plant.alarm("agent_silent", "hk01-gateway", HK, "not heard of " * 20)
    gap = stub_plant.alarm("gap", "hk01-7f3a", HK, "12 of the numbers 40 to 51 never came")
    plant.alarms += [first, gap]
    service = services(plant, user=("anna", "seven words are long"))
    service.role = "operator"
    size = {"width": 390, "height": 844} if phone else {"width": 1400, "height": 900}
    watched = await open_page(service, f"#/machine/{IMM}", viewport=size)
    page = watched.page
    await sign_in(page)
    silent, lost = (
        page.locator(f"[data-testid=alarm][data-kind={kind}]") for kind in ("agent_silent", "gap")
    )
    button = page.get_by_role("button", name="Acknowledge Agent silent: hk01-gateway")
    await expect(button).to_have_text("Acknowledge")
    assert await page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0

    await button.focus()
    await page.keyboard.press("Enter")
    await expect(silent).to_contain_text("acknowledged by user anna")
    await expect(silent).to_be_focused()
    await page.keyboard.press("Shift+Tab")
    await expect(lost.get_by_role("button")).to_be_focused()

    # The service refuses: it is said, and the button stays where the keyboard is.
    service.role = "viewer"
    await page.keyboard.press("Space")
    await expect(lost.get_by_role("alert")).to_contain_text("could not be acknowledged")
    await expect(lost.get_by_role("button")).to_be_focused()

    # Over while the keyboard is on it: the list has it, and then the page.
    service.push("alarms", {"alarms": [gap | {"until": 2}]})
    await expect(page.get_by_test_id("alarms")).to_be_focused()
    service.push("alarms", {"alarms": [first | {"until": 2}]})
    await expect(page.get_by_role("main")).to_be_focused()
    assert watched.unexpected("401", "403") == []
