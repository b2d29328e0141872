"""Records to Arrow and back, exactly.

The Arrow schema derives from the record class. `Json` fields become JSON text, so no key is added
to or lost from a tool call; a None in any other field is an absent field, which is what records
mean by None, so Arrow's nulls for absent struct fields never come back as data.
"""

import json
import types
from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import cache
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import pyarrow as pa
from pydantic import BaseModel, ValidationError

from schemas.records import JsonText

R = TypeVar("R", bound=BaseModel)

_SCALARS: dict[Any, pa.DataType] = {
    str: pa.string(),
    int: pa.int64(),
    float: pa.float64(),
    bool: pa.bool_(),
    datetime: pa.timestamp("us", tz="UTC"),
}


@cache
def arrow_schema(record: type[BaseModel]) -> pa.Schema:
    """The Arrow schema of a record class, fields in their declared order."""
    return pa.schema([pa.field(name, kind) for name, kind in _field_types(record)])


def to_table(records: Iterable[R], record: type[R]) -> pa.Table:
    """The records as one table of `arrow_schema(record)`."""
    encode = _encoder(record)
    rows = [encode(item.__dict__) for item in records]
    return pa.Table.from_pylist(rows, schema=arrow_schema(record))


def from_table(table: pa.Table | pa.RecordBatch, record: type[R]) -> list[R]:
    """The records of a table written by `to_table`.

    Raises:
        ValueError: a row is not such a record; the message names the row.
    """
    decode = _decoder(record)
    records = []
    for number, row in enumerate(table.to_pylist()):
        try:
            records.append(record.model_validate(decode(row)))
        except ValidationError as error:
            raise ValueError(
                f"row {number} is not a {record.__name__}: {first_error(error)}"
            ) from error
    return records


def first_error(error: ValidationError) -> str:
    """The first complaint of pydantic in one line: where, what."""
    detail = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in detail["loc"])
    message = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "tuple_type":  # a word of Python's, and not of YAML's
        message = "expected a list"
    return f"{where}: {message}" if where else message


def _field_types(record: type[BaseModel]) -> Iterable[tuple[str, pa.DataType]]:
    for name, field in record.model_fields.items():
        if any(isinstance(mark, JsonText) for mark in field.metadata):
            yield name, pa.string()
        else:
            yield name, _arrow_type(field.annotation)


def _arrow_type(annotation: Any) -> pa.DataType:
    annotation = _without_none(annotation)
    if annotation in _SCALARS:
        return _SCALARS[annotation]
    if get_origin(annotation) is Literal:
        return pa.string()
    if get_origin(annotation) is tuple:
        return pa.list_(_arrow_type(get_args(annotation)[0]))
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return pa.struct(list(_field_types(annotation)))
    raise TypeError(f"no Arrow type for {annotation}")


def _without_none(annotation: Any) -> Any:
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in (Union, types.UnionType):
        (annotation,) = [arg for arg in get_args(annotation) if arg is not type(None)]
    return annotation


@cache
def _encoder(record: type[BaseModel]) -> Any:
    """A function from a record's fields to an Arrow row."""
    plain, converted = _split_fields(record, _encode_value)

    def encode(fields: dict[str, Any]) -> dict[str, Any]:
        row = {name: fields[name] for name in plain}
        for name, convert in converted:
            value = fields[name]
            row[name] = None if value is None else convert(value)
        return row

    return encode


@cache
def _decoder(record: type[BaseModel]) -> Any:
    """A function from an Arrow row to a record's input; absent fields stay absent."""
    plain, converted = _split_fields(record, _decode_value)

    def decode(row: dict[str, Any]) -> dict[str, Any]:
        fields = {name: row[name] for name in plain if row.get(name) is not None}
        for name, convert in converted:
            value = row.get(name)
            if value is not None:
                fields[name] = convert(value)
        return fields

    return decode


def _split_fields(record: type[BaseModel], converter: Any) -> tuple[list[str], list[Any]]:
    plain: list[str] = []
    converted: list[Any] = []
    for name, field in record.model_fields.items():
        is_json = any(isinstance(mark, JsonText) for mark in field.metadata)
        convert = converter(field.annotation, is_json)
        if convert is None:
            plain.append(name)
        else:
            converted.append((name, convert))
    return plain, converted


def _encode_value(annotation: Any, is_json: bool) -> Any:
    if is_json:
        return lambda value: json.dumps(value, allow_nan=False)
    return _nested(annotation, lambda inner: _wrap_record(_encoder(inner)))


def _decode_value(annotation: Any, is_json: bool) -> Any:
    if is_json:
        return json.loads
    return _nested(annotation, _decoder)


def _wrap_record(encode: Any) -> Any:
    return lambda record: encode(record.__dict__)


def _nested(annotation: Any, of_record: Any) -> Any:
    """The converter of a nested annotation; None where Arrow takes the value as it is."""
    annotation = _without_none(annotation)
    if get_origin(annotation) is tuple:
        inner = _nested(get_args(annotation)[0], of_record)
        return None if inner is None else (lambda values: [inner(value) for value in values])
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return of_record(annotation)
    return None


def to_jsonl(records: Sequence[BaseModel]) -> str:
    """One JSON line a record, for people; absent fields are left out."""
    return "".join(
        json.dumps(_encoder_json(record), ensure_ascii=False, allow_nan=False) + "\n"
        for record in records
    )


def _encoder_json(record: BaseModel) -> dict[str, Any]:
    """The record as JSON with its `Json` fields in full, and no key for an absent field."""
    fields: dict[str, Any] = {}
    for name, field in type(record).model_fields.items():
        value = getattr(record, name)
        if value is None:
            continue
        is_json = any(isinstance(mark, JsonText) for mark in field.metadata)
        fields[name] = value if is_json else _plain(value)
    return fields


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return _encoder_json(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat()
    return value
