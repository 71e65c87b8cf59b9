"""The parts as commands: what is started for a plan, and how each shows that it is ready."""

from __future__ import annotations

import subprocess
import sys
from typing import Final

from shopfloor.errors import ShopfloorError
from simulators.demo import broker
from simulators.demo.agents import Agents
from simulators.demo.plan import Plan, Site, store_token
from simulators.demo.ports import listens
from simulators.demo.process import Part
from simulators.demo.service import Service

BROKER: Final = "broker"
INGEST: Final = "ingest"
SIMULATORS: Final = "simulators"
_TOKEN_TIMEOUT_S: Final = 60.0
# `shopfloor token create` once a site, in one process: most of the command's time is its start.
_MAKE_TOKENS: Final = """
import sys
from shopfloor.__main__ import main
config, *assets = sys.argv[1:]
for asset in assets:
    code = main(["token", "create", "--config", config, "--role", "agent", "--asset", asset])
    if code:
        sys.exit(code)
"""


class TokenFailed(ShopfloorError):
    """The service's command for tokens did not give one."""


def shopfloor(*words: object) -> list[str]:
    """Return the command line of another `shopfloor` process of this installation."""
    return [sys.executable, "-m", "shopfloor", *map(str, words)]


def broker_part(plan: Plan, kind: str) -> Part | None:
    """Return the broker to start; None where ``kind`` is the address of one that runs already.

    Raises:
        BrokerUnavailable: it is not installed here, or the address can't be read.
    """
    folder, port = plan.folder / "broker", plan.ports["mqtt"]
    if kind == "nats":
        command = broker.nats_command(folder, port, plan.ports["nats"])
    elif kind == "mosquitto":
        command = broker.mosquitto_command(folder, port)
    else:
        broker.parse_address(kind)
        return None
    return Part(BROKER, "broker", command, plan.log(BROKER), lambda: listens(port))


def ingest_part(plan: Plan, service: Service) -> Part:
    """Return the ingestion service, which serves the page as well."""
    command = shopfloor("ingest", "serve", plan.ingest_config)
    return Part(INGEST, "ingest", command, plan.log(INGEST), service.is_ready, grace_s=15.0)


def agent_part(plan: Plan, site: Site, agents: Agents) -> Part:
    """Return the edge agent of a site; it is ready when its status page answers."""
    command = shopfloor("edge", "run", site.config)
    return Part(site.agent, "agent", command, plan.log(site.agent), lambda: agents.health(site) is not None)


def simulators_part(plan: Plan) -> Part:
    """Return the simulated machines of all sites; they write a file when all their servers listen."""
    plan.ready_file.unlink(missing_ok=True)
    plan.stopped_file.unlink(missing_ok=True)
    command = shopfloor(
        "simulate",
        "run",
        plan.scenario_file,
        "--data",
        plan.simulators,
    )
    return Part(SIMULATORS, "simulators", command, plan.log(SIMULATORS), plan.ready_file.exists, grace_s=10.0)


def ensure_tokens(plan: Plan) -> None:
    """Make a token for each site that has none from an earlier start; it writes below its site and nowhere else.

    Raises:
        TokenFailed: the command failed; the message holds what it said.
    """
    wanting = [site for site in plan.sites if not site.token.is_file()]
    if not wanting:
        return
    command = [sys.executable, "-c", _MAKE_TOKENS, str(plan.ingest_config), *(site.asset for site in wanting)]
    try:
        done = subprocess.run(  # noqa: S603 - our own command, no shell
            command, capture_output=True, text=True, timeout=_TOKEN_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise TokenFailed(f"can't make the agents' tokens: {type(error).__name__}") from error
    tokens = done.stdout.split()
    if done.returncode != 0 or len(tokens) != len(wanting):
        raise TokenFailed(
            f"can't make the agents' tokens: exit code {done.returncode}: {done.stderr.strip()[-1000:]}"
        )
    for site, token in zip(wanting, tokens, strict=True):
        store_token(site, token)
