"""The configuration of databases in deploy/, loaded by them and used for what it is there for."""

from __future__ import annotations

import os
import signal
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlencode

import psycopg
import pytest
import sqlalchemy as sa

from ingest_service.plant.engine import connect
from tests.integration.deployed import DEPLOY, SECRET, adapted, listens, own, place, program, started
from tests.ports import free_port

__all__ = ["place"]


@pytest.mark.parametrize("place", ["postgres"], indirect=True)
def test_postgresql_gives_the_service_a_user_without_rights_of_others(
    place: tuple[Path, str | None],
) -> None:
    initdb, postgres = program("initdb", "postgresql"), program("postgres", "postgresql")
    folder, user = place
    for name in ("postgres_password", "plant_password"):
        (folder / name).write_text(f"{SECRET}, {name}'s \\\n")
        own(user, folder / name)
    subprocess.run(
        [
            *(initdb, "--no-sync", "--username=postgres", "--encoding=UTF8", "--locale=C"),
            *("--auth=scram-sha-256", "--data-checksums", f"--pwfile={folder}/postgres_password"),
            f"--pgdata={folder}/data",
        ],
        check=True,
        capture_output=True,
        user=user,
        cwd="/",
    )
    port = free_port()
    configuration = adapted("postgresql/postgresql.conf", folder, {})
    hba = adapted("postgresql/pg_hba.conf", folder, {})
    command = [
        *(postgres, "-D", f"{folder}/data", "-c", f"config_file={configuration}", "-c", f"hba_file={hba}"),
        *(
            "-c",
            f"port={port}",
            "-c",
            "listen_addresses=127.0.0.1",
            "-c",
            f"unix_socket_directories={folder}",
        ),
        # Of the tests: nobody pulls the plug, and other servers want memory, too.
        *("-c", "fsync=off", "-c", "shared_buffers=32MB"),
    ]
    password = (folder / "postgres_password").read_text().rstrip("\n")

    def answers() -> bool:
        # It listens before it takes anybody in.
        try:
            psycopg.connect(
                f"host={folder} port={port} user=postgres dbname=postgres", password=password
            ).close()
        except psycopg.OperationalError:
            return False
        return True

    with started(command, user, answers, folder / "log", signal.SIGINT):
        admin = {
            "PGHOST": str(folder),
            "PGPORT": str(port),
            "PGPASSWORD": password,
            "POSTGRES_USER": "postgres",
            "PLANT_PASSWORD_FILE": f"{folder}/plant_password",
            "PATH": os.environ["PATH"],
        }
        made = subprocess.run(
            ["sh", str(DEPLOY / "postgresql" / "init.sh")],
            env=admin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert made.returncode == 0, made.stderr
        secret = (folder / "plant_password").read_text().rstrip("\n")
        address = sa.URL.create("postgresql+psycopg", "shopfloor", secret, "127.0.0.1", port, "shopfloor")
        engine = connect(address)
        with engine.connect() as connection:
            settings = ("wal_level", "max_connections", "password_encryption", "TimeZone")
            shown = {name: connection.scalar(sa.text(f"SHOW {name}")) for name in settings}
            rights = connection.execute(
                sa.text(
                    "SELECT rolsuper, rolcreatedb, rolcreaterole FROM pg_roles WHERE rolname = 'shopfloor'"
                )
            ).one()
        engine.dispose()
        assert shown == {
            "wal_level": "replica",
            "max_connections": "100",
            "password_encryption": "scram-sha-256",
            "TimeZone": "UTC",
        }
        assert tuple(rights) == (False, False, False)
        known = f"host=127.0.0.1 port={port} user=shopfloor connect_timeout=30"
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(f"{known} dbname=shopfloor password=wrong")
        with pytest.raises(psycopg.OperationalError, match="no password supplied"):
            psycopg.connect(f"{known} dbname=shopfloor")
        copied_and_restored(folder, admin, secret)
    assert secret not in (folder / "log").read_text()


def copied_and_restored(folder: Path, admin: dict[str, str], secret: str) -> None:
    """As the operations manual does it: by the socket, with the rights of the service's user alone."""
    mine = admin | {"PGPASSWORD": secret, "PGUSER": "shopfloor"}
    words = [program("pg_dump", "postgresql"), "-Fc", f"--file={folder}/plant.dump", "shopfloor"]
    subprocess.run(words, env=mine, check=True, capture_output=True, timeout=60)
    conninfo = f"host={folder} port={admin['PGPORT']}"
    with psycopg.connect(
        f"{conninfo} user=postgres dbname=postgres", password=admin["PGPASSWORD"], autocommit=True
    ) as operator:
        operator.execute("CREATE DATABASE again OWNER shopfloor TEMPLATE template0")
    words = [
        *(program("pg_restore", "postgresql"), "--exit-on-error", "--no-owner", "--dbname=again"),
        f"{folder}/plant.dump",
    ]
    subprocess.run(words, env=mine, check=True, capture_output=True, timeout=60)
    with psycopg.connect(f"{conninfo} user=shopfloor dbname=again", password=secret) as restored:
        owners = restored.execute("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'")
        assert owners.fetchall() == [("shopfloor",)]
        assert restored.execute("SELECT count(*) FROM alembic_version").fetchone() == (1,)


def test_influxdb_1_lets_nobody_in_without_a_name(place: tuple[Path, str | None]) -> None:
    influxd = program("influxd", "influxdb")
    folder, user = place
    port = free_port()
    configuration = adapted(
        "influxdb/influxdb-1.conf",
        folder,
        {
            "/var/lib/influxdb": str(folder),
            "127.0.0.1:8088": f"127.0.0.1:{free_port()}",
            "127.0.0.1:8086": f"127.0.0.1:{port}",
        },
    )

    def ask(query: str, **who: str) -> tuple[int, str]:
        url = f"http://127.0.0.1:{port}/query?{urlencode(who)}"
        request = urllib.request.Request(url, data=urlencode({"q": query}).encode())
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    with started(
        [influxd, "-config", str(configuration)], user, lambda: listens(port), folder / "log", signal.SIGTERM
    ):
        assert ask("SHOW DATABASES")[0] == 403
        assert ask(f"CREATE USER operator WITH PASSWORD '{SECRET}' WITH ALL PRIVILEGES")[0] == 200
        operator = {"u": "operator", "p": SECRET}
        for query in (
            "CREATE DATABASE shopfloor",
            f"CREATE USER shopfloor WITH PASSWORD '{SECRET}'",
            "GRANT ALL ON shopfloor TO shopfloor",
        ):
            assert ask(query, **operator) == (200, '{"results":[{"statement_id":0}]}\n')
        service = {"u": "shopfloor", "p": SECRET}
        assert ask("SHOW DATABASES")[0] == 401
        assert ask("SHOW MEASUREMENTS", db="shopfloor", **service)[0] == 200
        assert "not authorized" in ask("CREATE DATABASE other", **service)[1]


INFLUX = """\
#!/bin/sh
# As `influx auth create --hide-headers` answers: columns between tabs.
echo "$*" >>"$CALLS"
case "$*" in
    *--write-bucket*) token=wwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwww-_== ;;
    *) token=rrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrr-_== ;;
esac
printf '0f3a1c2b4d5e6f70\\tShopfloor\\t%s\\toperator\\t0f3a1c2b4d5e6f71\\t[read:orgs/1/buckets/2]\\n' "$token"
"""


def test_influxdb_2_gives_each_reader_the_token_that_it_needs(tmp_path: Path) -> None:
    program("bash", "bash")
    tool = tmp_path / "influx"
    tool.write_text(INFLUX)
    tool.chmod(0o755)
    for name in ("write", "read"):
        (tmp_path / name).touch()
    before = (tmp_path / "write").stat().st_ino
    environment = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "CALLS": str(tmp_path / "calls"),
        "TOKEN_FOLDER": str(tmp_path),
        "DOCKER_INFLUXDB_INIT_ORG": "shopfloor",
        "DOCKER_INFLUXDB_INIT_BUCKET_ID": "00b1",
    }
    done = subprocess.run(
        ["bash", str(DEPLOY / "influxdb" / "tokens.sh")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert (tmp_path / "write").read_text() == "w" * 84 + "-_==\n"
    assert (tmp_path / "read").read_text() == "r" * 84 + "-_==\n"
    assert (tmp_path / "write").stat().st_ino == before
    writing, reading = (tmp_path / "calls").read_text().splitlines()
    assert "--write-bucket 00b1 --read-bucket 00b1" in writing
    assert "--write-bucket" not in reading
    assert "--read-bucket 00b1" in reading
    assert "--all-access" not in writing + reading
