"""What the parent and its processes say to each other: JSON lines on the processes' stdin and stdout."""

from __future__ import annotations

import os
from typing import Final, Literal

import msgspec

from simulators.load.plan import LoadPlan

_STDIN: Final = 0
_STDOUT: Final = 1

Protocol = Literal["opcua", "mqtt", "sparkplug"]


class OpcuaJob(msgspec.Struct, frozen=True, tag="opcua"):
    """One OPC UA server."""

    plan: LoadPlan
    number: int
    """Of the process, counted from 0."""
    first: int
    last: int
    """Its machines: ``range(first, last)``."""
    host: str
    port: int


class MqttJob(msgspec.Struct, frozen=True, tag="mqtt"):
    """One publisher."""

    plan: LoadPlan
    number: int
    first: int
    last: int
    host: str
    port: int
    topic_root: str
    """Of Sparkplug: the group."""
    client_id: str
    qos: int
    values_per_message: int
    """0 is all of a machine."""
    window: int
    """At most so many messages wait for their acknowledgement."""
    sparkplug: bool = False
    username: str | None = None
    password: str | None = None


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The process serves or is connected."""

    startup_s: float


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """The process can't go on, and why."""

    reason: str


class Counters(msgspec.Struct, tag="counters"):
    """What a process has done since it was told to start; the last one it sends is final."""

    offered_values: int = 0
    """What the plan holds for the time that has passed."""
    offered_messages: int = 0
    """The same in messages; 0 for OPC UA, where subscribers decide."""
    sent_values: int = 0
    sent_messages: int = 0
    acknowledged_messages: int = 0
    unacknowledged_messages: int = 0
    lost_messages: int = 0
    """QoS 0: under way when the connection broke; not among those sent."""
    discarded_values: int = 0
    """OPC UA: values that a subscriber's queue had no room for."""
    late_ticks: int = 0
    """Ticks that were not out before the next one was due."""
    reconnects: int = 0
    rebirths: int = 0
    subscribers: int = 0
    """OPC UA: monitored items now."""
    cpu_s: float = 0.0

    def __add__(self, other: Counters) -> Counters:
        mine, others = msgspec.structs.astuple(self), msgspec.structs.astuple(other)
        return Counters(*(one + another for one, another in zip(mine, others, strict=True)))


class Start(msgspec.Struct, frozen=True, tag="start"):
    """To the process: begin with this tick; counts from here."""

    tick: int


class Stop(msgspec.Struct, frozen=True, tag="stop"):
    """To the process: let out what is under way, tell the final count, end."""


Job = OpcuaJob | MqttJob
Command = Start | Stop
Told = Ready | Failed | Counters


class ParentGone(Exception):
    """Nobody is at the other end any more."""


class Channel:
    """The process's side."""

    def __init__(self) -> None:
        self._buffer = b""
        self._decoder = msgspec.json.Decoder(Command)

    def fileno(self) -> int:
        """Return what becomes readable when a command comes, or the parent is gone."""
        return _STDIN

    def job(self) -> Job:
        """Wait for what to do; raises ParentGone."""
        while b"\n" not in self._buffer:
            self._receive()
        line, self._buffer = self._buffer.split(b"\n", 1)
        job: Job = msgspec.json.decode(line, type=Job)
        return job

    def commands(self) -> list[Command]:
        """Read the commands that are there, waiting for at least some bytes; raises ParentGone."""
        self._receive()
        *lines, self._buffer = self._buffer.split(b"\n")
        return [self._decoder.decode(line) for line in lines]

    def tell(self, message: Told) -> None:
        """Say something; raises ParentGone."""
        data = msgspec.json.encode(message) + b"\n"
        try:
            while data:
                data = data[os.write(_STDOUT, data) :]
        except BrokenPipeError as error:
            raise ParentGone from error

    def _receive(self) -> None:
        data = os.read(_STDIN, 65_536)
        if not data:
            raise ParentGone
        self._buffer += data
