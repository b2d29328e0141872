"""The server's database file: put in place whole, brought up to date on a copy."""

import contextlib
import os
import shutil
import sqlite3
from pathlib import Path

from curation.argilla.server.environment import Installed, Progress, migrate


def prepare_database(database: Path, installed: Installed, progress: Progress) -> None:
    """Make sure that the database is there and has the schema of the installed server.

    A database of an earlier server is kept beside the new one.

    Raises:
        OSError: what lies there is not a database that can be read.
    """
    try:
        _prepare(database, installed, progress)
    except sqlite3.DatabaseError as error:
        raise OSError(
            f"the database '{database}' cannot be used: {error}; put a copy of it back, or move it "
            "away to begin with an empty one"
        ) from error


def _prepare(database: Path, installed: Installed, progress: Progress) -> None:
    if not database.exists():
        for left in ("-wal", "-shm"):
            database.with_name(database.name + left).unlink(missing_ok=True)
        _put(installed.empty_database, database)
        return
    found, wanted = schema_of(database), schema_of(installed.empty_database)
    if found == wanted:
        return
    progress(f"bringing the database from schema {found or 'none'} to {wanted}")
    with contextlib.closing(sqlite3.connect(database)) as connection:
        # Folds what is still in the write-ahead log into the file, which is copied below.
        connection.execute("PRAGMA journal_mode=DELETE")
    work = database.with_name(f"{database.stem}-new.db")
    shutil.copyfile(database, work)
    migrate(installed, work)
    kept = database.with_name(f"{database.stem}-{found or 'none'}.db")
    kept.unlink(missing_ok=True)
    os.link(database, kept)  # never a moment without a database under its name
    os.replace(work, database)


def has_owner(database: Path) -> bool:
    """Whether somebody owns this server yet."""
    with contextlib.closing(sqlite3.connect(database)) as connection:
        return bool(connection.execute("SELECT 1 FROM users WHERE role = 'owner'").fetchone())


def schema_of(database: Path) -> str | None:
    """The revision of the database's schema, or None where it has none."""
    with contextlib.closing(sqlite3.connect(database)) as connection:
        try:
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        except sqlite3.OperationalError:
            return None
    return str(row[0]) if row else None


def _put(source: Path, target: Path) -> None:
    temporary = target.with_name(f".{target.name}.tmp")
    shutil.copyfile(source, temporary)
    temporary.chmod(0o600)
    with open(temporary, "rb") as file:
        os.fsync(file.fileno())
    os.replace(temporary, target)
