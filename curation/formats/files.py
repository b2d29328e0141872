"""Rows out of anybody's files: JSONL, JSON, CSV, Parquet, and what `datasets` can load."""

import codecs
import csv
import json
import re
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from curation.formats.json_values import RowError, type_name

Row = dict[str, Any] | RowError
"""A row by column, or why it has no columns."""

_SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
_BATCH_ROWS = 1000
_SPLIT = "train"
"""What a folder or dataset is read by where nobody names a split."""


class Rows(NamedTuple):
    unit: str
    """What the numbers count: `line` of a JSONL file, else `row`."""
    rows: Iterator[tuple[int, Row]]


def read_rows(path: str | Path, *, split: str = _SPLIT) -> Iterator[tuple[int, Row]]:
    """The rows of a file, of a `datasets` folder or of a hub dataset, numbered from 1.

    JSONL is numbered by line. Columns that Arrow filled with null inside a struct are left out, so
    a message has the keys its author gave it.

    Raises:
        ValueError: it does not exist or cannot be read; the message names file and line.
    """
    return open_rows(path, split=split).rows


def open_rows(path: str | Path, *, split: str = _SPLIT) -> Rows:
    """The rows as `read_rows` gives them, with what their numbers count."""
    file = Path(path).expanduser()
    if file.is_dir():
        return Rows("row", _dataset_rows(file, split))
    if not file.is_file():
        if _may_be_hub_name(str(path)):
            return Rows("row", _dataset_rows(str(path), split))
        raise ValueError(
            f"'{path}' does not exist; expected a file, a folder or a dataset's name (paths start "
            f"from the folder that the command runs in, '{Path.cwd()}')"
        )
    if split != _SPLIT:
        raise ValueError(
            f"'{path}' is one file, which has no split '{split}'; leave split out, or name the "
            "split's own file"
        )
    suffix = file.suffix.lower()
    if suffix == ".parquet":
        return Rows("row", _parquet_rows(file))
    if is_table(file):
        return Rows("row", _csv_rows(file, "\t" if suffix == ".tsv" else ","))
    if suffix not in _SUFFIXES:
        raise ValueError(f"'{path}' is no file of rows; expected {', '.join(_SUFFIXES)}")
    if suffix == ".json" and _starts_with_bracket(file):
        return Rows("row", _json_array_rows(file))
    return Rows("line", read_jsonl(file))


def is_table(path: str | Path) -> bool:
    """Whether the file's cells hold nothing but text."""
    return Path(path).suffix.lower() in (".csv", ".tsv")


def read_jsonl(file: Path, *, drop_torn_line: bool = False) -> Iterator[tuple[int, Row]]:
    """The rows of a JSONL file by line number; empty lines are skipped.

    With `drop_torn_line`, a last line that is not whole (a writer was stopped in it) is left out
    with a warning.

    Raises:
        ValueError: a line is not JSON or not UTF-8.
    """
    with _open(file, "rb") as stream:
        for number, line in enumerate(stream, start=1):
            # Joined files have a byte order mark in the middle, too.
            line = line.removeprefix(codecs.BOM_UTF8)
            if not line.strip():
                continue
            try:
                value = _parsed(line.decode())
            except RowError as error:
                yield number, error
                continue
            except (ValueError, RecursionError) as error:
                if drop_torn_line and not line.endswith(b"\n"):
                    warnings.warn(f"'{file}' line {number} is torn and left out", stacklevel=2)
                    return
                raise ValueError(_broken(file, number, error)) from None
            yield number, _row(value)


def _json_array_rows(file: Path) -> Iterator[tuple[int, Row]]:
    with _open(file, "rb") as stream:
        data = stream.read()
    try:
        values = _parsed(data.decode("utf-8-sig"))
    except RowError as error:
        raise ValueError(f"'{file}' cannot be read: {error}") from None
    except json.JSONDecodeError as error:
        raise ValueError(_broken(file, error.lineno, error)) from None
    except UnicodeDecodeError as error:
        raise ValueError(_broken(file, data.count(b"\n", 0, error.start) + 1, error)) from None
    for number, value in enumerate(values, start=1):
        yield number, _row(value)


def _csv_rows(file: Path, delimiter: str) -> Iterator[tuple[int, Row]]:
    csv.field_size_limit(sys.maxsize)  # the module's own limit cuts off at 128 kB a cell
    with _open(file, "r", encoding="utf-8-sig", newline="") as stream:
        reader = csv.reader(stream, delimiter=delimiter, strict=True)
        try:
            header = [name.strip() for name in next(reader, [])]
            if len(set(header)) != len(header):
                raise ValueError(f"'{file}' names a column twice in its first line")
            number = 0
            for cells in reader:
                if not cells:
                    continue
                number += 1
                if len(cells) == len(header):
                    yield number, dict(zip(header, cells, strict=True))
                else:
                    yield (
                        number,
                        RowError(
                            "BAD_ROW", f"{len(cells)} cells where the header names {len(header)}"
                        ),
                    )
        except csv.Error as error:
            raise ValueError(f"'{file}' line {reader.line_num} is broken CSV: {error}") from None
        except UnicodeDecodeError as error:
            raise ValueError(
                f"'{file}' is not UTF-8 after line {reader.line_num}: {error.reason}"
            ) from None


