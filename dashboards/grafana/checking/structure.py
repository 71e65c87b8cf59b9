"""What has to be true of a dashboard before anything is asked: pure functions of its JSON."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from dashboards.grafana.boards.board import LIVE

SCHEMA_VERSION: Final = 42
_WIDTH: Final = 24
_VARIABLE: Final = re.compile(r"\$\{(\w+)[^}]*\}|\$(\w+)")
_BUILT_IN: Final = {
    "timeFilter",
    "__from",
    "__to",
    "__interval",
    "__interval_ms",
    "__range",
    "__url_time_range",
    "__data",
    "__field",
}
_PANELS: Final = frozenset({"bargauge", "row", "stat", "state-timeline", "table", "timeseries"})
"""Panels that every Grafana brings with it, of those that the boards are made of."""
_UID: Final = re.compile(r"/d/([A-Za-z0-9_\-]+)")
_KINDS: Final = {"influxdb": "query", "prometheus": "expr"}
"""Type of a data source, and where a target of it has its query."""
_HARMLESS: Final = {"merge"}
"""Transformations that only lay the answers of several queries side by side."""


def query_of(target: Mapping[str, Any]) -> str:
    """Return the query of a target, empty where it has none."""
    return str(target.get("query") or target.get("expr") or "")


def panels_of(dashboard: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return all panels that ask something, those in closed rows included."""
    found = []
    for panel in dashboard.get("panels", []):
        if panel.get("type") == "row":
            found += panel.get("panels", [])
        else:
            found.append(panel)
    return found


def problems(dashboards: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return what is wrong with some dashboards that go into one Grafana, by name."""
    found = []
    for field in ("uid", "title"):
        values = [str(one.get(field)) for one in dashboards.values()]
        found += [
            f"two dashboards have the {field} {value!r}"
            for value in sorted({v for v in values if values.count(v) > 1})
        ]
    uids = {one.get("uid") for one in dashboards.values()}
    for name, dashboard in dashboards.items():
        found += [f"{name}: {problem}" for problem in _of_dashboard(dashboard)]
        if LIVE in str(dashboard):
            found.append(f"{name}: a link leads to {LIVE}, for which an address should stand")
        for uid in sorted(set(_UID.findall(str(dashboard))) - uids):
            found.append(f"{name}: a link leads to {uid!r}, which is none of them")
    return found


def _of_dashboard(dashboard: Mapping[str, Any]) -> Iterator[str]:
    if dashboard.get("schemaVersion") != SCHEMA_VERSION:
        yield f"schemaVersion is {dashboard.get('schemaVersion')}, not {SCHEMA_VERSION}"
    if not re.fullmatch(r"[A-Za-z0-9_\-]{1,40}", str(dashboard.get("uid", ""))):
        yield f"uid {dashboard.get('uid')!r} is none: at most 40 letters, digits, - and _"
    known: set[str] = set()
    for variable in dashboard.get("templating", {}).get("list", []):
        for missing in sorted(_names(str(variable.get("query", ""))) - known - _BUILT_IN):
            yield f"variable {variable['name']}: asks for ${missing}, which does not stand before it"
        known.add(variable["name"])
    everything = dashboard.get("panels", [])
    numbers = [panel.get("id") for panel in everything]
    if len(set(numbers)) != len(numbers) or not all(isinstance(one, int) and one > 0 for one in numbers):
        yield "ids of panels are not numbers of their own"
    yield from _overlaps(everything)
    for panel in everything:
        if panel.get("type") not in _PANELS:
            yield f"panel {panel.get('title')!r}: {panel.get('type')!r} is no type that is known here"
        repeat = panel.get("repeat")
        if repeat and repeat not in known:
            yield f"panel {panel.get('title')!r}: repeats by ${repeat}, which is no variable"
    for panel in panels_of(dashboard):
        yield from (f"panel {panel.get('title')!r}: {one}" for one in _of_panel(panel, known))
    for annotation in dashboard.get("annotations", {}).get("list", []):
        target = annotation.get("target", {})
        if not query_of(target):
            yield f"annotation {annotation.get('name')!r} asks nothing"
        for missing in sorted(_names(query_of(target)) - known - _BUILT_IN):
            yield f"annotation {annotation.get('name')!r}: there is no variable ${missing}"


def _of_panel(panel: Mapping[str, Any], known: set[str]) -> Iterator[str]:
    if not panel.get("title"):
        yield "has no title"
    targets = panel.get("targets", [])
    if not targets:
        yield "asks nothing"
    refs = [target.get("refId") for target in targets]
    if len(set(refs)) != len(refs):
        yield f"two queries have the same refId: {refs}"
    for target in targets:
        kind = target.get("datasource", {}).get("type")
        if kind not in _KINDS or target["datasource"].get("uid") != "${ds}":
            yield f"query {target.get('refId')} does not ask the database that ${{ds}} names"
        elif not target.get(_KINDS[kind]):
            yield f"query {target.get('refId')} is empty"
        for missing in sorted(_names(query_of(target)) - known - _BUILT_IN):
            yield f"query {target.get('refId')}: there is no variable ${missing}"
    for transformation in panel.get("transformations", []):
        if transformation.get("id") not in _HARMLESS:
            yield f"transformation {transformation.get('id')!r}: what is derived belongs into the service"
    for override in panel.get("fieldConfig", {}).get("overrides", []):
        matcher = override["matcher"]
        if matcher["id"] == "byFrameRefID" and matcher["options"] not in refs:
            yield f"overrides the looks of query {matcher['options']!r}, which it does not ask"
    steps = panel.get("fieldConfig", {}).get("defaults", {}).get("thresholds", {}).get("steps", [])
    if steps and steps[0].get("value") is not None:
        yield "thresholds do not begin with null"


def _overlaps(panels: list[Mapping[str, Any]]) -> Iterator[str]:
    taken: dict[tuple[int, int], str] = {}
    for panel in panels:
        place = panel.get("gridPos", {})
        x, y, w, h = (int(place.get(name, -1)) for name in "xywh")
        if min(x, y) < 0 or w < 1 or h < 1 or x + w > _WIDTH:
            yield f"panel {panel.get('title')!r} does not fit into {_WIDTH} columns: {place}"
            continue
        cells = [(column, row) for column in range(x, x + w) for row in range(y, y + h)]
        under = {taken[cell] for cell in cells if cell in taken}
        if under:
            yield f"panel {panel.get('title')!r} lies on {sorted(under)}"
        taken |= dict.fromkeys(cells, str(panel.get("title")))


def _names(text: str) -> set[str]:
    return {braced or plain for braced, plain in _VARIABLE.findall(text)}
