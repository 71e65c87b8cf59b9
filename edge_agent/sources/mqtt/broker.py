"""What a user writes about how a broker is reached; every source that speaks MQTT has these options."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Final, Literal, NamedTuple, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from shopfloor.configfile import ConfigModel, FilePath, Secret

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


class Broker(NamedTuple):
    """Where a broker listens."""

    host: str
    port: int
    tls: bool

    @property
    def is_loopback(self) -> bool:
        """Whether what is sent there stays on this computer."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def parse_broker(url: str) -> Broker:
    """Return host, port and transport of ``mqtt://host[:1883]`` or ``mqtts://host[:8883]``; raises ValueError."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"{url!r} is not a URL: {error}") from None
    if parts.scheme not in {"mqtt", "mqtts"}:
        raise ValueError("must be mqtt://HOST[:PORT] or mqtts://HOST[:PORT]")
    # Checked before anything of the URL stands in a message: it may hold a password.
    if parts.username is not None or parts.password is not None:
        raise PydanticCustomError(
            "secret", "user and password don't belong in the URL; they have keys of their own"
        )
    if not parts.hostname or parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise ValueError("must be mqtt://HOST[:PORT] or mqtts://HOST[:PORT]")
    tls = parts.scheme == "mqtts"
    return Broker(parts.hostname, port or (8883 if tls else 1883), tls)


def _checked_broker(url: str) -> str:
    parse_broker(url)
    return url


def _as_text(given: object) -> object:
    # YAML reads 5 as a number and 3.1.1 as text.
    return str(given) if isinstance(given, int) and not isinstance(given, bool) else given


class TlsConfig(ConfigModel):
    """Certificates for ``mqtts://``; without any the system's certificate authorities vouch for the broker."""

    ca: FilePath | None = None
    """PEM file of the certificate authorities that may vouch for the broker. Default: those of the system."""
    cert: FilePath | None = None
    """PEM file of the agent's own certificate, where the broker asks for one; needs ``key``. Default: none."""
    key: FilePath | None = None
    """PEM file of the private key of ``cert``, without a pass phrase. Default: none."""

    @model_validator(mode="after")
    def _pair(self) -> Self:
        if (self.cert is None) != (self.key is None):
            raise ValueError("cert and key belong together: give both or neither")
        return self


class BrokerConfig(ConfigModel):
    """How a broker is reached; `Connection` needs to know no more."""

    name: str = Field(pattern=_NAME.pattern, max_length=63)
    """Name of this source, unique within the agent."""
    broker: Annotated[str, AfterValidator(_checked_broker)]
    """``mqtt://HOST[:1883]``, or ``mqtts://HOST[:8883]`` for TLS."""
    client_id: str = Field(min_length=1, max_length=128, pattern=r"^[!-~]+$")
    """Identifier of the session that the broker keeps for this agent. Never change it and never use it twice."""
    protocol: Annotated[Literal["3.1.1", "5"], BeforeValidator(_as_text)] = "3.1.1"
    """MQTT version. With 5 the agent sets how long its session lives and how much may be on its way. Default: 3.1.1."""
    receive_maximum: int = Field(default=2_000, ge=1, le=65_535)
    """MQTT 5: how many unacknowledged messages may be on their way to the agent. Default: 2000."""
    keepalive_s: int = Field(default=30, ge=2, le=3_600)
    """A broker silent for this many seconds is given up. Default: 30."""
    connect_timeout_s: float = Field(default=10.0, gt=0, le=300)
    """How many seconds connecting, TLS and the broker's first answer may take in all. Default: 10."""
    user: str | None = Field(default=None, max_length=500)
    """User name. Default: none, the agent is anonymous."""
    password: Secret | None = None
    """Password, as ${VARIABLE} or file:PATH. Default: none."""
    allow_insecure_password: bool = False
    """Whether the password may go unencrypted over the network (``mqtt://`` to another host). Default: false."""
    tls: TlsConfig | None = None
    """Certificates for ``mqtts://``. Default: the certificate authorities of the system."""
    max_payload_bytes: int = Field(default=256 * 1024, ge=1, le=16 * 2**20)
    """Larger payloads are acknowledged, counted and dropped. Default: 262144 bytes."""

    @property
    def address(self) -> Broker:
        """The parsed ``broker``."""
        return parse_broker(self.broker)

    @property
    def kept_session_s(self) -> int:
        """For how many seconds of absence a session that is kept stays with the broker (MQTT 5)."""
        return 0

    def problems_of_reach(self) -> list[InitErrorDetails]:
        """Return what does not fit together in how the broker is reached."""
        wrong: list[InitErrorDetails] = []
        address = self.address
        if self.password is not None and self.user is None:
            wrong.append(problem(("user",), "", "a password needs a user"))
        exposed = self.password is not None and not address.tls and not address.is_loopback
        if exposed and not self.allow_insecure_password:
            wrong.append(
                problem(
                    ("broker",),
                    self.broker,
                    "the password would cross the network unencrypted; use mqtts://, or allow_insecure_password: true",
                )
            )
        if self.tls is not None and not address.tls:
            wrong.append(problem(("tls",), "", "goes with mqtts:// only"))
        return wrong


def problem(place: tuple[int | str, ...], given: object, what: str) -> InitErrorDetails:
    """Return a mistake at a place within the model, for a validator that finds several."""
    error = PydanticCustomError("mqtt_config", "{what}", {"what": what})
    return InitErrorDetails(type=error, loc=place, input=given)
