"""Points of one moment, and the lines that they are written as."""

from __future__ import annotations

from typing import Any

from ingest_service import report_points
from ingest_service.stores.own_points import Point, lines_of
from shopfloor import reports

S = 1_000_000_000
T0 = 1_760_000_000 * S


def test_machines_count_for_their_line_by_state() -> None:
    machine: dict[str, Any] = {"since": T0 // 10**6, "newest": None, "parts_today": 5}
    machines: dict[str, dict[str, Any]] = {
        "acme/hk01/moulding/cell-a/imm-01": {**machine, "state": "running", "contact": True},
        "acme/hk01/moulding/cell-a/imm-02": {
            **machine,
            "state": "unknown",
            "contact": False,
            "parts_today": None,
        },
        "acme/hk01/air": {**machine, "state": "idle", "contact": True},
        "acme/hk01/moulding/cell-a/imm-03": {},
    }
    points = list(report_points.machine_points(machines, T0 + S))
    (line,) = [one for one in points if one.measurement == reports.LINE]
    assert line.tags == {"enterprise": "acme", "site": "hk01", "area": "moulding", "line": "cell-a"}
    assert line.fields["parts_today"] == 5.0
    assert {
        name: line.fields[name] for name in ("machines", "running", "unknown", "idle", "down_unplanned")
    } == {
        "machines": 2,
        "running": 1,
        "unknown": 1,
        "idle": 0,
        "down_unplanned": 0,
    }
    states = [one.fields["state"] for one in points if one.measurement == reports.MACHINE]
    assert states == [1, 0, 2]
    machines["acme/hk01/moulding/cell-a/imm-01"]["parts_today"] = None
    (line,) = [
        one for one in report_points.machine_points(machines, T0 + S) if one.measurement == reports.LINE
    ]
    assert line.fields["parts_today"] is None, "where nobody counts, there are not no parts"


def test_lines_leave_out_what_is_not_known_and_escape_names() -> None:
    tags = {"agent": 'a,b =c"\\', "line": ""}
    point = Point(
        "agent", tags, {"n": 3, "x": 0.5, "gone": None, "nan": float("nan"), "text": 'say "x"\n'}, T0
    )
    assert lines_of([point], 1, texts=True) == [
        f'agent,agent=a\\,b\\ \\=c" n=3i,x=0.5,text="say \\"x\\" " {T0}'
    ]
    assert lines_of([point], 10**6, texts=False) == [f'agent,agent=a\\,b\\ \\=c" n=3i,x=0.5 {T0 // 10**6}']
    assert lines_of([Point("agent", {}, {"gone": None}, T0)], 1, texts=True) == []
