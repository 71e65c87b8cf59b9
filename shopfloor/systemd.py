"""What a process tells systemd: that it is ready, reloads, stops, and that it is alive (sd_notify(3))."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable, Mapping
from typing import Final, Never

log = logging.getLogger(__name__)

_MAX_STATUS: Final = 400
"""Characters of the line that ``systemctl status`` shows."""


class Notifier:
    """Sends notifications to the service manager; does nothing where there is none.

    Args:
        address: NOTIFY_SOCKET: a path, or ``@`` and an abstract name; empty for no service manager.
        watchdog_s: WATCHDOG_USEC in seconds; None where the service manager does not watch this process.
    """

    def __init__(self, address: str = "", watchdog_s: float | None = None) -> None:
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.watchdog_s = watchdog_s if address else None
        self._said_status = ""
        self._complained = False

    @classmethod
    def from_environment(cls, environment: Mapping[str, str], pid: int) -> Notifier:
        """Return the notifier that the service manager asked for; WATCHDOG_PID names the process that is watched."""
        try:
            watchdog_s = int(environment.get("WATCHDOG_USEC", "")) / 1e6
        except ValueError:
            watchdog_s = 0.0
        is_meant = environment.get("WATCHDOG_PID", str(pid)) == str(pid)
        return cls(environment.get("NOTIFY_SOCKET", ""), watchdog_s if is_meant and watchdog_s > 0 else None)

    def ready(self) -> None:
        """Say that all is up, or that a reload is done."""
        self._send("READY=1")

    def reloading(self) -> None:
        """Say that the configuration is read again; `ready` ends it."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """Say that the process closes down."""
        self._send("STOPPING=1")

    def alive(self) -> None:
        """Feed the watchdog."""
        self._send("WATCHDOG=1")

    def status(self, text: str) -> None:
        """Show one line in ``systemctl status``; sent only when it changes."""
        line = " ".join(text.split())[:_MAX_STATUS]
        if line != self._said_status:
            self._said_status = line
            self._send(f"STATUS={line}")

    async def feed_watchdog(self, is_well: Callable[[float], bool]) -> Never:
        """Feed the watchdog at half of its time, and only while all is well.

        Args:
            is_well: told the watchdog's time in seconds; whether everything answered within it.
        """
        while True:
            if self.watchdog_s is None:
                await asyncio.Event().wait()
                continue
            if is_well(self.watchdog_s):
                self.alive()
            await asyncio.sleep(self.watchdog_s / 2)

    def _send(self, message: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                # A full queue must not stop anything.
                sender.setblocking(False)
                sender.sendto(message.encode(), self._address)
        except OSError as error:
            if not self._complained:
                self._complained = True
                log.warning("the service manager can't be told (%s): %s", message.partition("\n")[0], error)
