"""What the load generator is held against: the same load by asyncua's own server and by paho.

python -m benchmarks._load_peers stock PORT MACHINES SIGNALS HZ EPOCH_MS FIRST LAST
python -m benchmarks._load_peers paho PORT MACHINES SIGNALS VALUES_PER_MESSAGE SECONDS
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from typing import Any

import paho.mqtt.client as paho
from asyncua import ua
from asyncua.server.server import Server
from asyncua.ua.attribute_ids import AttributeIds
from paho.mqtt.enums import CallbackAPIVersion

from simulators.load.mqtt_json import JsonMessages
from simulators.load.mqtt_packets import PacketStream, received_publish
from simulators.load.opcua_space import NAMESPACE_URI, build_machines, data_value
from simulators.load.plan import LoadPlan


async def stock(port: int, plan: LoadPlan, machines: range) -> None:
    """Serve with asyncua alone: every value of every tick is written, as fast as that goes."""
    server = Server()
    await server.init()
    server.set_endpoint(f"opc.tcp://127.0.0.1:{port}")
    server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    namespace = await server.register_namespace(NAMESPACE_URI)
    tick, now_ms = 0, time.time_ns() // 1_000_000
    space = server.iserver.aspace
    numbers = build_machines(space, namespace, plan, machines, lambda: (tick, now_ms))
    async with server:
        print("ready", flush=True)
        attribute: Any = AttributeIds.Value
        while True:
            tick += 1
            now_ms = time.time_ns() // 1_000_000
            for written, (node, number) in enumerate(numbers.items()):
                await space.write_attribute_value(node, attribute, data_value(plan, tick, number, now_ms))
                if written % 100 == 0:
                    await asyncio.sleep(0)
            await asyncio.sleep(max(0.0, now_ms / 1000 + 1 / plan.hz - time.time()))


def publish(port: int, plan: LoadPlan, values_per_message: int, seconds: float) -> None:
    """Publish with paho and QoS 1, as fast as that goes."""
    messages = JsonMessages(plan, range(plan.machines), "load", qos=1, values_per_message=values_per_message)
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id="paho")
    client.max_inflight_messages = 1_000
    connected = threading.Event()
    client.on_connect = lambda *_: connected.set()
    client.connect("127.0.0.1", port)
    client.loop_start()
    connected.wait(10)
    end_s, tick = time.monotonic() + seconds, 0
    while time.monotonic() < end_s:
        prepared = [received_publish(each) for each in PacketStream().feed(messages.at(tick).tobytes())]
        tick += 1
        for first in range(0, len(prepared), 1_000):
            if time.monotonic() >= end_s:
                break
            sent = [
                client.publish(topic, payload, qos=1) for topic, payload, _ in prepared[first : first + 1_000]
            ]
            for each in sent:
                each.wait_for_publish(30)
    client.disconnect()
    client.loop_stop()


def main() -> None:
    """Do what the arguments say."""
    what, port, *rest = sys.argv[1:]
    if what == "stock":
        machines, signals, hz, epoch_ms, first, last = rest
        plan = LoadPlan(int(machines), int(signals), float(hz), int(epoch_ms))
        asyncio.run(stock(int(port), plan, range(int(first), int(last))))
    else:
        machines, signals, each, seconds = rest
        publish(int(port), LoadPlan(int(machines), int(signals), 1.0, 0), int(each), float(seconds))


if __name__ == "__main__":
    main()
