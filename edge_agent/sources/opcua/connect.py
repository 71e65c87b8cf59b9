"""From an address to an activated session, secured as configured or not at all, and back without leaving anything."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

from asyncua import ua
from asyncua.client.client import Client
from asyncua.crypto import security_policies
from asyncua.ua.uaerrors._base import UaError

from edge_agent.sources.opcua.config import OpcUaConfig
from edge_agent.sources.opcua.endpoints import (
    describe,
    discover,
    drop,
    find,
    mode_of,
    new_client,
    open_channel,
)
from edge_agent.sources.opcua.kept import Kept, only_interrupted
from edge_agent.sources.opcua.orphans import Orphans
from edge_agent.sources.opcua.own import OwnCertificate
from edge_agent.sources.opcua.pki import Pki, thumbprint
from edge_agent.sources.opcua.refusals import Step, refusal
from edge_agent.sources.opcua.security import Policy
from edge_agent.sources.opcua.session import Session
from edge_agent.sources.opcua.trust import Verdict, judge
from edge_agent.sources.opcua.users import choose_token, identify
from shopfloor.errors import SourceMisconfigured

CLOSE_TIMEOUT_S: Final = 2.0
"""How long a goodbye may take, so that an agent that is told to stop does stop."""
CHANNEL_LIFETIME_MS: Final = 3_600_000

_POLICIES: Final[dict[Policy, Any]] = {
    "None": security_policies.SecurityPolicyNone,
    "Basic128Rsa15": security_policies.SecurityPolicyBasic128Rsa15,
    "Basic256": security_policies.SecurityPolicyBasic256,
    "Basic256Sha256": security_policies.SecurityPolicyBasic256Sha256,
    "Aes128_Sha256_RsaOaep": security_policies.SecurityPolicyAes128Sha256RsaOaep,
    "Aes256_Sha256_RsaPss": security_policies.SecurityPolicyAes256Sha256RsaPss,
}


@dataclass(slots=True)
class Applicant:
    """Who connects, over all sessions of one source."""

    agent_id: str = ""
    """Stands in our certificate when it is made."""
    pki: Path | None = None
    """The agent's folder of certificates, where ``security.pki`` names none."""
    orphans: Orphans = field(default_factory=Orphans)

    def folder(self, config: OpcUaConfig) -> Pki:
        """Return the certificates that count for a server; raises SourceMisconfigured where there is no folder."""
        folder = config.security.pki or self.pki
        if folder is None:
            raise SourceMisconfigured("security.pki: there is no folder for certificates")
        return Pki(folder)


@dataclass(frozen=True, slots=True)
class Credentials:
    """Both sides' certificates on a secure channel."""

    own: OwnCertificate
    verdict: Verdict

    def remarks(self, now: datetime) -> list[str]:
        """Return what a person should see to before it stops working."""
        return [remark for remark in (self.own.remark(now), self.verdict.remark(now)) if remark]


@asynccontextmanager
async def open_session(
    config: OpcUaConfig, clock: Callable[[], int] = time.time_ns, applicant: Applicant | None = None
) -> AsyncIterator[Session]:
    """Connect, yield an activated session, and close it whatever happens.

    Args:
        config: the server, and how the channel is secured.
        clock: UTC ns.
        applicant: who connects; only a policy other than None needs one.

    Raises:
        SourceUnavailable: nobody answers there, or not in time.
        SourceMisconfigured: the server does not offer what is configured, is not trusted, or refuses us.
    """
    applicant = applicant or Applicant()
    orphans = applicant.orphans
    orphans.check()
    credentials = await _credentials(config, clock, applicant)
    own = None if credentials is None else credentials.own
    try:
        await orphans.bury(partial(_channel, config, applicant, credentials))
    except (UaError, OSError, TimeoutError) as error:
        raise refusal(config, error, Step.CHANNEL, own) from error
    client = _client(config, applicant, credentials)
    session = Session(client, config, clock)
    kept = None
    try:
        session.inherited = await _connect(client, config, own, orphans)
        if credentials is not None:
            session.remarks = partial(_remarks, credentials, clock)
        await session.measure_clock()
        await session.read_namespaces()
        await session.read_limits()
        yield session
    except BaseException as error:
        kept = session.keep() if only_interrupted(error) else None
        raise
    finally:
        await _close(client, orphans, kept)


async def examine(
    config: OpcUaConfig, clock: Callable[[], int], applicant: Applicant
) -> tuple[list[ua.EndpointDescription], Verdict | None]:
    """Return what a server offers, and what is to be said of its certificate (None without a security policy).

    A certificate that is not trusted is put into ``rejected``, where a person can accept it.

    Raises:
        SourceUnavailable: nobody answers there, or not in time.
        SourceMisconfigured: what the server shows is no certificate, or can't be checked.
    """
    try:
        endpoints = await discover(config)
    except (UaError, OSError, TimeoutError) as error:
        raise refusal(config, error, Step.DISCOVER) from error
    endpoint = find(endpoints, config.security)
    if endpoint is None or config.security.policy == "None":
        return endpoints, None
    pki = applicant.folder(config)
    now = datetime.fromtimestamp(clock() / 1e9, UTC)
    return endpoints, await asyncio.to_thread(_judge, config, pki, endpoint, now)


