"""Who the session is for: anybody, a user name, or the owner of a certificate."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from asyncua import ua
from asyncua.client.client import Client

from edge_agent.sources.opcua.config import OpcUaConfig
from edge_agent.sources.opcua.endpoints import TOKENS, describe_tokens, mode_of, policy_name
from edge_agent.sources.opcua.pki import load_certificate, load_key
from edge_agent.sources.opcua.security import KEY_BITS
from shopfloor.errors import SourceMisconfigured

_RANK: Final = {name: rank for rank, name in enumerate(("None", *KEY_BITS))}


def identify(client: Client, config: OpcUaConfig) -> None:
    """Give a client the user that is configured.

    Raises:
        SourceMisconfigured: the user's certificate or key can't be read, or they don't belong together.
    """
    if config.user is not None:
        client.set_user(config.user)
        client.set_password(config.password.get_secret_value() if config.password is not None else "")
    if config.user_certificate is None or config.user_key is None:
        return
    try:
        certificate = load_certificate(config.user_certificate)
    except (OSError, ValueError) as error:
        raise _unusable("user_certificate", config.user_certificate, error) from error
    try:
        key = load_key(config.user_key)
    except (OSError, ValueError) as error:
        raise _unusable("user_key", config.user_key, error) from error
    if key.public_key() != certificate.public_key():
        raise SourceMisconfigured(f"user_key: {config.user_key} is not the key of {config.user_certificate}")
    client.user_certificate, client.user_private_key = certificate, key


def _unusable(option: str, file: Path, error: OSError | ValueError) -> SourceMisconfigured:
    return SourceMisconfigured(f"{option}: {file}: {getattr(error, 'strerror', None) or error}")


def choose_token(client: Client, config: OpcUaConfig) -> None:
    """Choose how the server is told who we are: as the server asks for it, and never readable against our will.

    Raises:
        SourceMisconfigured: the server takes nobody of this kind here, or would get the password unencrypted.
    """
    kind = ua.UserTokenType.Anonymous
    if config.user is not None:
        kind = ua.UserTokenType.UserName
    elif config.user_certificate is not None:
        kind = ua.UserTokenType.Certificate
    offered = list(client._policy_ids or ())  # noqa: SLF001  asyncua takes the first that fits, usable or not
    fitting = [token for token in offered if token.TokenType == kind]
    if offered and not fitting:
        raise SourceMisconfigured(
            f"{config.endpoint}: the server refuses {TOKENS[kind]} here; it takes {describe_tokens(offered)}"
        )
    ranked = sorted(
        (rank, number)
        for number, token in enumerate(fitting)
        if (rank := _RANK.get(_token_policy(token, config))) is not None  # type: ignore[call-overload]
    )
    if fitting and not ranked:
        names = ", ".join(sorted({_token_policy(token, config) for token in fitting}))
        raise SourceMisconfigured(f"{config.endpoint}: the server wants {TOKENS[kind]} secured with {names}")
    best = fitting[ranked[-1][1]] if ranked else None
    plain = best is None or _token_policy(best, config) == "None"
    readable = plain and mode_of(config.security) != ua.MessageSecurityMode.SignAndEncrypt
    if kind is ua.UserTokenType.UserName and readable and config.allow_insecure_user != config.user:
        raise SourceMisconfigured(
            f"{config.endpoint}: the server wants the password of {config.user!r} unencrypted; "
            "use SignAndEncrypt, or set allow_insecure_user to this name"
        )
    if not plain and not client.security_policy.peer_certificate:
        raise SourceMisconfigured(
            f"{config.endpoint}: the server wants {TOKENS[kind]} encrypted, but shows no certificate to do it with"
        )
    client._policy_ids = [best] if best is not None else []  # noqa: SLF001


def _token_policy(token: ua.UserTokenPolicy, config: OpcUaConfig) -> str:
    return policy_name(token.SecurityPolicyUri) if token.SecurityPolicyUri else config.security.policy
