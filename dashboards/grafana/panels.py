"""The kinds of panels that boards are made of: small functions from what is asked to a panel of Grafana's."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple

from grafana_foundation_sdk.builders import bargauge, common, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.builders import dashboard as make
from grafana_foundation_sdk.models import common as common_model
from grafana_foundation_sdk.models import dashboard as model

from dashboards.grafana.ask import SAMPLE, Ask
from dashboards.grafana.language import Language, Query
from dashboards.grafana.look import FIELDS, mappings, thresholds

NO_REPORT: Final = "no report"
"""What a panel says that always has something to show unless something is wrong."""
NOW: Final = "2m"
"""What is "now" for reports, which come every few seconds: a series that vanished is gone from a panel after so long."""
_SAMPLES_NULLS_MS: Final = 15 * 60_000
"""A line of samples goes on over so much without one: longer ones than a slow cycle are seen as a hole."""
_REPORTS_NULLS_MS: Final = 2 * 60_000
"""The same for what is reported."""
_FINEST: Final = "30s"
"""Shortest interval of what is reported: at least one report lies in each."""
RATE_FINEST: Final = "1m"
"""The same for what is counted from report to report: of one interval there are as many as of the next."""

Panel = stat.Panel | timeseries.Panel | statetimeline.Panel | table.Panel | bargauge.Panel


class Place(NamedTuple):
    """A panel's size, in columns of 24 and rows."""

    width: int
    height: int


class Drawn(NamedTuple):
    """A panel and the name that its number is made of."""

    key: str
    panel: Panel


def panel_id(board: str, key: str) -> int:
    """Return the number of a panel: it follows from its name alone, so that panels before it may come and go."""
    return zlib.crc32(f"{board}/{key}".encode()) % 1_000_000 + 1


def dressed(
    panel: Any, language: Language, look: str, place: Place, title: str, text: str, *, by_value: bool = True
) -> Any:
    """Return a panel with its title, size, database and look; ``by_value`` colours it by thresholds, else by series."""
    how = FIELDS[look]
    mode = model.FieldColorModeId.THRESHOLDS if by_value else model.FieldColorModeId.PALETTE_CLASSIC
    panel.color_scheme(make.FieldColor().mode(mode))
    panel.title(title).datasource(language.source).span(place.width).height(place.height).unit(how.unit)
    panel.thresholds(thresholds(how)).mappings(mappings(how))
    if text:
        panel.description(text)
    if how.decimals is not None:
        panel.decimals(how.decimals)
    if how.minimum is not None:
        panel.min(how.minimum)
    return panel


def _asked(panel: Any, language: Language, asks: Sequence[Ask]) -> Any:
    for number, ask in enumerate(asks):
        panel.with_target(Query({**language.target(ask), "refId": ref(number)}))
    return panel


def _nulls_ms(asks: Sequence[Ask]) -> int:
    samples = any(one.measurement == SAMPLE for one in asks)
    return _SAMPLES_NULLS_MS if samples else _REPORTS_NULLS_MS


def ref(number: int) -> str:
    """Return the refId of a panel's query, from 0."""
    return chr(ord("A") + number)


def link(title: str, url: str) -> make.DashboardLink:
    """Return a link of a value or of a row."""
    return make.DashboardLink(title).url(url)


def now(
    language: Language,
    key: str,
    title: str,
    asks: Sequence[Ask],
    look: str,
    place: Place,
    *,
    text: str = "",
    within: str = NOW,
    nothing: str = "",
    looks: Mapping[int, str] | None = None,
    links: Sequence[make.DashboardLink] = (),
) -> Drawn:
    """Return a panel of newest figures, each in its colour.

    Args:
        language: of the queries.
        key: name of the panel within its board.
        title: its title.
        asks: for one figure a series.
        look: of the figures.
        place: its size.
        text: what a reader should know.
        within: how old a figure may be.
        nothing: what an empty answer means, where it is no fault.
        looks: of single asks, by position, where they differ.
        links: of each figure.
    """
    panel = dressed(stat.Panel(), language, look, place, title, text)
    _asked(panel, language, [one._replace(within=within) for one in asks])
    panel.color_mode(common_model.BigValueColorMode.BACKGROUND_SOLID).graph_mode(
        common_model.BigValueGraphMode.NONE
    ).reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
    panel.text_mode(common_model.BigValueTextMode.VALUE_AND_NAME)
    panel.data_links(list(links)).no_value(nothing or NO_REPORT)
    for number, name in (looks or {}).items():
        panel.override_by_query(
            ref(number),
            [model.DynamicConfigValue(id_val="thresholds", value=thresholds(FIELDS[name]).build())],
        )
    return Drawn(key, panel)


