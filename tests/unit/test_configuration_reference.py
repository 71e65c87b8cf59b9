"""Every option is documented once, and the page that says so is up to date."""

import importlib.util
from pathlib import Path

from dashboards.grafana.push_config import PushConfig
from edge_agent.config import Config
from ingest_service.config import IngestConfig
from shopfloor.configdoc import undocumented
from simulators.scenario import Scenario

DOCS = Path(__file__).parents[2] / "docs"


def test_every_option_says_what_it_does() -> None:
    assert [
        line for model in (Config, IngestConfig, Scenario, PushConfig) for line in undocumented(model)
    ] == []


def test_the_reference_is_what_the_models_say() -> None:
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    assert (DOCS / "configuration.md").read_text() == generate.render(), "run: python docs/generate.py"
