"""What the doctor says is for people within 100 columns, whole for programs, and decides the exit status."""

from __future__ import annotations

import json

from shopfloor.findings import Finding, Section, Verdict, as_json, as_lines, failure, is_sound, ok, warning

LONG = "acme/hk01/moulding/cell-a/imm-01:barrel.zone_1.temperature.of.the.second.heater.band"


def row(name: str, verdict: Verdict = Verdict.OK, text: str = "") -> Finding:
    return Finding(text=text, verdict=verdict, advice="look there", cells=(name, "Good", "Double"))


def test_only_a_failure_fails() -> None:
    fine = [Section("a", [ok("x"), warning("y", "do")])]
    assert is_sound(fine)
    assert not is_sound([*fine, Section("b", [failure("z", "do")])])


def test_lines_are_narrow_and_what_is_wrong_is_told_with_what_to_do() -> None:
    sections = [
        Section("uplink", [ok("word " * 60), failure("it is broken", "mend it " * 30)]),
        Section(
            "source imm-01",
            [row(LONG), row("short"), row(LONG[::-1], Verdict.FAILURE, f"{LONG}: BadNodeIdUnknown")],
            ("node", "status", "type"),
        ),
    ]
    lines = list(as_lines(sections))
    assert max(map(len, lines)) <= 100
    assert "  FAIL  it is broken" in lines
    assert any(line.startswith("        -> mend it mend it") for line in lines)
    head = next(line for line in lines if "status" in line)
    good = next(line for line in lines if "short" in line)
    assert head.index("status") == good.index("Good")
    assert f"  FAIL  {LONG}:" in lines
    assert "        BadNodeIdUnknown" in lines
    assert lines[-1] == "2 failures, 0 warnings, 3 ok"


def test_programs_get_everything() -> None:
    told = as_json([Section("disk", [ok("there", free_bytes=7), warning("slow", "buy", commit_s=0.1)])])
    assert json.loads(json.dumps(told)) == {
        "sound": True,
        "warnings": 1,
        "failures": 0,
        "sections": [
            {
                "name": "disk",
                "findings": [
                    {"verdict": "ok", "text": "there", "advice": "", "figures": {"free_bytes": 7}},
                    {"verdict": "warning", "text": "slow", "advice": "buy", "figures": {"commit_s": 0.1}},
                ],
            }
        ],
    }
