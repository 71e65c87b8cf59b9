"""A small plant for the stub service: three sites, machines in every state, values of every kind."""

from __future__ import annotations

import math
from typing import Any

from tests.browser.stub_service import Plant, now_ms

HK, DG, VN = "acme/hk01", "acme/dg01", "acme/vn01"
IMM = "acme/hk01/moulding/cell-a/imm-01"
MINUTE = 60_000


def site(
    asset: str, name: str, zone: str, counts: tuple[int, int, int], parts: int, kw: float | None
) -> dict[str, Any]:
    return {
        "asset": asset,
        "name": name,
        "time_zone": zone,
        "machines": dict(zip(("running", "stopped", "no_contact"), counts, strict=True)),
        "parts_today": parts,
        "power_kw": kw,
        "newest": now_ms(),
    }


def machine(
    asset: str, state: str = "running", *, minutes: float = 42, contact: bool = True, **more: Any
) -> dict[str, Any]:
    now = now_ms()
    return {
        "asset": asset,
        "name": asset.rpartition("/")[2],
        "site": "/".join(asset.split("/")[:2]),
        "state": state,
        "since": now - int(minutes * MINUTE),
        "contact": contact,
        "served_by": [f"{asset.split('/')[1]}-gateway/{asset.rpartition('/')[2]}"],
        "reason": "",
        "job": "PP-4411 Cap 28 mm",
        "parts_today": 512,
        "power_kw": 11.2,
        "cycle_s": 24.8,
        "newest": now if contact else now - int(minutes * MINUTE),
        **more,
    }


def agent(name: str, asset: str, *, contact: bool = True) -> dict[str, Any]:
    return {
        "id": name,
        "asset": asset,
        "contact": contact,
        "last_contact": now_ms() - (0 if contact else 12 * MINUTE),
        "sources": [{"name": "imm", "protocol": "opcua", "state": "running", "message": ""}],
    }


def alarm(
    kind: str, subject: str, asset: str, message: str, *, minutes: float = 12, **more: Any
) -> dict[str, Any]:
    return {
        "id": f"{kind}-{subject}",
        "kind": kind,
        "subject": subject,
        "asset": asset,
        "message": message,
        "since": now_ms() - int(minutes * MINUTE),
        "until": None,
        "acknowledged_at": None,
        "acknowledged_by": "",
        **more,
    }


IMM_SERIES = [
    ("status.mode", "", 1),
    ("status.production", "", 4),
    ("status.power_on", "", 1),
    ("status.standstill_reason", "", ""),
    ("job.name", "", "PP-4411 Cap 28 mm"),
    ("job.status", "", 6),
    ("job.good_parts_counter", "", 18_423),
    ("job.bad_parts_counter", "", 37),
    ("cycle.time", "s", 24.83),
    ("cycle.counter", "", 1_204_511),
    ("injection.cushion", "mm", 4.137),
    ("injection.pressure_max", "bar", 1042.6),
    *[(f"barrel.zone_{zone}.temperature", "Cel", 205.0 + 5 * zone + 0.37) for zone in range(1, 6)],
    *[(f"barrel.zone_{zone}.set_temperature", "Cel", 205.0 + 5 * zone) for zone in range(1, 6)],
    ("mould.status", "", 3),
    ("energy.active_power", "kW", 11.243),
    ("energy.active_energy", "kW.h", 88_412.5),
]


