"""Prompts out of files and datasets: normalised, deduplicated, every other row accounted for."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from curation.formats.files import open_rows
from curation.formats.json_values import RowError, as_json
from curation.formats.prompt_rows import prompt_row, row_tags
from schemas.configs import PromptSource
from schemas.records import Json, Prompt, Record, canonical_json, normalise


class QuarantinedRow(Record):
    """A row that gave no prompt, with the reason; duplicates are among them."""

    source: str
    row_id: str
    """`line 7` of a JSONL file, else `row 7`."""
    code: str
    message: str
    row: Json = None


class LoadedPrompts(NamedTuple):
    prompts: list[Prompt]
    """One a prompt group, in the order of the sources and of their rows."""
    counts: dict[str, int]
    """`read`, `kept`, `quarantined` (read = kept + quarantined), then `<source>: read`,
    `<source>: kept` and, where a row has several turns, `<source>: first turn only`. Rows that
    `only_tags` passes over are not read: `<source>: other tags`."""
    reasons: dict[str, int]
    """How many rows were quarantined, by code."""
    quarantined: list[QuarantinedRow]


class _First(NamedTuple):
    """Where a prompt group was met first."""

    where: str
    prompt: Prompt


def load_prompts(sources: Sequence[PromptSource]) -> LoadedPrompts:
    """The distinct prompts of the sources.

    Of prompts that are equal after normalisation (`Prompt.group`) the first stays; a later one is
    DUPLICATE_PROMPT, or CONFLICTING_REFERENCE where both have a reference answer or instructions
    and these differ.

    Raises:
        ValueError: a source cannot be read, is empty, or no row of it has the prompt's column.
    """
    seen: dict[str, _First] = {}
    counts: Counter[str] = Counter({"read": 0, "kept": 0, "quarantined": 0})
    quarantined: list[QuarantinedRow] = []
    for source in sources:
        label, name = _label(source), _name(source)
        kept_before, quarantined_before = len(seen), len(quarantined)
        read = 0
        for row_id, row in _rows(source, counts):
            read += 1
            try:
                if isinstance(row, RowError):
                    raise row
                prompt, later_turns = prompt_row(row, source, name=name)
                _refuse_duplicate(prompt, seen)
            except RowError as error:
                quarantined.append(_quarantined(label, row_id, row, error))
                continue
            seen[prompt.group] = _First(f"{row_id} of {label}", prompt)
            if later_turns:
                counts[f"{label}: first turn only"] += 1
        _refuse_useless(source, read, quarantined[quarantined_before:])
        counts[f"{label}: read"] += read
        counts[f"{label}: kept"] += len(seen) - kept_before
        counts["read"] += read
    counts["kept"], counts["quarantined"] = len(seen), len(quarantined)
    return LoadedPrompts(
        prompts=[first.prompt for first in seen.values()],
        counts=dict(counts),
        reasons=dict(sorted(Counter(row.code for row in quarantined).items())),
        quarantined=quarantined,
    )


def _rows(
    source: PromptSource, counts: Counter[str]
) -> Iterator[tuple[str, dict[str, Any] | RowError]]:
    """The rows that the source takes; those of other tags are counted.

    A row that cannot be read has no tags and is taken too.
    """
    unit, rows = open_rows(source.path, split=source.split)
    passed_over = f"{_label(source)}: other tags"
    wanted, unused = set(source.only_tags), set(source.tag_columns)
    taken = 0
    for number, row in rows:
        if not isinstance(row, RowError):
            unused -= row.keys()
            if wanted and wanted.isdisjoint(row_tags(row, source)):
                counts[passed_over] += 1
                continue
        yield f"{unit} {number}", row
        taken += 1
        if taken == source.limit:
            break
    if unused and (taken or wanted):
        raise ValueError(
            f"prompts '{source.path}': no row has a column '{min(unused)}', which tag_columns names"
        )


def _label(source: PromptSource) -> str:
    """The source as the config names it; a dataset with its split."""
    path = Path(source.path).expanduser()
    return source.path if path.is_file() else f"{source.path} [{source.split}]"


def _name(source: PromptSource) -> str:
    """The name of the file or folder, without where it lies; a hub dataset's whole name."""
    path = Path(source.path).expanduser()
    return path.name if path.exists() else source.path


def _refuse_duplicate(prompt: Prompt, seen: Mapping[str, _First]) -> None:
    first = seen.get(prompt.group)
    if first is None:
        return
    if _conflict(first.prompt.answer, prompt.answer) or _conflict(
        [item.model_dump() for item in first.prompt.instructions],
        [item.model_dump() for item in prompt.instructions],
    ):
        raise RowError(
            "CONFLICTING_REFERENCE",
            f"asks the same as {first.where} but with another reference answer or other "
            "instructions; the first was kept",
        )
    raise RowError("DUPLICATE_PROMPT", f"asks the same as {first.where}")


def _conflict(first: Any, second: Any) -> bool:
    if first in (None, []) or second in (None, []):
        return False
    if isinstance(first, str) and isinstance(second, str):
        return normalise(first) != normalise(second)
    return canonical_json(first) != canonical_json(second)


def _quarantined(label: str, row_id: str, row: Any, error: RowError) -> QuarantinedRow:
    return QuarantinedRow(
        source=label,
        row_id=row_id,
        code=error.code,
        message=str(error),
        row=None if isinstance(row, RowError) else as_json(row),
    )


def _refuse_useless(source: PromptSource, read: int, quarantined: Sequence[QuarantinedRow]) -> None:
    if not read:
        wanted = f" with a tag {' or '.join(source.only_tags)}" if source.only_tags else ""
        raise ValueError(f"prompts '{source.path}' has no rows{wanted}")
    if len(quarantined) == read and all(row.code == "MISSING_COLUMN" for row in quarantined):
        raise ValueError(
            f"prompts '{source.path}': no row has a prompt: {quarantined[0].message}; name the "
            "column with `column:`"
        )
