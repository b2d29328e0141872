"""The card of an exported dataset: for Hugging Face's tools, and for the person who finds it."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml

from schemas import SCHEMA_VERSION

_COLUMNS = {
    "prompt": "messages that the answers reply to",
    "chosen": "messages of the preferred answer",
    "rejected": "messages of the other answer",
    "tools": "tool schemas as JSON text, where any row has tools",
    "pair_id": "the pair's id; `pairwright trace RUN PAIR_ID` tells its history",
    "p_chosen": "posterior that chosen is truly better; empty where only uncalibrated scores spoke",
    "weight": "weight of the pair in the loss",
    "margin": "score of chosen minus score of rejected, in the ranking's units",
}


def dataset_card(
    *,
    run: str,
    rows: Mapping[str, int],
    hashes: Mapping[str, str],
    funnel: Mapping[str, int],
    reasons: Mapping[str, int],
    licences: Sequence[str] = (),
) -> str:
    """The README.md of a dataset folder.

    Its front matter names no files: `datasets` finds the splits by the files' names, and caches a
    folder whose card names them under the folder's own name, so that the next run's `export` would
    come back with this one's rows.

    `rows` are the rows by split, `hashes` what the dataset was made from (weights, template,
    stages), `funnel` the counts from prompts to pairs in order, `reasons` what left the road and
    why. Equal arguments give equal text.
    """
    front = {"tags": ["preference", "dpo", "trl", "pairwright"]}
    sections = [
        f"---\n{yaml.safe_dump(front, sort_keys=False)}---",
        f"# Preference pairs of run {_cell(run)}",
        f"Made by pairwright, schema version {SCHEMA_VERSION}. Load it with "
        "`datasets.load_dataset(FOLDER)`; TRL's `DPOTrainer` takes it as it is.",
        _table(("split", "rows"), [item for item in rows.items() if item[1]]),
        "## Columns",
        _table(("column", "content"), _COLUMNS.items()),
        "## From prompts to pairs",
        _table(("step", "count"), funnel.items()),
        "## What left the road",
        _table(("reason", "rows"), sorted(reasons.items())) if reasons else "Nothing.",
        "## Made from",
        _table(("what", "hash"), hashes.items()),
    ]
    if licences:
        sections += ["## Licences of the prompts", ", ".join(map(_cell, sorted(set(licences))))]
    return "\n\n".join(sections) + "\n"


def _table(header: tuple[str, str], rows: Iterable[tuple[Any, Any]]) -> str:
    lines = [header, ("---", "---"), *rows]
    return "\n".join(f"| {_cell(left)} | {_cell(right)} |" for left, right in lines)


def _cell(value: Any) -> str:
    """The value on one line, so that no name breaks out of a table."""
    return " ".join(str(value).split()).replace("|", "\\|")
