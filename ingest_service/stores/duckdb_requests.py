"""What a command asks of the process that owns the store, through files in the data folder.

The database lets in one process only. Whoever may write into its folder may ask: a request is a JSON file in
``requests/``, the answer lies beside it. No port and no token is needed, and nothing listens.
"""

from __future__ import annotations

import json
import logging
import secrets
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from shopfloor.errors import StoreUnavailable

FOLDER: Final = "requests"
_LOOK_S: Final = 0.5
_TAKEN_WITHIN_S: Final = 30.0
_log = logging.getLogger(__name__)

Handler = Callable[[dict[str, Any]], Any]


class RequestFolder:
    """Answers requests, one after the other, on a thread of its own."""

    def __init__(self, data: Path, handlers: dict[str, Handler]) -> None:
        self._folder = data / FOLDER
        self._handlers = handlers
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sample-store-requests", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Finish what is being answered, and end."""
        self._closing.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._closing.wait(_LOOK_S):
            for path in sorted(self._folder.glob("*.request")):
                try:
                    self._answer(path)
                except OSError as error:
                    _log.warning("%s can't be answered: %s", path, error)

    def _answer(self, path: Path) -> None:
        taken = path.with_suffix(".taken")
        path.rename(taken)
        try:
            request = json.loads(taken.read_bytes())
            answer = {"result": self._handlers[request["what"]](request)}
        except Exception as error:  # noqa: BLE001 - told to whoever asked; the service goes on
            _log.warning("a request failed: %s", error)
            answer = {"error": f"{type(error).__name__}: {error}"}
        _write(path.with_suffix(".answer"), answer)
        taken.unlink()


def ask(data: Path, request: dict[str, Any]) -> Any:
    """Ask the process that owns the store in ``data``; return its result.

    Raises:
        StoreUnavailable: nobody took the request, or it failed.
    """
    folder = data / FOLDER
    folder.mkdir(exist_ok=True)
    path = folder / f"{time.time_ns()}-{secrets.token_hex(4)}.request"
    _write(path, request)
    answer, taken = path.with_suffix(".answer"), path.with_suffix(".taken")
    patience = time.monotonic() + _TAKEN_WITHIN_S
    while not answer.exists():
        if path.exists() and time.monotonic() > patience:
            path.unlink(missing_ok=True)
            raise StoreUnavailable("the process that owns the store does not answer")
        if not path.exists() and not taken.exists() and not answer.exists():
            time.sleep(_LOOK_S)
            if not answer.exists() and not taken.exists():
                raise StoreUnavailable("the process that owns the store ended")
        time.sleep(0.05)
    said = json.loads(answer.read_bytes())
    answer.unlink()
    if "error" in said:
        raise StoreUnavailable(said["error"])
    return said["result"]


def _write(path: Path, content: dict[str, Any]) -> None:
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(content), encoding="utf-8")
    draft.replace(path)
