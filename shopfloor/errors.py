"""The error tree. What a caller can do about an error is its type, not its message.

::

    ShopfloorError
    ├── ConfigError              the user's file is wrong: exit 2 while starting
    ├── Transient                try again later, for ever; may say when
    │   ├── SourceUnavailable        a machine, broker or server does not answer
    │   ├── UplinkUnavailable        the ingestion service did not take a batch
    │   ├── StoreUnavailable         the store can't make data durable now (disk full, locked)
    │   └── WireVersionUnsupported   the peer is newer than this process
    └── Permanent                the same input always ends the same way
        ├── SourceMisconfigured      a source can't work as configured (wrong password, untrusted certificate)
        ├── BatchRefused             our own service said, in its own words, that this batch is unacceptable
        ├── WireError                bytes that are no message of ours
        └── InvalidName              an asset path or signal name outside its grammar
"""

from __future__ import annotations


class ShopfloorError(Exception):
    """Root of every error that this project raises on purpose."""


class ConfigError(ShopfloorError):
    """One or more mistakes in a configuration file; ``problems`` holds a line for each, located."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Transient(ShopfloorError):
    """Worth trying again; ``retry_after_s`` is the peer's wish, if it stated one."""

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class SourceUnavailable(Transient):
    """A machine, server or broker can't be reached, or stopped answering."""


class UplinkUnavailable(Transient):
    """The ingestion service did not take a batch; the data stays in the buffer."""


class StoreUnavailable(Transient):
    """The store can't make data durable now; nothing was acknowledged."""


class WireVersionUnsupported(Transient):
    """A message in a wire version that this process does not read (it may be upgraded: keep the data)."""


class Permanent(ShopfloorError):
    """Repeating the same input would fail the same way."""


class SourceMisconfigured(Permanent):
    """The source can't work as configured; a person has to change something."""


class BatchRefused(Permanent):
    """A typed refusal by our own ingestion service: the batch goes to quarantine at the edge."""


class WireError(Permanent):
    """Bytes that are not a message of this project, or exceed its limits."""


class InvalidName(Permanent, ValueError):
    """An asset path or a signal name that the grammar does not allow."""
