"""A browser page of which everything unpleasant is written down."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from playwright.async_api import ConsoleMessage, Page


class Watched:
    """A page of which everything unpleasant is written down."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.complaints: list[str] = []
        self.hosts: set[str] = set()
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.complaints.append(f"uncaught: {error}"))
        page.on("request", lambda request: self.hosts.add("/".join(request.url.split("/")[:3])))

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.complaints.append(f"{message.type}: {message.text}")

    def unexpected(self, *expected: str) -> list[str]:
        return [text for text in self.complaints if not any(part in text for part in expected)]


OpenPage: TypeAlias = Callable[..., Awaitable[Watched]]
