"""A machine that publishes numbered values over MQTT: ``python -m tests.faults.mqtt_machine FOLDER NAME PORT …``.

Its first half of series goes out at QoS 1 and stays in its outbox until the broker has acknowledged it, the second half
at QoS 0: what the broker is not there for is gone.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from tests.faults.number_log import GO, NumberLog, Pace


def topic(series: int, kept: int) -> str:
    """Return where a series is published; the first ``kept`` ones are those with QoS 1."""
    return f"kept/s{series}" if series < kept else f"lossy/s{series - kept}"


def main() -> None:
    """Run one machine until it is killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("name")
    parser.add_argument("port", type=int)
    parser.add_argument("--kept", type=int, default=5, help="series at QoS 1")
    parser.add_argument("--lossy", type=int, default=2, help="series at QoS 0")
    parser.add_argument("--rate", type=float, default=10.0)
    given = parser.parse_args()
    log = NumberLog(given.folder / f"{given.name}.numbers")
    client = paho.Client(
        CallbackAPIVersion.VERSION2,
        client_id=f"machine-{given.name}",
        clean_session=False,
        protocol=paho.MQTTv311,
    )
    client.reconnect_delay_set(0.2, 1.0)  # type: ignore[arg-type]  # seconds, in spite of its hint
    client.max_queued_messages_set(0)
    client.connect_async("127.0.0.1", given.port, keepalive=10)
    client.loop_start()
    pace = Pace(given.rate)
    go = given.folder / GO
    everything = range(given.kept + given.lossy)
    while True:
        time.sleep(pace.wait_s())
        if not go.exists():
            continue
        for row in log.say(everything):
            series = int(row["series"])
            client.publish(
                topic(series, given.kept),
                json.dumps({"ts": int(row["source_time"]), "n": int(row["number"])}),
                qos=1 if series < given.kept else 0,
            )


if __name__ == "__main__":
    main()
