"""The service manager's end of sd_notify(3)."""

from __future__ import annotations

import socket


class Manager:
    """The service manager's end of NOTIFY_SOCKET."""

    def __init__(self, address: str, *, timeout_s: float = 30.0) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self._timeout_s = timeout_s
        self._socket.settimeout(timeout_s)
        self.address = address

    def hear(self) -> dict[str, str]:
        """Wait for one notification."""
        lines = self._socket.recv(65_536).decode().splitlines()
        return dict(line.split("=", 1) for line in lines)

    def heard_nothing(self) -> bool:
        self._socket.setblocking(False)
        try:
            self._socket.recv(65_536)
        except BlockingIOError:
            return True
        finally:
            self._socket.settimeout(self._timeout_s)
        return False

    def close(self) -> None:
        self._socket.close()
