"""The full-text index: tables beside Argilla's own, kept current by triggers.

`pairwright_document` numbers the records (SQLite may renumber rows, and FTS5 needs a number that
stays) and holds what shuffles them. `pairwright_text` is the FTS5 table; its column `dataset` holds
the dataset's id as one word, so that a search reads one dataset only. Triggers commit with the
change that fires them: no kill can part index and records.
"""

import contextlib
import sqlite3

from .words import TEXT_COLUMNS

_VERSION = 1
_NUMBERS = range(TEXT_COLUMNS)
_COLUMNS = ", ".join(f"f{number}" for number in _NUMBERS)
_WORDS = ", ".join(f"pairwright_words(r.fields, n.names, {number})" for number in _NUMBERS)

FIELD_NAMES = """
    SELECT name FROM fields
    WHERE dataset_id = {dataset} AND json_extract(settings, '$.type') IS NOT 'image'
    ORDER BY inserted_at, id
"""
"""The searchable fields of a dataset, in the order of the index's columns."""


def _write(records: str, dataset: str) -> str:
    """Two statements that index the records (a table of id and fields) of the dataset."""
    names = FIELD_NAMES.format(dataset=dataset)
    return f"""
        INSERT INTO pairwright_document(record_id, dataset_id, shuffle)
        SELECT r.id, {dataset}, pairwright_shuffle(r.id) FROM {records} r WHERE true
        ON CONFLICT DO NOTHING;
        INSERT INTO pairwright_text(rowid, dataset, {_COLUMNS})
        SELECT d.id, {dataset}, {_WORDS}
        FROM {records} r JOIN pairwright_document d ON d.record_id = r.id
        JOIN (SELECT json_group_array(name) AS names FROM ({names})) n;
    """


_ONE = _write("(SELECT NEW.id AS id, NEW.fields AS fields)", "NEW.dataset_id")
_FORGET = """
    DELETE FROM pairwright_text
    WHERE rowid = (SELECT id FROM pairwright_document WHERE record_id = OLD.id);
"""
_TRIGGERS = {
    "pairwright_added": f"AFTER INSERT ON records BEGIN {_ONE} END",
    "pairwright_changed": (
        "AFTER UPDATE OF fields ON records WHEN NEW.fields IS NOT OLD.fields "
        f"BEGIN {_FORGET} {_ONE} END"
    ),
    "pairwright_removed": (
        f"AFTER DELETE ON records BEGIN {_FORGET} "
        "DELETE FROM pairwright_document WHERE record_id = OLD.id; END"
    ),
}
_INDICES = (
    "pairwright_records_status ON records(dataset_id, status)",
    "pairwright_records_age ON records(dataset_id, inserted_at)",
)


def ensure_text_index(connection: sqlite3.Connection) -> bool:
    """Make the index where it is missing, of another version or without its triggers; whether so.

    It is made in one transaction: a process killed in the middle leaves the database as it was.
    """
    for index in _INDICES:
        connection.execute(f"CREATE INDEX IF NOT EXISTS {index}")
    if _is_current(connection):
        return False
    connection.isolation_level = None
    connection.execute("BEGIN IMMEDIATE")
    try:
        _build(connection)
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    return True


def drop_triggers(connection: sqlite3.Connection) -> None:
    """Let the database be written without our functions; the index is then made again."""
    for trigger in _TRIGGERS:
        connection.execute(f"DROP TRIGGER IF EXISTS {trigger}")


def _is_current(connection: sqlite3.Connection) -> bool:
    names = "SELECT COUNT(*) FROM sqlite_master WHERE type = 'trigger' AND name LIKE 'pairwright%'"
    with contextlib.suppress(sqlite3.OperationalError):
        version = connection.execute("SELECT version FROM pairwright_index").fetchone()
        (triggers,) = connection.execute(names).fetchone()
        return bool(version == (_VERSION,) and triggers == len(_TRIGGERS))
    return False


def _build(connection: sqlite3.Connection) -> None:
    run = connection.execute
    drop_triggers(connection)
    for table in ("index", "document", "text"):
        run(f"DROP TABLE IF EXISTS pairwright_{table}")
    run("CREATE TABLE pairwright_index(version INTEGER NOT NULL)")
    run(
        "CREATE TABLE pairwright_document(id INTEGER PRIMARY KEY, record_id TEXT NOT NULL UNIQUE,"
        " dataset_id TEXT NOT NULL, shuffle INTEGER NOT NULL)"
    )
    run(
        f"CREATE VIRTUAL TABLE pairwright_text USING fts5(dataset, {_COLUMNS}, prefix='1 2',"
        """ tokenize="unicode61 remove_diacritics 0 categories 'L* N* M* Co'")"""
    )
    for name, body in _TRIGGERS.items():
        run(f"CREATE TRIGGER {name} {body}")
    rows = "(SELECT id, fields FROM records WHERE dataset_id = :dataset)"
    statements = [part for part in _write(rows, ":dataset").split(";") if part.strip()]
    for (dataset,) in run("SELECT id FROM datasets").fetchall():
        for statement in statements:
            run(statement, {"dataset": dataset})
    run("INSERT INTO pairwright_index(version) VALUES (?)", (_VERSION,))
