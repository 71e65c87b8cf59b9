"""The built live page, where there is one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from fastapi import FastAPI
from fastapi.responses import PlainTextResponse
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

_ASSETS: Final = "assets" + os.sep


class _PageFiles(StaticFiles):
    """Files whose name holds a hash of their content never change; all others are asked for anew."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Return a file with its cache header."""
        response = await super().get_response(path, scope)
        for_ever = response.status_code in {200, 206, 304} and path.startswith(_ASSETS)
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable" if for_ever else "no-cache"
        return response


def add_page(app: FastAPI, folder: Path | None) -> None:
    """Serve the page's files below ``/``, after all other routes."""
    if folder is not None:
        app.mount("/", _PageFiles(directory=folder, html=True), name="page")
        return

    @app.get("/", include_in_schema=False)
    async def no_page() -> PlainTextResponse:
        return PlainTextResponse("The live page is not built: run the build in dashboards/live.\n", 404)
