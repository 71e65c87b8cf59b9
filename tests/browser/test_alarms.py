"""Alarms on the live page, in a real browser against a stub of docs/specs/http-api.md."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.async_api import expect

from tests.browser import stub_plant
from tests.browser.stub_plant import DG, HK, VN
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


@pytest.mark.parametrize("role", ["viewer", "operator"])
async def test_operators_acknowledge_alarms_and_viewers_read_them(
    services: Services, open_page: OpenPage, role: str
) -> None:
    service = services(stub_plant.plant(), user=("anna", "seven words are long"))
    service.role = role
    watched = await open_page(service, f"#/site/{VN}")
    page = watched.page
    await page.get_by_label("User", exact=True).fill("anna")
    await page.get_by_label("Password", exact=True).fill("seven words are long")
    await page.keyboard.press("Enter")
    alarm = page.get_by_test_id("alarm")
    await expect(alarm).to_contain_text("Agent silent: vn01-gateway")
    button = alarm.get_by_role("button", name="Acknowledge")
    if role == "operator":
        await page.reload()
        await button.click()
        await expect(alarm).to_contain_text("acknowledged by user anna")
    await expect(button).to_have_count(0)
    assert watched.unexpected("401") == []
