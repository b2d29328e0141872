"""A pair's history, from the prompt to the optimiser steps, read from a run's files alone."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import BaseModel, Field

from schemas.arrow import from_table
from schemas.records import (
    Candidate,
    Json,
    Judgement,
    PairProposal,
    Ranking,
    Record,
)
from schemas.run_folder import Manifest, RunFolder, Stage

R = TypeVar("R", bound=BaseModel)


class Side(Record):
    """A candidate of the pair's prompt and what became of it."""

    candidate: Candidate
    role: str
    """`chosen`, `rejected`, or why it is in no pair."""
    score: float | None = None
    rank: int | None = None
    components: dict[str, float | None] = Field(default_factory=dict)
    """The score by each question or reward."""


class Verdict(Record):
    """What the gate said."""

    passed: bool
    split: str | None = None
    code: str | None = None
    message: str | None = None


class TrainedStep(Record):
    """An optimiser step that had the pair in its batch."""

    step: int
    epoch: float
    loss: float | None = None
    margin: float | None = None


class History(Record):
    """All that a run knows about one pair; None or empty where a stage has not been run."""

    pair: PairProposal
    template: Json = None
    sampling: Json = None
    candidates: tuple[Side, ...] = ()
    judgements: tuple[Judgement, ...] = ()
    ranking: Ranking | None = None
    verdict: Verdict | None = None
    dataset_split: str | None = None
    dataset_row: Json = None
    steps: tuple[TrainedStep, ...] = ()
    trained: bool = False
    """Whether the policy was trained at all."""
    manifests: dict[str, str] = Field(default_factory=dict)
    """The fingerprint of each stage behind this history."""


def trace_pair(run: RunFolder, pair_id: str) -> History:
    """The history of the pair whose id starts so; `pair-` may be left out.

    Raises:
        ValueError: no pair, or more than one, has such an id.
    """
    pairs = run.stage("pair")
    found = _unique_id(pairs, pair_id)
    part, pair = _find(pairs, found)
    prompt_id = pair.prompt.id
    of_prompt = pc.field("prompt_id") == prompt_id
    candidates = _part(run.stage("generate"), part, of_prompt, Candidate)
    judgements = [
        judgement
        for stage in ("rank", "label")
        for judgement in _part(run.stage(stage), part, of_prompt, Judgement)
    ]
    rankings = _part(run.stage("aggregate"), part, of_prompt, Ranking)
    ranking = rankings[0] if rankings else None
    generated = run.stage("generate").manifest()
    facts = generated.facts if generated and generated.facts else {}
    split, row = _dataset_row(run.stage("export"), found)
    return History(
        pair=pair,
        template=facts.get("template"),
        sampling=facts.get("sampling"),
        candidates=tuple(_sides(pair, candidates, judgements, ranking, _unused(pairs, part))),
        judgements=tuple(judgements),
        ranking=ranking,
        verdict=_verdict(run.stage("validate"), found),
        dataset_split=split,
        dataset_row=row,
        steps=tuple(_steps(run.stage("dpo"), found)),
        trained=bool(run.stage("dpo").files()),
        manifests={name: _fingerprint(stage.manifest()) for name, stage in run.stages().items()},
    )


def pair_ids(run: RunFolder) -> Iterator[str]:
    """The ids of all proposed pairs."""
    for file in run.stage("pair").files():
        yield from pq.read_table(file, columns=["id"])["id"].to_pylist()


def _unique_id(pairs: Stage, prefix: str) -> str:
    run = pairs.folder.parent
    full = prefix if prefix.startswith("pair-") else f"pair-{prefix}"
    found: set[str] = {
        key
        for file in pairs.files()
        for key in pq.read_table(
            file, columns=["id"], filters=pc.starts_with(pc.field("id"), full)
        )["id"].to_pylist()
    }
    if not found:
        raise ValueError(f"run '{run}' has no pair '{prefix}'; `pairwright show {run}` counts them")
    if len(found) > 1:
        some = ", ".join(sorted(found)[:3])
        raise ValueError(
            f"'{prefix}' is the start of {len(found)} pair ids: {some} ...; write more"
        )
    return found.pop()


def _find(pairs: Stage, pair_id: str) -> tuple[int, PairProposal]:
    for index, file in enumerate(pairs.files()):
        table = pq.read_table(file, filters=pc.field("id") == pair_id)
        if table.num_rows:
            return index, from_table(table.slice(0, 1), PairProposal)[0]
    raise ValueError(f"pair '{pair_id}' is gone from '{pairs.folder}'")


def _part(stage: Stage, index: int, where: Any, record: type[R]) -> list[R]:
    files = stage.files()
    if index >= len(files):
        return []
    return from_table(pq.read_table(files[index], filters=where), record)


def _unused(pairs: Stage, part: int) -> dict[str, str]:
    files = pairs.files("unused")
    if part >= len(files):
        return {}
    table = pq.read_table(files[part])
    return dict(zip(table["candidate_id"].to_pylist(), table["reason"].to_pylist(), strict=True))


def _sides(
    pair: PairProposal,
    candidates: list[Candidate],
    judgements: list[Judgement],
    ranking: Ranking | None,
    unused: dict[str, str],
) -> Iterator[Side]:
    """The prompt's candidates, best first; an edited side is no sample but is shown with them."""
    known = {candidate.id for candidate in candidates}
    sides = [side for side in (pair.chosen, pair.rejected) if side.id not in known]
    ranks = dict(zip(ranking.candidates, ranking.ranks, strict=True)) if ranking else {}
    scores = dict(zip(ranking.candidates, ranking.scores or (), strict=False)) if ranking else {}
    roles = {pair.chosen.id: "chosen", pair.rejected.id: "rejected"}
    everyone = sorted(
        [*sides, *candidates], key=lambda one: (ranks.get(one.text_id, len(known) + 1), one.id)
    )
    for candidate in everyone:
        yield Side(
            candidate=candidate,
            role=roles.get(candidate.id) or unused.get(candidate.id, "in another pair"),
            score=scores.get(candidate.text_id),
            rank=ranks.get(candidate.text_id),
            components={
                item.question: item.scores[item.candidates.index(candidate.text_id)]
                for item in judgements
                if item.scores is not None and candidate.text_id in item.candidates
            },
        )


def _verdict(stage: Stage, pair_id: str) -> Verdict | None:
    for file in stage.files():
        table = pq.read_table(file, columns=["id", "split"], filters=pc.field("id") == pair_id)
        if table.num_rows:
            return Verdict(passed=True, split=table["split"][0].as_py())
    for file in stage.files("quarantine"):
        kept_out = pq.read_table(
            file, columns=["row_id", "code", "message"], filters=pc.field("row_id") == pair_id
        )
        for row in kept_out.to_pylist():
            return Verdict(passed=False, code=row["code"], message=row["message"])
    return None


def _dataset_row(stage: Stage, pair_id: str) -> tuple[str | None, Json]:
    for split in ("train", "test"):
        file: Path = stage.folder / f"{split}.parquet"
        if file.exists():
            rows: pa.Table = pq.read_table(file, filters=pc.field("pair_id") == pair_id)
            for row in rows.to_pylist():
                return split, row
    return None, None


def _steps(stage: Stage, pair_id: str) -> Iterator[TrainedStep]:
    for table in stage.tables():
        for row in table.to_pylist():
            if pair_id in row["pair_ids"]:
                yield TrainedStep(
                    step=row["step"],
                    epoch=row["epoch"],
                    loss=row["loss"],
                    margin=row["rewards_margin"],
                )


def _fingerprint(manifest: Manifest | None) -> str:
    return manifest.fingerprint if manifest else ""
