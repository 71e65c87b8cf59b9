"""What a user writes about the security of one OPC UA server's channel, and the names of the standard's policies."""

from __future__ import annotations

from typing import Final, Literal, Self

from pydantic import model_validator
from pydantic_core import PydanticCustomError

from shopfloor.configfile import ConfigModel, FilePath

Policy = Literal[
    "None",
    "Basic256Sha256",
    "Aes128_Sha256_RsaOaep",
    "Aes256_Sha256_RsaPss",
    "Basic256",
    "Basic128Rsa15",
]
Mode = Literal["Sign", "SignAndEncrypt"]

POLICY_URI: Final = "http://opcfoundation.org/UA/SecurityPolicy#"
"""What precedes a policy's name in its URI (Part 7 §6.6)."""
KEY_BITS: Final[dict[Policy, tuple[int, int]]] = {
    "Basic128Rsa15": (1024, 2048),
    "Basic256": (1024, 2048),
    "Basic256Sha256": (2048, 4096),
    "Aes128_Sha256_RsaOaep": (2048, 4096),
    "Aes256_Sha256_RsaPss": (2048, 4096),
}
"""Least and greatest length of RSA keys, by policy, weakest first (Part 7 §6.6)."""
DEPRECATED: Final[frozenset[Policy]] = frozenset({"Basic128Rsa15", "Basic256"})
"""They rest on SHA-1; only for controllers that offer nothing better."""


class SecurityConfig(ConfigModel):
    """Security of the channel to one server; what is configured is used, or nothing: there is no downgrade."""

    policy: Policy = "None"
    """Security policy; default ``None``: nothing is encrypted or signed, for a machine's own network only.
    ``Basic256`` and ``Basic128Rsa15`` are deprecated, for controllers that offer nothing better."""
    mode: Mode = "SignAndEncrypt"
    """``SignAndEncrypt`` (default) or ``Sign``; only with a policy other than ``None``."""
    pki: FilePath | None = None
    """Folder of certificates: ``own``, ``trusted``, ``rejected`` and ``issuers``; default ``pki`` in the agent's
    data folder. Servers are trusted with ``shopfloor edge trust``."""

    @model_validator(mode="after")
    def _mode_belongs_to_a_policy(self) -> Self:
        if self.policy == "None" and "mode" in self.model_fields_set:
            raise PydanticCustomError("mode", "mode needs a policy other than None")
        return self

    def __str__(self) -> str:
        return "None" if self.policy == "None" else f"{self.policy} with {self.mode}"
