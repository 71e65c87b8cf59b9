"""Which parts are merged when."""

from __future__ import annotations

from ingest_service.stores.duckdb_catalog import DAY_NS, Part
from ingest_service.stores.duckdb_plan import FAN, plan_merge

TODAY = 20_000
HOUR_NS = DAY_NS // 24
NOON = TODAY * DAY_NS + 12 * HOUR_NS


def part(number: int, samples: int, day: int = TODAY, made_at: int = NOON, **more: object) -> Part:
    one = Part(
        part_id=number,
        run=number,
        file=f"d/{number}.parquet",
        keeping="-/-/-",
        day=day,
        first_time=day * DAY_NS,
        last_time=day * DAY_NS + 1,
        samples=samples,
        repeats=0,
        bytes=1,
        sha256="",
        minutes=False,
        hours=False,
        made_at=made_at,
    )
    return one._replace(**more)  # type: ignore[arg-type]


def ids(chosen: object) -> list[int]:
    return sorted(one.part_id for one in chosen) if isinstance(chosen, list) else []


def test_runs_of_one_size_become_one_while_the_day_goes_on() -> None:
    parts = [part(number, 1000) for number in range(FAN - 1)]
    assert plan_merge(parts, NOON) is None
    # A large one stays out of it, smaller ones come along.
    more = [*parts, part(20, 1001), part(21, 1_000_000), part(22, 10)]
    assert ids(plan_merge(more, NOON)) == [*range(FAN - 1), 20, 22]


def test_parts_of_other_days_and_rules_and_those_without_files_stay_apart() -> None:
    parts = [part(number, 1000, day=TODAY - number % 2) for number in range(2 * FAN - 2)]
    assert plan_merge(parts, TODAY * DAY_NS) is None
    rules = [part(number, 1000, keeping=f"{number % 2 + 1}/-/-") for number in range(2 * FAN - 2)]
    assert plan_merge(rules, NOON) is None
    gone = [part(number, 1000, file=None) for number in range(2 * FAN)]
    assert plan_merge(gone, NOON, everything=True) is None


def test_a_run_of_several_files_is_one() -> None:
    parts = [part(number, 1000, run=7) for number in range(2 * FAN)]
    assert plan_merge(parts, NOON, everything=True) is None
    assert ids(plan_merge([*parts, part(50, 5)], NOON, everything=True)) == [*range(2 * FAN), 50]


def test_what_is_left_of_a_day_becomes_one_run_when_it_is_over_and_quiet() -> None:
    yesterday = TODAY - 1
    made = TODAY * DAY_NS
    parts = [part(1, 1000, yesterday, made), part(2, 100, yesterday, made)]
    assert plan_merge(parts, made + HOUR_NS // 2) is None
    assert ids(plan_merge(parts, made + 2 * HOUR_NS)) == [1, 2]
    assert plan_merge([*parts, part(3, 1, yesterday, made + 2 * HOUR_NS)], made + 2 * HOUR_NS) is None


def test_little_beside_much_waits_for_a_day() -> None:
    yesterday = TODAY - 1
    made = TODAY * DAY_NS
    parts = [part(1, 1_000_000, yesterday, made - DAY_NS), part(2, 10, yesterday, made)]
    assert plan_merge(parts, made + 2 * HOUR_NS) is None
    assert ids(plan_merge(parts, made + DAY_NS)) == [1, 2]
