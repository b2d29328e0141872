"""Rows with messages to Parquet: types stated, never inferred, and memory flat."""

import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

_ROWS_A_GROUP = 2000
_PLAIN_MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
_JSON_MESSAGES = pa.list_(pa.json_())
_PLAIN_KEYS = {"role", "content"}


class RowSpool:
    """Rows kept on disk until the last one has shown which columns the schema needs.

    A column of messages is a list of {role, content} where no message of it has more, and else a
    list of JSON values, which `datasets` reads back as the very objects. A struct would give every
    message a null `tool_calls`, and templates that ask `'tool_calls' in message` go wrong on it.
    """

    def __init__(self, file: IO[str], message_columns: Sequence[str]) -> None:
        self._file = file
        self._message_columns = message_columns
        self._json_columns: set[str] = set()
        self._has_tools = False

    def add(self, split: str, row: Mapping[str, Any]) -> None:
        for column in self._message_columns:
            if any(message.keys() > _PLAIN_KEYS for message in row[column]):
                self._json_columns.add(column)
        self._has_tools = self._has_tools or row["tools"] is not None
        self._file.write(f"{split}\t{json.dumps(row)}\n")

    def rows(self, split: str) -> Iterator[dict[str, Any]]:
        """The rows of a split, in the order they came."""
        self._file.seek(0)
        for line in self._file:
            row_split, _, text = line.partition("\t")
            if row_split == split:
                yield json.loads(text)

    def schema(self, others: Mapping[str, pa.DataType]) -> pa.Schema:
        """The schema of all splits: message columns, `tools` as JSON text where any, the others."""
        columns = {
            name: _JSON_MESSAGES if name in self._json_columns else _PLAIN_MESSAGES
            for name in self._message_columns
        }
        tools = {"tools": pa.string()} if self._has_tools else {}
        return pa.schema({**columns, **tools, **others})


@contextmanager
def row_spool(folder: Path, message_columns: Sequence[str]) -> Iterator[RowSpool]:
    """A spool in a nameless file beside the data, which no kill can leave behind."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile("w+", dir=folder, encoding="ascii") as file:
        yield RowSpool(file, message_columns)


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]], schema: pa.Schema) -> int:
    """How many rows were put at path; the file appears whole or not at all."""
    temporary = path.with_name(f".{path.name}.tmp")
    count = 0
    try:
        with open(temporary, "wb") as file:
            with pq.ParquetWriter(file, schema, compression="zstd") as writer:
                for group in _groups(rows):
                    writer.write_table(_table(group, schema))
                    count += len(group)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return count


def _groups(rows: Iterable[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    remaining = iter(rows)
    while group := list(islice(remaining, _ROWS_A_GROUP)):
        yield group


def _table(rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    arrays = [_array(field, [row[field.name] for row in rows]) for field in schema]
    return pa.Table.from_arrays(arrays, schema=schema)


def _array(field: pa.Field, values: list[Any]) -> pa.Array:
    if field.type == _JSON_MESSAGES:
        texts = [[_json_text(message) for message in messages] for messages in values]
        return pa.array(texts, pa.list_(pa.string())).cast(_JSON_MESSAGES)
    if field.name == "tools":
        values = [None if tools is None else _json_text(tools) for tools in values]
    return pa.array(values, field.type)


def _json_text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
