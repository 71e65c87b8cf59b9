"""Logging of every process to stderr: a line an event, for people or, on request, a JSON object a line.

What a log call gives as ``extra`` (``source``, ``asset``, …) becomes fields of the JSON object. Under systemd the
journal knows the time; there each line begins with its priority instead (sd-daemon(3), ``SD_WARNING`` is ``<4>``).
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, TextIO

from pydantic import BaseModel, SecretStr

FORMATS: Final = ("text", "json")
ENVIRONMENT: Final = "SHOPFLOOR_LOG_FORMAT"
"""Names the format where the command line does not."""

_NOISY: Final = ("asyncua", "httpx", "httpcore", "alembic", "uvicorn.access")
_STANDARD: Final = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
_SHORTEST_SECRET: Final = 6
"""Characters. A shorter one would blacken half of every text; such a secret is none."""
_LINE_ENDS: Final = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))} | {
    ord("\n"): "\\n", ord("\r"): "\\r", ord("\t"): "\\t", 0x2028: "\\u2028", 0x2029: "\\u2029",
}  # fmt: skip
"""What a peer says stays on its line, and commands no terminal."""

_secrets: set[str] = set()


def set_up(*, verbose: bool = False, form: str | None = None) -> None:
    """Configure the root logger; libraries that log each of their steps speak up only for warnings.

    Args:
        verbose: debug messages as well.
        form: one of `FORMATS`; None takes the environment variable `ENVIRONMENT`, else ``text``.
    """
    chosen = form or os.environ.get(ENVIRONMENT) or "text"
    handler = logging.StreamHandler()
    journal = is_journal(sys.stderr, os.environ)
    handler.setFormatter(JsonFormatter() if chosen == "json" else TextFormatter(timed=not journal))
    if journal:
        handler.setFormatter(_Prioritised(handler.formatter or TextFormatter(timed=False)))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.DEBUG if verbose else logging.INFO)
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)
    # asyncua reports lost connections as errors with traces; the agent says the same in one line.
    logging.getLogger("asyncua").setLevel(logging.CRITICAL)
    if chosen not in FORMATS:
        root.warning("%s: %r is none of %s; writing text", ENVIRONMENT, chosen, ", ".join(FORMATS))


def hide_secrets(config: BaseModel) -> None:
    """Blacken the secrets of a configuration in everything that is logged from now on."""
    _secrets.update(text for text in _secrets_of(config) if len(text) >= _SHORTEST_SECRET)


def is_journal(stream: TextIO, environment: Mapping[str, str]) -> bool:
    """Tell whether a stream ends in the journal: JOURNAL_STREAM names its device and inode (systemd.exec(5))."""
    device, _, inode = environment.get("JOURNAL_STREAM", "").partition(":")
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return (device, inode) == (str(status.st_dev), str(status.st_ino))


class TextFormatter(logging.Formatter):
    """A line for people; only a traceback takes more than one."""

    def __init__(self, *, timed: bool = True) -> None:
        """``timed`` puts the time (UTC) and the level in front."""
        super().__init__()
        self._timed = timed

    def format(self, record: logging.LogRecord) -> str:
        """Return the line without its end."""
        front = f"{_time(record)} {record.levelname:7} " if self._timed else ""
        text = f"{front}{record.name}: {record.getMessage().translate(_LINE_ENDS)}"
        trace = _trace(self, record)
        return _blackened(f"{text}\n{trace}" if trace else text)


class JsonFormatter(logging.Formatter):
    """One JSON object (RFC 8259) a line: time, level, logger, message, then what the call gave as ``extra``."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line without its end."""
        fields: dict[str, object] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _blackened(record.getMessage()),
        }
        for name, value in record.__dict__.items():
            if name not in _STANDARD and name not in fields:
                fields[name] = value if isinstance(value, int | float) else _blackened(str(value))
        trace = _trace(self, record)
        if trace:
            fields["trace"] = _blackened(trace)
        return json.dumps(fields, ensure_ascii=False)


class _Prioritised(logging.Formatter):
    """Puts the journal's priority in front of every line."""

    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        front = f"<{_priority(record.levelno)}>"
        return "\n".join(front + line for line in self._inner.format(record).split("\n"))


def _priority(level: int) -> int:
    """Return syslog's severity (RFC 5424 §6.2.1) of a level."""
    for least, severity in (
        (logging.CRITICAL, 2),
        (logging.ERROR, 3),
        (logging.WARNING, 4),
        (logging.INFO, 6),
    ):
        if level >= least:
            return severity
    return 7


def _time(record: logging.LogRecord) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{whole}.{int(record.msecs):03d}Z"


def _trace(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    return formatter.formatException(record.exc_info) if record.exc_info and record.exc_info[0] else ""


def _blackened(text: str) -> str:
    for secret in _secrets:
        text = text.replace(secret, "***")
    return text


def _secrets_of(value: object) -> Iterator[str]:
    if isinstance(value, SecretStr):
        yield value.get_secret_value()
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _secrets_of(getattr(value, name))
    elif isinstance(value, Mapping):
        yield from _secrets_of(tuple(value.values()))
    elif isinstance(value, Iterable) and not isinstance(value, str | bytes):
        for each in value:
            yield from _secrets_of(each)
