"""What a run's stored files say: read once, for the page and for the JSON. No model is loaded."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq
from pydantic import ValidationError

from dpo.step_log import StepRecord
from dpo.summary import EvaluationRecord, EvaluationSummary
from pairwright.plan import ON_PAIRS, UPSTREAM
from pairwright.report.finetuned_view import (
    FineTuned,
    RewardModel,
    finetuned_doubts,
    read_reward_model,
    read_sft,
)
from pairwright.report.funnel import Funnel, Seen, funnel
from pairwright.report.online_view import METHODS, Online, online_doubts, read_online
from pairwright.report.people import People, people_doubts, prompts_answered, read_people
from pairwright.report.verdict import Verdict, doubts, verdict
from pairwright.road import stored_plan
from schemas.arrow import first_error
from schemas.run_folder import Manifest, RunFolder, Stage

MUCH_TRUNCATED = 0.2
"""Share of candidates cut off at the token limit from which on a reader is warned."""

_ABSENT = {
    "prompts": "prompts were not loaded",
    "sft": "the SFT model was not fine-tuned",
    "generate": "no candidate was sampled",
    "rank": "candidates were not judged",
    "label": "people were not asked",
    "aggregate": "judgements were not turned into rankings",
    "pair": "no pair was proposed",
    "validate": "pairs have not been through the gate",
    "export": "no dataset was written",
    "reward": "no reward model was trained",
    "dpo": "no policy was trained",
    "grpo": "no policy was trained",
    "ppo": "no policy was trained",
    "evaluate": "no policy was compared with the SFT model",
}


class Missing(NamedTuple):
    stage: str
    what: str


class Findings(NamedTuple):
    run: Path
    model: str | None
    """What the run calls its SFT model."""
    manifests: dict[str, Manifest]
    """Of every stage on disk, in the order of the road."""
    road: list[str]
    """The stages that the run is to have, in order."""
    missing: list[Missing]
    funnel: Funnel
    people: People | None
    """What people said, where they were asked."""
    verdict: Verdict
    warnings: list[str]
    """What to know before trusting the figures, gravest first."""
    summary: EvaluationSummary | None
    records: list[EvaluationRecord]
    steps: list[StepRecord]
    """Of DPO."""
    sft: FineTuned | None
    reward_model: RewardModel | None
    online: Online | None
    """GRPO or PPO, where that made the policy."""
    pair_id: str | None
    """A pair whose history can be traced: the first that was trained on, else the first kept."""

    def facts(self, stage: str) -> dict[str, Any]:
        """What the stage found out; empty where it is not complete."""
        manifest = self.manifests.get(stage)
        if manifest is None or manifest.state != "complete":
            return {}
        return manifest.facts if isinstance(manifest.facts, dict) else {}

    def config(self, stage: str) -> dict[str, Any]:
        manifest = self.manifests.get(stage)
        return manifest.config if manifest and isinstance(manifest.config, dict) else {}


def read_findings(run: RunFolder) -> Findings:
    """What the run's files say; stages that are absent or unfinished are listed as missing.

    Raises:
        ValueError: there is no run, or a file of it is damaged.
    """
    stages = RunFolder.existing(run.path).stages()
    manifests = {
        name: manifest
        for name in UPSTREAM
        if name in stages and (manifest := stages[name].manifest()) is not None
    }
    done = {name for name, manifest in manifests.items() if manifest.state == "complete"}
    summary, records = None, []
    if "evaluate" in done:
        summary = _summary(manifests["evaluate"], run.path)
        records = list(stages["evaluate"].read(EvaluationRecord))
    steps = list(stages["dpo"].read(StepRecord)) if "dpo" in done else []
    trained = {pair_id for step in steps for pair_id in step.pair_ids}
    road, online = _road(run, manifests), read_online(run, manifests)
    found = Findings(
        run=run.path,
        model=_model(run, manifests),
        manifests=manifests,
        road=road,
        missing=list(_missing(road, manifests)),
        funnel=funnel(
            manifests,
            Seen(
                trained_pairs=len(trained) if "dpo" in done else None,
                answered_prompts=prompts_answered(run, manifests),
                sampled_prompts=None if online is None else online.prompts,
            ),
        ),
        people=read_people(run, manifests),
        verdict=verdict(summary, gamed=online is not None and online.is_gamed),
        warnings=[],
        summary=summary,
        records=records,
        steps=steps,
        sft=read_sft(run, manifests),
        reward_model=read_reward_model(run, manifests),
        online=online,
        pair_id=_pair_id(steps, run.stage("validate")),
    )
    return found._replace(warnings=list(_warnings(found)) + list(_stale(run, manifests)))


def _summary(manifest: Manifest, run: Path) -> EvaluationSummary:
    try:
        return EvaluationSummary.model_validate(manifest.facts)
    except ValidationError as error:
        raise ValueError(
            f"stage 'evaluate' of run '{run}' holds no summary that this version reads "
            f"({first_error(error)}); run evaluate again"
        ) from None


def _model(run: RunFolder, manifests: dict[str, Manifest]) -> str | None:
    generate = manifests.get("generate")
    if generate is not None and isinstance(generate.facts, dict) and "model" in generate.facts:
        return str(generate.facts["model"])
    try:
        return stored_plan(run).config.model.path
    except ValueError:
        return None


def _road(run: RunFolder, manifests: dict[str, Manifest]) -> list[str]:
    """The stages that the run is to have: those of its config or, without one, of its manifests."""
    try:
        return stored_plan(run).stages
    except ValueError:
        pass
    skipped = {"sft", "reward"} - manifests.keys()
    pair = manifests.get("pair")
    if pair is not None and isinstance(pair.config, dict) and pair.config.get("edit"):
        skipped |= {"rank", "label", "aggregate"}
    else:
        skipped |= {"rank"} - manifests.keys() if "label" in manifests else {"label"}
    trainer = next((name for name in METHODS if name in manifests), "dpo")
    skipped |= {"dpo", *METHODS} - {trainer}
    if trainer != "dpo" and not manifests.keys() & {*ON_PAIRS, "reward"}:
        skipped |= {*ON_PAIRS}
    return [name for name in UPSTREAM if name not in skipped]


def _missing(road: list[str], manifests: dict[str, Manifest]) -> Iterator[Missing]:
    for name in road:
        manifest = manifests.get(name)
        if manifest is None:
            yield Missing(name, _ABSENT[name])
        elif manifest.state != "complete":
            yield Missing(name, "it was begun and is not finished")


def _pair_id(steps: list[StepRecord], validated: Stage) -> str | None:
    for step in steps:
        if step.pair_ids:
            return step.pair_ids[0]
    for file in validated.files():
        ids = pq.read_table(file, columns=["id"])["id"]
        if len(ids):
            return str(ids[0].as_py())
    return None


def _warnings(found: Findings) -> Iterator[str]:
    if found.people is not None:
        yield from people_doubts(found.people)
    if found.summary is not None:
        yield from doubts(found.summary)
        if found.summary.kl_per_token.mean is None:
            yield f"KL was not measured: {found.summary.kl_per_token.note}."
    if not found.funnel.adds_up:
        yield "The funnel does not add up: a line of it has rows that left without a reason."
    dpo = found.facts("dpo")
    confidence = dpo.get("confidence", {})
    unused = confidence.get("pairs_below_one", 0) + confidence.get("weights_other_than_one", 0)
    if unused and not confidence.get("used"):
        yield "Pairs carry a confidence, but training did not use it (dpo.confidence is false)."
    yield from dpo.get("health", [])
    if found.online is not None:
        yield from online_doubts(found.online)
    yield from finetuned_doubts(found.sft, found.reward_model)
    yield from found.facts("validate").get("warnings", [])
    yield from (f"Chat template: {text}" for text in _template_warnings(found))
    candidates = found.funnel.candidates or 0
    cut = found.manifests["generate"].counts.get("truncated", 0) if candidates else 0
    if cut > MUCH_TRUNCATED * candidates:
        yield f"{cut:,} of {candidates:,} candidates were cut off at the token limit."


def _template_warnings(found: Findings) -> list[str]:
    template = found.facts("generate").get("template", {})
    return list(template.get("warnings", []))


def _stale(run: RunFolder, manifests: dict[str, Manifest]) -> Iterator[str]:
    """Stages that were made from an earlier version of a stage before them."""
    for name, manifest in manifests.items():
        for before in UPSTREAM[name]:
            source = manifests.get(before)
            if source is None or source.state != "complete" or before not in manifest.inputs:
                continue
            if manifest.inputs[before] != run.stage(before).digest():
                yield f"Stage '{name}' is stale: '{before}' was made again after it."
