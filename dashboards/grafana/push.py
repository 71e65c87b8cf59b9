"""Fills a remote Grafana: folders, data source, contact point, dashboards, alert rules, service account."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final

from dashboards.grafana.alerts import FOLDER_TITLE, FOLDER_UID, Engine, alert_rules
from dashboards.grafana.alerts_render import rule_of_api
from dashboards.grafana.datasources import data_source
from dashboards.grafana.push_config import PushConfig
from dashboards.grafana.push_items import (
    Action,
    How,
    Outcome,
    put_contact_point,
    put_dashboard,
    put_data_source,
    put_folder,
    put_rule,
    put_service_account,
)
from dashboards.grafana.push_remote import GrafanaRefused, Remote

DASHBOARDS_UID: Final = "shopfloor"
DASHBOARDS_TITLE: Final = "Shopfloor"


def engine_of(config: PushConfig) -> Engine:
    """Return the language in which the configured database is asked."""
    return "influxql" if config.datasource.kind == "influxdb" else "metricsql"


def push(
    config: PushConfig, remote: Remote, dashboards: Sequence[Mapping[str, Any]], how: How
) -> Iterator[Outcome]:
    """Yield what became of each thing, as it happens; what one request is refused fails alone.

    Args:
        config: what is wanted.
        remote: the Grafana, whose version was looked at.
        dashboards: classic dashboard models in the language of `engine_of`.
        how: only look, overwrite.

    Raises:
        GrafanaUnavailable: it does not answer any more; what was yielded is done, and doing it again changes nothing.
        GrafanaDenied: the credential is not taken.
    """
    wanted = data_source(config.datasource)
    yield _alone("data source", wanted["uid"], lambda: put_data_source(remote, how, wanted))
    folder = _alone(
        "folder", DASHBOARDS_TITLE, lambda: put_folder(remote, how, DASHBOARDS_UID, DASHBOARDS_TITLE)
    )
    yield folder
    for one in dashboards:
        board = _on(one, wanted)
        yield _inside(folder, "dashboard", board, partial(put_dashboard, remote, how, board, DASHBOARDS_UID))
    if config.alerts.enabled:
        yield from _alerts(config, remote, how)
    account = config.grafana.service_account
    if account is not None:
        yield _alone("service account", account.name, lambda: put_service_account(remote, how, account))


def _alerts(config: PushConfig, remote: Remote, how: How) -> Iterator[Outcome]:
    point = config.alerts.contact_point
    if point:
        yield _alone("contact point", point, lambda: put_contact_point(remote, how, config.alerts))
    folder = _alone("folder", FOLDER_TITLE, lambda: put_folder(remote, how, FOLDER_UID, FOLDER_TITLE))
    yield folder
    try:
        there = remote.rules()
    except GrafanaRefused as error:
        yield Outcome("alert rules", "all", Action.FAIL, error.reason)
        return
    for rule in alert_rules():
        body = rule_of_api(rule, engine_of(config), config.datasource.uid, point)
        yield _inside(folder, "alert rule", body, partial(put_rule, remote, how, body, there.get(rule.uid)))


def _on(dashboard: Mapping[str, Any], source: Mapping[str, Any]) -> dict[str, Any]:
    """Return a dashboard that opens on a data source, where there are several of its kind."""
    chosen = {"current": {"text": source["name"], "value": source["uid"]}}
    variables = [
        {**one, **chosen} if one.get("type") == "datasource" else one
        for one in dashboard.get("templating", {}).get("list", [])
    ]
    return {**dashboard, "templating": {"list": variables}} if variables else dict(dashboard)


def _inside(folder: Outcome, kind: str, one: Mapping[str, Any], put: Callable[[], Outcome]) -> Outcome:
    name = f"{one['title']} ({one['uid']})"
    if folder.action is Action.FAIL:
        return Outcome(kind, name, Action.FAIL, "its folder is not there")
    return _alone(kind, name, put)


def _alone(kind: str, name: str, put: Callable[[], Outcome]) -> Outcome:
    try:
        return put()
    except GrafanaRefused as error:
        return Outcome(kind, name, Action.FAIL, error.reason)
