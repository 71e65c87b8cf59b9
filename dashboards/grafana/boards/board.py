"""What all boards share: variables that follow one another, annotations, links, panels in rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from grafana_foundation_sdk.builders import dashboard as make
from grafana_foundation_sdk.models import dashboard as model

from dashboards.grafana.ask import Filter, Var
from dashboards.grafana.language import Language, Query
from dashboards.grafana.look import ORANGE, PURPLE, RED
from dashboards.grafana.panels import Drawn, link, panel_id
from shopfloor import reports

TAG: Final = "shopfloor"
LIVE_URL: Final = "/live"
"""Below Grafana's own address, where the proxy of ``deploy/`` leads on to the live page."""
LIVE: Final = "LIVE-PAGE"
"""What stands in links for that address until a board is rendered. No variable: some Grafanas encode those in links."""
SITE: Final = (Var("site"),)
LINE: Final = (Var("site"), Var("line"))
MACHINE: Final = (Var("site"), Var("line"), Var("cell", "machine"))


class Row(NamedTuple):
    """Panels below a heading; ``repeat`` names the variable for each of whose values they come anew."""

    title: str
    panels: Sequence[Drawn]
    repeat: str = ""


class Board(NamedTuple):
    """One dashboard."""

    key: str
    """Ending of its uid, and its file's name."""
    title: str
    description: str
    rows: Sequence[Row]
    variables: Sequence[make.QueryVariable] = ()
    annotated: Sequence[Filter] | None = None
    """Whose gaps and restarts are marked; None for no marks."""
    span: str = "now-6h"
    refresh: str = "10s"


def site_variable(language: Language, *, many: bool) -> make.QueryVariable:
    """Return the variable of sites; a board of one site follows that site's time zone."""
    return _query(language, "site", "Site", language.values("site", reports.SITE, ()), many=many)


def zone_variable(language: Language) -> make.QueryVariable:
    """Return the hidden variable that holds the time zone of the site: days begin at its midnight."""
    query = language.values("time_zone", reports.SITE, SITE)
    return _query(language, "tz", "Time zone", query, many=False).hide(model.VariableHide.HIDE_VARIABLE)


def line_variable(language: Language) -> make.QueryVariable:
    """Return the variable of lines of the chosen site."""
    return _query(language, "line", "Line", language.values("line", reports.MACHINE, SITE), many=True)


def machine_variable(language: Language, *, all_of_them: bool) -> make.QueryVariable:
    """Return the variable of machines of the chosen lines; without ``all_of_them`` one begins with the first alone."""
    query = language.values("cell", reports.MACHINE, LINE)
    variable = _query(language, "machine", "Machine", query, many=all_of_them)
    return variable if all_of_them else variable.multi(True)


def agent_variable(language: Language) -> make.QueryVariable:
    """Return the variable of agents of the chosen sites."""
    return _query(language, "agent", "Agent", language.values("agent", reports.AGENT, SITE), many=True)


def _query(language: Language, name: str, label: str, query: str, *, many: bool) -> make.QueryVariable:
    variable = (
        make.QueryVariable(name)
        .label(label)
        .datasource(language.source)
        .query(query)
        .definition(query)
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.NATURAL_ASC)
        .multi(many)
        .include_all(many)
    )
    if many:
        # "All" is one expression, however many there are.
        everything = model.VariableOption(selected=True, text=["All"], value=["$__all"])
        variable.all_value(".*").current(everything)
    return variable


def board_link(language: Language, title: str, board: str, *values: str) -> make.DashboardLink:
    """Return a link to another board with values such as ``var-site=${__data.fields.site}``."""
    query = "&".join(["var-ds=${ds}", *values, "${__url_time_range}"])
    return link(title, f"/d/{language.uid(board)}?{query}")


def live_site_link() -> make.DashboardLink:
    """Return the link from a row that has the tags of a site to the live page."""
    return link(
        "Live page", f"{LIVE}/#/site/${{__data.fields.enterprise}}/${{__data.fields.site}}"
    ).target_blank(True)


def live_machine_link(of: str = "__data.fields") -> make.DashboardLink:
    """Return the link from a row, or from a series (``__field.labels``), with the tags of a machine to the live page."""
    path = "/".join(f"${{{of}.{level}}}" for level in ("enterprise", "site", "area", "line", "cell"))
    return link("Live page", f"{LIVE}/#/machine/{path}").target_blank(True)


def built(language: Language, board: Board) -> model.Dashboard:
    """Return a board as Grafana's classic dashboard (schemaVersion 42); in its links stands `LIVE`."""
    uid, name = language.opens_on
    made = (
        make.Dashboard(board.title + language.suffix)
        .uid(language.uid(board.key))
        .description(board.description)
        .tags([TAG, f"{TAG}-{language.name}"])
        .time(board.span, "now")
        .timezone("browser")
        .refresh(board.refresh)
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .readonly()
        .with_variable(
            make.DatasourceVariable("ds")
            .label("Database")
            .type(language.datasource)
            .current(model.VariableOption(selected=True, text=name, value=uid))
        )
    )
    for variable in board.variables:
        made.with_variable(variable)
    if board.annotated is not None:
        for annotation in _annotations(language, board.annotated):
            made.annotation(annotation)
    made.link(
        make.DashboardLink("Shopfloor")
        .type(model.DashboardLinkType.DASHBOARDS)
        .tags([f"{TAG}-{language.name}"])
        .as_dropdown(True)
        .include_vars(True)
        .keep_time(True)
    ).link(
        make.DashboardLink("Live page")
        .type(model.DashboardLinkType.LINK)
        .icon("external link")
        .url(f"{LIVE}/")
        .target_blank(True)
    )
    for row in board.rows:
        head = make.Row(row.title).id(panel_id(board.key, f"row {row.title}"))
        made.with_row(head.repeat(row.repeat) if row.repeat else head)
        for drawn in row.panels:
            made.with_panel(drawn.panel.id(panel_id(board.key, drawn.key)))
    return made.build()


def _annotations(language: Language, where: Sequence[Filter]) -> list[make.AnnotationQuery]:
    found = []
    for name, kinds, color in (
        ("Gaps", ("source_gap",), PURPLE),
        ("Losses", ("dropped", "quarantined"), RED),
        ("Restarts", ("restart",), ORANGE),
    ):
        # A restart is an agent's, which serves many machines: the site is all that both have.
        of = [one for one in where if isinstance(one, Var) and one.tag in {"site", "agent"}]
        asked = language.events(kinds, of)
        annotation = (
            make.AnnotationQuery()
            .name(name)
            .datasource(language.source)
            .enable(True)
            .icon_color(color)
            .target(Query(asked["target"]))
        )
        if "step" in asked:
            annotation.step(asked["step"]).title_format(asked["titleFormat"]).text_format(asked["textFormat"])
            annotation.tag_keys(asked["tagKeys"])
        found.append(annotation)
    return found
