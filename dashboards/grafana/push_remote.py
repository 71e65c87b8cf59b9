"""A Grafana over its HTTP API, by grafana-client; every failure becomes one of three errors that say what to do.

The paths are those of Grafana's documented API (``/api``), which Grafana 11 to 13 have; 13 calls them legacy and keeps them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final, NamedTuple, Self
from urllib.parse import quote, urlsplit

import requests
from grafana_client.api import GrafanaApi  # type: ignore[import-untyped]
from grafana_client.client import GrafanaException  # type: ignore[import-untyped]

from dashboards.grafana.push_config import GrafanaConfig
from shopfloor.errors import Permanent, Transient

OLDEST: Final = (11, 0)
"""The first version whose alert rules can name a contact point without a notification policy."""
_VERSION: Final = re.compile(r"(\d+)\.(\d+)")
_AWAY: Final = frozenset({502, 503, 504})
_EDITABLE: Final = {"X-Disable-Provenance": "true"}


class GrafanaUnavailable(Transient):
    """Grafana can't be reached, or what answers is no Grafana that this can speak to; nothing further is tried."""


class GrafanaDenied(Permanent):
    """Grafana does not take the credential; nothing further is tried."""


class GrafanaRefused(Permanent):
    """Grafana refuses one request."""

    def __init__(self, status: int, reason: str, kind: str = "") -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.kind = kind
        """What a 412 says of itself: ``version-mismatch``, ``name-exists``, ``plugin-dashboard``."""


class SavedVersion(NamedTuple):
    """Who saved a dashboard last."""

    version: int
    message: str
    by: str
    at: str


