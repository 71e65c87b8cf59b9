"""A viewer that comes back with the id where it left off gets what has changed since; anybody else begins anew."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.test_ingest_live import IMM, Plant

SITE = ("acme/hk01",)


async def begin(
    plant: Plant, last_event_id: str = "", scope: tuple[str, ...] = SITE
) -> tuple[dict[str, Any], str]:
    stream = plant.hub.watch(scope, last_event_id)
    chunk = (await anext(stream)).decode()
    await stream.aclose()
    *blocks, mark = chunk.strip().split("\n\n")
    found = {}
    for block in blocks:
        name, data = block.split("\n")
        found[name.removeprefix("event: ")] = json.loads(data.removeprefix("data: "))
    return found, mark.removeprefix("id: ")


async def test_only_what_changed_since_comes() -> None:
    plant = Plant()
    quiet, lively = plant.put(IMM, "quiet", 1), plant.put(IMM, "lively", 1)
    plant.tick()
    start, mark = await begin(plant)
    assert start["hello"]["resumed"] is False
    assert start["values"]["id"] == [quiet, lively]

    plant.put(IMM, "lively", 2)
    plant.tick()
    new = plant.put(IMM, "new", 3)
    plant.tick()
    start, again = await begin(plant, mark)
    assert start["hello"]["resumed"] is True
    assert start["series"]["id"] == [new]
    assert start["values"]["id"] == [lively, new]
    assert start["values"]["v"] == [2, 3]
    assert again != mark

    start, _ = await begin(plant, again)
    assert (start["series"]["id"], start["values"]["id"]) == ([], [])


async def test_what_the_tick_in_between_said_is_not_lost() -> None:
    """The id stands for what was sent with it, not for what the plant knew by then."""
    plant = Plant()
    number = plant.put(IMM, "x", 1)
    plant.tick()
    _, mark = await begin(plant)
    plant.put(IMM, "x", 2)  # not published yet
    start, mark = await begin(plant, mark)
    assert start["values"]["id"] == []
    plant.tick()
    start, _ = await begin(plant, mark)
    assert (start["values"]["id"], start["values"]["v"]) == ([number], [2])


@pytest.mark.parametrize(
    "spoiled", ["", "x", "0" * 16 + "-00000000-0", "{process}-{scope}-999", "{process}-00000000-1"]
)
async def test_another_process_scope_or_time_begins_anew(spoiled: str) -> None:
    plant = Plant()
    number = plant.put(IMM, "x", 1)
    plant.tick()
    _, mark = await begin(plant)
    process, scope, _ = mark.split("-")
    start, _ = await begin(plant, spoiled.format(process=process, scope=scope))
    assert start["hello"]["resumed"] is False
    assert start["values"]["id"] == [number]
    start, _ = await begin(plant, mark, ("acme",))
    assert start["hello"]["resumed"] is False


async def test_thousands_of_series_are_remembered() -> None:
    plant = Plant()
    for number in range(3000):
        plant.put(IMM, f"x.{number}", number)
    plant.tick()
    _, mark = await begin(plant)
    last = plant.put(IMM, "x.2999", -1)
    plant.tick()
    start, _ = await begin(plant, mark)
    assert (last, start["values"]["id"]) == (3000, [3000])


async def test_a_series_whose_unit_changed_is_announced_again() -> None:
    plant = Plant()
    number = plant.put(IMM, "x", 1)
    plant.tick()
    _, mark = await begin(plant)
    plant.hub.renew([number])
    plant.tick()
    start, mark = await begin(plant, mark)
    assert (start["series"]["id"], start["values"]["id"]) == ([number], [])
    plant.put(IMM, "x", 2)
    plant.tick()
    start, _ = await begin(plant, mark)
    assert (start["series"]["id"], start["values"]["id"]) == ([], [number])


async def test_viewers_that_come_together_are_told_the_same_but_the_time() -> None:
    plant = Plant()
    plant.put(IMM, "x", 1)
    plant.tick()
    first, mark = await begin(plant)
    plant.now += 1_000_000_000
    again, _ = await begin(plant)
    assert (first["values"], again["hello"]["now"]) == (again["values"], first["hello"]["now"] + 1000)
    resumed, _ = await begin(plant, mark)
    assert (resumed["hello"]["resumed"], resumed["values"]["id"]) == (True, [])
    narrow, _ = await begin(plant, scope=("acme/dg01",))
    assert narrow["series"]["id"] == []
    plant.put(IMM, "x", 2)
    plant.tick()
    later, _ = await begin(plant)
    assert later["values"]["v"] == [2]
