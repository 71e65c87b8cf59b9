"""Alert rules and contact points in the two forms that Grafana takes: provisioning files and the HTTP API.

In files Grafana replaces ``$NAME`` by the environment's, but not in a rule's queries and expressions: there a dollar sign
stays single (Grafana, pkg/services/provisioning/alerting: ``model`` is taken as it is written).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

import yaml

from dashboards.grafana.alerts import (
    FOLDER_TITLE,
    FOLDER_UID,
    GROUP,
    AlertRule,
    Engine,
    Input,
    alert_rules,
)
from dashboards.grafana.render import LANGUAGES, dashboards

CONTACT_POINT: Final = "Shopfloor"
REVISION_KEY: Final = "shopfloorRevision"
"""In the model of a rule's first query, where Grafana keeps keys that it does not know: what was pushed."""
EMAILS: Final = "SHOPFLOOR_ALERT_EMAILS"
_TYPES: Final = {"influxql": "influxdb", "metricsql": "prometheus"}
_EXPRESSION: Final = "__expr__"
_GROUP_BY: Final = ("grafana_folder", "alertname", "enterprise", "site")
_MODEL_WORDS: Final = ("query", "expr", "type", "expression", "reducer")


def rule_of_api(
    rule: AlertRule, engine: Engine, data_source_uid: str, contact_point: str = ""
) -> dict[str, Any]:
    """Return a rule as ``/api/v1/provisioning/alert-rules`` takes it; without a contact point policies decide whom it tells."""
    body: dict[str, Any] = {
        "uid": rule.uid,
        "orgID": 1,
        "folderUID": FOLDER_UID,
        "ruleGroup": GROUP,
        **_core(rule, engine, data_source_uid),
        "keep_firing_for": _duration(rule.keep_firing_s),
        "isPaused": False,
    }
    if contact_point:
        body["notification_settings"] = _notification(contact_point)
    body["data"][0]["model"][REVISION_KEY] = revision(body)
    return body


def revision(rule: Mapping[str, Any]) -> str:
    """Return a short hash of what a rule of the API warns of, and how; not of where it is and whom it tells."""
    core = {
        "data": [
            {
                "refId": one.get("refId"),
                "datasourceUid": one.get("datasourceUid"),
                "range": (one.get("relativeTimeRange") or {}).get("from", 0),
                "model": {key: one["model"].get(key) for key in _MODEL_WORDS},
                "limits": [part.get("evaluator", {}) for part in one["model"].get("conditions") or ()],
            }
            for one in rule.get("data", ())
        ],
        **{
            key: rule.get(key)
            for key in ("title", "condition", "noDataState", "execErrState", "for", "labels", "annotations")
        },
    }
    return hashlib.sha256(json.dumps(core, sort_keys=True).encode()).hexdigest()[:12]


def shown_by(rule: AlertRule, engine: Engine) -> tuple[str, int]:
    """Return the uid of the dashboard and the id of the panel that show what a rule is about."""
    dashboard = _boards(engine)[rule.panel[0]]
    (panel,) = [one["id"] for one in dashboard["panels"] if one["title"] == rule.panel[1]]
    return str(dashboard["uid"]), int(panel)


@cache
def _boards(engine: Engine) -> dict[str, dict[str, Any]]:
    return dashboards(LANGUAGES[engine])


def rules_file(engine: Engine, data_source_uid: str) -> str:
    """Return ``alerting/rules.yaml``: all rules, which tell `CONTACT_POINT` and leave the policies alone."""
    rules = [
        {
            "uid": rule.uid,
            **_core(rule, engine, data_source_uid),
            **dict(zip(("dashboardUid", "panelId"), shown_by(rule, engine), strict=True)),
            **({"keepFiringFor": _duration(rule.keep_firing_s)} if rule.keep_firing_s else {}),
            "isPaused": False,
            "notification_settings": _notification(CONTACT_POINT),
        }
        for rule in alert_rules()
    ]
    group = {"orgId": 1, "name": GROUP, "folder": FOLDER_TITLE, "interval": "1m", "rules": rules}
    return to_yaml({"apiVersion": 1, "groups": [group]})