def _parquet_rows(file: Path) -> Iterator[tuple[int, Row]]:
    try:
        with pq.ParquetFile(file) as parquet:
            names = parquet.schema_arrow.names
            if len(set(names)) != len(names):
                raise ValueError(f"'{file}' names a column twice")
            yield from _arrow_rows(parquet.iter_batches(batch_size=_BATCH_ROWS))
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"'{file}' cannot be read as Parquet: {_first_line(error)}") from None


def _dataset_rows(source: str | Path, split: str) -> Iterator[tuple[int, Row]]:
    dataset = _load_dataset(source, split)
    yield from _arrow_rows(dataset.with_format("arrow").iter(batch_size=_BATCH_ROWS))


def _load_dataset(source: str | Path, split: str) -> Any:
    import datasets

    name = str(source)
    saved = isinstance(source, Path) and any(
        (source / marker).is_file() for marker in ("state.json", "dataset_dict.json")
    )
    try:
        if not saved:
            # A local folder whose card names its files is cached under the folder's name alone.
            anew = "force_redownload" if isinstance(source, Path) else None
            return datasets.load_dataset(name, split=split, download_mode=anew)
        loaded = datasets.load_from_disk(name)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        why = f"cannot be loaded: {_first_line(error)}"
        if isinstance(source, Path):
            raise ValueError(f"folder '{name}' {why}") from None
        raise ValueError(f"'{name}' is no file or folder here, and as a dataset it {why}") from None
    if not isinstance(loaded, datasets.DatasetDict):
        return loaded
    if split not in loaded:
        raise ValueError(f"'{name}' has no split '{split}'; it has {', '.join(loaded)}")
    return loaded[split]


def _arrow_rows(batches: Iterator[Any]) -> Iterator[tuple[int, Row]]:
    number = 0
    for batch in batches:
        columns = [
            _decode_column(column, field.type)
            for column, field in zip(batch.columns, batch.schema, strict=True)
        ]
        for values in zip(*columns, strict=True):
            number += 1
            yield number, dict(zip(batch.schema.names, values, strict=True))


def _decode_column(column: Any, kind: pa.DataType) -> list[Any]:
    decode, values = _decoder(kind), column.to_pylist()
    return values if decode is None else [decode(value) for value in values]


def _decoder(kind: pa.DataType) -> Callable[[Any], Any] | None:
    """A function that leaves out a struct's null keys and opens JSON text; None: nothing to do."""
    if isinstance(kind, pa.JsonType):
        return lambda value: None if value is None else json.loads(value)
    if pa.types.is_map(kind):
        item = _decoder(kind.item_type) or (lambda value: value)
        return lambda value: None if value is None else {key: item(one) for key, one in value}
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        inner = _decoder(kind.value_type)
        if inner is None:
            return None
        return lambda value: None if value is None else [inner(item) for item in value]
    if pa.types.is_struct(kind):
        fields = [(field.name, _decoder(field.type)) for field in kind]

        def decode_struct(value: dict[str, Any] | None) -> dict[str, Any] | None:
            if value is None:
                return None
            return {
                name: value[name] if decode is None else decode(value[name])
                for name, decode in fields
                if value[name] is not None
            }

        return decode_struct
    return None


def _parsed(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_object)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object; of two values under one key Python's own would drop the first unseen."""
    found = dict(pairs)
    if len(found) < len(pairs):
        ((key, count),) = Counter(key for key, _ in pairs).most_common(1)
        raise RowError("BAD_ROW", f"the key '{key}' stands {count} times in one object")
    return found


def _row(value: Any) -> Row:
    if isinstance(value, dict):
        return value
    return RowError("BAD_ROW", f"found {type_name(value)}; expected an object with columns")


def _open(file: Path, mode: str, **options: Any) -> IO[Any]:
    try:
        return open(file, mode, **options)
    except OSError as error:
        raise ValueError(f"'{file}' cannot be read: {error.strerror}") from None


def _broken(file: Path, line: int, error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return (
            f"'{file}' line {line} is broken JSON: {error.msg} at column {error.colno}; expected "
            "one object a line, or one list in a .json file"
        )
    reason = "not UTF-8" if isinstance(error, UnicodeDecodeError) else "broken JSON"
    return f"'{file}' line {line} is {reason}: {_first_line(error)}"


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _starts_with_bracket(file: Path) -> bool:
    with _open(file, "rb") as stream:
        return bool(re.match(rb"(?:\xef\xbb\xbf)?\s*\[", stream.read(4096)))


def _may_be_hub_name(path: str) -> bool:
    """Whether the path has the form `name` or `owner/name` and no suffix of a file."""
    return bool(re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", path)) and not path.lower().endswith(
        _SUFFIXES
    )
