"""The database file: put in place whole, and brought from one schema to the next on a copy."""

import contextlib
import sqlite3
import subprocess
from pathlib import Path

import pytest

from curation.argilla.server.database import has_owner, prepare_database, schema_of
from curation.argilla.server.environment import Installed, environment_folder, server_environment
from curation.argilla.server.plugin.connection import open_database
from curation.argilla.server.plugin.text_index import ensure_text_index

pytestmark = pytest.mark.usefixtures("argilla_installed")


@pytest.fixture
def installed() -> Installed:
    return Installed(environment_folder())


def test_a_new_home_gets_an_empty_database_of_its_own(tmp_path: Path, installed: Installed) -> None:
    database = tmp_path / "argilla.db"
    prepare_database(database, installed, print)
    assert schema_of(database) == schema_of(installed.empty_database)
    assert not has_owner(database)
    assert database.stat().st_mode & 0o077 == 0
    assert [file.name for file in tmp_path.iterdir()] == ["argilla.db"]


def test_a_database_with_the_schema_is_left_alone(tmp_path: Path, installed: Installed) -> None:
    database = tmp_path / "argilla.db"
    prepare_database(database, installed, print)
    before = database.stat()
    prepare_database(database, installed, print)
    assert (database.stat().st_ino, database.stat().st_mtime) == (before.st_ino, before.st_mtime)


def test_an_older_database_is_upgraded_and_kept(tmp_path: Path, installed: Installed) -> None:
    database, said = tmp_path / "argilla.db", []
    prepare_database(database, installed, print)
    server = next(installed.folder.glob("lib/python*/site-packages/argilla_server"))
    alembic = [installed.python, "-I", "-m", "alembic", "-c", server / "alembic.ini"]
    environment = server_environment(tmp_path)
    subprocess.run(
        [*alembic, "downgrade", "-1"],
        cwd=tmp_path,
        env=environment,
        check=True,
        capture_output=True,
    )
    older = schema_of(database)
    assert older != schema_of(installed.empty_database)
    with contextlib.closing(open_database(str(database))) as connection:
        assert ensure_text_index(connection)
        connection.execute("CREATE TABLE mine AS SELECT 'kept' AS word")
        connection.commit()

    prepare_database(database, installed, said.append)

    assert said == [f"bringing the database from schema {older} to {schema_of(database)}"]
    assert schema_of(database) == schema_of(installed.empty_database)
    assert schema_of(tmp_path / f"argilla-{older}.db") == older
    with contextlib.closing(open_database(str(database))) as connection:
        assert connection.execute("SELECT word FROM mine").fetchone() == ("kept",)
        assert ensure_text_index(connection)
        assert not ensure_text_index(connection)


def test_what_is_not_a_database_is_an_error_that_names_it(
    tmp_path: Path, installed: Installed
) -> None:
    database = tmp_path / "argilla.db"
    database.write_bytes(b"not a database" * 1000)
    with pytest.raises(OSError, match=rf"'{database}' cannot be used"):
        prepare_database(database, installed, print)


def test_a_table_that_is_not_argillas_has_no_schema(tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "other.db")) as connection:
        connection.execute("CREATE TABLE other(a)")
    assert schema_of(tmp_path / "other.db") is None
