"""The built live page, where there is one."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import PlainTextResponse
from starlette.staticfiles import StaticFiles


def add_page(app: FastAPI, folder: Path | None) -> None:
    """Serve the page's files below ``/``, after all other routes."""
    if folder is not None:
        app.mount("/", StaticFiles(directory=folder, html=True), name="page")
        return

    @app.get("/", include_in_schema=False)
    async def no_page() -> PlainTextResponse:
        return PlainTextResponse("The live page is not built: run the build in dashboards/live.\n", 404)
