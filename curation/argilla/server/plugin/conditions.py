"""The SQL of one search: conditions and orders, every value bound."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from argilla_server.enums import SortOrder
from argilla_server.search_engine.base import (
    AndFilter,
    Filter,
    FilterScope,
    MetadataFilterScope,
    Order,
    RangeFilter,
    RecordFilterScope,
    ResponseFilterScope,
    SuggestionFilterScope,
    TermsFilter,
)

_COLUMNS = {"id", "external_id", "status", "inserted_at", "updated_at", "agent", "type"}
_DATES = {"inserted_at", "updated_at"}


class Conditions:
    """What a search asks of the rows `r` of the table records in one dataset."""

    def __init__(self, dataset: UUID) -> None:
        self.bound: dict[str, Any] = {"dataset": dataset.hex}
        self.where = ["r.dataset_id = :dataset"]

    def bind(self, value: object) -> str:
        name = f"p{len(self.bound)}"
        self.bound[name] = value
        return f":{name}"

    def path(self, *names: str) -> str:
        """A bound JSON path; names with a quote cannot occur, Argilla refuses them."""
        return self.bind("$" + "".join(f'."{name}"' for name in names))

    @property
    def sql(self) -> str:
        return " AND ".join(self.where)

    def add(self, asked: Filter) -> None:
        self.where.append(self._condition(asked))

    def _condition(self, asked: Filter) -> str:
        if isinstance(asked, AndFilter):
            return " AND ".join(f"({self._condition(part)})" for part in asked.filters) or "true"
        scope = asked.scope
        if isinstance(scope, MetadataFilterScope):
            values = f"json_each(r.metadata, {self.path(scope.metadata_property)}) j"
            return f"EXISTS (SELECT 1 FROM {values} WHERE {self._test(asked, 'j.value')})"
        if isinstance(scope, RecordFilterScope):
            return self._record(asked, _column(scope.property))
        if isinstance(scope, SuggestionFilterScope):
            value, joined = _suggestion_value(scope)
            return (
                f"EXISTS (SELECT 1 FROM suggestions s {joined} WHERE s.record_id = r.id"
                f" AND {self._of_question(scope)} AND {self._test(asked, value)})"
            )
        if scope.question:
            values = f'json_each(p."values", {self.path(scope.question, "value")}) j'
            return (
                f"EXISTS (SELECT 1 FROM responses p, {values} WHERE p.record_id = r.id"
                f"{self._by(scope)} AND {self._test(asked, 'j.value')})"
            )
        return self._response_status(asked, scope)

    def _record(self, asked: Filter, column: str) -> str:
        if isinstance(asked, TermsFilter) and column == "id":
            asked = TermsFilter(asked.scope, [_hex(value) for value in asked.values])
        if isinstance(asked, RangeFilter) and column in _DATES:
            # Stored as '2026-01-31 12:00:00.000000'; what is asked may be any ISO form.
            stored, given = f"julianday(r.{column})", "julianday({})"
            return self._range(asked, stored, given)
        return self._test(asked, f"r.{column}")

    def _response_status(self, asked: Filter, scope: ResponseFilterScope) -> str:
        statuses = [str(getattr(value, "value", value)) for value in asked.values]
        mine = f"SELECT 1 FROM responses p WHERE p.record_id = r.id{self._by(scope)}"
        parts = [f"NOT EXISTS ({mine})"] if "pending" in statuses else []
        given = [status for status in statuses if status != "pending"]
        if given:
            parts.append(f"EXISTS ({mine} AND p.status IN {self._among(given)})")
        return f"({' OR '.join(parts)})"

    def _by(self, scope: ResponseFilterScope) -> str:
        return f" AND p.user_id = {self.bind(scope.user.id.hex)}" if scope.user else ""

    def _of_question(self, scope: SuggestionFilterScope) -> str:
        return (
            "s.question_id = (SELECT id FROM questions WHERE dataset_id = :dataset"
            f" AND name = {self.bind(scope.question)})"
        )

    def _test(self, asked: Filter, column: str) -> str:
        if isinstance(asked, TermsFilter):
            return f"CAST({column} AS TEXT) IN {self._among(asked.values)}"
        return self._range(asked, column, "{}")

    def _range(self, asked: RangeFilter, column: str, given: str) -> str:
        limits = ((">=", asked.ge), ("<=", asked.le))
        tests = [
            f"{column} {sign} {given.format(self.bind(_number(limit)))}"
            for sign, limit in limits
            if limit is not None
        ]
        return " AND ".join(tests) or "true"

    def _among(self, values: Sequence[object]) -> str:
        """The bound values as a list; a boolean of JSON is 1 or 0 in SQLite."""
        return f"({', '.join(self.bind(_text(value)) for value in values) or 'NULL'})"

    def order(self, asked: Order) -> str:
        """An ORDER BY term; rows without the value come last in either direction."""
        down = asked.order == SortOrder.desc
        value = self._order_value(asked.scope, "MAX" if down else "MIN")
        return f"{value} {'DESC' if down else 'ASC'} NULLS LAST"

    def _order_value(self, scope: FilterScope, best: str) -> str:
        if isinstance(scope, MetadataFilterScope):
            values = f"json_each(r.metadata, {self.path(scope.metadata_property)}) j"
            return f"(SELECT {best}(j.value) FROM {values})"
        if isinstance(scope, RecordFilterScope):
            return f"r.{_column(scope.property)}"
        if isinstance(scope, SuggestionFilterScope):
            value, joined = _suggestion_value(scope)
            return (
                f"(SELECT {best}({value}) FROM suggestions s {joined}"
                f" WHERE s.record_id = r.id AND {self._of_question(scope)})"
            )
        rows = f"FROM responses p WHERE p.record_id = r.id{self._by(scope)}"
        if scope.question:
            value = f'json_extract(p."values", {self.path(scope.question, "value")})'
            return f"(SELECT AVG({value}) {rows})"
        return f"(SELECT {best}(p.status) {rows})"


def _suggestion_value(scope: SuggestionFilterScope) -> tuple[str, str]:
    """The compared value, and the table that it comes from where it is JSON."""
    name = str(scope.property)
    if name in {"value", "score"}:
        return "j.value", f"JOIN json_each(s.{name}) j"
    return f"s.{_column(name)}", ""


def _column(name: object) -> str:
    column = str(getattr(name, "value", name))
    if column not in _COLUMNS:
        raise ValueError(f"records cannot be searched by '{column}'")
    return column


def _hex(value: object) -> str:
    try:
        return UUID(str(value)).hex
    except ValueError:
        return ""  # no record has this id


def _number(limit: object) -> object:
    """A limit as a number where it is one: Argilla accepts '0.5' for 0.5."""
    try:
        return float(limit) if isinstance(limit, str) else limit
    except ValueError:
        return limit


def _text(value: object) -> str:
    text = str(getattr(value, "value", value))
    return {"true": "1", "false": "0", "True": "1", "False": "0"}.get(text, text)
