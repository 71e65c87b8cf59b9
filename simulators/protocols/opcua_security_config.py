"""What a scenario says about who may connect to a site's OPC UA server; read without loading a server."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from shopfloor.configfile import ConfigModel, FilePath, Secret

Policy = Literal[
    "None",
    "Basic256Sha256_Sign",
    "Basic256Sha256_SignAndEncrypt",
    "Aes128_Sha256_RsaOaep_Sign",
    "Aes128_Sha256_RsaOaep_SignAndEncrypt",
    "Aes256_Sha256_RsaPss_Sign",
    "Aes256_Sha256_RsaPss_SignAndEncrypt",
]


class OpcUaSecurity(ConfigModel):
    """Security of a site's OPC UA server; by default anybody reads, as behind a machine's own switch.

    The certificates of client applications are all accepted: it is users that are told apart.
    """

    policies: tuple[Policy, ...] = Field(default=("None",), min_length=1)
    """Which combinations of policy and mode are offered."""
    anonymous: bool = True
    """Whether sessions without a user are let in."""
    users: dict[Annotated[str, Field(min_length=1, max_length=100)], Secret] = Field(
        default={}, max_length=100
    )
    """User names and their passwords."""
    users_without_encryption: tuple[str, ...] = ()
    """The user names that may send their password over the policy None, readable on the wire."""
    user_certificates: FilePath | None = None
    """A folder of the X.509 certificates (.der, .pem) whose owners are let in."""
    pki: FilePath | None = None
    """The folder of the server's own certificate and key, made there when they are missing."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        secured = [policy for policy in self.policies if policy != "None"]
        if secured and self.pki is None:
            raise PydanticCustomError(
                "pki", "no pki: {policy} needs a folder for the server's certificate", {"policy": secured[0]}
            )
        if not (self.anonymous or self.users or self.user_certificates):
            raise PydanticCustomError(
                "nobody", "nobody can connect: no anonymous sessions, users or user_certificates"
            )
        if self.user_certificates and not secured:
            raise PydanticCustomError("user_certificates", "user_certificates need a policy other than None")
        for name in self.users_without_encryption:
            if name not in self.users:
                raise PydanticCustomError("user", "users_without_encryption: no user {name}", {"name": name})
        return self
