"""Datasets that TRL trains on as they are, out and in.

A folder has `train.parquet` and, where pairs are held out, `test.parquet`. The prompt is a column
of its own and always messages, so nobody downstream has to find where it ends.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from curation.formats.files import read_rows
from curation.formats.json_values import RowError
from curation.formats.parquet import row_spool, write_rows
from schemas.records import PreferencePair

SPLITS = ("train", "test")

_PAIR_COLUMNS = {
    "pair_id": pa.string(),
    "p_chosen": pa.float64(),
    "weight": pa.float64(),
    "margin": pa.float64(),
}


class KtoWeights(NamedTuple):
    """TRL's `desirable_weight` and `undesirable_weight`."""

    desirable: float
    undesirable: float


class Unpaired(NamedTuple):
    rows: dict[str, int]
    """By split."""
    desirable: int
    """Completions of the train split that only ever won."""
    undesirable: int
    """Completions of the train split that only ever lost."""
    contradictory: int
    """Completions that won one pair and lost another: they have no one label and are left out."""
    weights: KtoWeights | None
    """Suggested for the train split; None where a label is missing."""


def dataset_row(pair: PreferencePair) -> dict[str, Any]:
    """The pair as a row of the dataset: what `read_dataset` gives back."""
    return {
        "prompt": pair.prompt.message_dicts(),
        "chosen": pair.chosen.completion.message_dicts(),
        "rejected": pair.rejected.completion.message_dicts(),
        "tools": pair.prompt.tools,
        "pair_id": pair.id,
        "p_chosen": pair.p_chosen,
        "weight": pair.weight,
        "margin": pair.margin,
    }


def write_dataset(pairs: Iterable[PreferencePair], folder: Path) -> dict[str, int]:
    """Rows written by split; a test split without rows makes no file.

    Pairs are taken one at a time and each stays in its own split. Equal pairs in the same order
    give equal bytes.
    """
    with row_spool(folder, ("prompt", "chosen", "rejected")) as spool:
        for pair in pairs:
            spool.add(pair.split, dataset_row(pair))
        schema = spool.schema(_PAIR_COLUMNS)
        return {split: _write_split(folder, split, spool.rows(split), schema) for split in SPLITS}


def read_dataset(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """The rows of each split as `dataset_row` made them.

    Raises:
        ValueError: there is no dataset in the folder.
    """
    files = {split: _file(folder, split) for split in SPLITS}
    if not files["train"].is_file():
        raise ValueError(f"'{folder}' holds no dataset; expected train.parquet in it")
    return {split: list(_read_split(file)) for split, file in files.items() if file.is_file()}


def write_unpaired(pairs: Iterable[PreferencePair], folder: Path) -> Unpaired:
    """What was written as prompt, completion and label, TRL's format for KTO.

    A completion is one row, however many pairs it is in.
    """
    labels: dict[str, set[bool]] = {}
    with row_spool(folder, ("prompt", "completion")) as spool:
        for pair in pairs:
            for candidate, label in ((pair.chosen, True), (pair.rejected, False)):
                if candidate.text_id not in labels:
                    row = {
                        "prompt": pair.prompt.message_dicts(),
                        "completion": candidate.completion.message_dicts(),
                        "tools": pair.prompt.tools,
                        "text_id": candidate.text_id,
                    }
                    spool.add(pair.split, row)
                labels.setdefault(candidate.text_id, set()).add(label)
        schema = spool.schema({"label": pa.bool_()})
        seen: Counter[tuple[str, bool]] = Counter()

        def labelled(split: str) -> Iterator[dict[str, Any]]:
            for row in spool.rows(split):
                if len(labels[row["text_id"]]) == 1:
                    (label,) = labels[row["text_id"]]
                    seen[split, label] += 1
                    yield {**row, "label": label}

        rows = {split: _write_split(folder, split, labelled(split), schema) for split in SPLITS}
    desirable, undesirable = seen["train", True], seen["train", False]
    return Unpaired(
        rows=rows,
        desirable=desirable,
        undesirable=undesirable,
        contradictory=sum(len(given) > 1 for given in labels.values()),
        weights=suggested_weights(desirable, undesirable) if desirable and undesirable else None,
    )


def suggested_weights(desirable: int, undesirable: int) -> KtoWeights:
    """Weights that give both labels the same total; the more frequent one keeps 1.

    Raises:
        ValueError: a label has no rows.
    """
    if desirable < 1 or undesirable < 1:
        raise ValueError(
            f"{desirable} desirable and {undesirable} undesirable completions; KTO needs both"
        )
    most = max(desirable, undesirable)
    return KtoWeights(most / desirable, most / undesirable)


def _file(folder: Path, split: str) -> Path:
    return folder / f"{split}.parquet"


def _write_split(
    folder: Path, split: str, rows: Iterator[dict[str, Any]], schema: pa.Schema
) -> int:
    count = write_rows(_file(folder, split), rows, schema)
    if split != "train" and not count:
        _file(folder, split).unlink()
    return count


def _read_split(file: Path) -> Iterator[dict[str, Any]]:
    for number, row in read_rows(file):
        if isinstance(row, RowError) or "chosen" not in row:
            raise ValueError(f"'{file}' row {number} is no row of a preference dataset")
        tools = row.pop("tools", None)
        for name in ("prompt", "chosen", "rejected"):
            row[name] = [
                {"role": message["role"], "content": message.get("content"), **message}
                for message in row[name]
            ]
        yield {**row, "tools": None if tools is None else json.loads(tools)}
