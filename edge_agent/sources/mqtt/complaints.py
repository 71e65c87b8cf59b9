"""What messages can't be used, said once a topic and reason and never with their content; counted always."""

from __future__ import annotations

import logging
from typing import Final

_log = logging.getLogger(__name__)

_MAX: Final = 500
_SHOWN: Final = 200
"""Characters of a topic; those that begin alike count as one."""


class Complaints:
    """What one source has said of unusable messages; bounded.

    Args:
        source: its name.
        loud: whether it is logged.
    """

    def __init__(self, source: str, *, loud: bool = True) -> None:
        self._source = source
        self._is_defect_told = False
        self._level = logging.WARNING if loud else logging.DEBUG
        self.said: dict[tuple[str, str], str] = {}
        """(the topic's first 200 characters, what) to why, in the order in which it was said."""

    def note_defect(self, topic: str, payload_bytes: int, error: Exception) -> None:
        """Log that a message met a defect of ours; the first one with its traceback."""
        if not self._is_defect_told:
            self._is_defect_told = True
            _log.log(
                self._level,
                "%s: a message met a defect of this program: please report it",
                self._source,
                exc_info=error,
            )
        self.note(
            "defect", topic, f"{payload_bytes} bytes that this program fails on: {type(error).__name__}"
        )

    def note(self, what: str, topic: str, why: str) -> None:
        """Log what is wrong with messages of a topic, unless that was said before."""
        topic = topic[:_SHOWN]
        if (topic, what) in self.said or len(self.said) > _MAX:
            return
        self.said[topic, what] = why
        if len(self.said) > _MAX:
            _log.log(
                self._level,
                "%s: more topics have unusable messages; from now on only the metrics count them",
                self._source,
            )
            return
        _log.log(self._level, "%s: topic %r: %s: %.300s (said once)", self._source, topic, what, why)
