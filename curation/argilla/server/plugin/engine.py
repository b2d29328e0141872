"""Argilla's search engine on Argilla's own database: there is no second store to go stale."""

import json
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from argilla_server.database import AsyncSessionLocal
from argilla_server.enums import MetadataPropertyType, SimilarityOrder
from argilla_server.models import (
    Dataset,
    MetadataProperty,
    Record,
    Response,
    Suggestion,
    User,
    VectorSettings,
)
from argilla_server.search_engine.base import (
    Filter,
    FloatMetadataMetrics,
    IntegerMetadataMetrics,
    MetadataMetrics,
    Order,
    SearchEngine,
    SearchResponseItem,
    SearchResponses,
    TermsMetrics,
    TextQuery,
)
from sqlalchemy import text

from .conditions import Conditions
from .connection import shuffle
from .text_index import FIELD_NAMES
from .words import TEXT_COLUMNS, fts_query

_PRIME = 2**31 - 1


@SearchEngine.register("database")
class DatabaseEngine(SearchEngine):  # type: ignore[misc]  # not installed here
    """What Argilla asks of a search engine. Writing is left to it and to the index's triggers."""

    @classmethod
    async def new_instance(cls) -> "DatabaseEngine":
        return cls()

    async def close(self) -> None:
        pass

    async def ping(self) -> bool:
        await _rows("SELECT 1", {})
        return True

    async def info(self) -> dict[str, Any]:
        return {"name": "database", "version": {"number": "1"}}

    async def search(
        self,
        dataset: Dataset,
        query: TextQuery | str | None = None,
        filter: Filter | None = None,  # noqa: A002 (Argilla's name)
        sort: Sequence[Order] | None = None,
        offset: int = 0,
        limit: int = 100,
        user_id: UUID | None = None,
    ) -> SearchResponses:
        """A page of the records and their number.

        Without a sort, a text puts its best matches first, and else every user has an order of
        their own that stays the same.
        """
        asked = Conditions(dataset.id)
        if filter:
            asked.add(filter)
        orders = [asked.order(order) for order in sort or []]
        if query is None:
            source, score, unsorted = "records r", "1.0", ["r.inserted_at", "r.id"]
            if user_id:
                source, unsorted[:0] = _SHUFFLED, [_shuffled(asked, user_id)]
        else:
            match = await _match(dataset, query)
            if match is None:
                return SearchResponses(items=[], total=0)
            asked.bound["match"] = match
            source, score, unsorted = _MATCHING, "-t.rank", ["t.rank", "t.rowid"]
        counted = _count(asked, filtered=filter is not None, matching=query is not None)
        (total,) = (await _rows(counted, asked.bound))[0]
        ordered = ", ".join([*orders, "r.inserted_at", "r.id"] if orders else unsorted)
        page = (
            f"SELECT r.id, {'NULL' if orders else score} FROM {source} WHERE {asked.sql}"
            f" ORDER BY {ordered} LIMIT :limit OFFSET :offset"
        )
        rows = await _rows(page, asked.bound | {"limit": limit, "offset": offset})
        return _responses(rows, total)

    async def similarity_search(
        self,
        dataset: Dataset,
        vector_settings: VectorSettings,
        value: list[float] | None = None,
        record: Record | None = None,
        query: TextQuery | str | None = None,
        filter: Filter | None = None,  # noqa: A002
        max_results: int = 100,
        order: SimilarityOrder = SimilarityOrder.most_similar,
        threshold: float | None = None,
    ) -> SearchResponses:
        """The records nearest to a vector or to a record, that record left out."""
        vector = value or (record and record.vector_value_by_vector_settings(vector_settings))
        if not vector:
            raise ValueError("a similarity search needs a vector, or a record that has one")
        sign = -1 if order == SimilarityOrder.least_similar else 1
        asked = Conditions(dataset.id)
        if filter:
            asked.add(filter)
        source = "records r"
        if query is not None:
            match = await _match(dataset, query)
            if match is None:
                return SearchResponses(items=[], total=0)
            asked.bound["match"] = match
            source = _MATCHING
        if record:
            asked.where.append(f"r.id != {asked.bind(record.id.hex)}")
        rows = await _rows(
            f"SELECT id, score FROM (SELECT r.id, pairwright_cosine(v.value, :vector) AS score"
            f" FROM {source} JOIN vectors v ON v.record_id = r.id AND v.vector_settings_id = :space"
            f" WHERE {asked.sql}) WHERE score >= :threshold ORDER BY score DESC, id LIMIT :limit",
            asked.bound
            | {
                "vector": json.dumps([sign * x for x in vector]),
                "space": vector_settings.id.hex,
                "threshold": -1.0 if threshold is None else threshold,
                "limit": max_results,
            },
        )
        return _responses(rows, len(rows))

    async def compute_metrics_for(self, metadata_property: MetadataProperty) -> MetadataMetrics:
        """The terms and their counts, or the least and the greatest value."""
        asked = Conditions(metadata_property.dataset_id)
        source = (
            f"FROM records r, json_each(r.metadata, {asked.path(metadata_property.name)}) j"
            f" WHERE {asked.sql} AND j.value IS NOT NULL"
        )
        if metadata_property.type == MetadataPropertyType.terms:
            counts = (
                f"SELECT CAST(j.value AS TEXT), COUNT(*) {source} GROUP BY 1 ORDER BY 2 DESC, 1"
            )
            rows = await _rows(counts, asked.bound)
            values = [TermsMetrics.TermCount(term=term, count=count) for term, count in rows]
            return TermsMetrics(total=sum(value.count for value in values), values=values)
        (least, greatest) = (
            await _rows(f"SELECT MIN(j.value), MAX(j.value) {source}", asked.bound)
        )[0]
        whole = metadata_property.type == MetadataPropertyType.integer
        metrics = IntegerMetadataMetrics if whole else FloatMetadataMetrics
        return metrics(min=least, max=greatest)

    async def get_dataset_progress(self, dataset: Dataset) -> dict[str, int]:
        """How many records there are, and how many of each status."""
        counts = "SELECT status, COUNT(*) FROM records WHERE dataset_id = :dataset GROUP BY status"
        return await self._progress(dataset, counts, {})

    async def get_dataset_user_progress(self, dataset: Dataset, user: User) -> dict[str, int]:
        """How many responses the user gave, and how many of each status."""
        counts = (
            "SELECT p.status, COUNT(*) FROM responses p JOIN records r ON r.id = p.record_id"
            " WHERE r.dataset_id = :dataset AND p.user_id = :user GROUP BY p.status"
        )
        return await self._progress(dataset, counts, {"user": user.id.hex})

    async def _progress(
        self, dataset: Dataset, counts: str, bound: dict[str, Any]
    ) -> dict[str, int]:
        if dataset.is_draft:
            return {}
        rows = await _rows(counts, bound | {"dataset": dataset.id.hex})
        return {"total": sum(count for _, count in rows), **dict(rows)}

    async def create_index(self, dataset: Dataset) -> None:
        pass

    async def delete_index(self, dataset: Dataset) -> None:
        pass

    async def configure_metadata_property(
        self, dataset: Dataset, metadata_property: MetadataProperty
    ) -> None:
        pass

    async def configure_index_vectors(self, vector_settings: VectorSettings) -> None:
        pass

    async def index_records(self, dataset: Dataset, records: Iterable[Record]) -> None:
        pass

    async def partial_record_update(self, record: Record, **update: object) -> None:
        pass

    async def delete_records(self, dataset: Dataset, records: Iterable[Record]) -> None:
        pass

    async def update_record_response(self, response: Response) -> None:
        pass

    async def delete_record_response(self, response: Response) -> None:
        pass

    async def update_record_suggestion(self, suggestion: Suggestion) -> None:
        pass

    async def delete_record_suggestion(self, suggestion: Suggestion) -> None:
        pass


