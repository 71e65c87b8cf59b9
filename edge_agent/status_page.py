"""The agent's page for people: one HTML document without scripts or anything from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

from edge_agent.status import Condition, Snapshot, condition, problems
from edge_agent.trouble import readable_s
from shopfloor.messages import SourceReport, SourceState
from shopfloor.tables import size_text

_REFRESH_S: Final = 5
_SHOWN_ASSETS: Final = 4
_SHOWN_EVENTS: Final = 12
_SHOWN_PROBLEMS: Final = 20

_STYLE: Final = """
:root{color-scheme:light dark;--ground:#f5f6f7;--card:#fff;--text:#1b2024;--soft:#5c6670;--line:#dfe3e7;
--ok:#1a7f4b;--warn:#a15c00;--bad:#b3261e;--okbg:#e4f4ea;--warnbg:#fdf0dc;--badbg:#fbe6e4}
@media(prefers-color-scheme:dark){:root{--ground:#14181b;--card:#1c2226;--text:#e6eaed;--soft:#9aa5ae;--line:#2e363c;
--ok:#6fd39b;--warn:#f0b35a;--bad:#f28b82;--okbg:#173326;--warnbg:#3a2c14;--badbg:#3d1f1d}}
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--text);font:15px/1.45 system-ui,sans-serif}
main{max-width:1080px;margin:0 auto;padding:24px 20px 40px}
header{display:flex;flex-wrap:wrap;align-items:center;gap:6px 14px;margin-bottom:18px}
h1{font-size:24px;line-height:1.2;margin:0;overflow-wrap:anywhere}
h2{font-size:13px;font-weight:600;letter-spacing:.04em;text-transform:uppercase;color:var(--soft);margin:0 0 10px}
header p{margin:0;width:100%;color:var(--soft)}
.pill{display:inline-block;border-radius:99px;padding:2px 11px;font-size:13px;font-weight:600;white-space:nowrap}
.ok{color:var(--ok);background:var(--okbg)}
.warn{color:var(--warn);background:var(--warnbg)}
.bad{color:var(--bad);background:var(--badbg)}
.card{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:16px 18px;min-width:0}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(270px,1fr));gap:14px;margin-bottom:14px}
.attention{border-left:4px solid var(--warn);margin-bottom:14px}
.attention ul{margin:0;padding-left:18px;overflow-wrap:anywhere}
dl{display:grid;grid-template-columns:auto 1fr;gap:5px 16px;margin:0}
dt{color:var(--soft);white-space:nowrap}
dd{margin:0;text-align:right;overflow-wrap:anywhere;font-variant-numeric:tabular-nums}
meter{width:100%;height:10px;margin:2px 0 10px}
table{width:100%;border-collapse:collapse;table-layout:fixed}
th:first-child{width:19%}th:nth-child(2){width:25%}th:nth-child(4){width:24%}
th{text-align:left;font-size:13px;font-weight:600;color:var(--soft);padding:0 14px 7px 0}
td{vertical-align:top;padding:11px 14px 11px 0;border-top:1px solid var(--line);overflow-wrap:anywhere}
td:last-child,th:last-child{padding-right:0}
td small,td .soft{display:block;color:var(--soft);font-size:13px}
.name{font-weight:600}
.chips{display:flex;flex-wrap:wrap;gap:4px 5px}
.chips span{border:1px solid var(--line);border-radius:5px;padding:0 6px;font-size:13px;overflow-wrap:anywhere}
footer{color:var(--soft);font-size:13px;margin-top:18px}
footer a{color:inherit}
@media(max-width:640px){main{padding:16px 12px 28px}h1{font-size:21px}thead{display:none}
tr{display:block;border-top:1px solid var(--line);padding:10px 0}tr:first-child{border-top:0;padding-top:0}
td{display:block;border:0;padding:2px 0}td:empty{display:none}.cards{grid-template-columns:minmax(0,1fr)}}
"""
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
CONTENT_SECURITY_POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
"""Content Security Policy Level 3: no script at all, and no style but the page's own."""

_CONDITION_CLASS: Final = {Condition.OK: "ok", Condition.DEGRADED: "warn", Condition.FAILING: "bad"}
_STATE_CLASS: Final = {
    SourceState.RUNNING: "ok",
    SourceState.CONNECTING: "warn",
    SourceState.UNAVAILABLE: "bad",
    SourceState.MISCONFIGURED: "bad",
}


class _Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def page(snapshot: Snapshot) -> str:
    """Return the HTML document; whatever stands in the snapshot is shown as text."""
    now = condition(snapshot)
    title = f"{snapshot.agent_id}: {now}"
    head = _tag(
        "head",
        _Html('<meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'),
        _Html(f'<meta http-equiv="refresh" content="{_REFRESH_S}">'),
        _tag("title", title),
        _tag("style", _Html(_STYLE)),
    )
    served = " · ".join(
        part
        for part in (
            snapshot.asset,
            f"version {snapshot.version}",
            f"up {readable_s(snapshot.uptime_s)}",
        )
        if part
    )
    body = _tag(
        "main",
        _tag("header", _tag("h1", snapshot.agent_id), _pill(now, _CONDITION_CLASS[now]), _tag("p", served)),
        _attention(snapshot),
        _tag("div", _uplink(snapshot), _buffer(snapshot), _configuration(snapshot), cls="cards"),
        _sources(snapshot),
        _footer(snapshot),
    )
    return f'<!doctype html>\n<html lang="en">{head}{_tag("body", body)}</html>\n'


