"""What comes out of a campaign: figures, and what a finding is looked into with."""

# ruff: noqa: T201  what a command prints is its purpose

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from tests.faults.accounts import Accounts
from tests.faults.books import Books
from tests.faults.inflicting import Inflictor
from tests.faults.sent import Balanced
from tests.faults.watch import Watch

_FIELDS: Final = (
    "produced", "stored", "quarantined", "dropped_recorded", "gaps_recorded", "gaps_unexplained", "missing",
    "duplicated", "wrong",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Report:
    """What came out of a campaign."""

    faults: int
    minutes: float
    """From the first word of a machine until everything had settled."""
    seed: int
    by_kind: dict[str, int]
    settled_s: float
    """How long after the last fault everything had arrived."""
    crashed: list[str]
    """Processes that ended by themselves."""
    accounts: Accounts
    books: Books
    """What the service's own ledger says."""
    balanced: Balanced | None = None
    """None for one process."""

    @property
    def clean(self) -> bool:
        """Whether nothing is amiss."""
        return (
            self.accounts.clean
            and not (self.crashed or self.books.amiss or self.books.missing)
            and (self.balanced is None or self.balanced.adds_up(self.books))
        )

    def as_json(self) -> dict[str, Any]:
        """Return the report as one flat object."""
        found = asdict(self.accounts)
        return {
            "faults": self.faults,
            "minutes": self.minutes,
            **{name: found[name] for name in _FIELDS},
            "permitted": self.accounts.permitted,
            "permitted_by": dict(self.accounts.permitted_by),
            "crashed": self.crashed,
            "ledger": asdict(self.books),
            "settled_s": self.settled_s,
            "seed": self.seed,
            "by_kind": self.by_kind,
            **({} if self.balanced is None else {"balanced": asdict(self.balanced)}),
        }


def write_evidence(folder: Path, inflictor: Inflictor, watch: Watch, accounts: Accounts) -> None:
    lines = [
        {"begin": each.begin, "end": each.end, **asdict(each.fault), "note": each.note}
        for each in sorted(inflictor.log, key=lambda each: each.begin)
    ]
    (folder / "faults.json").write_text("\n".join(map(json.dumps, lines)) + "\n")
    looks = [
        {"at": each.at_ns, "running": sorted(each.running), "pending": each.pending} for each in watch.looks
    ]
    (folder / "looks.json").write_text("\n".join(map(json.dumps, looks)) + "\n")
    (folder / "findings.txt").write_text("\n".join(accounts.examples) + "\n")


def print_table(report: Report) -> None:
    for name, value in report.as_json().items():
        shown = (
            ", ".join(f"{kind} {count}" for kind, count in value.items())
            if isinstance(value, dict)
            else value
        )
        print(f"{name.replace('_', ' '):18} {shown if shown != [] else 'none'}")
    for line in report.accounts.examples[:40]:
        print(line)
