"""A failure is logged when it begins and when it is over, however often it repeats in between."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

_MAX_WORDINGS: Final = 8
"""Lines that one trouble may take before it is over: what fails in ever new words is one trouble all the same."""
_NUMBER: Final = re.compile(r"\d+")


@dataclass(slots=True)
class Trouble:
    """One thing that can fail, such as the uplink. Not for several threads."""

    log: logging.Logger
    what: str
    """Begins every line."""
    extra: Mapping[str, object] = field(default_factory=dict)
    """Fields of the structured log."""
    now_s: Callable[[], float] = time.monotonic
    times: int = field(default=0, init=False)
    """Failures since it began; 0 while all is well."""
    _began_s: float = field(default=0.0, init=False)
    _well_s: float | None = field(default=None, init=False)
    """When it was first well again after the last failure."""
    _said: set[str] = field(default_factory=set, init=False)

    def met(
        self,
        message: str,
        *,
        kind: str | None = None,
        level: int = logging.WARNING,
        cause: BaseException | None = None,
    ) -> None:
        """Note a failure; one that this trouble has not had yet is logged.

        Args:
            message: what failed, and why.
            kind: what makes it another failure; without it the message does, numbers in it aside.
            level: of the line.
            cause: where given, its traceback is logged with the line.
        """
        self._well_s = None
        if not self.times:
            self._began_s = self.now_s()
        self.times += 1
        wording = _NUMBER.sub("0", message if kind is None else kind)
        if wording in self._said or len(self._said) >= _MAX_WORDINGS:
            return
        self._said.add(wording)
        self.log.log(level, "%s: %s", self.what, message, exc_info=cause, extra=dict(self.extra))

    def over(self, how: str = "works again", *, well_s: float = 0.0) -> None:
        """Note that all is well, and log it if it was not.

        Args:
            how: what is well again.
            well_s: so long it has to be well before the trouble is over, so that what fails and works by turns is
                one. The line comes with the first call after that time.
        """
        if not self.times:
            return
        now_s = self.now_s()
        if self._well_s is None:
            self._well_s = now_s
        if now_s - self._well_s < well_s:
            return
        failures = f"{self.times} failure{'s' if self.times > 1 else ''}"
        lasted = readable_s(self._well_s - self._began_s)
        self.log.info("%s: %s, after %s and %s", self.what, how, lasted, failures, extra=dict(self.extra))
        self.times = 0
        self._said.clear()


def readable_s(seconds: float) -> str:
    """Return a duration for people, in its two largest units: ``3 min 20 s``, ``2 d 4 h``."""
    whole = max(0, round(seconds))
    parts: list[str] = []
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        number, whole = divmod(whole, size)
        if number or (parts and len(parts) < 2):
            parts.append(f"{number} {unit}")
    return " ".join(part for part in parts[:2] if not part.startswith("0 ")) or "0 s"