def contact_points_file() -> str:
    """Return ``alerting/contact-points.yaml``; the addresses come from the environment."""
    receiver = {
        "uid": "shopfloor-email",
        "type": "email",
        "settings": {"addresses": f"${{{EMAILS}}}", "singleEmail": False},
        "disableResolveMessage": False,
    }
    point = {"orgId": 1, "name": CONTACT_POINT, "receivers": [receiver]}
    return to_yaml({"apiVersion": 1, "contactPoints": [point]})


def to_yaml(document: dict[str, Any]) -> str:
    """Return a provisioning file's text."""
    head = "# Written by `shopfloor dashboards render`: changes belong into dashboards/grafana.\n"
    return head + yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=1000)


def _core(rule: AlertRule, engine: Engine, data_source_uid: str) -> dict[str, Any]:
    uid, panel = shown_by(rule, engine)
    return {
        "title": rule.title,
        "condition": "fires",
        "data": _data(rule, engine, data_source_uid),
        "noDataState": "Alerting" if rule.on_silence else "OK",
        # One rule says that the database does not answer; from ten it would be ten alerts.
        "execErrState": "Alerting" if rule.on_silence else "KeepLast",
        "for": _duration(rule.for_s),
        "annotations": {
            "summary": rule.summary,
            "description": rule.what_to_do,
            "__dashboardUid__": uid,
            "__panelId__": str(panel),
        },
        "labels": {"severity": rule.severity, "shopfloor": rule.kind},
    }


def _data(rule: AlertRule, engine: Engine, data_source_uid: str) -> list[dict[str, Any]]:
    data: list[dict[str, Any]] = []
    for one in rule.inputs:
        if engine == "metricsql":
            # An instant query yields numbers already: nothing is to be reduced.
            data.append(_asked(one, one.name, engine, data_source_uid))
        else:
            series = f"{one.name}_series"
            data.append(_asked(one, series, engine, data_source_uid))
            data.append(_computed(one.name, {"type": "reduce", "expression": series, "reducer": "last"}))
    if rule.maths:
        data.append(_computed("value", {"type": "math", "expression": rule.maths}))
    kind, low, high = rule.fires
    evaluator = {"type": kind, "params": [low, high] if kind == "outside_range" else [low]}
    threshold = {"type": "threshold", "expression": "value", "conditions": [{"evaluator": evaluator}]}
    data.append(_computed("fires", threshold))
    return data


def _asked(one: Input, ref_id: str, engine: Engine, data_source_uid: str) -> dict[str, Any]:
    model: dict[str, Any] = {
        "refId": ref_id,
        "datasource": {"type": _TYPES[engine], "uid": data_source_uid},
        "intervalMs": 1000,
        "maxDataPoints": 43200,
    }
    if engine == "influxql":
        model |= {"rawQuery": True, "resultFormat": "time_series", "query": one.query(engine)}
    else:
        model |= {"expr": one.query(engine), "instant": True, "range": False, "editorMode": "code"}
    return {
        "refId": ref_id,
        "relativeTimeRange": {"from": one.range_s, "to": 0},
        "datasourceUid": data_source_uid,
        "model": model,
    }


def _computed(ref_id: str, words: dict[str, Any]) -> dict[str, Any]:
    source = {"type": _EXPRESSION, "uid": _EXPRESSION}
    return {
        "refId": ref_id,
        "relativeTimeRange": {"from": 0, "to": 0},
        "datasourceUid": _EXPRESSION,
        "model": {
            "refId": ref_id,
            "datasource": source,
            "intervalMs": 1000,
            "maxDataPoints": 43200,
            **words,
        },
    }


def _notification(contact_point: str) -> dict[str, Any]:
    return {"receiver": contact_point, "group_by": list(_GROUP_BY)}


def _duration(seconds: int) -> str:
    """Return a duration as Grafana writes it, so that what comes back is the same."""
    if seconds and seconds % 60 == 0:
        return f"{seconds // 60}m"
    return f"{seconds}s"
