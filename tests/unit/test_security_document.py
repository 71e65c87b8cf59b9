"""What docs/security.md names as a proof is there."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
DOCUMENT = TESTS.parent / "docs" / "security.md"


def test_every_proof_is_there() -> None:
    named = 0
    for line in DOCUMENT.read_text().splitlines():
        if not line.startswith("| ") or line.count("|") != 5:
            continue
        file = ""
        for quoted in re.findall(r"`([^`]*)`", line.split("|")[4]):
            if quoted.startswith("SHOPFLOOR_"):
                continue
            path, _, test = quoted.partition("::")
            file = path.replace("…", "integration/") or file
            assert (TESTS / file).exists(), quoted
            if test:
                assert re.search(rf"def {test}\b", (TESTS / file).read_text()), quoted
            named += 1
    assert named > 30