def totals(
    language: Language,
    key: str,
    title: str,
    asks: Sequence[Ask],
    look: str,
    place: Place,
    *,
    text: str = "",
    nothing: str = "",
) -> Drawn:
    """Return a panel of bars: what each series adds up to over the dashboard's span."""
    panel = dressed(bargauge.Panel(), language, look, place, title, text)
    _asked(panel, language, asks)
    panel.orientation(common_model.VizOrientation.HORIZONTAL).display_mode(
        common_model.BarGaugeDisplayMode.BASIC
    ).reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
    if nothing:
        panel.no_value(nothing)
    return Drawn(key, panel)


def trend(
    language: Language,
    key: str,
    title: str,
    asks: Sequence[Ask],
    look: str,
    place: Place,
    *,
    text: str = "",
    nothing: str = "",
    kind: Literal["line", "points", "bars", "stacked"] = "line",
    finest: str = _FINEST,
    held: Sequence[int] = (),
    links: Sequence[make.DashboardLink] = (),
) -> Drawn:
    """Return a chart over time. What is missing is a hole, neither a line nor zero.

    Args:
        language: of the queries.
        key: name of the panel within its board.
        title: its title.
        asks: for its series.
        look: of the values.
        place: its size.
        text: what a reader should know.
        nothing: what an empty answer means, where it is no fault.
        kind: points for what belongs to single cycles, bars for what belongs to spans.
        finest: shortest interval.
        held: positions of asks for values that hold until another one comes, such as setpoints.
        links: of each value.
    """
    panel = dressed(timeseries.Panel(), language, look, place, title, text, by_value=False)
    _asked(panel, language, asks)
    panel.interval(finest).span_nulls(_nulls_ms(asks)).line_width(1).data_links(list(links))
    panel.legend(
        common.VizLegendOptions()
        .display_mode(common_model.LegendDisplayMode.LIST)
        .placement(common_model.LegendPlacement.BOTTOM)
        .show_legend(True)
        .calcs([])
    ).tooltip(
        common.VizTooltipOptions()
        .mode(common_model.TooltipDisplayMode.MULTI)
        .sort(common_model.SortOrder.DESCENDING)
    )
    if kind == "points":
        panel.draw_style(common_model.GraphDrawStyle.POINTS).point_size(4)
    elif kind != "line":
        panel.draw_style(common_model.GraphDrawStyle.BARS).fill_opacity(70).line_width(0)
    if kind == "stacked":
        panel.stacking(common.StackingConfig().mode(common_model.StackingMode.NORMAL).group("A"))
    if nothing:
        panel.no_value(nothing)
    for number in held:
        dashed = {"fill": "dash", "dash": [6, 6]}
        panel.override_by_query(
            ref(number),
            [
                model.DynamicConfigValue(id_val="custom.lineInterpolation", value="stepAfter"),
                model.DynamicConfigValue(id_val="custom.spanNulls", value=True),
                model.DynamicConfigValue(id_val="custom.lineStyle", value=dashed),
            ],
        )
    return Drawn(key, panel)


def states(
    language: Language,
    key: str,
    title: str,
    asks: Sequence[Ask],
    look: str,
    place: Place,
    *,
    text: str = "",
    finest: str = _FINEST,
    held: bool = False,
    links: Sequence[make.DashboardLink] = (),
) -> Drawn:
    """Return bands of states over time, one a series; where nothing was reported a band has a hole.

    Args:
        language: of the queries.
        key: name of the panel within its board.
        title: its title.
        asks: for numbers that stand for states.
        look: which states.
        place: its size.
        text: what a reader should know.
        finest: shortest interval.
        held: a state is said only when it changes, and holds until then.
        links: of each state.
    """
    panel = dressed(statetimeline.Panel(), language, look, place, title, text)
    _asked(panel, language, asks)
    panel.interval(finest).merge_values(True).show_value(common_model.VisibilityMode.AUTO).row_height(0.85)
    panel.span_nulls(held or _nulls_ms(asks)).per_page(30).fill_opacity(85).line_width(0).data_links(
        list(links)
    )
    panel.legend(
        common.VizLegendOptions()
        .display_mode(common_model.LegendDisplayMode.LIST)
        .placement(common_model.LegendPlacement.BOTTOM)
        .show_legend(True)
        .calcs([])
    )
    return Drawn(key, panel)
