"""How commands ask the service that runs: it alone holds the samples, so what touches them goes through its interface.

On the service's own machine ``--config`` is enough: whoever may read its files is its administrator, and the command makes
itself a token that lasts for as long as it needs it. From elsewhere ``--url`` and a token in ``SHOPFLOOR_TOKEN`` do.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import os
import ssl
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import msgspec
from sqlalchemy.exc import SQLAlchemyError

from ingest_service.access.audit import here
from ingest_service.auth import Role, make_token, revoke_token
from ingest_service.config import IngestConfig
from ingest_service.plant.engine import connect
from ingest_service.premises import open_folder
from shopfloor.configfile import load
from shopfloor.errors import ConfigError, ShopfloorError
from shopfloor.owner import become_owner

TOKEN: Final = "SHOPFLOOR_TOKEN"  # noqa: S105 - the name of a variable
_TIMEOUT_S: Final = 600.0
_LASTS_NS: Final = 3600 * 1_000_000_000
_CHUNK: Final = 64 * 1024


class ServiceTrouble(ShopfloorError):
    """The service does not answer, or not as asked."""


class ServiceClient:
    """One connection to a service."""

    def __init__(self, url: str, token: str, ca: Path | None = None, *, own: bool = False) -> None:
        self._url = url
        self._headers = {"Authorization": f"Bearer {token}"}
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ServiceTrouble(f"{url}: an address such as https://ingest.example:8443 stands here")
        try:
            if parts.scheme == "https":
                secure = ssl.create_default_context(cafile=str(ca) if ca else None)
                # By an address of this machine, and with the very certificate that the service was given.
                secure.check_hostname = not own
                self._connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                    parts.hostname, parts.port, timeout=_TIMEOUT_S, context=secure
                )
            else:
                self._connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=_TIMEOUT_S)
        except (OSError, ValueError) as error:
            raise ServiceTrouble(f"{url}: {error}") from error

    def ask(self, method: str, path: str, body: object = None, **parameters: Any) -> Any:
        """Return what a JSON answer says; None for one without content. Raises ServiceTrouble."""
        with self._answer(method, path, body, parameters) as answer:
            content = answer.read()
        try:
            return msgspec.json.decode(content) if content else None
        except msgspec.MsgspecError as error:
            raise ServiceTrouble(f"{self._url}{path}: {error}") from error

    def stream(self, path: str, write: Callable[[bytes], object], **parameters: Any) -> None:
        """Hand an answer on as it comes. Raises ServiceTrouble, also for one that breaks off."""
        with self._answer("GET", path, None, parameters) as answer:
            try:
                while chunk := answer.read(_CHUNK):
                    write(chunk)
            except http.client.HTTPException as error:
                raise ServiceTrouble(f"{self._url}{path}: the answer broke off: {error!r}") from error

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    @contextlib.contextmanager
    def _answer(
        self, method: str, path: str, body: object, parameters: Mapping[str, Any]
    ) -> Iterator[http.client.HTTPResponse]:
        given = {
            name.rstrip("_"): value for name, value in parameters.items() if value is not None and value != ""
        }
        target = path + ("?" + urlencode(given, doseq=True) if given else "")
        content = None if body is None else msgspec.json.encode(body)
        try:
            self._connection.request(
                method, target, content, self._headers | {"Content-Type": "application/json"}
            )
            answer = self._connection.getresponse()
            if answer.status >= 300:
                raise ServiceTrouble(f"{self._url}{path}: {answer.status} {_reason(answer.read(_CHUNK))}")
            yield answer
        except (OSError, http.client.HTTPException) as error:
            raise ServiceTrouble(f"{self._url}: {error or type(error).__name__}") from error


def declare(
    parser: argparse.ArgumentParser, action: Callable[[argparse.Namespace, ServiceClient], int]
) -> None:
    """Give a sub-command its function, and the options that say which service is meant."""
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--config", type=Path, help="ingest.yaml of the service, which runs on this machine")
    which.add_argument("--url", help=f"address of the service; {TOKEN} in the environment holds a token")
    parser.add_argument("--ca", type=Path, help="PEM file with the authority of its certificate")
    parser.set_defaults(run=run, action=action)


def run(arguments: argparse.Namespace) -> int:
    """Run a sub-command; return the exit status (2 for mistakes in the configuration)."""
    try:
        with _client(arguments) as client:
            code: int = arguments.action(arguments, client)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    except BrokenPipeError:
        return 1
    except (ShopfloorError, OSError, SQLAlchemyError) as error:
        print(error, file=sys.stderr)
        return 1
    return code


@contextlib.contextmanager
def _client(arguments: argparse.Namespace) -> Iterator[ServiceClient]:
    if arguments.url is not None:
        token = os.environ.get(TOKEN, "")
        if not token:
            raise ServiceTrouble(f"a token has to stand in the environment, as {TOKEN}")
        client = ServiceClient(arguments.url, token, arguments.ca)
        with contextlib.closing(client):
            yield client
        return
    config = load(arguments.config, IngestConfig)
    become_owner(config.data)
    open_folder(config.data)
    engine = connect(config.plant_address)
    try:
        expires = time.time_ns() + _LASTS_NS
        token, row = make_token(engine, Role.ADMIN, "", f"command of {here()}", expires_at=expires)
        try:
            ca = config.tls.certificate if config.tls else None
            with contextlib.closing(ServiceClient(_local(config), token, ca, own=True)) as client:
                yield client
        finally:
            revoke_token(engine, row.token_id)
    finally:
        engine.dispose()


def _local(config: IngestConfig) -> str:
    """Return the address at which this machine reaches its own service."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(config.host, config.host)
    scheme = "https" if config.tls else "http"
    return f"{scheme}://[{host}]:{config.port}" if ":" in host else f"{scheme}://{host}:{config.port}"


def _reason(content: bytes) -> str:
    try:
        answer = msgspec.json.decode(content, type=dict[str, Any])
    except msgspec.MsgspecError:
        return content[:200].decode(errors="replace")
    return str(answer.get("error") or answer.get("detail") or answer)[:500]
