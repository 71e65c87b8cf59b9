"""What becomes of one dashboard, alert rule, data source and so on in a remote Grafana: look, decide, and do it.

What somebody changed there is not overwritten unless told to: of a dashboard the message of its newest version says whether
it is one of ours, of an alert rule a hash in the model of its first query.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final, NamedTuple

from dashboards.grafana.alerts_render import REVISION_KEY, revision
from dashboards.grafana.push_config import AlertConfig, ServiceAccountConfig
from dashboards.grafana.push_difference import Difference, differences
from dashboards.grafana.push_remote import GrafanaRefused, Remote, SavedVersion

_MESSAGE: Final = re.compile(r"shopfloor dashboards push ([0-9a-f]{12})")
_OWN_KEYS: Final = frozenset({"id", "version", "iteration"})
"""Keys of a dashboard that belong to Grafana."""
_RULE_KEYS: Final = (
    "title",
    "condition",
    "data",
    "noDataState",
    "execErrState",
    "for",
    "keep_firing_for",
    "annotations",
    "labels",
)
_NEWER_FORMAT: Final = 406


class Action(StrEnum):
    """What is done, or would be."""

    CREATE = "create"
    UPDATE = "update"
    UNCHANGED = "unchanged"
    KEEP = "keep"
    """It is not what is wanted, and stays."""
    FAIL = "fail"


class Outcome(NamedTuple):
    """What became of one thing."""

    kind: str
    name: str
    action: Action
    reason: str = ""
    changes: tuple[Difference, ...] = ()


class How(NamedTuple):
    """How to go about it."""

    dry_run: bool = False
    """Only look."""
    force: bool = False
    """Overwrite also what somebody changed, and give data sources their secrets again."""


def put_folder(remote: Remote, how: How, uid: str, title: str) -> Outcome:
    """Make a folder unless it is there; one that was renamed stays so."""
    if remote.folder(uid) is not None:
        return Outcome("folder", title, Action.UNCHANGED)
    if not how.dry_run:
        remote.create_folder(uid, title)
    return Outcome("folder", title, Action.CREATE)


def put_data_source(remote: Remote, how: How, wanted: Mapping[str, Any]) -> Outcome:
    """Make a data source or give it what it should have, then let Grafana ask the database."""
    uid = wanted["uid"]
    there = remote.data_source(uid)
    kind = "data source"
    if there is None:
        if how.dry_run:
            return Outcome(kind, uid, Action.CREATE)
        remote.create_data_source(dict(wanted))
        return _asked(remote, uid, Outcome(kind, uid, Action.CREATE))
    plain = {key: value for key, value in wanted.items() if key != "secureJsonData"}
    changes = tuple(differences(there, plain, only_ours=True))
    if there.get("readOnly"):
        reason = "it comes from a provisioning file of that server" if changes else ""
        kept = Outcome(kind, uid, Action.KEEP if changes else Action.UNCHANGED, reason, changes)
        return _asked(remote, uid, kept)
    set_there = there.get("secureJsonFields") or {}
    unset = [key for key in wanted.get("secureJsonData", {}) if not set_there.get(key)]
    # Whether a secret is the right one nobody can read: a database that refuses it says so.
    renew = bool(unset) or how.force or bool(remote.data_source_fault(uid))
    if not changes and not (renew and wanted.get("secureJsonData")):
        return _asked(remote, uid, Outcome(kind, uid, Action.UNCHANGED))
    reason = "" if changes else "its secrets are given again"
    outcome = Outcome(kind, uid, Action.UPDATE, reason, changes)
    if how.dry_run:
        return outcome
    json_data = {**(there.get("jsonData") or {}), **wanted["jsonData"]}
    body = {**there, **wanted, "jsonData": json_data}
    remote.update_data_source(uid, {key: value for key, value in body.items() if key != "secureJsonFields"})
    return _asked(remote, uid, outcome)


def put_dashboard(remote: Remote, how: How, wanted: Mapping[str, Any], folder: str) -> Outcome:
    """Save a dashboard; one that a user changed stays unless forced, one that was moved stays where it is."""
    uid = str(wanted["uid"])
    name = f"{wanted['title']} ({uid})"
    body: dict[str, Any] = {
        "dashboard": {**_own(wanted), "id": None},
        "folderUid": folder,
        "message": f"shopfloor dashboards push {dashboard_revision(wanted)}",
        "overwrite": False,
    }
    try:
        found = remote.dashboard(uid)
    except GrafanaRefused as error:
        if error.status != _NEWER_FORMAT:
            raise
        if not how.force:
            return Outcome(
                "dashboard", name, Action.KEEP, f"somebody saved it in a newer format: {error.reason}"
            )
        # What is there can't be read, and so has no version that could be named.
        body["overwrite"] = True
        return _saved(remote, how, body, Outcome("dashboard", name, Action.UPDATE, "overwritten unseen"))
    if found is None:
        return _saved(remote, how, body, Outcome("dashboard", name, Action.CREATE))
    there, meta = found["dashboard"], found.get("meta", {})
    last = remote.saved(uid)
    pushed = _pushed(last, there)
    if pushed == dashboard_revision(wanted):
        return Outcome("dashboard", name, Action.UNCHANGED)
    changes = tuple(differences(_own(there), _own(wanted)))
    if not changes:
        return Outcome("dashboard", name, Action.UNCHANGED)
    if meta.get("provisioned"):
        return Outcome(
            "dashboard", name, Action.KEEP, "it comes from a provisioning file of that server", changes
        )
    reason = ""
    if not pushed:
        who = f" by {last.by} on {last.at}" if last and last.by else ""
        reason = f"changed there{who} (version {there.get('version')})"
        if not how.force:
            return Outcome("dashboard", name, Action.KEEP, f"{reason}; --force overwrites it", changes)
        reason += ", overwritten"
    body["dashboard"] |= {"id": there.get("id"), "version": there.get("version")}
    body["folderUid"] = meta.get("folderUid", folder)
    return _saved(remote, how, body, Outcome("dashboard", name, Action.UPDATE, reason, changes))


def put_contact_point(remote: Remote, how: How, config: AlertConfig) -> Outcome:
    """Make the contact point unless it is there; one that is there is the users', whatever it says."""
    name = config.contact_point
    if name in remote.contact_points():
        return Outcome("contact point", name, Action.UNCHANGED)
    if config.email is None:
        reason = "there is none of that name, and alerts.email does not say whom it should tell"
        return Outcome("contact point", name, Action.FAIL, reason)
    settings = {"addresses": ";".join(config.email.addresses), "singleEmail": False}
    body = {"uid": "shopfloor-email", "name": name, "type": "email", "settings": settings}
    if not how.dry_run:
        remote.create_contact_point(body)
    return Outcome("contact point", name, Action.CREATE)


