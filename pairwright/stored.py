"""Reading what stages stored, without holding a run in memory."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.arrow import from_table
from schemas.records import Prompt
from schemas.run_folder import Stage


class OfPrompt(Protocol):
    @property
    def prompt_id(self) -> str: ...


R = TypeVar("R", bound=OfPrompt)


class StoredPrompts:
    """The prompts of a run by id; they stay in Arrow's compact form until they are asked for."""

    def __init__(self, stage: Stage) -> None:
        self._table = pa.concat_tables(stage.tables())
        ids = self._table["id"].to_pylist()
        self._rows = {prompt_id: row for row, prompt_id in enumerate(ids)}

    def of(self, prompt_ids: Iterable[str]) -> dict[str, Prompt]:
        """These prompts, by id.

        Raises:
            ValueError: one is not stored.
        """
        wanted = list(prompt_ids)
        missing = [prompt_id for prompt_id in wanted if prompt_id not in self._rows]
        if missing:
            raise ValueError(
                f"prompt '{missing[0]}' is not among the run's {len(self._rows)} prompts; "
                "expected every candidate to answer one of them"
            )
        rows = pa.array([self._rows[prompt_id] for prompt_id in wanted], pa.int64())
        return dict(zip(wanted, from_table(self._table.take(rows), Prompt), strict=True))


def columns(stage: Stage, names: Sequence[str], kind: str = "part") -> pa.Table:
    """These columns of all committed files of one kind; `a.b` is column a with field b alone."""
    return pa.concat_tables(
        pq.ParquetFile(file).read(columns=list(names)) for file in stage.files(kind)
    )


def row_count(stage: Stage, kind: str = "part") -> int:
    return sum(pq.read_metadata(file).num_rows for file in stage.files(kind))


def by_prompt(records: Iterable[R]) -> dict[str, list[R]]:
    """The records in groups of one prompt, in the order in which prompts and records came."""
    groups: dict[str, list[R]] = defaultdict(list)
    for record in records:
        groups[record.prompt_id].append(record)
    return dict(groups)
