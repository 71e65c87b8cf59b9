"""``shopfloor edge trust``: which OPC UA servers this agent trusts, and which showed a certificate nobody knows."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives import hashes

from edge_agent.config import Config
from edge_agent.sources.opcua.pki import Kept, Pki, Place, alternative_names, common_name, thumbprint
from edge_agent.trust_arguments import MIN_PREFIX
from shopfloor import configfile
from shopfloor.errors import ConfigError
from shopfloor.owner import become_owner
from shopfloor.tables import table

_PLACES: Final[tuple[Place, ...]] = ("rejected", "trusted", "issuers", "own")


def main(arguments: argparse.Namespace) -> int:
    """Do what was asked; returns the exit status (1: no such certificate, 2: the configuration is wrong)."""
    try:
        folders = _folders(arguments.config)
        become_owner(folders[0].folder)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    try:
        if arguments.trust_command == "list":
            return _list(folders, as_json=arguments.json)
        return _decide(folders, arguments.trust_command, arguments.thumbprint, as_json=arguments.json)
    except OSError as error:
        print(f"{error.filename or arguments.config}: {error.strerror or error}", file=sys.stderr)
        return 1


def _folders(path: Path) -> list[Pki]:
    """Return the agent's folder of certificates, then those of sources that have their own."""
    if path.is_dir():
        return [Pki(path)]
    config = configfile.load(path, Config)
    named = [
        entry.opcua.security.pki
        for entry in config.sources
        if entry.opcua is not None and entry.opcua.security.pki is not None
    ]
    return [Pki(folder) for folder in dict.fromkeys([config.data / "pki", *named])]


@dataclass(frozen=True, slots=True)
class _Row:
    kept: Kept

    def as_json(self) -> dict[str, Any]:
        certificate = self.kept.certificate
        uris, hosts = alternative_names(certificate)
        return {
            "place": self.kept.place,
            "thumbprint": thumbprint(certificate),
            "sha256": certificate.fingerprint(hashes.SHA256()).hex().upper(),
            "name": common_name(certificate.subject),
            "issuer": common_name(certificate.issuer),
            "application_uris": uris,
            "hosts": hosts,
            "valid_from": certificate.not_valid_before_utc.isoformat(),
            "valid_until": certificate.not_valid_after_utc.isoformat(),
            "file": str(self.kept.file),
        }

    def cells(self, now: datetime) -> tuple[str, ...]:
        certificate = self.kept.certificate
        end = certificate.not_valid_after_utc
        uris, hosts = alternative_names(certificate)
        return (
            self.kept.place,
            thumbprint(certificate),
            f"{end:%Y-%m-%d}" + (" expired" if end < now else ""),
            common_name(certificate.subject),
            ", ".join(uris) or "-",
            ", ".join(hosts) or "-",
        )


def _list(folders: Sequence[Pki], *, as_json: bool) -> int:
    read = [(pki, *pki.read(*_PLACES)) for pki in folders]
    if as_json:
        listed = [
            {
                "folder": str(pki.folder),
                "certificates": [_Row(each).as_json() for each in kept],
                "problems": problems,
            }
            for pki, kept, problems in read
        ]
        print(json.dumps({"folders": listed}, indent=1))
        return 0
    now = datetime.now(UTC)
    for pki, kept, problems in read:
        print(f"{pki.folder}:" if kept or problems else f"{pki.folder}: no certificates")
        rows = [_Row(each).cells(now) for each in kept]
        titles = ("", "THUMBPRINT", "VALID UNTIL", "NAME", "APPLICATION", "HOSTS")
        for line in table(titles, rows) if rows else ():
            print(f"  {line}")
        for problem in problems:
            print(f"  {problem}")
    return 0


def _decide(folders: Sequence[Pki], action: str, wanted: str, *, as_json: bool) -> int:
    source, target = _way(action)
    text = wanted.replace(":", "").replace(" ", "").upper()
    found = [(pki, kept) for pki in folders for kept in pki.read(source)[0] if _is(kept, text)]
    different = {thumbprint(kept.certificate) for _, kept in found}
    if len(text) < MIN_PREFIX or len(different) > 1:
        print(f"{wanted}: give more of the thumbprint", file=sys.stderr)
        return 1
    if not found:
        done = [kept for pki in folders for kept in pki.read(target)[0] if _is(kept, text)]
        if not done:
            print(f"{wanted}: no such certificate among the {source} ones", file=sys.stderr)
            return 1
        moved = done
    else:
        moved = [Kept(target, pki.move(kept, target), kept.certificate) for pki, kept in found]
    if as_json:
        print(json.dumps({"certificates": [_Row(kept).as_json() for kept in moved]}, indent=1))
        return 0
    for kept in moved:
        _, thumb, end, name, uris, hosts = _Row(kept).cells(datetime.now(UTC))
        print(f"{target}: {name}, application {uris}, for {hosts}, valid until {end}, thumbprint {thumb}")
    if found and action == "accept":
        print("a running agent connects when it tries again, within half a minute")
    if found and action == "reject":
        print("a running agent keeps its present connection; restart it to end that")
    return 0


def _way(action: str) -> tuple[Place, Place]:
    return ("rejected", "trusted") if action == "accept" else ("trusted", "rejected")


def _is(kept: Kept, wanted: str) -> bool:
    return thumbprint(kept.certificate).startswith(wanted)
