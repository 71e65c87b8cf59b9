"""Nodesets, certificates and security settings that are not what they should be: each says where."""

from __future__ import annotations

from pathlib import Path

import pytest

from shopfloor import configfile
from shopfloor.errors import ConfigError
from simulators.protocols.opcua_nodesets import find_nodesets
from simulators.protocols.opcua_security import GuardedServer
from simulators.protocols.opcua_security_config import OpcUaSecurity

UA = "http://opcfoundation.org/UA/"
GENERAL = f"{UA}PlasticsRubber/GeneralTypes/"
IMM2MES = f"{UA}PlasticsRubber/IMM2MES/"


def nodeset(file: Path, uri: str, *required: str) -> None:
    models = "".join(f'<RequiredModel ModelUri="{other}"/>' for other in (UA, *required))
    file.write_text(
        f'<UANodeSet xmlns="{UA}2011/03/UANodeSet.xsd">\n<Models><Model ModelUri="{uri}">{models}</Model></Models>\n'
        "</UANodeSet>\n",
        encoding="utf-8",
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    nodeset(tmp_path / "a.xml", IMM2MES, GENERAL, f"{UA}DI/")
    nodeset(tmp_path / "b.xml", GENERAL, f"{UA}DI/")
    nodeset(tmp_path / "c.xml", f"{UA}DI/")
    return tmp_path


def test_nodesets_come_after_what_they_require(folder: Path) -> None:
    nodeset(folder / "unrelated.xml", "urn:unrelated", "urn:missing")
    nodeset(folder / "machinery.xml", f"{UA}Machinery/", f"{UA}DI/")
    found = [item.file.name for item in find_nodesets(folder)]
    assert sorted(found) == ["a.xml", "b.xml", "c.xml", "machinery.xml"]
    assert found.index("c.xml") < found.index("b.xml") < found.index("a.xml")


def test_broken_xml_is_named_with_its_line(folder: Path) -> None:
    (folder / "b.xml").write_text('<UANodeSet>\n<Models>\n<Model ModelUri="x"</Models>', encoding="utf-8")
    (folder / "c.xml").write_text("<html/>", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        find_nodesets(folder)
    assert caught.value.problems == [
        f"{folder}/b.xml:3:20: broken XML: not well-formed (invalid token)",
        f"{folder}/c.xml: no UANodeSet with a Model",
    ]


def test_what_is_missing_is_named(folder: Path) -> None:
    (folder / "c.xml").unlink()
    with pytest.raises(ConfigError, match=rf"{folder}: no nodeset of {UA}DI/"):
        find_nodesets(folder)
    nodeset(folder / "c.xml", f"{UA}DI/", "urn:missing")
    with pytest.raises(
        ConfigError, match=rf"{folder}/c.xml: needs urn:missing, of which there is no nodeset"
    ):
        find_nodesets(folder)
    nodeset(folder / "c.xml", f"{UA}DI/", IMM2MES)
    with pytest.raises(ConfigError, match=r"\.xml: requires itself"):
        find_nodesets(folder)
    nodeset(folder / "c.xml", f"{UA}DI/")
    nodeset(folder / "d.xml", f"{UA}DI/")
    with pytest.raises(ConfigError, match=r"d.xml: http://opcfoundation.org/UA/DI/ is in c.xml already"):
        find_nodesets(folder)
    with pytest.raises(ConfigError, match="no folder"):
        find_nodesets(folder / "none")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("policies: [Basic256]", "policies.0"),
        ("policies: []", "policies"),
        ("policies: [Basic256Sha256_Sign]", "no pki: Basic256Sha256_Sign needs a folder"),
        ("anonymous: false", "nobody can connect"),
        ("user_certificates: known", "need a policy other than None"),
        ("users_without_encryption: [me]", "no user me"),
        ("users: {me: secret}", "a secret stands here only as"),
    ],
)
def test_settings_that_make_no_sense_are_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        configfile.parse(text, OpcUaSecurity, Path("opcua.yaml"))
    assert message in str(caught.value)
    assert str(caught.value).startswith("opcua.yaml:1:")
    assert "secret}" not in str(caught.value)


def test_a_file_among_the_user_certificates_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.der").write_bytes(b"no certificate")
    (tmp_path / "b.pem").write_bytes(b"no certificate")
    (tmp_path / "README").write_bytes(b"not looked at")
    security = OpcUaSecurity.model_validate(
        {"policies": ["Basic256Sha256_Sign"], "pki": str(tmp_path), "user_certificates": str(tmp_path)}
    )
    with pytest.raises(ConfigError) as caught:
        GuardedServer(security)
    names = [problem.partition(": ")[0] for problem in caught.value.problems]
    assert names == [str(tmp_path / "a.der"), str(tmp_path / "b.pem")]
