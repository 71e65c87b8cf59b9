"""Whatever a machine publishes: nothing is raised, what is bad is counted, and the messages beside it are stored."""

from __future__ import annotations

import json
import math
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.sources.mqtt.config import MqttConfig
from edge_agent.sources.mqtt.inbox import Message
from edge_agent.sources.mqtt.mapping import Translator
from edge_agent.sources.mqtt.repeats import RecentPayloads
from shopfloor.block import problems

NOW = 1_763_778_000_000_000_000
TIME = {"path": "t", "format": "ms"}
VALUES = [
    {"path": "v", "signal": "v", "scale": 2.0},
    {"path": "a.0", "signal": "a", "type": "number", "decimal_comma": True},
    {"path": "t", "signal": "t", "type": "text", "optional": True},
]
FORMS: dict[str, dict[str, Any]] = {
    "flat": {"time": TIME, "signals": VALUES},
    "local": {
        "time": {"path": "t", "format": "iso", "zone": "Europe/Berlin", "fold": "nearest"},
        "signals": VALUES,
    },
    "all": {"time": TIME, "signals": "all", "max_signals": 5},
    "points": {"points": {"path": "a", "time": TIME, "max_points": 3}, "signals": VALUES},
    "list": {"points": {}, "signals": [{"signal": "v"}]},
    "every": {"points": {"path": "a"}, "signals": "all"},
    "series": {"time": TIME, "points": {"path": "a", "interval_ms": 0.5}, "signals": [{"signal": "v"}]},
    "named": {"points": {"path": "a", "name": "n"}, "signals": [{**VALUES[0], "point": "v"}]},
    "names": {"points": {"path": "a", "name": "n", "value": "v"}, "signals": "all", "max_signals": 3},
    "columns": {"points": {"columns": True, "time": TIME}, "signals": VALUES},
    "query": {
        "time": {"jmespath": "a[0].t", "format": "s"},
        "signals": [
            {"jmespath": "sum(a[].v)", "signal": "sum"},
            {"jmespath": "a[?n=='v'].v | [0]", "signal": "v", "optional": True},
            {"jmespath": "ceil(v)", "signal": "ceil"},
        ],
    },
    "text": {"payload": "text", "signals": [{"signal": "v", "type": "number"}]},
}
GOOD = {"topic": "good/x", "asset": "acme/good", "time": TIME, "signals": [{"path": "v", "signal": "v"}]}
CONFIG = MqttConfig.model_validate(
    {
        "name": "m",
        "broker": "mqtt://127.0.0.1",
        "client_id": "c",
        "topics": [
            GOOD,
            *(
                {"topic": f"{name}/{{cell}}", "asset": "acme/s/a/l/{cell}", **form}
                for name, form in FORMS.items()
            ),
        ],
    }
)
_NUMBERS = st.integers() | st.floats() | st.sampled_from([2**53 + 1, 10**400, 1_763_778_000_000, -0.0])
_SCALARS = (
    st.none()
    | st.booleans()
    | _NUMBERS
    | st.text(max_size=5)
    | st.sampled_from(["v", "12,5", "NaN", "\ud800"])
)
_KEYS = st.sampled_from(["t", "v", "a", "n", "a b", "a.0"])
_JSON = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(_KEYS, inner, max_size=5),
    max_leaves=12,
)
_PAYLOADS = _JSON.map(lambda content: json.dumps(content).encode()) | st.binary(max_size=50)
_SENT = st.lists(
    st.tuples(st.sampled_from(sorted(FORMS)), _PAYLOADS, st.booleans(), st.booleans()), max_size=8
)


@settings(max_examples=60)
@given(_SENT)
def test_nothing_is_raised_and_nothing_else_is_lost(sent: list[tuple[str, bytes, bool, bool]]) -> None:
    messages = []
    for number, (name, payload, dup, retain) in enumerate(sent):
        messages.append(Message(f"{name}/x", payload, NOW + 2_000 * number, dup=dup, retain=retain))
        good = json.dumps({"t": number, "v": number}).encode()
        messages.append(Message("good/x", good, NOW + 2_000 * number + 1_000))
    translator = Translator(CONFIG, loud=False)
    block, counts = translator.translate(messages, RecentPayloads({}))
    assert problems(block) == []
    rows = list(block.rows())
    stored = [(row.source_time, row.value) for row in rows if row.series.asset == "acme/good"]
    assert stored == [(number * 1_000_000, float(number)) for number in range(len(sent))]
    # Whatever became a bad sample, or none, was counted.
    assert sum(1 for row in rows if row.status >> 30) <= sum(
        counts[what] for what in ("not_a_number", "not_convertible", "clock_ahead")
    )
    for _, what in translator.complaints.said:
        assert counts[what] > 0
    assert not any(math.isinf(row.value) for row in rows)