def put_rule(remote: Remote, how: How, wanted: Mapping[str, Any], there: Mapping[str, Any] | None) -> Outcome:
    """Make or replace an alert rule; one that a user changed stays unless forced.

    Whether a rule is paused, where it is and whom it tells belongs to the users once it is there.
    """
    name = f"{wanted['title']} ({wanted['uid']})"
    if there is None:
        if not how.dry_run:
            remote.create_rule(dict(wanted))
        return Outcome("alert rule", name, Action.CREATE)
    now = revision(there)
    if now == revision(wanted):
        return Outcome("alert rule", name, Action.UNCHANGED)
    changes = tuple(differences(_of_rule(there, wanted), _of_rule(wanted, wanted), only_ours=True))
    if there.get("provenance") not in {None, "", "api"}:
        return Outcome(
            "alert rule", name, Action.KEEP, f"it is provisioned there by {there['provenance']}", changes
        )
    reason = ""
    data = there.get("data") or [{}]
    if now != (data[0].get("model") or {}).get(REVISION_KEY):
        reason = f"changed there on {there.get('updated', 'an unknown day')}"
        if not how.force:
            return Outcome("alert rule", name, Action.KEEP, f"{reason}; --force overwrites it", changes)
        reason += ", overwritten"
    theirs = ("id", "orgID", "folderUID", "ruleGroup", "isPaused", "notification_settings")
    if not how.dry_run:
        remote.update_rule({**wanted, **{key: there[key] for key in theirs if key in there}})
    return Outcome("alert rule", name, Action.UPDATE, reason, changes)


def put_service_account(remote: Remote, how: How, config: ServiceAccountConfig) -> Outcome:
    """Make a service account and a token of it, unless the token's file is there."""
    kind = "service account"
    if config.token_file.exists():
        return Outcome(kind, config.name, Action.UNCHANGED, f"its token is in {config.token_file}")
    there = remote.service_account(config.name)
    reason = f"a token for {config.token_file}"
    action = Action.CREATE if there is None else Action.UPDATE
    if how.dry_run:
        return Outcome(kind, config.name, action, reason)
    try:
        # First the file: a token that can't be written down would be lost.
        handle = os.open(config.token_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        return Outcome(
            kind, config.name, Action.FAIL, f"can't write {config.token_file}: {error.strerror or error}"
        )
    written = False
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            number = (
                remote.create_service_account(config.name, config.role) if there is None else int(there["id"])
            )
            file.write(remote.create_token(number, f"push-{secrets.token_hex(4)}") + "\n")
            written = True
    finally:
        if not written:
            config.token_file.unlink(missing_ok=True)
    return Outcome(kind, config.name, action, reason)


def dashboard_revision(dashboard: Mapping[str, Any]) -> str:
    """Return a short hash of a dashboard."""
    return hashlib.sha256(json.dumps(_own(dashboard), sort_keys=True).encode()).hexdigest()[:12]


def _own(dashboard: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in dashboard.items() if key not in _OWN_KEYS}


def _pushed(last: SavedVersion | None, there: Mapping[str, Any]) -> str:
    """Return the revision that was pushed and not changed since; empty for none."""
    if last is None or last.version != there.get("version"):
        return ""
    found = _MESSAGE.fullmatch(last.message)
    return found[1] if found else ""


def _saved(remote: Remote, how: How, body: dict[str, Any], outcome: Outcome) -> Outcome:
    if how.dry_run:
        return outcome
    try:
        remote.save_dashboard(body)
    except GrafanaRefused as error:
        if error.kind != "version-mismatch":
            raise
        return outcome._replace(
            action=Action.KEEP, reason="somebody changed it at this moment; look again", changes=()
        )
    return outcome


def _asked(remote: Remote, uid: str, outcome: Outcome) -> Outcome:
    fault = remote.data_source_fault(uid)
    if not fault:
        return outcome
    reason = f"the database does not answer Grafana (datasource.url, its user or token): {fault}"
    return outcome._replace(action=Action.FAIL, reason=reason)


def _of_rule(rule: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a rule warns of and how; without our mark, and without what this Grafana does not know."""
    shown = {key: rule[key] for key in _RULE_KEYS if key in rule and key in wanted}
    shown["data"] = [
        {**one, "model": {key: value for key, value in one["model"].items() if key != REVISION_KEY}}
        for one in rule.get("data", ())
    ]
    return shown
