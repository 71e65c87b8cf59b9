"""What is kept of a run that went wrong, so that its cause can be found: every difference, and the parts' own figures."""

from __future__ import annotations

import contextlib
from pathlib import Path

import httpx

from simulators.demo.plan import Plan
from simulators.demo.verify import Comparison


def keep_evidence(plan: Plan, comparison: Comparison) -> Path:
    """Write the differences and what agents and service say of themselves; return the folder."""
    folder = plan.folder / "evidence"
    folder.mkdir(exist_ok=True)
    (folder / "differences.txt").write_text("\n".join(comparison.examples) + "\n", encoding="utf-8")
    pages = {"ingest.metrics.txt": f"{plan.url}/metrics", "ingest.agents.json": f"{plan.url}/v1/agents"}
    for site in plan.sites:
        address = f"http://{plan.status_address(site)}"
        pages[f"{site.agent}.metrics.txt"] = f"{address}/metrics"
        pages[f"{site.agent}.health.json"] = f"{address}/health"
    with httpx.Client(timeout=5.0, trust_env=False) as client:
        for name, url in pages.items():
            with contextlib.suppress(httpx.HTTPError):  # a part that is down has nothing to say
                (folder / name).write_bytes(client.get(url).content)
    return folder
