"""``shopfloor edge``: run an agent, check its configuration against the real machines, look into a server."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Coroutine
from pathlib import Path

from pydantic import ValidationError

from edge_agent import buffer_command, message_command, run_command, trust_command
from edge_agent.agent import connect_uplink
from edge_agent.config import Config
from edge_agent.sources.mqtt.config import MqttConfig
from edge_agent.sources.opcua.config import OpcUaConfig
from edge_agent.sources.sparkplug.config import SparkplugConfig
from edge_agent.uplink import HttpUplink
from shopfloor import configfile, logs
from shopfloor.errors import ConfigError, ShopfloorError, UplinkUnavailable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the sub-commands."""
    commands = parser.add_subparsers(dest="edge_command", required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="run an agent until TERM or Ctrl-C")
    run_command.add_arguments(run)
    check = commands.add_parser(
        "check", help="check a configuration, and connect once to everything it names"
    )
    check.add_argument("config", type=Path, help="agent.yaml")
    check.add_argument("--offline", action="store_true", help="check the file alone")
    browse = commands.add_parser("browse", help="list an OPC UA server's variables as lines for agent.yaml")
    browse.add_argument("endpoint", help="such as opc.tcp://192.0.2.10:4840")
    browse.add_argument(
        "--asset", default="acme/site/area/line/cell", help="asset path to write into the lines"
    )
    trust_command.add_arguments(commands)
    buffer = commands.add_parser("buffer", help="show what the buffer holds, or export what waits in it")
    buffer_command.add_arguments(buffer)
    message_command.add_arguments(check)
    for sub in (run, check, browse, buffer):
        sub.add_argument("--verbose", action="store_true", help="log more")


def main(arguments: argparse.Namespace) -> int:
    """Run a sub-command; returns the exit status (2: the configuration is wrong)."""
    logs.set_up(verbose=arguments.verbose, form=getattr(arguments, "log_format", None))
    if arguments.edge_command == "trust":
        return trust_command.main(arguments)
    if arguments.edge_command == "check" and arguments.message is not None:
        return message_command.run(arguments)
    if arguments.edge_command == "browse":
        return asyncio.run(_browse(arguments.endpoint, arguments.asset))
    try:
        config = configfile.load(arguments.config, Config)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    if arguments.edge_command == "buffer":
        return buffer_command.run(arguments, config)
    if arguments.edge_command == "check":
        return 0 if arguments.offline else _run(arguments.config, _check(config))
    return _run(arguments.config, run_command.run(arguments.config, config))


def _run(path: Path, work: Coroutine[None, None, int]) -> int:
    try:
        return asyncio.run(work)
    except (ShopfloorError, OSError) as error:
        print(f"{path}: {error}", file=sys.stderr)
        return 1


async def _check(config: Config) -> int:
    worst = 0
    for entry in config.sources:
        settings = entry.settings
        print(f"{settings.name}:")
        for line, sound in await _check_source(settings, config):
            print(f"  {'ok  ' if sound else 'FAIL'} {line}")
            worst = worst if sound else 1
    for line, sound in await _check_uplink(config):
        print(f"uplink:\n  {'ok  ' if sound else 'FAIL'} {line}")
        worst = worst if sound else 1
    return worst


async def _check_source(
    settings: OpcUaConfig | MqttConfig | SparkplugConfig, config: Config
) -> list[tuple[str, bool]]:
    if isinstance(settings, OpcUaConfig):
        from edge_agent.sources.opcua.check import check as check_opcua  # noqa: PLC0415  only what is configured

        findings = await check_opcua(settings, agent_id=config.agent.id, pki=config.data / "pki")
        return [(str(finding), finding.sound) for finding in findings]
    if isinstance(settings, SparkplugConfig):
        from edge_agent.sources.sparkplug.check import check as check_sparkplug  # noqa: PLC0415

        return [(str(finding), finding.sound) for finding in await check_sparkplug(settings)]
    from edge_agent.sources.mqtt.check import check as check_mqtt  # noqa: PLC0415

    return [(str(finding), finding.sound) for finding in await check_mqtt(settings)]


async def _check_uplink(config: Config) -> list[tuple[str, bool]]:
    url = config.uplink.url
    exchange = connect_uplink(config)
    try:
        # An empty list of span records is accepted from every agent token and changes nothing.
        await HttpUplink(exchange).send_spans([])
    except UplinkUnavailable as error:
        said = str(error)
        return [(said if said.startswith(url) else f"{url}: {said}", False)]
    finally:
        await exchange.close()
    return [(f"{url} takes the token", True)]


async def _browse(endpoint: str, asset: str) -> int:
    from edge_agent.sources.opcua.check import browse  # noqa: PLC0415

    try:
        async for line in browse(endpoint, asset):
            print(line)
    except ValidationError as error:
        for mistake in error.errors():
            print(f"{mistake['input']}: {mistake['msg']}", file=sys.stderr)
        return 2
    except ShopfloorError as error:
        print(error, file=sys.stderr)
        return 1
    return 0
