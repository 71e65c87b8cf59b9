"""What a look at something found, for people and for programs: ``edge check``, ``edge doctor``, ``ingest check``."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from shopfloor.tables import WIDTH, table

_MARKS: Final = {"ok": "ok", "warning": "WARN", "failure": "FAIL"}
_MARK_WIDTH: Final = 4


class Verdict(StrEnum):
    """What a finding means for the person who reads it."""

    OK = "ok"
    WARNING = "warning"
    """It works; somebody should look at it."""
    FAILURE = "failure"
    """It does not work, or loses data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing found out."""

    text: str
    verdict: Verdict = Verdict.OK
    advice: str = ""
    """What to do, where something is to be done."""
    figures: Mapping[str, Any] = field(default_factory=dict)
    """The same for programs; what JSON can hold."""
    cells: tuple[str, ...] = ()
    """Its row in the table of the section, beside the verdict; then ``text`` is shown only with an advice."""


def ok(text: str, **figures: Any) -> Finding:
    """Return a finding that asks nothing of anybody."""
    return Finding(text=text, figures=figures)


def warning(text: str, advice: str, **figures: Any) -> Finding:
    """Return a finding that somebody should look at."""
    return Finding(text=text, verdict=Verdict.WARNING, advice=advice, figures=figures)


def failure(text: str, advice: str, **figures: Any) -> Finding:
    """Return a finding that has to be put right."""
    return Finding(text=text, verdict=Verdict.FAILURE, advice=advice, figures=figures)


@dataclass(frozen=True, slots=True)
class Section:
    """Findings about one part: the disk, the uplink, a source."""

    name: str
    findings: Sequence[Finding]
    titles: tuple[str, ...] = ()
    """Of the table's columns, for findings with cells; the first column gives way where it is too wide."""


def is_sound(sections: Iterable[Section]) -> bool:
    """Tell whether nothing failed; warnings are no failure."""
    return not any(finding.verdict is Verdict.FAILURE for section in sections for finding in section.findings)


def as_json(sections: Sequence[Section]) -> dict[str, Any]:
    """Return everything for programs."""
    counted = [finding.verdict for section in sections for finding in section.findings]
    return {
        "sound": is_sound(sections),
        "warnings": counted.count(Verdict.WARNING),
        "failures": counted.count(Verdict.FAILURE),
        "sections": [
            {
                "name": section.name,
                "findings": [
                    {
                        "verdict": str(finding.verdict),
                        "text": finding.text,
                        "advice": finding.advice,
                        **({"figures": dict(finding.figures)} if finding.figures else {}),
                    }
                    for finding in section.findings
                ],
            }
            for section in sections
        ],
    }


def as_lines(sections: Sequence[Section]) -> Iterator[str]:
    """Yield everything for people, within 100 columns as far as words allow."""
    for section in sections:
        yield f"{section.name}:"
        plain = [finding for finding in section.findings if not finding.cells]
        for finding in plain:
            yield from _lines(finding, finding.text)
        rows = [finding for finding in section.findings if finding.cells]
        if rows:
            yield from _table(section.titles, rows)
    counted = [finding.verdict for section in sections for finding in section.findings]
    failures, warnings = counted.count(Verdict.FAILURE), counted.count(Verdict.WARNING)
    yield f"{failures} failures, {warnings} warnings, {len(counted) - failures - warnings} ok"


def _table(titles: Sequence[str], findings: Sequence[Finding]) -> Iterator[str]:
    rows = [finding.cells for finding in findings]
    head, *lines = table(titles, rows, giving=0, width=WIDTH - _MARK_WIDTH - 4)
    yield f"  {'':{_MARK_WIDTH}}  {head}"
    for finding, line in zip(findings, lines, strict=True):
        yield f"  {_MARKS[finding.verdict]:{_MARK_WIDTH}}  {line}"
    for finding in findings:
        if finding.verdict is not Verdict.OK:
            yield from _lines(finding, finding.text)


def _lines(finding: Finding, text: str) -> Iterator[str]:
    indent = " " * (_MARK_WIDTH + 4)
    yield from textwrap.wrap(
        f"{_MARKS[finding.verdict]:{_MARK_WIDTH}}  {text}",
        WIDTH,
        initial_indent="  ",
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    if finding.advice:
        yield from textwrap.wrap(
            finding.advice,
            WIDTH,
            initial_indent=f"{indent}-> ",
            subsequent_indent=f"{indent}   ",
            break_long_words=False,
            break_on_hyphens=False,
        )
