"""Servers of stores on free loopback ports, each in a folder of its own under the system's temporary one."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from ingest_service.plant.engine import connect
from tests.ports import free_port

PASSWORD = "of the tests"
_NOT_ROOT = "postgres"
_PATIENCE_S = 60.0


class StoreServer:
    """A process that can be killed and started again on its port, with its folder."""

    def __init__(
        self, command: list[str], port: int, answers: Callable[[], bool], user: str | None = None
    ) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self._command = command
        self._answers = answers
        self._user = user
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, user=self._user, cwd="/"
        )
        deadline = time.monotonic() + _PATIENCE_S
        while not self._answers():
            assert self._process.poll() is None, f"{self._command[0]} ended: {self._process.returncode}"
            assert time.monotonic() < deadline, f"{self._command[0]} does not answer"
            time.sleep(0.02)

    def stop(self, how: signal.Signals = signal.SIGKILL) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait()
            self._process = None


@contextmanager
def influxdb() -> Iterator[StoreServer]:
    """Debian's influxd (1.x), empty."""
    program = _program("influxd", "influxdb")
    with _folder() as folder:
        port = free_port()
        config = folder / "influxdb.conf"
        config.write_text(
            f'reporting-disabled = true\nbind-address = "127.0.0.1:{free_port()}"\n'
            f'[meta]\n  dir = "{folder}/meta"\n'
            f'[data]\n  dir = "{folder}/data"\n  wal-dir = "{folder}/wal"\n  query-log-enabled = false\n'
            "[coordinator]\n[monitor]\n  store-enabled = false\n"
            f'[http]\n  bind-address = "127.0.0.1:{port}"\n  log-enabled = false\n  max-body-size = 0\n'
        )
        with _running([program, "-config", str(config)], port, f"http://127.0.0.1:{port}/ping") as server:
            yield server


@contextmanager
def victoriametrics(*options: str) -> Iterator[StoreServer]:
    """Debian's single-node VictoriaMetrics, empty."""
    program = _program("victoria-metrics", "victoria-metrics")
    with _folder() as folder:
        port = free_port()
        command = [
            program,
            f"-storageDataPath={folder}/data",
            f"-httpListenAddr=127.0.0.1:{port}",
            "-retentionPeriod=100y",
            "-dedup.minScrapeInterval=1ms",
            "-search.latencyOffset=0s",
            "-memory.allowedBytes=256MB",
            *options,
        ]
        with _running(command, port, f"http://127.0.0.1:{port}/health") as server:
            yield server


class PostgresServer(StoreServer):
    """A PostgreSQL; `database` makes an empty one."""

    _made = 0
    _shared: sa.URL | None = None

    def address(self, name: str) -> sa.URL:
        return sa.URL.create("postgresql+psycopg", "shopfloor", PASSWORD, "127.0.0.1", self.port, name)

    def emptied(self) -> sa.URL:
        """A database that the code has made its tables in, without any row: quicker than a new one."""
        if self._shared is None:
            self._shared = self.database()
            connect(self._shared).dispose()
        with psycopg.connect(_conninfo(self.port, str(self._shared.database)), autocommit=True) as connection:
            tables = connection.execute(
                "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'alembic_version'"
            ).fetchall()
            names = ", ".join(f'"{name}"' for (name,) in tables)
            connection.execute(f"TRUNCATE {names} RESTART IDENTITY")
        return self._shared

    def database(self) -> sa.URL:
        self._made += 1
        name = f"plant_{self._made}"
        with psycopg.connect(_conninfo(self.port, "postgres"), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"')
        return self.address(name)


@contextmanager
def postgresql() -> Iterator[PostgresServer]:
    """Debian's PostgreSQL with the user `shopfloor`; it does not sync, since nobody pulls the plug."""
    postgres = _program("postgres", "postgresql")
    user = _NOT_ROOT if os.geteuid() == 0 else None
    with _folder(user) as folder:
        port = free_port()
        secret = folder / "password"
        secret.write_text(PASSWORD)
        if user:
            shutil.chown(secret, user)
        data = folder / "data"
        subprocess.run(
            [
                _program("initdb", "postgresql"),
                *("--no-sync", "--encoding=UTF8", "--locale=C", "--username=shopfloor"),
                *("--auth=scram-sha-256", f"--pwfile={secret}", f"--pgdata={data}"),
            ],
            check=True,
            capture_output=True,
            user=user,
            cwd="/",
        )
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(port),
            "unix_socket_directories": "",
            "fsync": "off",
            "shared_buffers": "32MB",
            "max_connections": "60",
        }
        command = [postgres, "-D", str(data), *(f"--{name}={value}" for name, value in settings.items())]

        def answers() -> bool:
            try:
                psycopg.connect(_conninfo(port, "postgres")).close()
            except psycopg.OperationalError:
                return False
            return True

        server = PostgresServer(command, port, answers, user)
        server.start()
        try:
            yield server
        finally:
            server.stop(signal.SIGQUIT)


@contextmanager
def _running(command: list[str], port: int, health: str) -> Iterator[StoreServer]:
    def answers() -> bool:
        try:
            with urllib.request.urlopen(health, timeout=2) as answer:
                return bool(answer.status < 300)
        except (urllib.error.URLError, OSError):
            return False

    server = StoreServer(command, port, answers)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def _folder(user: str | None = None) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="shopfloor-store-"))
    if user:
        shutil.chown(folder, user)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _conninfo(port: int, name: str) -> str:
    return f"host=127.0.0.1 port={port} user=shopfloor password='{PASSWORD}' dbname={name} connect_timeout=2"


def _program(name: str, package: str) -> str:
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    found = shutil.which(name) or shutil.which(name, path=os.pathsep.join(map(str, places)))
    if found is None:
        pytest.skip(f"{package} is not installed")
    return found
