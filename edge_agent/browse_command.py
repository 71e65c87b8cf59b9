"""``shopfloor edge browse``: what there is to read on an OPC UA server."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from pathlib import Path
from typing import Any, Final, get_args

from pydantic import ValidationError

from edge_agent.config import Config
from edge_agent.sources.opcua.config import OpcUaConfig
from edge_agent.sources.opcua.security import Mode, Policy
from shopfloor import configfile
from shopfloor.errors import ConfigError, InvalidName, ShopfloorError
from shopfloor.owner import become_owner

_AGENT: Final = "shopfloor-browse"


def add_arguments(browse: argparse.ArgumentParser) -> None:
    """Declare what ``browse`` takes."""
    browse.add_argument("endpoint", nargs="?", help="such as opc.tcp://192.0.2.10:4840")
    browse.add_argument("--config", type=Path, help="agent.yaml: look at a server that it names, as it says")
    browse.add_argument(
        "--source", help="name of the source in --config, where it has several OPC UA servers"
    )
    browse.add_argument(
        "--path", default="", help="node to begin at, as in agent.yaml: /DeviceSet, nsu=…;s=…"
    )
    browse.add_argument(
        "--depth", type=int, default=24, help="levels to show, 24 at most; default: all of these"
    )
    browse.add_argument("--security-policy", choices=get_args(Policy), default="None", help="default: None")
    browse.add_argument("--mode", choices=get_args(Mode), help="default, with a policy: SignAndEncrypt")
    browse.add_argument("--pki", type=Path, help="folder of certificates; a policy needs one")
    browse.add_argument("--user", help="user name")
    browse.add_argument("--password-file", type=Path, help="file that holds the user's password")
    browse.add_argument(
        "--allow-insecure-user", action="store_true", help="send name and password also without a policy"
    )
    form = browse.add_mutually_exclusive_group()
    form.add_argument("--yaml", action="store_true", help="print lines for agent.yaml")
    form.add_argument("--json", action="store_true", help="print JSON, an object a variable")
    browse.add_argument(
        "--asset", default="acme/site/area/line/cell", help="asset path for the lines of --yaml"
    )


def run(arguments: argparse.Namespace) -> int:
    """Look and print; returns the exit status (1: the server can't be looked at, 2: what was asked is wrong)."""
    try:
        config, agent_id, pki = _settings(arguments)
    except (ConfigError, InvalidName) as error:
        print(error, file=sys.stderr)
        return 2
    except ValidationError as error:
        for mistake in error.errors():
            where = ".".join(map(str, mistake["loc"]))
            print(f"{where}: {mistake['msg']}" if where else mistake["msg"], file=sys.stderr)
        return 2
    try:
        return asyncio.run(_browse(arguments, config, agent_id, pki))
    except (ShopfloorError, OSError) as error:
        print(error, file=sys.stderr)
        return 1


def _settings(arguments: argparse.Namespace) -> tuple[OpcUaConfig, str, Path | None]:
    """Return whom to ask and how: as a configuration says, or as the arguments do."""
    if arguments.config is not None:
        if arguments.endpoint is not None:
            raise InvalidName("name an endpoint or a --config, not both")
        config = configfile.load(arguments.config, Config)
        # What a session leaves in the folder of certificates has to be the agent's, not root's.
        if become_owner(config.data):
            # Once more, with the rights of the agent: what root can read need not be readable for it.
            config = configfile.load(arguments.config, Config)
        servers = {entry.opcua.name: entry.opcua for entry in config.sources if entry.opcua is not None}
        if arguments.source is None and len(servers) == 1:
            (server,) = servers.values()
        elif arguments.source in servers:
            server = servers[arguments.source]
        else:
            known = ", ".join(servers) or "none"
            raise InvalidName(f"--source: which OPC UA server of {arguments.config}? There are: {known}")
        return server, config.agent.id, config.data / "pki"
    if arguments.endpoint is None:
        raise InvalidName("which server? Name its endpoint, or --config")
    settings: dict[str, Any] = {
        "name": "browse",
        "endpoint": arguments.endpoint,
        "security": {"policy": arguments.security_policy},
        "user": arguments.user,
        "allow_insecure_user": arguments.user if arguments.allow_insecure_user else None,
        # What a configuration has to name; nothing of it is read here.
        "nodes": [{"node": "i=2258", "asset": arguments.asset, "signal": "time"}],
    }
    if arguments.mode is not None:
        settings["security"]["mode"] = arguments.mode
    if arguments.pki is not None:
        settings["security"]["pki"] = str(arguments.pki)
    if arguments.password_file is not None:
        settings["password"] = f"file:{arguments.password_file}"
    server = OpcUaConfig.model_validate(settings)
    if arguments.pki is not None:
        become_owner(arguments.pki)
    return server, _AGENT, None


async def _browse(arguments: argparse.Namespace, config: OpcUaConfig, agent_id: str, pki: Path | None) -> int:
    # The protocol's library takes a second to load.
    from edge_agent.sources.opcua.connect import Applicant, open_session  # noqa: PLC0415
    from edge_agent.sources.opcua.session import ServiceFault  # noqa: PLC0415
    from edge_agent.sources.opcua.tree import as_json, survey, tree_lines, yaml_lines  # noqa: PLC0415

    try:
        async with open_session(config, applicant=Applicant(agent_id, pki)) as session:
            root, whole = await survey(session, start=arguments.path, depth=max(1, arguments.depth))
    except ServiceFault as fault:
        print(f"{config.endpoint}: {fault}", file=sys.stderr)
        return 1
    if arguments.json:
        print(json.dumps({"complete": whole, "variables": list(as_json(root))}, ensure_ascii=False, indent=1))
        return 0
    for line in yaml_lines(root, arguments.asset) if arguments.yaml else tree_lines(root):
        print(line)
    if not whole:
        print("there may be more: look deeper with --depth, or elsewhere with --path", file=sys.stderr)
    return 0
