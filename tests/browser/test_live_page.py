"""The live page in a real browser against a stub of docs/specs/http-api.md."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from playwright.async_api import Locator, Page, expect

from tests.browser import stub_plant
from tests.browser.stub_plant import DG, HK, IMM, VN, series_id
from tests.browser.stub_service import StubService, now_ms
from tests.browser.watched_page import OpenPage

pytestmark = pytest.mark.asyncio(loop_scope="module")

Services = Callable[..., StubService]
NOTHING = "\N{EN DASH}"
WAIT_MS = 15_000
POWER = series_id("energy.active_power")
CUT = ("net::ERR_", "Failed to load resource")
HOSTILE = '<img src=x onerror="window.owned=1"><script>window.owned=1</script>'


def tile(page: Page, asset: str) -> Locator:
    return page.locator(f'[data-testid=site-tile][data-asset="{asset}"]')


def card(page: Page, asset: str) -> Locator:
    return page.locator(f'[data-testid=machine-card][data-asset="{asset}"]')


def shown_value(page: Page, signal: str) -> Locator:
    return page.locator(f'tr[data-signal="{signal}"] [data-testid=value]')


async def test_overview_shows_every_site_and_follows_it(services: Services, open_page: OpenPage) -> None:
    service = services(stub_plant.plant())
    watched = await open_page(service)
    page = watched.page
    await expect(page.get_by_test_id("site-tile")).to_have_count(3)
    hong_kong = tile(page, HK)
    await expect(hong_kong.get_by_role("heading")).to_have_text("Hong Kong")
    await expect(hong_kong.get_by_test_id("running")).to_have_text("4")
    await expect(hong_kong.get_by_test_id("parts")).to_have_text("4,711")
    await expect(tile(page, VN).get_by_test_id("power")).to_have_text(NOTHING)
    await expect(page.get_by_test_id("agent-notices")).to_contain_text("Agent vn01-gateway: no contact since")

    service.push(
        "sites", {"sites": [stub_plant.site(HK, "Hong Kong", "Asia/Hong_Kong", (5, 1, 0), 4712, 43.9)]}
    )
    await expect(hong_kong.get_by_test_id("running")).to_have_text("5")
    await expect(hong_kong.get_by_test_id("parts")).to_have_text("4,712")
    await expect(hong_kong.get_by_test_id("power")).to_have_text("43.9")
    # Nothing more is sent for this site, so its age grows by itself.
    await expect(hong_kong.get_by_test_id("age")).to_contain_text("sec ago", timeout=WAIT_MS)
    assert watched.unexpected() == []


async def test_site_clock_is_that_of_the_site(services: Services, open_page: OpenPage) -> None:
    service = services(stub_plant.plant())
    page = (await open_page(service, timezone_id="America/New_York")).page
    hong_kong = await tile(page, HK).locator("time").inner_text()
    binh_duong = await tile(page, VN).locator("time").inner_text()
    hours = (int(hong_kong[:2]) - int(binh_duong[:2])) % 24
    assert hours in {1, 2}, (hong_kong, binh_duong)  # 2 only where an hour passed between the two readings


async def test_a_machine_goes_down_and_loses_contact(services: Services, open_page: OpenPage) -> None:
    service = services(stub_plant.plant())
    page = (await open_page(service, f"#/site/{HK}")).page
    machine = card(page, IMM)
    await expect(machine).to_have_attribute("data-state", "running")
    await expect(page.get_by_test_id("machine-card")).to_have_count(6)

    down = stub_plant.machine(IMM, "down_unplanned", minutes=3, reason="Hydraulic oil hot")
    service.push("machines", {"machines": [down]})
    await expect(machine).to_have_attribute("data-state", "down_unplanned")
    await expect(machine).to_contain_text("Down")
    await expect(machine).to_contain_text("3 min")
    await expect(machine).to_contain_text("Hydraulic oil hot")

    gone = stub_plant.machine(IMM, "unknown", contact=False, reason="agent hk01-gateway: no contact")
    service.push("machines", {"machines": [gone]})
    service.push("agents", {"agents": [stub_plant.agent("hk01-gateway", HK, contact=False)]})
    await expect(machine).to_have_attribute("data-state", "no_contact")
    await expect(machine).to_contain_text("No contact")
    await expect(page.get_by_test_id("agent-notices")).to_contain_text("hk01-gateway: no contact since")


async def test_the_filter_shows_one_state(services: Services, open_page: OpenPage) -> None:
    service = services(stub_plant.plant())
    page = (await open_page(service, f"#/site/{DG}")).page
    await page.get_by_role("button", name="Down 1").click()
    await expect(page.get_by_test_id("machine-card")).to_have_count(1)
    await page.get_by_role("button", name="All 8").click()
    await expect(page.get_by_test_id("machine-card")).to_have_count(8)


async def test_a_killed_service_shows_at_once_and_heals_by_itself(
    services: Services, open_page: OpenPage
) -> None:
    service = services(stub_plant.plant(), history=stub_plant.history)
    watched = await open_page(service, f"#/machine/{IMM}")
    page = watched.page
    banner = page.get_by_test_id("link-banner")
    await expect(shown_value(page, "energy.active_power")).to_have_text("11.24")
    await expect(banner).not_to_be_visible()

    service.kill()
    await expect(banner).to_contain_text("Connection lost. Last contact")
    await expect(page.locator("main.stale")).to_be_visible()

    # The restarted service numbers its series anew, and one machine is gone.
    service.plant.series.insert(0, ("acme/hk01/moulding/cell-a/imm-02", "status.mode", ""))
    service.plant.values = {row + 1: value for row, value in service.plant.values.items()}
    service.plant.values[POWER + 1] = (now_ms(), 99.5, 0)
    service.plant.machines = service.plant.machines[:-1]
    service.start()
    await expect(banner).not_to_be_visible(timeout=WAIT_MS)
    await expect(shown_value(page, "energy.active_power")).to_have_text("99.50")
    await expect(page.locator("main.stale")).to_have_count(0)
    await page.goto(f"{service.origin}/#/site/{VN}")
    await expect(page.get_by_test_id("machine-card")).to_have_count(1)
    assert watched.unexpected(*CUT) == []


async def test_silence_is_a_lost_connection(services: Services, open_page: OpenPage) -> None:
    service = services(stub_plant.plant())
    page = (await open_page(service)).page
    await expect(page.get_by_test_id("site-tile")).to_have_count(3)
    service.silent = True
    await expect(page.get_by_test_id("link-banner")).to_contain_text("Connection lost", timeout=WAIT_MS)
    service.silent = False
    await expect(page.get_by_test_id("link-banner")).not_to_be_visible(timeout=WAIT_MS)
    assert service.live_requests >= 2


async def test_the_trend_fills_from_history_and_then_moves(services: Services, open_page: OpenPage) -> None:
    service = services(stub_plant.plant(), history=stub_plant.history)
    watched = await open_page(service, f"#/machine/{IMM}?signals=energy.active_power&span=600")
    page = watched.page
    trend = page.get_by_test_id("trend")
    line = page.get_by_test_id("trend-line")
    await expect(trend).to_have_attribute("data-loading", "false")
    await expect(line).to_have_count(1)
    await expect(trend.locator("canvas")).to_be_visible()
    filled = int(await line.get_attribute("data-points") or 0)
    assert filled > 200
    assert await trend.get_attribute("data-gaps") == "1", "the hole in the history is one gap"
    query = service.sample_queries[-1]
    assert query["asset"] == [IMM]
    assert "points" in query
    assert int(query["to"][0]) - int(query["from"][0]) == 600_000

    before = await trend.locator("canvas").screenshot()
    for step in range(3):
        service.push_values({POWER: (now_ms(), 20.0 + step, 0)})
        await expect(shown_value(page, "energy.active_power")).to_have_text(f"{20 + step}.00")
    # A page on a busy computer takes the service's clock for a little later than it is: what is not later than the end
    # of the history does not lengthen the line.
    async with asyncio.timeout(60):
        while f"{NOTHING} 22.00" not in await line.inner_text():
            await asyncio.sleep(0.2)
            service.push_values({POWER: (now_ms(), 22.0, 0)})
    assert await trend.locator("canvas").screenshot() != before
    assert watched.unexpected() == []


async def test_series_are_chosen_and_the_choice_survives_a_reload(
    services: Services, open_page: OpenPage
) -> None:
    service = services(stub_plant.plant(), history=stub_plant.history)
    page = (await open_page(service, f"#/machine/{IMM}")).page
    await expect(page.get_by_test_id("trend-line")).to_have_count(3)
    await page.get_by_role("button", name="Draw Injection cushion").click()
    await expect(page.get_by_test_id("trend-line")).to_have_count(4)
    await page.get_by_role("button", name="Remove Active power from the trend").click()
    await page.get_by_role("button", name="8 hr").click()
    await page.reload()
    await expect(page.get_by_test_id("trend-line")).to_have_count(3)
    await expect(page.get_by_test_id("trend-line").last).to_contain_text("Injection cushion")
    await expect(page.get_by_role("button", name="8 hr")).to_have_attribute("aria-pressed", "true")


async def test_quality_and_units_are_shown(services: Services, open_page: OpenPage) -> None:
    service = services(stub_plant.plant())
    page = (await open_page(service, f"#/machine/{IMM}")).page
    zone = page.locator('tr[data-signal="barrel.zone_1.temperature"]')
    await expect(zone).to_contain_text("210.4 °C")
    await expect(shown_value(page, "status.mode")).to_have_text("automatic")
    now = now_ms()
    service.push_values(
        {series_id("barrel.zone_1.temperature"): (now, 211.0, 1), series_id("cycle.time"): (now, None, 2)}
    )
    await expect(zone.get_by_test_id("quality")).to_contain_text("uncertain")
    cycle = page.locator('tr[data-signal="cycle.time"]')
    await expect(cycle).to_contain_text("no value")
    await expect(cycle.get_by_test_id("quality")).to_contain_text("bad")


async def test_hostile_texts_are_inert(services: Services, open_page: OpenPage) -> None:
    plant = stub_plant.plant()
    plant.machines[0].update(name=HOSTILE, job=HOSTILE, reason=HOSTILE)
    plant.sites[1].update(name=HOSTILE, time_zone=HOSTILE)
    plant.alarms[0].update(kind=HOSTILE, subject=HOSTILE, message=HOSTILE, asset=HK)
    plant.agents[0].update(id=HOSTILE, contact=False)
    plant.series[series_id("injection.cushion")] = (IMM, "injection.cushion", HOSTILE)
    service = services(plant, history=stub_plant.history)
    service.push_values({series_id("job.name"): (now_ms(), HOSTILE, 0)})
    watched = await open_page(service, "#/")
    page = watched.page
    await expect(tile(page, HK).get_by_role("heading")).to_have_text(HOSTILE)
    for location in (f"#/site/{HK}", f"#/machine/{IMM}?signals=injection.cushion"):
        await page.goto(f"{service.origin}/{location}")
        await expect(page.locator("main")).to_contain_text(HOSTILE)
    await expect(shown_value(page, "job.name")).to_have_text(HOSTILE)
    canvas = page.get_by_test_id("trend").locator("canvas")
    await canvas.hover()
    assert await page.evaluate("window.owned") is None
    assert await page.locator("main img, main script").count() == 0
    assert watched.unexpected() == []


async def test_a_user_signs_in_stays_in_and_signs_out(services: Services, open_page: OpenPage) -> None:
    service = services(stub_plant.plant(), user=("anna", "seven words are long"), history=stub_plant.history)
    watched = await open_page(service)
    page = watched.page
    await page.get_by_label("User", exact=True).fill("anna")
    await page.get_by_label("Password", exact=True).fill("wrong")
    await page.keyboard.press("Enter")
    await expect(page.get_by_test_id("login")).to_contain_text("do not belong together")
    await page.get_by_label("Password", exact=True).fill("seven words are long")
    await page.keyboard.press("Enter")
    await expect(page.get_by_test_id("site-tile")).to_have_count(3)
    assert [login["password"] for login in service.logins] == ["wrong", "seven words are long"]
    # No script can read the session, and nothing of it stays where one could.
    assert await page.evaluate("document.cookie + JSON.stringify(sessionStorage)") == "{}"
    await page.reload()
    await expect(page.get_by_test_id("sign-out")).to_contain_text("anna")
    await page.get_by_test_id("sign-out").click()
    await expect(page.get_by_test_id("login")).to_be_visible()
    assert not service.signed_in
    assert watched.unexpected("401") == []


async def test_401_asks_for_a_token_and_keeps_it_for_the_tab(services: Services, open_page: OpenPage) -> None:
    service = services(stub_plant.plant(), token="viewer-token-1", history=stub_plant.history)
    watched = await open_page(service)
    page = watched.page
    prompt = page.get_by_test_id("token-prompt")
    await expect(prompt).to_be_visible()
    await expect(page.get_by_label("User", exact=True)).to_be_focused()
    await page.get_by_label("Viewer token", exact=True).fill("wrong")
    await page.keyboard.press("Enter")
    await expect(prompt).to_contain_text("not accepted")
    await page.get_by_label("Viewer token", exact=True).fill("viewer-token-1")
    await page.keyboard.press("Enter")
    await expect(page.get_by_test_id("site-tile")).to_have_count(3)
    assert "viewer-token" not in page.url
    await page.goto(f"{service.origin}/#/machine/{IMM}")
    await page.reload()
    await expect(page.get_by_test_id("trend")).to_have_attribute("data-loading", "false")
    assert int(await page.get_by_test_id("trend-line").first.get_attribute("data-points") or 0) > 100
    assert watched.unexpected("401") == []


async def test_addresses_lead_back_and_survive_a_reload(services: Services, open_page: OpenPage) -> None:
    service = services(stub_plant.plant(), history=stub_plant.history)
    page = (await open_page(service)).page
    await page.get_by_role("link", name="Hong Kong").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Hong Kong")
    await page.get_by_role("link", name="imm-01").click()
    await expect(page.get_by_test_id("machine-head")).to_contain_text(IMM)
    await page.reload()
    await expect(page.get_by_test_id("machine-head")).to_contain_text(IMM)
    await page.go_back()
    await expect(page.get_by_test_id("machine-card")).to_have_count(6)
    await page.go_back()
    await expect(page.get_by_test_id("site-tile")).to_have_count(3)


@pytest.mark.parametrize(
    ("location", "said"),
    [
        ("#/site/acme/xx99", "There is no site acme/xx99."),
        ("#/machine/acme/hk01/a/b/nobody", "There is no machine acme/hk01/a/b/nobody."),
        ("#/elsewhere", "There is no such page."),
    ],
)
async def test_what_does_not_exist_is_said(
    services: Services, open_page: OpenPage, location: str, said: str
) -> None:
    service = services(stub_plant.plant())
    page = (await open_page(service, location)).page
    await expect(page.get_by_role("heading", level=1)).to_have_text(said)


async def test_nothing_leaves_the_origin(services: Services, open_page: OpenPage) -> None:
    service = services(stub_plant.plant(), history=stub_plant.history)
    watched = await open_page(service)
    for location in (f"#/site/{HK}", f"#/machine/{IMM}"):
        await watched.page.goto(f"{service.origin}/{location}")
        await expect(watched.page.get_by_role("heading", level=1)).to_be_visible()
    await expect(watched.page.get_by_test_id("trend").locator("canvas")).to_be_visible()
    assert watched.hosts == {service.origin}
    assert watched.unexpected() == []


async def test_a_phone_has_nothing_to_scroll_sideways(services: Services, open_page: OpenPage) -> None:
    service = services(stub_plant.plant(), history=stub_plant.history)
    page = (await open_page(service, viewport={"width": 360, "height": 740})).page
    for location in ("#/", f"#/site/{DG}", f"#/machine/{IMM}"):
        await page.goto(f"{service.origin}/{location}")
        await expect(page.get_by_role("heading", level=1)).to_be_attached()
        overhang = await page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        assert overhang <= 0, location


async def test_an_empty_plant_says_so_and_fills_by_itself(services: Services, open_page: OpenPage) -> None:
    empty = stub_plant.plant()
    full: dict[str, Any] = {"sites": empty.sites}
    empty.sites, empty.machines, empty.agents, empty.series, empty.values = [], [], [], [], {}
    service = services(empty)
    page = (await open_page(service)).page
    await expect(page.locator("main")).to_contain_text("No site has reported yet")
    service.push("sites", full)
    await expect(page.get_by_test_id("site-tile")).to_have_count(3)


async def test_two_pages_share_a_service(services: Services, open_page: OpenPage) -> None:
    service = services(stub_plant.plant())
    pages = [(await open_page(service)).page for _ in range(2)]
    await asyncio.gather(*(expect(page.get_by_test_id("site-tile")).to_have_count(3) for page in pages))
    assert service.viewers() == 2
