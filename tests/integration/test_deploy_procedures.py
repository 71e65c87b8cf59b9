"""docs/operations.md, done: installed, a site added, backed up, upgraded, brought back, restored, removed."""

from __future__ import annotations

from pathlib import Path

import pytest

from shopfloor.messages import Batch, Lane
from tests.integration.ingest_server import STRANGER, batch, block
from tests.integration.ingest_server import heartbeat as beat
from tests.integration.installed import Installation, account, renewed, send, unpacked
from tests.ports import free_port

SITE = "sites: [{asset: acme/hk01, name: Hong Kong, time_zone: Asia/Hong_Kong}%s]\n"
ANOTHER = ", {asset: acme/dg01, name: Dongguan, time_zone: Asia/Shanghai}"


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    there = Installation(unpacked(tmp_path), tmp_path / "prefix")
    said = there.install()
    assert "ingest check" in said
    assert f"data: {there.data}" in there.config.read_text()
    return there


@pytest.mark.timeout(400)
def test_a_life_of_an_installation(installation: Installation) -> None:
    there = installation
    port = free_port()
    there.configure(port, SITE % "")
    looked = there.shopfloor("ingest", "check", there.config)
    assert looked.returncode == 0, looked.stdout + looked.stderr
    backups = there.prefix / "backups"
    first_release = (there.prefix / "current").readlink()
    agent, viewer = there.token("agent", "acme/hk01"), there.token("viewer", "")
    one, two, three = batch(1), batch(11), batch(21)

    def back_up(keep: int) -> list[str]:
        script = there.prefix / "current" / "backup.sh"
        done = there.run(script, there.config, backups, str(keep))
        assert done.returncode == 0, done.stdout + done.stderr
        assert "sound\n" in done.stdout
        return sorted(file.name for file in backups.iterdir())

    with there.serving() as client:
        # What the archive holds is a page, too.
        assert client.get("/").headers["content-type"].startswith("text/html")
        send(client, agent, one)

        # A backup while it runs; what did not become one goes when a later one is sound, what is none of ours stays.
        (backups / "2001-01-01T000000Z").mkdir(parents=True)
        (backups / "mine").mkdir()
        made, mine = back_up(1)
        assert (made[:2], mine) == ("20", "mine")

        # The upgrade: what runs goes on until the new release is complete, and then until it is started anew.
        renewed(there.content, "9.9-next")
        there.install()
        send(client, agent, two)

    # A site is added: its name and its zone with a start, its token at once.
    there.configure(port, SITE % ANOTHER)
    other = there.token("agent", "acme/dg01")
    with there.serving() as client:
        assert (there.prefix / "current").readlink() == Path("releases/9.9-next")
        # An agent that missed the answer sends again: nothing is there twice.
        send(client, agent, two)
        send(client, other, Batch("dg01", "stream-dg", Lane.LIVE, 1, block(4, series=(STRANGER,))))
        assert client.post("/v1/heartbeats", json=beat("dg01", "acme/dg01"), headers=other).status_code < 300
        assert client.post("/v1/heartbeats", json=beat("dg02", "acme/dg01"), headers=agent).status_code == 403
        sites = {site["asset"]: site for site in client.get("/v1/sites", headers=viewer).json()["sites"]}
        assert sites["acme/dg01"]["name"] == "Dongguan"
        total = account(client, viewer)
        assert (total["stored"], total["quarantined"], total["missing"]) == (24, 0, 0)

    # And back: the release from before finds everything.
    assert "back to releases/" in there.install("--back")
    assert (there.prefix / "current").readlink() == first_release
    with there.serving() as client:
        send(client, agent, three)
        assert account(client, viewer)["stored"] == 34

    # The disk is lost: the backup is brought into an empty folder. Who sends what came after it is taken at its word.
    there.data.rename(there.prefix / "lost")
    restored = there.shopfloor("ingest", "restore", there.config, backups / made)
    assert restored.returncode == 0, restored.stderr
    with there.serving() as client:
        assert account(client, viewer)["stored"] == 10
        # Batches 2 and 3 were acknowledged, and the agent has forgotten them: the ledger says what is missing.
        send(client, agent, batch(31))
        total = account(client, viewer)
        assert (total["stored"], total["missing"]) == (20, 20)
    said = there.shopfloor("ingest", "verify", there.config)
    assert (said.returncode, said.stdout) == (0, "sound\n")

    there.install("--uninstall")
    assert {file.name for file in there.prefix.iterdir()} == {"etc", "data", "lost", "backups", "log"}
