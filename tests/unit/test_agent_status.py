"""What the agent says of itself: in one word, in figures, and on a page."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from edge_agent.buffer import BufferStats
from edge_agent.delivery import DeliveryReport
from edge_agent.metrics import metrics_text
from edge_agent.status import Condition, ConfigReport, Snapshot, condition, full_status, health, problems
from edge_agent.status_page import CONTENT_SECURITY_POLICY, page
from shopfloor.messages import SourceState
from tests.unit.status_snapshots import NOW, TROUBLED, snapshot, source


def test_all_well_is_said_in_one_word() -> None:
    assert health(snapshot())["status"] == "ok"
    assert problems(snapshot()) == []


def test_each_trouble_is_named() -> None:
    assert condition(TROUBLED) is Condition.DEGRADED
    assert problems(TROUBLED) == [
        "configuration refused, the earlier one runs: agent.yaml:6:38: x: unknown key",
        "source imm: unavailable: refused",
        "uplink: HTTP 401",
        "heartbeats: HTTP 403",
        "buffer: 5 samples dropped since the start",
        "buffer: 6 samples quarantined since the start",
    ]


def test_only_an_agent_that_does_not_answer_itself_is_failing() -> None:
    stuck = snapshot(stuck=("the buffer's thread has not answered for 61 s",))
    assert condition(stuck) is Condition.FAILING
    assert problems(stuck) == ["agent: the buffer's thread has not answered for 61 s"]


def test_the_full_status_is_json_and_says_all_that_health_says() -> None:
    status = json.loads(json.dumps(full_status(TROUBLED)))
    assert status.items() >= json.loads(json.dumps(health(TROUBLED))).items()
    assert status["uptime_s"] == 7200
    assert status["config"]["valid"] is False
    assert status["sources"][0]["events"] == {"gap": 2}


# Metrics


def families(now: Snapshot) -> dict[str, Metric]:
    return {each.name: each for each in text_string_to_metric_families(metrics_text(lambda: now)().decode())}


def value(found: dict[str, Metric], name: str) -> float:
    (sample,) = found[name].samples
    return sample.value


def test_metrics_read_back_as_what_they_were() -> None:
    found = families(snapshot(hours_left=2.0))
    assert value(found, "shopfloor_buffer_pending_samples") == 7
    assert value(found, "shopfloor_config_valid") == 1
    assert value(found, "shopfloor_buffer_left_seconds") == 7200
    assert value(found, "shopfloor_uplink_last_receipt_timestamp_seconds") == NOW / 1e9 - 2
    (info,) = found["shopfloor_agent_info"].samples
    assert info.labels == {"agent": "hk01-gateway", "version": "1.2", "config_hash": "5f0c1a"}
    assert value(families(TROUBLED), "shopfloor_config_valid") == 0
    assert "shopfloor_buffer_left_seconds" not in families(TROUBLED), "nothing is measured, nothing is said"


def test_every_metric_has_help_and_type_and_a_name_by_the_conventions() -> None:
    for name, family in families(snapshot(hours_left=1.0)).items():
        assert re.fullmatch(r"shopfloor_[a-z]+(_[a-z]+)*", name)
        assert len(family.documentation) > 5, name
        assert family.type in {"counter", "gauge"}, name
        for sample in family.samples:
            assert sample.name.endswith("_total") == (family.type == "counter"), sample.name
        assert not re.search(r"_(ms|minutes|hours|kib|mib)(_|$)", name), "base units"


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\nb", "é", '"} 1\nforged 2'])
def test_labels_are_escaped(name: str) -> None:
    found = families(snapshot(sources=(source(name=name),)))
    (sample,) = found["shopfloor_source_running"].samples
    assert sample.labels == {"source": name, "protocol": "opcua"}
    (event,) = found["shopfloor_source_events"].samples
    assert (event.labels, event.value) == ({"source": name, "what": "gap"}, 2)
    assert "forged" not in found


# The page


class Reader(HTMLParser):
    """Reads a page as a browser does: its text, and everything that would load or do something."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text: list[str] = []
        self.style = ""
        self.suspicious: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag != "meta":
            self.open.append(tag)
        given = dict(attrs)
        if (
            tag in {"script", "img", "link", "iframe", "object", "form", "svg", "base"}
            or any(name.startswith("on") or name in {"src", "style", "srcset"} for name in given)
            or not (given.get("href") or "/").startswith("/")
        ):
            self.suspicious.append((tag, given))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "style":
            self.style += data
        elif data.strip():
            self.text.append(data)


def read(now: Snapshot) -> Reader:
    return Reader(page(now))


def test_the_page_says_how_everything_is() -> None:
    text = " ".join(read(snapshot(sources=(source(assets=("acme/hk01/imm-1",)),))).text)
    for said in (
        "hk01-gateway", "acme/hk01 · version 1.2 · up 2 h", "connected", "https://dms.example.com", "2 s ago",
        "7", "1 s ago", "50 B of 100 B", "not filling", "runs", "/etc/agent.yaml", "imm", "opcua", "running",
        "for 1 min 5 s", "acme/hk01/imm-1", "gap 2",
    ):  # fmt: skip
        assert said in text
    assert "Needs attention" not in text


def test_the_page_begins_with_what_needs_attention() -> None:
    text = read(TROUBLED).text
    start = text.index("Needs attention")
    assert text[start + 1 : start + 7] == problems(TROUBLED)
    assert text.index("Sources") > start + 6
    assert "refused" in text


def test_what_machines_and_services_say_is_shown_as_text() -> None:
    evil = "</style><script>alert('x')</script>\"'&<img src=x onerror=y>"
    now = snapshot(
        agent_id=evil, asset=evil, version=evil, uplink_url=evil, stuck=(evil,),
        sources=(source(name=evil, protocol=evil, message=evil, assets=(evil,), events={evil: 1}),),
        config=ConfigReport(hash=evil, loaded_ns=1, file=evil, problems=(evil,)),
        delivery=DeliveryReport(message=evil, heartbeat_message=evil),
    )  # fmt: skip
    found = read(now)
    assert found.suspicious == []
    assert found.open == []
    assert " ".join(found.text).count("<script>alert('x')</script>") >= 12


def test_the_page_has_no_script_and_its_policy_allows_only_its_own_style() -> None:
    found = read(TROUBLED)
    assert found.suspicious == []
    digest = base64.b64encode(hashlib.sha256(found.style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in CONTENT_SECURITY_POLICY
    assert CONTENT_SECURITY_POLICY.startswith("default-src 'none';")


@pytest.mark.parametrize(
    "changes",
    [
        {"sources": ()},
        {"buffer": BufferStats()},
        {"sources": tuple(source(name=f"s{n}", state=SourceState.UNAVAILABLE) for n in range(100))},
        {"sources": (source(assets=tuple(map(str, range(999))), events={f"e{n}": n for n in range(64)}),)},
    ],
)
def test_the_page_is_bounded_and_whole_whatever_there_is(changes: dict[str, Any]) -> None:
    found = read(snapshot(**changes))
    assert found.open == []
    assert len(" ".join(found.text)) < 20_000
