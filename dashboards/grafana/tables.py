"""Tables of newest figures, one row a series."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from grafana_foundation_sdk.builders import dashboard as make
from grafana_foundation_sdk.builders import table
from grafana_foundation_sdk.models import dashboard as model

from dashboards.grafana.ask import Column, Rows
from dashboards.grafana.language import Language, Query
from dashboards.grafana.look import FIELDS, MACHINE_STATES, mappings, thresholds
from dashboards.grafana.panels import Drawn, Place, dressed, ref


def rows(
    language: Language,
    key: str,
    title: str,
    asked: Rows,
    place: Place,
    *,
    text: str = "",
    links: Mapping[str, Sequence[make.DashboardLink]] | None = None,
    hidden: Sequence[str] = ("enterprise",),
    headings: Mapping[str, str] | None = None,
) -> Drawn:
    """Return a table of newest figures, one row a series.

    Args:
        language: of the queries.
        key: name of the panel within its board.
        title: its title.
        asked: for what.
        place: its size.
        text: what a reader should know.
        links: of tags.
        hidden: tags that are not shown.
        headings: of tags, where they are not called by their own name.
    """
    panel = dressed(table.Panel(), language, "number", place, title, text)
    targets = language.rows(asked)
    for number, target in enumerate(targets):
        panel.with_target(Query({**target, "refId": ref(number)}))
    if len(targets) > 1:
        panel.with_transformation(model.DataTransformerConfig(id_val="merge", options={}))
    panel.no_value("—")
    for position, column in enumerate(asked.columns):
        panel.override_by_name(language.column(asked, position), _cell(column))
    for tag in ("Time", *hidden):
        panel.override_by_name(tag, [model.DynamicConfigValue(id_val="custom.hidden", value=True)])
    for tag in asked.by:
        dressing = []
        if heading := (headings or {}).get(tag, tag.replace("_", " ").capitalize()):
            dressing.append(model.DynamicConfigValue(id_val="displayName", value=heading))
        if tag in (links or {}):
            given = [one.build() for one in (links or {})[tag]]
            dressing.append(model.DynamicConfigValue(id_val="links", value=given))
        if tag not in hidden:
            panel.override_by_name(tag, dressing)
    return Drawn(key, panel)


def _cell(column: Column) -> list[model.DynamicConfigValue]:
    how = FIELDS[column.look]
    dressing: list[tuple[str, Any]] = [("displayName", column.title), ("unit", how.unit)]
    if how.decimals is not None:
        dressing.append(("decimals", how.decimals))
    if how.words:
        dressing.append(("mappings", mappings(how)))
    if how.steps:
        dressing.append(("thresholds", thresholds(how).build()))
    if how.words or how.steps:
        dressing.append(("custom.cellOptions", {"type": "color-background", "mode": "basic"}))
    return [model.DynamicConfigValue(id_val=name, value=value) for name, value in dressing]


def state_columns() -> tuple[Column, ...]:
    """Return the columns of a table that count machines by state."""
    return tuple(
        Column(state, word, "unknown_any" if state == "unknown" else state)
        for state, (word, _) in MACHINE_STATES.items()
    )
