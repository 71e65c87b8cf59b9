"""What a failed attempt to connect means for the person who has to do something about it."""

from __future__ import annotations

import enum
from typing import Final

from asyncua.ua.status_codes import StatusCodes
from asyncua.ua.uaerrors._base import UaStatusCodeError

from edge_agent.sources.opcua.config import OpcUaConfig
from edge_agent.sources.opcua.own import OwnCertificate
from edge_agent.sources.opcua.pki import thumbprint
from edge_agent.sources.opcua.session import status_name
from shopfloor.errors import SourceMisconfigured, SourceUnavailable


class Step(enum.Enum):
    """How far an attempt had come."""

    DISCOVER = enum.auto()
    CHANNEL = enum.auto()
    SESSION = enum.auto()
    USER = enum.auto()


_USER: Final = frozenset(
    {
        StatusCodes.BadUserAccessDenied,
        StatusCodes.BadIdentityTokenInvalid,
        StatusCodes.BadIdentityTokenRejected,
        StatusCodes.BadUserSignatureInvalid,
    }
)
_CERTIFICATE: Final = frozenset(
    {
        StatusCodes.BadSecurityChecksFailed,
        StatusCodes.BadCertificateInvalid,
        StatusCodes.BadCertificateTimeInvalid,
        StatusCodes.BadCertificateUriInvalid,
        StatusCodes.BadCertificateUseNotAllowed,
        StatusCodes.BadCertificateUntrusted,
        StatusCodes.BadCertificateRevocationUnknown,
        StatusCodes.BadCertificateRevoked,
        StatusCodes.BadCertificateChainIncomplete,
        StatusCodes.BadCertificatePolicyCheckFailed,
        StatusCodes.BadNoValidCertificates,
    }
)
_SECURITY: Final = frozenset(
    {
        StatusCodes.BadSecurityPolicyRejected,
        StatusCodes.BadSecurityModeRejected,
        StatusCodes.BadSecurityModeInsufficient,
        StatusCodes.BadTcpEndpointUrlInvalid,
    }
)


def refusal(
    config: OpcUaConfig, error: Exception, step: Step, own: OwnCertificate | None = None
) -> SourceMisconfigured | SourceUnavailable:
    """Return the error to raise for what asyncua raised at a step; ``own`` is what we showed of ourselves."""
    where = config.endpoint
    if isinstance(error, UaStatusCodeError):
        return _status(config, error.code, step, own)
    if isinstance(error, TimeoutError):
        return SourceUnavailable(f"{where}: no answer within {config.request_timeout_s:g} s")
    if isinstance(error, OSError):
        reason = str(error.strerror or error) or type(error).__name__
        if step is Step.CHANNEL and own is not None and isinstance(error, ConnectionError):
            reason += f"; it hung up on our certificate, so it may not trust it: {_ours(own)}"
        return SourceUnavailable(f"{where}: {reason}")
    if isinstance(error, ValueError) and step is Step.USER:
        return SourceMisconfigured(f"{where}: who we are can't be told to this server: {error}")
    return SourceUnavailable(f"{where}: not an OPC UA server, or a broken one: {error}")


def _status(
    config: OpcUaConfig, code: int, step: Step, own: OwnCertificate | None
) -> SourceMisconfigured | SourceUnavailable:
    what = f"{config.endpoint}: {status_name(code)}"
    if code in _USER or (step is Step.USER and code in _CERTIFICATE):
        return SourceMisconfigured(f"{what}: the server refuses {_who(config)}")
    if code in _CERTIFICATE and own is not None:
        return SourceMisconfigured(f"{what}: the server does not trust us; have it trust {_ours(own)}")
    if code in _CERTIFICATE or code in _SECURITY:
        return SourceMisconfigured(f"{what}: the server refuses this way of connecting")
    if code == StatusCodes.BadTooManySessions:
        return SourceUnavailable(f"{what}: other clients hold all sessions that the server has")
    return SourceUnavailable(what)


def _who(config: OpcUaConfig) -> str:
    if config.user is not None:
        return f"user {config.user!r}"
    return (
        f"the user of {config.user_certificate}"
        if config.user_certificate is not None
        else "anonymous access"
    )


def _ours(own: OwnCertificate) -> str:
    return f"{own.file}, thumbprint {thumbprint(own.certificate)}, application URI {own.application_uri}"
