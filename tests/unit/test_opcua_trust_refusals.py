"""What is said, and whether a person has to act, when a server does not let us in."""

from __future__ import annotations

from pathlib import Path

import pytest
from asyncua.ua.status_codes import StatusCodes
from asyncua.ua.uaerrors._base import UaError, UaStatusCodeError

from edge_agent.sources.opcua.config import OpcUaConfig
from edge_agent.sources.opcua.pki import Pki
from edge_agent.sources.opcua.refusals import Step, refusal
from shopfloor.errors import SourceMisconfigured, SourceUnavailable

CONFIG = OpcUaConfig.model_validate(
    {
        "name": "imm",
        "endpoint": "opc.tcp://imm-01:4840",
        "security": {"policy": "Basic256Sha256"},
        "user": "mes",
        "nodes": [{"node": "i=2258", "asset": "acme/hk01", "signal": "time"}],
    }
)


def status(code: int) -> Exception:
    error: Exception = UaStatusCodeError(code)  # type: ignore[no-untyped-call]
    return error


@pytest.mark.parametrize(
    ("error", "step", "kind", "said"),
    [
        (status(StatusCodes.BadUserAccessDenied), Step.USER, SourceMisconfigured, "refuses user 'mes'"),
        (status(StatusCodes.BadCertificateInvalid), Step.USER, SourceMisconfigured, "refuses user 'mes'"),
        (status(StatusCodes.BadCertificateUntrusted), Step.CHANNEL, SourceMisconfigured, "have it trust"),
        (status(StatusCodes.BadSecurityChecksFailed), Step.SESSION, SourceMisconfigured, "have it trust"),
        (
            status(StatusCodes.BadSecurityPolicyRejected),
            Step.CHANNEL,
            SourceMisconfigured,
            "refuses this way of connecting",
        ),
        (status(StatusCodes.BadTooManySessions), Step.SESSION, SourceUnavailable, "hold all sessions"),
        (status(StatusCodes.BadServerHalted), Step.SESSION, SourceUnavailable, "BadServerHalted"),
        (ConnectionError("connection lost"), Step.CHANNEL, SourceUnavailable, "may not trust it"),
        (ConnectionError("connection lost"), Step.SESSION, SourceUnavailable, ": connection lost"),
        (TimeoutError(), Step.CHANNEL, SourceUnavailable, "no answer within 5 s"),
        (UaError("odd"), Step.DISCOVER, SourceUnavailable, "not an OPC UA server, or a broken one: odd"),
        (ValueError("too long"), Step.USER, SourceMisconfigured, "can't be told to this server: too long"),
    ],
)
def test_refusals_in_words(
    tmp_path: Path, error: Exception, step: Step, kind: type[Exception], said: str
) -> None:
    own = Pki(tmp_path).own("a1")
    refused = refusal(CONFIG, error, step, own)
    assert isinstance(refused, kind)
    assert str(refused).startswith("opc.tcp://imm-01:4840: ")
    assert said in str(refused)
    if "trust" in said:
        assert str(own.file) in str(refused)
