"""Where a PlantStore may lie, each held against the one contract."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from ingest_service.config import IngestConfig
from ingest_service.plant.engine import connect
from ingest_service.plant.store import PlantStore
from shopfloor import configfile
from shopfloor.errors import ConfigError, StoreUnavailable
from tests.contract.plant_contract import PlantStoreContract, refused_texts
from tests.store_servers import PASSWORD, PostgresServer, postgresql


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with postgresql() as running:
        yield running


class TestSQLite(PlantStoreContract):
    """A file."""

    @pytest.fixture
    def address(self, tmp_path: Path) -> Path:
        return tmp_path / "plant.sqlite"


class TestPostgreSQL(PlantStoreContract):
    """A server."""

    @pytest.fixture
    def address(self, server: PostgresServer) -> sa.URL:
        return server.database()

    def test_it_comes_back_after_the_server_did(self, address: sa.URL, server: PostgresServer) -> None:
        plant = PlantStore(address)
        plant.check()
        server.stop()
        with pytest.raises(sa.exc.SQLAlchemyError):
            plant.check()
        server.start()
        plant.check()
        plant.put_quarantine(*refused_texts("again"))
        assert [row["text"] for row in plant.list_quarantine()] == ["again"]
        plant.close()

    def test_an_address_that_does_not_open_is_told_without_its_password(self, server: PostgresServer) -> None:
        with pytest.raises(StoreUnavailable, match="does not exist") as told:
            connect(server.address("nothing_here"))
        assert PASSWORD not in str(told.value)
        with pytest.raises(StoreUnavailable, match="password authentication failed"):
            connect(server.address("postgres").set(password="wrong"))

    def test_the_configuration_names_it(self, address: sa.URL, tmp_path: Path) -> None:
        (tmp_path / "password").write_text(PASSWORD)
        (tmp_path / "ingest.yaml").write_text(
            f"plant:\n  url: {address._replace(password=None).render_as_string()}\n  password: file:password\n"
        )
        config = configfile.load(tmp_path / "ingest.yaml", IngestConfig)
        assert PASSWORD not in repr(config)
        connect(config.plant_address).dispose()


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("sqlite:///x", "a URL such as postgresql"),
        ("postgresql+psycopg://a:secret@b/c", "the password stands in `password`"),
        ("postgresql+psycopg2://a@b/c", "a URL such as postgresql"),
        ("postgresql://a@b", "a URL such as postgresql"),
        ("nonsense", "no URL such as"),
    ],
)
def test_other_urls_are_refused(url: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        configfile.parse(f"plant: {{url: '{url}'}}", IngestConfig, Path("ingest.yaml"))


def test_a_file_is_the_default(tmp_path: Path) -> None:
    config = IngestConfig(data=tmp_path)
    assert config.plant_address == tmp_path / "plant.sqlite"
    assert not list(tmp_path.iterdir())
