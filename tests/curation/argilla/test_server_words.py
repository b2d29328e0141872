"""What a person types, against an FTS5 table as the server makes it."""

import json
import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.argilla.server.plugin.connection import prepare
from curation.argilla.server.plugin.text_index import ensure_text_index
from curation.argilla.server.plugin.words import TEXT_COLUMNS, column_texts, fts_query

ONE, OTHER = "a" * 32, "b" * 32


def open_records(fields: list[dict[str, object]], names: list[str]) -> sqlite3.Connection:
    """A database with Argilla's tables as far as the index knows them, and two equal datasets."""
    connection = sqlite3.connect(":memory:")
    prepare(connection)
    connection.executescript(
        """
        CREATE TABLE datasets(id TEXT PRIMARY KEY);
        CREATE TABLE fields(id, name, settings, dataset_id, inserted_at);
        CREATE TABLE records(id TEXT PRIMARY KEY, fields, dataset_id, status, inserted_at);
        """
    )
    for dataset in (ONE, OTHER):
        connection.execute("INSERT INTO datasets VALUES (?)", (dataset,))
        for number, name in enumerate(names):
            row = (f"{dataset}{number:03}", name, '{"type": "text"}', dataset, "2026-01-01")
            connection.execute("INSERT INTO fields VALUES (?, ?, ?, ?, ?)", row)
        for number, values in enumerate(fields):
            row = (f"{dataset[0]}{number}", json.dumps(values), dataset)
            connection.execute("INSERT INTO records(id, fields, dataset_id) VALUES (?, ?, ?)", row)
    connection.commit()
    return connection


def found(connection: sqlite3.Connection, typed: str, *, column: int | None = None) -> list[str]:
    """The ids of the records of dataset ONE that the text finds."""
    match = fts_query(typed, ONE, column=column)
    if match is None:
        return []
    rows = connection.execute(
        "SELECT record_id FROM pairwright_text t JOIN pairwright_document d ON d.id = t.rowid"
        " WHERE pairwright_text MATCH ? ORDER BY record_id",
        (match,),
    )
    return [record for (record,) in rows]


@pytest.fixture(scope="module")
def texts() -> sqlite3.Connection:
    connection = open_records([{"q": "A fox."}, {"q": "Ein Füchslein"}, {"q": "日本語"}], ["q"])
    ensure_text_index(connection)
    return connection


@given(st.text())
def test_no_text_is_an_error(texts: sqlite3.Connection, typed: str) -> None:
    found(texts, typed)


@given(st.text(alphabet="ab \"*()|-+~:^{}\\'\0NEARORNOT日🙂\ud800", max_size=60))
def test_no_mixture_of_signs_is_an_error(texts: sqlite3.Connection, typed: str) -> None:
    found(texts, typed)


@pytest.mark.parametrize(
    "typed",
    ["(" * 10_000, "a " * 5_000, "-" * 10_000, '"' * 9_999, "(a | " * 2_000, "a* | " * 2_000,
     "x" * 10_000, "(-a " * 2_000, "日" * 10_000],
)  # fmt: skip
def test_a_text_of_ten_thousand_signs_is_no_error(texts: sqlite3.Connection, typed: str) -> None:
    found(texts, typed)


@given(st.lists(st.sampled_from(["fox", "-fox", "füchslein", "日本", "*", '"', "|", "("])))
def test_only_records_of_the_dataset_are_found(texts: sqlite3.Connection, typed: list[str]) -> None:
    assert set(found(texts, " ".join(typed))) <= {"a0", "a1", "a2"}


def test_the_id_of_the_dataset_is_not_a_text_in_it(texts: sqlite3.Connection) -> None:
    assert found(texts, ONE) == []


@given(st.text(alphabet=st.characters(codec="utf-8", categories=["L", "N"]), min_size=1))
def test_every_word_of_letters_known_to_sqlite_finds_itself(word: str) -> None:
    connection = sqlite3.connect(":memory:")
    connection.execute(
        """CREATE VIRTUAL TABLE t USING fts5(w, tokenize="unicode61 categories 'L* N* M* Co'")"""
    )
    connection.execute("INSERT INTO t VALUES (?)", (word,))
    known = connection.execute("SELECT 1 FROM t WHERE t MATCH ?", (f'"{word}"',)).fetchone()
    records = open_records([{"q": f"before {word} after"}], ["q"])
    ensure_text_index(records)
    assert found(records, word) == ["a0"] or not known


def test_the_columns_hold_fields_in_order_and_the_last_one_holds_the_rest() -> None:
    names = [f"field{number}" for number in range(TEXT_COLUMNS + 2)]
    columns = column_texts(json.dumps({name: name for name in names}), json.dumps(names))
    assert columns[0] == "field0"
    assert columns[-1] == "\n".join(names[TEXT_COLUMNS - 1 :])


def test_a_chat_gives_its_contents_and_a_custom_field_its_values() -> None:
    chat = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "world"}]
    fields = json.dumps({"chat": chat, "custom": {"key": ["deep", {"more": 7}]}})
    columns = column_texts(fields, '["chat", "custom"]')
    assert columns[:2] == ("hello\nworld", "deep\n7")


def test_pictures_in_a_field_are_not_text() -> None:
    assert column_texts('{"a": "data:image/png;base64,AAAA"}', '["a"]')[0] is None


def test_triggers_keep_the_index_current() -> None:
    connection = open_records([{"q": "old words"}], ["q"])
    ensure_text_index(connection)
    connection.execute("UPDATE records SET fields = ? WHERE id = 'a0'", ('{"q": "new words"}',))
    assert found(connection, "old") == []
    assert found(connection, "new words") == ["a0"]
    connection.execute("UPDATE records SET status = 'completed'")
    assert found(connection, "new") == ["a0"]
    connection.execute("DELETE FROM records")
    assert found(connection, "*") == []
    assert connection.execute("SELECT COUNT(*) FROM pairwright_document").fetchone() == (0,)
    connection.execute("INSERT INTO pairwright_text(pairwright_text) VALUES ('integrity-check')")


def test_an_index_that_is_whole_is_left_alone_and_one_without_triggers_is_made_again() -> None:
    connection = open_records([{"q": "kept"}], ["q"])
    assert ensure_text_index(connection)
    assert not ensure_text_index(connection)
    connection.execute("DROP TRIGGER pairwright_changed")
    connection.execute("UPDATE records SET fields = ? WHERE id = 'a0'", ('{"q": "unseen"}',))
    assert found(connection, "kept") == ["a0"]
    assert ensure_text_index(connection)
    assert found(connection, "unseen") == ["a0"]


def test_a_failure_while_the_index_is_made_leaves_the_database_as_it_was() -> None:
    connection = open_records([{"q": "kept"}], ["q"])
    ensure_text_index(connection)
    connection.execute("DROP TRIGGER pairwright_changed")
    before = connection.execute("SELECT name FROM sqlite_master ORDER BY name").fetchall()
    connection.create_function("pairwright_words", 3, lambda *_: 1 / 0)
    with pytest.raises(sqlite3.OperationalError):
        ensure_text_index(connection)
    assert connection.execute("SELECT name FROM sqlite_master ORDER BY name").fetchall() == before
    assert found(connection, "kept") == ["a0"]