def _judge(config: OpcUaConfig, pki: Pki, endpoint: ua.EndpointDescription, now: datetime) -> Verdict:
    try:
        verdict = judge(
            pki,
            endpoint.ServerCertificate or b"",
            host=config.host,
            application_uri=endpoint.Server.ApplicationUri or "",
            policy=config.security.policy,
            now=now,
        )
    except ValueError as error:
        raise SourceMisconfigured(
            f"{config.endpoint}: the server shows no usable certificate: {error}"
        ) from error
    if not verdict.trusted:
        try:
            pki.keep("rejected", verdict.certificate)
        except OSError as error:
            raise SourceMisconfigured(f"{error.filename or pki.folder}: {error.strerror or error}") from error
    return verdict


async def _credentials(
    config: OpcUaConfig, clock: Callable[[], int], applicant: Applicant
) -> Credentials | None:
    if config.security.policy == "None":
        return None
    own = await asyncio.to_thread(applicant.folder(config).own, applicant.agent_id or config.name)
    endpoints, verdict = await examine(config, clock, applicant)
    if verdict is None:
        raise _not_offered(config, endpoints)
    if not verdict.accepted:
        raise SourceMisconfigured(f"{config.endpoint}: {explain(verdict)}")
    return Credentials(own, verdict)


def explain(verdict: Verdict) -> str:
    """Say why a server's certificate is refused, and what to do; or that it is trusted."""
    if not verdict.trusted:
        changed = f" (it has changed; trusted is {verdict.replaces})" if verdict.replaces else ""
        also = f" Also, {'; '.join(verdict.problems)}." if verdict.problems else ""
        return (
            f"the server's certificate is not trusted{changed}: {verdict}.{also} If this is the thumbprint that the "
            f"server itself shows, run: shopfloor edge trust accept AGENT_YAML {thumbprint(verdict.certificate)}"
        )
    if verdict.problems:
        return f"the server's certificate is refused: {'; '.join(verdict.problems)} ({verdict})"
    notes = f"; but {'; '.join(verdict.notes)}" if verdict.notes else ""
    return f"the server's certificate is trusted through {verdict.by}: {verdict}{notes}"


def _not_offered(config: OpcUaConfig, endpoints: list[ua.EndpointDescription]) -> SourceMisconfigured:
    return SourceMisconfigured(
        f"{config.endpoint}: the server does not offer {config.security}; it offers: {describe(endpoints)}"
    )


def _remarks(credentials: Credentials, clock: Callable[[], int]) -> list[str]:
    return credentials.remarks(datetime.fromtimestamp(clock() / 1e9, UTC))


def _client(config: OpcUaConfig, applicant: Applicant, credentials: Credentials | None) -> Client:
    client = new_client(config)
    client.secure_channel_timeout = CHANNEL_LIFETIME_MS
    client.application_uri = f"urn:shopfloor:edge-agent:{applicant.agent_id or config.name}"
    identify(client, config)
    if credentials is not None:
        own = credentials.own
        client.application_uri = own.application_uri
        client.security_policy = _POLICIES[config.security.policy](
            credentials.verdict.certificate, own.certificate, own.key, mode_of(config.security)
        )
        client.uaclient.set_security(client.security_policy)
    return client


@asynccontextmanager
async def _channel(
    config: OpcUaConfig, applicant: Applicant, credentials: Credentials | None
) -> AsyncIterator[Client]:
    client = _client(config, applicant, credentials)
    try:
        await open_channel(client)
        yield client
        with suppress(UaError, OSError, TimeoutError):  # a server may close it at the sight of an old session
            await client.close_secure_channel()
    finally:
        await drop(client)


async def _connect(
    client: Client, config: OpcUaConfig, own: OwnCertificate | None, orphans: Orphans
) -> Kept | None:
    """Open a channel and a session on it; return subscriptions of one that broke, if there are any."""
    step = Step.CHANNEL
    heir = orphans.heir()
    kept = None if heir is None else heir.kept
    try:
        await open_channel(client)
        step = Step.SESSION
        if heir is not None and await orphans.revive(client, heir):
            return kept
        await client.create_session()
        step = Step.USER
        choose_token(client, config)
        await client._activate_with_credentials()  # noqa: SLF001
    except (UaError, OSError, TimeoutError, ValueError) as error:
        if step is Step.SESSION and config.security.policy == "None" and await _misses_none(config, error):
            raise _not_offered(config, await discover(config)) from error
        raise refusal(config, error, step, own) from error
    if heir is not None and kept is not None:
        kept.foreign = True
        orphans.disinherit(heir)
    return kept


async def _misses_none(config: OpcUaConfig, error: Exception) -> bool:
    """Find out whether a session failed because the server has no endpoint without security."""
    if isinstance(error, OSError | TimeoutError):
        return False
    try:
        return find(await discover(config), config.security) is None
    except (UaError, OSError, TimeoutError):
        return False


async def _close(client: Client, orphans: Orphans, kept: Kept | None) -> None:
    """Say goodbye if the server listens, remember a session that it may still hold, then drop the socket.

    Where something of the session shall go on there is no goodbye: it might arrive late, and end it.
    """
    low = client.uaclient
    token = low.session.authentication_token
    held = not token.is_null()
    try:
        async with asyncio.timeout(CLOSE_TIMEOUT_S):
            low.pre_request_hook = None
            if kept is None and low.protocol is not None and not low.protocol.is_closed:
                await low.close_session(True)
                held = False
                await low.close_secure_channel()
    except (UaError, OSError, TimeoutError):
        pass
    finally:
        if held:
            orphans.leave(client, kept)
        await drop(client)