def plant() -> Plant:
    """Return a new plant, values as of now."""
    result = Plant(
        sites=[
            site(DG, "Dongguan", "Asia/Shanghai", (4, 2, 2), 18_204, 214.6),
            site(HK, "Hong Kong", "Asia/Hong_Kong", (4, 2, 0), 4711, 42.1),
            site(VN, "Binh Duong", "Asia/Ho_Chi_Minh", (0, 0, 2), 0, None),
        ],
        machines=[
            machine(IMM),
            machine(
                "acme/hk01/moulding/cell-a/imm-02", "setup", minutes=18, job="ABS-1020 Housing", cycle_s=None
            ),
            machine("acme/hk01/assembly/u-line/insert", minutes=3.4, power_kw=0.8, cycle_s=11.4),
            machine("acme/hk01/assembly/u-line/assemble", power_kw=0.6, cycle_s=11.9),
            machine(
                "acme/hk01/assembly/u-line/test", "idle", minutes=0.4, power_kw=0.3, cycle_s=11.2, job=""
            ),
            machine("acme/hk01/moulding/cell-a/imm-03", minutes=611),
            machine("acme/dg01/moulding/hall-1/imm-01", minutes=95),
            machine(
                "acme/dg01/moulding/hall-1/imm-02",
                "down_unplanned",
                minutes=12.5,
                reason="Barrel zone 3 heater fault",
            ),
            machine("acme/dg01/moulding/hall-1/imm-03", minutes=8.2),
            machine(
                "acme/dg01/moulding/hall-1/imm-04", "down_planned", minutes=190, reason="Mould maintenance"
            ),
            machine("acme/dg01/moulding/hall-2/imm-05", minutes=55),
            machine(
                "acme/dg01/moulding/hall-2/imm-06", "unknown", minutes=4, reason="status.mode has bad quality"
            ),
            machine(
                "acme/dg01/moulding/hall-2/imm-07",
                "unknown",
                minutes=6,
                contact=False,
                reason="source imm-07 unavailable",
            ),
            machine("acme/dg01/moulding/hall-2/imm-08", minutes=55),
            machine(
                "acme/vn01/moulding/hall/imm-01",
                "unknown",
                minutes=12,
                contact=False,
                reason="agent vn01-gateway: no contact",
            ),
            machine(
                "acme/vn01/moulding/hall/imm-02",
                "unknown",
                minutes=12,
                contact=False,
                reason="agent vn01-gateway: no contact",
            ),
        ],
        alarms=[
            alarm(
                "gap",
                "dg01-7f3a",
                DG,
                "agent dg01-gateway: 12 of the numbers 40 to 51 never came",
                minutes=95,
                acknowledged_at=now_ms() - 80 * MINUTE,
                acknowledged_by="user anna",
            ),
            alarm(
                "buffer_low",
                "dg01-gateway",
                DG,
                "the buffer lasts for less than 24 hours at its present rate",
                minutes=31,
            ),
            alarm("agent_silent", "vn01-gateway", VN, "not heard of since 2026-11-26T02:19:00+00:00"),
        ],
        agents=[
            agent("hk01-gateway", HK),
            agent("dg01-gateway", DG),
            agent("vn01-gateway", VN, contact=False),
        ],
        series=[(IMM, signal, unit) for signal, unit, _ in IMM_SERIES],
    )
    now = now_ms()
    for number, (_, _, value) in enumerate(IMM_SERIES):
        result.values[number] = (now, value, 0)
    return result


def series_id(signal: str) -> int:
    return [name for name, _, _ in IMM_SERIES].index(signal)


def history(_asset: str, signal: str, begin: int, end: int, points: int) -> dict[str, list[Any]] | None:
    """Return buckets of a gently moving value with ten silent per cent in the middle."""
    value = next(value for name, _, value in IMM_SERIES if name == signal)
    if not isinstance(value, float):
        return None
    every = (end - begin) / points
    rows = [row for row in range(points) if not 0.45 < row / points < 0.55]
    middle = [value * (1 + 0.04 * math.sin(row / 9) + 0.01 * math.sin(row * 1.7)) for row in rows]
    return {
        "t": [int(begin + row * every) for row in rows],
        "count": [10] * len(rows),
        "min": [v * 0.995 for v in middle],
        "max": [v * 1.005 for v in middle],
        "mean": middle,
        "first": middle,
        "last": middle,
    }