def _attention(snapshot: Snapshot) -> _Html:
    found = problems(snapshot)
    if not found:
        return _Html()
    items = [_tag("li", each) for each in found[:_SHOWN_PROBLEMS]]
    if len(found) > _SHOWN_PROBLEMS:
        items.append(_tag("li", f"and {len(found) - _SHOWN_PROBLEMS} more, see /health"))
    return _tag("section", _tag("h2", "Needs attention"), _tag("ul", *items), cls="card attention")


def _uplink(snapshot: Snapshot) -> _Html:
    delivery = snapshot.delivery
    takes = delivery.connected and not delivery.heartbeat_message
    word = "connected" if takes else "token refused" if delivery.unauthorised else "not connected"
    return _card(
        "Uplink",
        ("State", _pill(word, "ok" if takes else "bad")),
        ("Service", snapshot.uplink_url),
        ("Last receipt", _ago(delivery.last_receipt_ns, snapshot)),
        ("Delivered", f"{delivery.samples_total:,}"),
        ("Failures", _unless_zero(delivery.failures_total)),
        ("Rejected", _unless_zero(delivery.rejected_total)),
        ("Message", delivery.message or delivery.heartbeat_message),
    )


def _buffer(snapshot: Snapshot) -> _Html:
    buffer = snapshot.buffer
    share = min(1.0, buffer.used_bytes / buffer.limit_bytes) if buffer.limit_bytes else 0.0
    left = "not filling" if snapshot.hours_left is None else f"{snapshot.hours_left:,.1f} h"
    return _card(
        "Buffer",
        ("Waiting samples", f"{buffer.pending_samples:,}"),
        ("Oldest", _ago(buffer.oldest_pending_time, snapshot) if buffer.pending_samples else ""),
        ("Used", f"{size_text(buffer.used_bytes)} of {size_text(buffer.limit_bytes)}"),
        ("Lasts", left),
        ("Dropped samples", _unless_zero(buffer.dropped_samples_total)),
        ("Quarantined samples", _unless_zero(buffer.quarantined_samples_total)),
        front=_Html(f'<meter min="0" max="1" high="0.8" optimum="0" value="{share:.4f}"></meter>'),
    )


def _configuration(snapshot: Snapshot) -> _Html:
    config = snapshot.config
    return _card(
        "Configuration",
        ("File", _pill("runs", "ok") if config.valid else _pill("refused", "bad")),
        ("Path", config.file),
        ("Runs since", _time(config.loaded_ns)),
        ("Hash", config.hash),
        ("Reloads", _unless_zero(config.reloads_total)),
        ("Refused", _unless_zero(config.refusals_total)),
    )


def _sources(snapshot: Snapshot) -> _Html:
    names = ("Source", "State", "Assets", "Events since the start")
    head = _tag("thead", _tag("tr", *(_tag("th", name) for name in names)))
    rows = _tag("tbody", *(_source(source, snapshot) for source in snapshot.sources))
    return _tag("section", _tag("h2", "Sources"), _tag("table", head, rows), cls="card")


def _source(source: SourceReport, snapshot: Snapshot) -> _Html:
    assets = [_tag("span", asset) for asset in source.assets[:_SHOWN_ASSETS]]
    if len(source.assets) > _SHOWN_ASSETS:
        assets.append(_tag("span", f"and {len(source.assets) - _SHOWN_ASSETS} more"))
    ranked = sorted(source.events.items(), key=lambda event: (-event[1], event[0]))
    events = [_tag("span", f"{what.replace('_', ' ')} {times:,}") for what, times in ranked[:_SHOWN_EVENTS]]
    if len(ranked) > _SHOWN_EVENTS:
        events.append(_tag("span", f"and {len(ranked) - _SHOWN_EVENTS} more"))
    since = f"for {readable_s((snapshot.taken_ns - source.since) / 1e9)}"
    return _tag(
        "tr",
        _tag("td", _tag("span", source.name, cls="name"), _tag("small", source.protocol)),
        _tag("td", _pill(source.state, _STATE_CLASS[source.state]), _tag("small", since), source.message),
        _tag("td", _tag("div", *assets, cls="chips")) if assets else _tag("td"),
        _tag("td", _tag("div", *events, cls="chips")) if events else _tag("td"),
    )


def _footer(snapshot: Snapshot) -> _Html:
    links = _Html(
        '<a href="/health">health</a> · <a href="/status.json">status.json</a> · <a href="/metrics">metrics</a>'
    )
    seen = f"Seen {_time(snapshot.taken_ns)}, again every {_REFRESH_S} s. "
    return _tag("footer", seen, links)


def _card(title: str, *rows: tuple[str, str], front: str = "") -> _Html:
    """Return a card of names and values; rows without a value are left out."""
    shown: Iterable[_Html] = (
        part for name, value in rows if value for part in (_tag("dt", name), _tag("dd", value))
    )
    return _tag("section", _tag("h2", title), front, _tag("dl", *shown), cls="card")


def _tag(name: str, *inside: str, cls: str = "") -> _Html:
    """Return an element; whatever is not HTML already is escaped."""
    text = "".join(each if isinstance(each, _Html) else html.escape(each) for each in inside)
    return _Html(f"<{name}{f' class={chr(34)}{cls}{chr(34)}' if cls else ''}>{text}</{name}>")


def _pill(text: str, kind: str) -> _Html:
    return _tag("span", text, cls=f"pill {kind}")


def _unless_zero(number: int) -> str:
    return f"{number:,}" if number else ""


def _ago(time_ns: int | None, snapshot: Snapshot) -> str:
    return "none yet" if time_ns is None else f"{readable_s((snapshot.taken_ns - time_ns) / 1e9)} ago"


def _time(time_ns: int) -> str:
    return f"{datetime.fromtimestamp(time_ns // 10**9, UTC):%Y-%m-%d %H:%M:%S} UTC"