_SHUFFLED = "records r JOIN pairwright_document d ON d.record_id = r.id"
_MATCHING = (
    "(SELECT rowid, rank FROM pairwright_text WHERE pairwright_text MATCH :match) t"
    " CROSS JOIN pairwright_document d ON d.id = t.rowid"
    " CROSS JOIN records r ON r.id = d.record_id"
)


def _count(asked: Conditions, *, filtered: bool, matching: bool) -> str:
    if matching and not filtered:
        return "SELECT COUNT(*) FROM pairwright_text WHERE pairwright_text MATCH :match"
    source = _MATCHING if matching else "records r"
    return f"SELECT COUNT(*) FROM {source} WHERE {asked.sql}"


def _shuffled(asked: Conditions, user: UUID) -> str:
    """An order of this user's own: a multiple of each record's number, modulo a prime."""
    factor, shift = 1 + shuffle(f"{user}*") % (_PRIME - 1), shuffle(f"{user}+")
    return f"(d.shuffle * {asked.bind(factor)} + {asked.bind(shift)}) % {_PRIME}"


async def _match(dataset: Dataset, query: TextQuery | str) -> str | None:
    """The FTS5 expression of what was typed, or None where it cannot find anything."""
    asked = TextQuery(q=query) if isinstance(query, str) else query
    column = None
    if asked.field:
        names = await _rows(FIELD_NAMES.format(dataset=":dataset"), {"dataset": dataset.id.hex})
        positions = {name: position for position, (name,) in enumerate(names)}
        if asked.field not in positions:
            return None
        column = min(positions[asked.field], TEXT_COLUMNS - 1)
    return fts_query(asked.q, dataset.id.hex, column=column)


def _responses(rows: Sequence[Any], total: int) -> SearchResponses:
    items = [SearchResponseItem(record_id=UUID(record), score=score) for record, score in rows]
    return SearchResponses(items=items, total=total)


async def _rows(sql: str, bound: dict[str, Any]) -> Sequence[Any]:
    async with AsyncSessionLocal() as session:
        rows: Sequence[Any] = (await session.execute(text(sql), bound)).all()
    return rows
