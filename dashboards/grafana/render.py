"""All dashboards as JSON files: what Grafana is provisioned with lies in the repository, so that changes can be read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from dashboards.grafana import influxql, metricsql
from dashboards.grafana.boards.board import LIVE, LIVE_URL, built
from dashboards.grafana.boards.collector import collector
from dashboards.grafana.boards.energy import energy
from dashboards.grafana.boards.group import group
from dashboards.grafana.boards.machine import machine
from dashboards.grafana.boards.moulding import moulding
from dashboards.grafana.boards.site import site
from dashboards.grafana.language import Language

FOLDER: Final = Path(__file__).with_name("rendered")
"""``<language>/<board>.json``."""
LANGUAGES: Final = {one.name: one for one in (influxql.LANGUAGE, metricsql.LANGUAGE)}
BOARDS: Final = (group, site, machine, moulding, energy, collector)


def dashboards(language: Language, live_url: str = LIVE_URL) -> dict[str, dict[str, Any]]:
    """Return the dashboards of one language by name, as plain JSON.

    Args:
        language: of all queries.
        live_url: where browsers find the live page: an address, or a path below Grafana's own.
    """
    found = {}
    for make in BOARDS:
        board = make(language)
        text = json.dumps(built(language, board), cls=JSONEncoder)
        text = text.replace(LIVE, json.dumps(live_url.rstrip("/"))[1:-1])
        found[board.key] = _tidy(json.loads(text))
    return found


def _tidy(value: Any) -> Any:
    """Return JSON without what the SDK says of its own accord.

    ``placement`` would hide links and annotations in a menu, while a legend has a place; the others mean nothing where they
    stand.
    """
    if isinstance(value, list):
        return [_tidy(one) for one in value]
    if not isinstance(value, dict):
        return value
    idle = {"auto", "auto_count", "auto_min"}
    idle |= set() if "showLegend" in value else {"placement"}
    idle |= set() if "repeat" in value else {"repeatDirection"}
    return {name: _tidy(one) for name, one in value.items() if name not in idle}


def files(live_url: str = LIVE_URL) -> Iterator[tuple[Path, str]]:
    """Yield each file's path below the folder of rendered files, and its text."""
    for language in LANGUAGES.values():
        for name, dashboard in dashboards(language, live_url).items():
            text = json.dumps(dashboard, indent=1, ensure_ascii=False, sort_keys=True)
            yield Path(language.name) / f"{name}.json", text + "\n"


def write(folder: Path, live_url: str = LIVE_URL) -> list[Path]:
    """Write all files that are not there yet as they should be; return those."""
    changed = []
    for path, text in files(live_url):
        whole = folder / path
        if not whole.exists() or whole.read_text(encoding="utf-8") != text:
            whole.parent.mkdir(parents=True, exist_ok=True)
            whole.write_text(text, encoding="utf-8")
            changed.append(whole)
    return changed


def stale(folder: Path, live_url: str = LIVE_URL) -> list[str]:
    """Return what is wrong with the files of a folder: changed, missing, or not ours."""
    expected = dict(files(live_url))
    problems = []
    for path, text in expected.items():
        whole = folder / path
        if not whole.exists():
            problems.append(f"{whole}: is missing; render it")
        elif whole.read_text(encoding="utf-8") != text:
            problems.append(f"{whole}: differs from what the builders make; render it")
    there = {one.relative_to(folder) for name in LANGUAGES for one in (folder / name).glob("*.json")}
    return problems + [f"{folder / one}: no builder makes it" for one in sorted(there - expected.keys())]
