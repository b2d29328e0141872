"""The gate and the export on a file of preferences, without a run."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from schemas.arrow import to_jsonl
from schemas.config_files import apply_override, parse_config
from schemas.configs import ModelConfig, ValidateConfig
from schemas.run_folder import file_sha256, write_atomic

if TYPE_CHECKING:
    from curation.validation.gate import GateResult


class FileGate(ValidateConfig):
    """The gate's config, and what else a file needs that a run's config says elsewhere."""

    seed: int = 0
    """Decides, with the prompt, which split a pair is in."""
    model: ModelConfig | None = None
    """Whose chat template the tokens are checked with."""


class CheckedFile(NamedTuple):
    """What the gate said about a file, and where the rows that it kept out are."""

    result: "GateResult"
    quarantine: Path


def read_gate(overrides: Sequence[str], model: str | None) -> FileGate:
    """The gate that `key=value` overrides and a model's path describe.

    Raises:
        ValueError: a key is unknown or a value does not fit.
    """
    data: dict[str, Any] = {} if model is None else {"model": {"path": model}}
    for override in overrides:
        apply_override(data, override)
    return parse_config(data, as_=FileGate, where="validate")


def check_file(path: Path, gate: FileGate, *, fix: bool, out: Path | None) -> CheckedFile:
    """The file's rows passed through the gate; the others in `<file>.quarantine.jsonl`.

    Raises:
        ValueError: the file cannot be read.
    """
    from curation.models import load_chat
    from curation.validation.gate import Gate, rows_from_file

    if path.is_dir():
        raise ValueError(f"'{path}' is a folder; expected one file of pairs, such as a split of it")
    chat = load_chat(gate.model) if gate.model is not None and gate.token_checks else None
    result = Gate(gate, seed=gate.seed, chat=chat).run(rows_from_file(path, fix=fix))
    quarantine = (out or path.parent) / f"{path.stem}.quarantine.jsonl"
    quarantine.parent.mkdir(parents=True, exist_ok=True)
    # Half a surrogate pair becomes the JSON escape that stands for it.
    write_atomic(quarantine, to_jsonl(result.quarantined).encode("utf-8", "backslashreplace"))
    return CheckedFile(result, quarantine)


class Exported(NamedTuple):
    """The dataset that was made of a file."""

    rows: dict[str, int]
    """By split."""
    notes: list[str]


def export_checked(
    path: Path, checked: CheckedFile, folder: Path, form: Literal["trl", "kto"]
) -> Exported:
    """The dataset that the file's pairs make in the folder, with its card.

    Raises:
        ValueError: it would be written over the file itself.
    """
    from curation.formats.card import dataset_card
    from curation.formats.trl import SPLITS, write_dataset, write_unpaired

    files = [folder / f"{split}.parquet" for split in SPLITS]
    if path.resolve() in [file.resolve() for file in files]:
        raise ValueError(
            f"the dataset in '{folder}' would be written over '{path}', which it is made of; "
            "expected another folder"
        )
    for file in files:
        with contextlib.suppress(FileNotFoundError):
            file.unlink()
    notes = []
    if form == "trl":
        rows = write_dataset(checked.result.pairs, folder)
    else:
        unpaired = write_unpaired(checked.result.pairs, folder)
        rows = unpaired.rows
        notes.append(
            f"{unpaired.desirable} desirable and {unpaired.undesirable} undesirable completions to "
            f"train on; {unpaired.contradictory} that both won and lost are left out"
        )
        if unpaired.weights is not None:
            notes.append(
                f"for equal total weight set TRL's desirable_weight={unpaired.weights.desirable:g} "
                f"and undesirable_weight={unpaired.weights.undesirable:g}"
            )
    card = dataset_card(
        run=path.name,
        rows=rows,
        hashes={"file": file_sha256(path)},
        funnel={"rows read": checked.result.counts["in"], "pairs": sum(rows.values())},
        reasons=checked.result.reasons,
    )
    write_atomic(folder / "README.md", card.encode())
    return Exported(rows, notes)