class Remote:
    """Blocking; for one thread. Requests raise GrafanaUnavailable, GrafanaDenied, GrafanaRefused."""

    def __init__(self, config: GrafanaConfig) -> None:
        parts = urlsplit(config.url)
        path = parts.path.strip("/")
        host = parts.hostname or ""
        credential: Any = config.token.get_secret_value() if config.token else None
        if config.password:
            credential = (config.user, config.password.get_secret_value())
        self.url = config.url
        self._api = GrafanaApi(
            credential,
            host=f"[{host}]" if ":" in host else host,
            port=parts.port,
            url_path_prefix=f"{path}/" if path else "",
            protocol=parts.scheme,
            verify=str(config.ca) if config.ca else True,
            timeout=config.timeout_s,
            organization_id=config.organisation,
        )
        self._client = self._api.client
        # A POST that is redirected becomes a GET: better to be told the right address.
        self._client.s.max_redirects = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.s.close()

    def version(self) -> str:
        """Return the version, empty where Grafana hides it; raises GrafanaUnavailable for one that is too old."""
        answer = self._ask(self._api.health.check)
        if not isinstance(answer, dict) or "database" not in answer:
            raise GrafanaUnavailable(f"{self.url} answers, but not as Grafana does: is a path missing in it?")
        text = str(answer.get("version", ""))
        found = _VERSION.match(text)
        if found and (int(found[1]), int(found[2])) < OLDEST:
            oldest = ".".join(map(str, OLDEST))
            raise GrafanaUnavailable(f"{self.url} is Grafana {text}; {oldest} or newer is needed")
        return text

    def folder(self, uid: str) -> dict[str, Any] | None:
        """Return a folder."""
        return self._find(lambda: self._api.folder.get_folder(uid))

    def create_folder(self, uid: str, title: str) -> None:
        """Make a folder at the top."""
        self._ask(lambda: self._api.folder.create_folder(title, uid))

    def data_source(self, uid: str) -> dict[str, Any] | None:
        """Return a data source; secrets are not in it, only whether they are set (``secureJsonFields``)."""
        return self._find(lambda: self._api.datasource.get_datasource_by_uid(uid))

    def create_data_source(self, body: dict[str, Any]) -> None:
        """Make a data source."""
        self._ask(lambda: self._api.datasource.create_datasource(body))

    def update_data_source(self, uid: str, body: dict[str, Any]) -> None:
        """Put a data source in place of that one; secrets that ``body`` does not name stay."""
        self._ask(lambda: self._api.datasource.update_datasource_by_uid(uid, body))

    def data_source_fault(self, uid: str) -> str:
        """Let Grafana ask the database; return what is wrong, empty if nothing is."""
        try:
            answer = self._ask(lambda: self._api.datasource.health(uid))
        except GrafanaRefused as error:
            return error.reason
        good = isinstance(answer, dict) and answer.get("status") == "OK"
        return "" if good else str(answer.get("message") if isinstance(answer, dict) else answer)

    def dashboard(self, uid: str) -> dict[str, Any] | None:
        """Return ``{"dashboard": …, "meta": …}``."""
        return self._find(lambda: self._api.dashboard.get_dashboard(uid))

    def saved(self, uid: str) -> SavedVersion | None:
        """Return a dashboard's newest version, None where the versions can't be read."""
        try:
            answer: Any = self._find(
                lambda: self._client.GET(f"/dashboards/uid/{quote(uid, safe='')}/versions?limit=1")
            )
        except GrafanaRefused:
            return None
        # Before Grafana 12 the list stood alone.
        versions = answer.get("versions") if isinstance(answer, dict) else answer
        if not versions:
            return None
        newest = versions[0]
        return SavedVersion(
            int(newest.get("version", 0)),
            str(newest.get("message", "")),
            str(newest.get("createdBy", "")),
            str(newest.get("created", "")),
        )

    def save_dashboard(self, body: dict[str, Any]) -> None:
        """Save ``{"dashboard": …, "folderUid": …, "message": …, "overwrite": …}``."""
        self._ask(lambda: self._api.dashboard.update_dashboard(body))

    def rules(self) -> dict[str, dict[str, Any]]:
        """Return all alert rules by uid."""
        return {one["uid"]: one for one in self._list(self._api.alertingprovisioning.get_alertrules_all)}

    def create_rule(self, rule: dict[str, Any]) -> None:
        """Make an alert rule that users may change."""
        self._ask(lambda: self._api.alertingprovisioning.create_alertrule(rule, disable_provenance=True))

    def update_rule(self, rule: dict[str, Any]) -> None:
        """Put an alert rule in place of the one with its uid; users may change it."""
        self._ask(
            lambda: self._api.alertingprovisioning.update_alertrule(
                rule["uid"], rule, disable_provenance=True
            )
        )

    def contact_points(self) -> set[str]:
        """Return the names of all contact points."""
        return {
            str(one.get("name", "")) for one in self._list(self._api.alertingprovisioning.get_contactpoints)
        }

    def create_contact_point(self, body: dict[str, Any]) -> None:
        """Make a contact point that users may change."""
        self._ask(lambda: self._api.alertingprovisioning.create_contactpoint(body, disable_provenance=True))

    def service_account(self, name: str) -> dict[str, Any] | None:
        """Return the service account of exactly this name."""
        answer: dict[str, Any] = self._ask(
            lambda: self._client.GET(
                f"/serviceaccounts/search?perpage=1000&page=1&query={quote(name, safe='')}"
            )
        )
        accounts: list[dict[str, Any]] = answer.get("serviceAccounts") or []
        return next((one for one in accounts if one.get("name") == name), None)

    def create_service_account(self, name: str, role: str) -> int:
        """Make a service account; return its number."""
        body = {"name": name, "role": role, "isDisabled": False}
        return int(self._ask(lambda: self._api.serviceaccount.create(body))["id"])

    def create_token(self, account: int, name: str) -> str:
        """Make a token of a service account; return it. Nobody can read it again."""
        return str(self._ask(lambda: self._api.serviceaccount.create_token(account, {"name": name}))["key"])

    def _find(self, call: Callable[[], Any]) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = self._ask(call)
        except GrafanaRefused as error:
            if error.status == 404:
                return None
            raise
        return found

    def _list(self, call: Callable[[], Any]) -> list[dict[str, Any]]:
        return self._ask(call) or []

    def _ask(self, call: Callable[[], Any]) -> Any:
        try:
            answer = call()
        except GrafanaException as error:
            raise self._refusal(error) from error
        except requests.TooManyRedirects as error:
            to = error.response.headers.get("Location", "") if error.response is not None else ""
            raise GrafanaUnavailable(f"{self.url} redirects to {to}: write that address") from error
        except requests.exceptions.SSLError as error:
            raise GrafanaUnavailable(
                f"{self.url}: the certificate is not trusted (grafana.ca names a private authority's): {error}"
            ) from error
        except requests.exceptions.InvalidJSONError as error:
            raise GrafanaUnavailable(f"{self.url} answers, but not as Grafana does: {error}") from error
        except requests.Timeout as error:
            raise GrafanaUnavailable(f"{self.url} does not answer in time (grafana.timeout_s)") from error
        except (requests.RequestException, OSError) as error:
            raise GrafanaUnavailable(f"{self.url} can't be reached: {error}") from error
        if isinstance(answer, str):
            raise GrafanaUnavailable(
                f"{self.url} answers with a page, not as Grafana does: a login before it?"
            )
        return answer

    def _refusal(self, error: Any) -> Transient | Permanent:
        status = int(error.status_code)
        body = error.response
        reason = str(body.get("message") or body) if isinstance(body, dict) else str(body)
        reason = " ".join(reason.split())[:300] or f"status {status}"
        if status == 401:
            return GrafanaDenied(f"{self.url} does not take the credential (grafana.token or user): {reason}")
        if status in _AWAY:
            return GrafanaUnavailable(f"{self.url} can't be reached now ({status}): {reason}")
        if status == 403:
            reason = f"no permission: {reason}"
        kind = str(body.get("status", "")) if isinstance(body, dict) else ""
        return GrafanaRefused(status, reason, kind)
