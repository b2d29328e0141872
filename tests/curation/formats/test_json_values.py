"""Values that can be stored, and what becomes of those that cannot."""

import json
from datetime import date
from typing import Any

import pytest

from curation.formats.json_values import RowError, as_json, check_storable, json_list


def nested(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels - 1):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("half \ud83c", "BAD_UNICODE"),
        ({"\udf78": 1}, "BAD_UNICODE"),
        (["a\0b"], "NUL_CHARACTER"),
        ({"x": float("nan")}, "BAD_NUMBER"),
        ([float("-inf")], "BAD_NUMBER"),
        (2**63, "BAD_NUMBER"),
        (b"bytes", "NOT_JSON"),
        (nested(101), "TOO_DEEP"),
        ([{"x": nested(99)}], "TOO_DEEP"),
    ],
)
def test_what_cannot_be_stored_has_a_code(value: Any, code: str) -> None:
    with pytest.raises(RowError) as caught:
        check_storable(value)
    assert caught.value.code == code


def test_ordinary_json_can_be_stored() -> None:
    check_storable({"a": [1, -2.5, True, None, "\U0001f378", "{'action: string}"]})


def test_a_hundred_levels_can_be_stored() -> None:
    check_storable(nested(100))


def test_what_json_lacks_becomes_its_text() -> None:
    given = {"n": float("nan"), 1: b"b", "day": date(2026, 1, 2), "t": (True, None, 2**70)}
    assert as_json(given) == {
        "n": "nan",
        "1": "b'b'",
        "day": "2026-01-02",
        "t": [True, None, 2**70],
    }


@pytest.mark.parametrize("levels", [101, 500, 5000])
def test_of_what_is_nested_without_end_the_outer_levels_are_kept(levels: int) -> None:
    kept = as_json(nested(levels))
    assert json.dumps(kept) == "[" * 100 + '"..."' + "]" * 100


def test_a_list_may_be_given_as_its_json_text() -> None:
    assert [
        json_list(value) for value in ([1], " [1]", "[1", "1", '{"a": 1}', None, "[" * 9999)
    ] == [*([1], [1], None, None, None, None, None)]
