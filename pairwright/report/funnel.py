"""From prompts to trained pairs or rollouts: what went into each stage, what came out, and what
became of the rest. Each line counts in one unit, and what went in is what came out plus what left
with a reason.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from pairwright.report.people import ranks_by_votes, simulated_among
from schemas.records import Record
from schemas.run_folder import Manifest


class FunnelLine(Record):
    """One unit on its way through one stage."""

    stage: str
    unit: str
    came_in: int
    """As the stage before counted it."""
    passed: int
    left: dict[str, int]
    """How many left the road here, by reason code."""

    @property
    def adds_up(self) -> bool:
        return self.came_in == self.passed + sum(self.left.values())


class Made(Record):
    """What a stage made of what it was given, in another unit; nothing leaves the road here."""

    stage: str
    given: str
    made: str


class Funnel(Record):
    prompts: int | None
    samples: int | None
    candidates: int | None
    """Distinct answers."""
    proposals: int | None
    pairs: int | None
    """Pairs that passed the gate."""
    quarantined: int | None
    """Pairs that did not."""
    train: int | None
    test: int | None
    rollouts: int | None
    """Answers that a policy was trained online on."""
    lines: tuple[FunnelLine | Made, ...]
    adds_up: bool
    """Whether every line does."""


class Seen(NamedTuple):
    """What only the stored records tell; None where the stage is not complete."""

    trained_pairs: int | None = None
    """Pairs that entered some optimiser step."""
    answered_prompts: int | None = None
    """Prompts about which somebody answered."""
    sampled_prompts: int | None = None
    """Prompts that a policy trained online was asked."""


def funnel(manifests: Mapping[str, Manifest], seen: Seen) -> Funnel:
    """The funnel of the stages that are complete."""
    counts = {
        name: manifest.counts
        for name, manifest in manifests.items()
        if manifest.state == "complete"
    }

    def count(stage: str, key: str) -> int | None:
        return counts.get(stage, {}).get(key)

    lines = [line for stage in counts for line in _lines(stage, counts, manifests, seen)]
    return Funnel(
        prompts=count("prompts", "prompts"),
        samples=count("generate", "samples"),
        candidates=count("generate", "candidates"),
        proposals=count("pair", "proposals"),
        pairs=count("validate", "out"),
        quarantined=count("validate", "quarantined"),
        train=count("validate", "train"),
        test=count("validate", "test"),
        rollouts=count("grpo", "rollouts") or count("ppo", "rollouts"),
        lines=tuple(lines),
        adds_up=all(line.adds_up for line in lines if isinstance(line, FunnelLine)),
    )


def _lines(
    stage: str,
    counts: Mapping[str, Mapping[str, int]],
    manifests: Mapping[str, Manifest],
    seen: Seen,
) -> list[FunnelLine | Made]:
    own, reasons = counts[stage], manifests[stage].reasons
    facts = _facts(manifests, stage)

    def came_in(before: str, key: str, own_key: str) -> int:
        """As the stage before counted it, or this one where that is not complete."""
        return counts.get(before, {}).get(key, own.get(own_key, 0))

    def line(unit: str, came: int, passed: int, left: Mapping[str, int]) -> FunnelLine:
        return FunnelLine(stage=stage, unit=unit, came_in=came, passed=passed, left=dict(left))

    match stage:
        case "prompts":
            return [line("rows", own.get("read", 0), own.get("prompts", 0), reasons)]
        case "generate":
            asked, samples = own.get("prompts", 0), own.get("samples", 0)
            candidates = own.get("candidates", 0)
            same = {"IDENTICAL_ANSWER": samples - candidates} if samples > candidates else {}
            return [
                line("prompts", came_in("prompts", "prompts", "prompts"), asked, reasons),
                Made(stage=stage, given=f"{asked:,} prompts", made=f"{samples:,} samples"),
                line("samples", samples, candidates, same),
            ]
        case "rank":
            given = f"{came_in('generate', 'candidates', 'candidates'):,} candidates"
            return [Made(stage=stage, given=given, made=f"{own.get('judgements', 0):,} judgements")]
        case "label":
            came = came_in("generate", "prompts", "prompts")
            passed = came if seen.answered_prompts is None else seen.answered_prompts
            silent = {"NOBODY_ANSWERED": came - passed} if came > passed else {}
            gold = own.get("gold_judgements", 0)
            on_gold = f" and {gold:,} on gold questions" if gold else ""
            made = f"{own.get('judgements', 0):,} {_judgements(manifests)}{on_gold}"
            return [
                line("prompts", came, passed, silent),
                Made(stage=stage, given=f"{own.get('tasks', 0):,} records", made=made),
            ]
        case "aggregate" if ranks_by_votes(manifests[stage]):
            label = counts.get("label", {})
            came = own.get("judgements", 0)
            if label:
                came = label.get("judgements", 0) + label.get("gold_judgements", 0)
            counted, rankings = own["counted"], own.get("rankings", 0)
            answered = seen.answered_prompts
            if answered is None:
                answered = rankings + own.get("unranked", 0)
            unit = _judgements(manifests)
            return [
                line(unit, came, counted, facts.get("not_counted", {})),
                line("prompts", answered, rankings, reasons),
                Made(stage=stage, given=f"{counted:,} {unit}", made=f"{rankings:,} rankings"),
            ]
        case "aggregate":
            given = f"{came_in('rank', 'judgements', 'judgements'):,} judgements"
            return [Made(stage=stage, given=given, made=f"{own.get('rankings', 0):,} rankings")]
        case "pair":
            came = came_in("generate", "prompts", "prompts")
            paired = own.get("prompts", 0) - own.get("unpaired_prompts", 0)
            candidates = came_in("generate", "candidates", "candidates")
            unused = facts.get("unused", {})
            proposals = f"{own.get('proposals', 0):,} pairs"
            return [
                line("prompts", came, paired, reasons),
                line("candidates", candidates, own.get("used_candidates", 0), unused),
                Made(stage=stage, given=f"{paired:,} prompts", made=proposals),
            ]
        case "validate":
            passed = own.get("out", 0)
            split = f"{own.get('train', 0):,} to train on, {own.get('test', 0):,} held out"
            return [
                line("pairs", came_in("pair", "proposals", "in"), passed, reasons),
                Made(stage=stage, given=f"{passed:,} pairs", made=split),
            ]
        case "export":
            given = f"{came_in('validate', 'out', 'in'):,} pairs"
            made = ", ".join(f"{own[key]:,} rows in {key}" for key in sorted(own) if key != "in")
            return [Made(stage=stage, given=given, made=made)]
        case "sft" if "rows" in facts:
            rows = facts["rows"]
            kept = rows["trained"] + rows["held_out"]
            split = f"{rows['trained']:,} to train on, {rows['held_out']:,} held out"
            return [
                line("conversations", rows["read"], kept, facts.get("reasons", {})),
                Made(stage=stage, given=f"{kept:,} conversations", made=split),
            ]
        case "reward" if "pairs" in facts:
            came, long = came_in("validate", "train", "train"), facts.get("too_long_pairs", 0)
            return [line("pairs", came, facts["pairs"], {"TOO_LONG": long} if long else {})]
        case "dpo" if seen.trained_pairs is not None:
            came, trained = came_in("validate", "train", "train"), seen.trained_pairs
            skipped = came - trained
            return [line("pairs", came, trained, {"NOT_TRAINED_ON": skipped} if skipped else {})]
        case "grpo" | "ppo":
            came = came_in("prompts", "prompts", "prompts")
            asked = own.get("prompts", 0) if seen.sampled_prompts is None else seen.sampled_prompts
            unasked = max(0, own.get("prompts", 0) - asked)
            never = {"NOT_SAMPLED": unasked} if unasked else {}
            rollouts = own.get("rollouts", 0)
            judged = rollouts - own.get("abstained", 0)
            mute = {"NOT_JUDGED": rollouts - judged} if rollouts > judged else {}
            made = f"{rollouts:,} rollouts of {own.get('tokens', 0):,} tokens"
            return [
                line("prompts", came, asked, {**reasons, **never}),
                Made(stage=stage, given=f"{asked:,} prompts", made=made),
                line("rollouts", rollouts, judged, mute),
            ]
        case "evaluate":
            asked, refused = own.get("prompts", 0), own.get("quarantined", 0)
            return [line("held-out prompts", asked + refused, asked, reasons)]
    return []


def _facts(manifests: Mapping[str, Manifest], stage: str) -> dict[str, Any]:
    facts = manifests[stage].facts if stage in manifests else None
    return facts if isinstance(facts, dict) else {}


def _judgements(manifests: Mapping[str, Manifest]) -> str:
    """`judgements`, called simulated as far as scripts gave them."""
    facts = _facts(manifests, "label")
    people = {row["annotator"] for row in facts.get("annotators", ())}
    simulated = simulated_among(people, facts)
    if not simulated:
        return "judgements"
    return "simulated judgements" if simulated == people else "judgements (some simulated)"
