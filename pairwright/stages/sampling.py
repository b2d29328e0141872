"""The first two stages: prompts, and the candidates that the SFT model answers with."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc

from pairwright.progress import Progress
from pairwright.stages.asked import asking, forget_answers, usage_of
from pairwright.stages.pipeline import Road
from pairwright.stages.sources import RefusedPrompt, Source, askable, fitting, open_source
from pairwright.stored import columns, row_count
from schemas.arrow import to_table
from schemas.records import Candidate, Prompt, content_hash
from schemas.run_folder import Manifest, Stage

__all__ = ["RefusedPrompt", "askable", "check_judged", "fitting", "make_candidates", "make_prompts"]

if TYPE_CHECKING:
    from curation.endpoint_generator import Unanswered
    from curation.prompts import LoadedPrompts
    from curation.rewards.weighted import WeightedSum

PROMPTS_A_PART = 5_000
_SHOWN_ROWS = 3


def make_prompts(road: Road) -> Manifest:
    """Prompts: loaded, normalised, without duplicates."""
    from curation.prompts import QuarantinedRow, load_prompts

    loaded = load_prompts(road.plan.config.prompts)
    for line in _told_about(loaded):
        road.progress.line(f"prompts: {line}")
    forgotten = road.plan.annotations.forgotten("prompt")
    known = [prompt for prompt in loaded.prompts if content_hash(prompt.id) not in forgotten]
    prompts = known[: road.plan.limit]
    parts = max(1, -(-len(prompts) // PROMPTS_A_PART))
    writer = road.begin("prompts", parts=parts)
    for index in writer.missing():
        chosen = prompts[index * PROMPTS_A_PART : (index + 1) * PROMPTS_A_PART]
        quarantined = loaded.quarantined if index == 0 else []
        writer.commit(
            index, to_table(chosen, Prompt), quarantine=to_table(quarantined, QuarantinedRow)
        )
    reasons = dict(loaded.reasons)
    if len(known) < len(loaded.prompts):
        reasons["FORGOTTEN"] = len(loaded.prompts) - len(known)
    if len(prompts) < len(known):
        reasons["OVER_LIMIT"] = len(known) - len(prompts)
    counts = {**loaded.counts, "prompts": len(prompts), "quarantined": len(loaded.quarantined)}
    return writer.finish(counts=counts, reasons=reasons)


def make_candidates(road: Road) -> Manifest | None:
    """Candidates sampled from the SFT model; None while other shards still have parts to make."""
    from curation.endpoint_generator import EndpointGenerator, Unanswered
    from curation.rewards.weighted import build_reward

    config, stage = road.plan.config, road.run.stage("generate")
    stored = list(road.run.stage("prompts").read(Prompt))
    if config.rank is not None and config.rank.rewards:
        check_judged(build_reward(config.rank.rewards), stored, road.progress)
    source = open_source(road.plan, stored)
    generator, n, size = source.generator, config.generate.n, config.generate.batches_a_part
    batches = generator.plan(source.prompts, n=n)
    parts = [batches[start : start + size] for start in range(0, len(batches), size)]
    with road.alone():
        writer = road.begin("generate", parts=len(parts), facts=source.facts)
        begun = stage.manifest()
    missing = writer.missing(road.shard)
    total = sum(len(batch) for index in missing for batch in parts[index])
    servers = [generator] if isinstance(generator, EndpointGenerator) else []
    with (
        asking(servers, stage, road.shard) as meter,
        road.progress.task("generate", "prompts", total) as task,
    ):
        for index in missing:
            candidates: list[Candidate] = []
            prompts = [prompt for batch in parts[index] for prompt in batch]
            for _, answers in generator.generate(prompts, n=n):
                candidates.extend(answers)
                task.advance(1)
            now = stage.manifest()
            if begun is None or now is None or now.fingerprint != begun.fingerprint:
                raise ValueError(
                    f"another process began 'generate' of run '{road.run.path}' again with another "
                    "config; all shards of a run need the same"
                )
            unanswered = [item for server in servers for item in server.take_unanswered()]
            refused = source.refused if index == 0 else []
            writer.commit(
                index,
                to_table(candidates, Candidate),
                quarantine=to_table([*refused, *_silent(unanswered, candidates)], RefusedPrompt),
                **({"unanswered": to_table(unanswered, Unanswered)} if servers else {}),
                **meter.table(),
            )
    with road.alone():
        if writer.missing():
            return None
        forget_answers(stage)
        return writer.finish(**_found(road, stage, len(stored)), facts=_facts(source, stage))


def _silent(
    unanswered: Sequence["Unanswered"], candidates: Sequence[Candidate]
) -> list[RefusedPrompt]:
    """The prompts of which the server answered no sample at all."""
    answered = {candidate.prompt_id for candidate in candidates}
    first = {item.prompt_id: item for item in reversed(unanswered)}
    return [
        RefusedPrompt(prompt_id=key, code=item.code, message=item.message)
        for key, item in first.items()
        if key not in answered
    ]


def _found(road: Road, stage: Stage, stored: int) -> dict[str, Any]:
    """The counts that the committed files give, and the reasons of prompts that are not in them.

    Raises:
        ValueError: a server answered no prompt.
    """
    table = columns(stage, ["prompt_id", "count", "completion.finish_reason"])
    refused = columns(stage, ["code", "message"], "quarantine").to_pylist()
    if stored and refused and not table.num_rows:
        raise ValueError(
            f"none of {stored} prompts has an answer, {refused[0]['code']}: {refused[0]['message']}"
        )
    finish = pc.struct_field(table["completion"], "finish_reason").to_pylist()
    counts = {
        "prompts": stored - len(refused),
        "quarantined": len(refused),
        "samples": sum(table["count"].to_pylist()),
        "candidates": table.num_rows,
        "truncated": finish.count("length"),
    }
    if stage.files("unanswered"):
        counts["unanswered"] = row_count(stage, "unanswered")
    config = road.plan.config.generate
    alike = counts["candidates"] == counts["prompts"] > 1 and min(table["count"].to_pylist()) > 1
    if alike and config.endpoint is not None and config.temperature > 0:
        road.progress.line(
            f"generate: all {config.n} samples of each prompt are the same; the server seems to "
            "ignore the temperature (generate.endpoint.extra holds keys that only it takes)"
        )
    return {"counts": counts, "reasons": Counter(row["code"] for row in refused)}


def _facts(source: Source, stage: Stage) -> dict[str, Any]:
    """What was known of the source at first, and what asking it came to."""
    usage = usage_of(stage)
    if usage is None:
        return source.facts
    codes = Counter(columns(stage, ["code"], "unanswered")["code"].to_pylist())
    return {**source.facts, "usage": usage, "unanswered": dict(sorted(codes.items()))}


def _told_about(loaded: "LoadedPrompts") -> Iterator[str]:
    """What each source gave, and the first rows that gave no prompt."""
    sources = [key.removesuffix(": read") for key in loaded.counts if key.endswith(": read")]
    for source in sources:
        read, kept = (loaded.counts[f"{source}: {what}"] for what in ("read", "kept"))
        others = loaded.counts.get(f"{source}: other tags")
        passed_over = f", passed over {others} without a tag of only_tags" if others else ""
        yield f"{source}: read {read}, kept {kept}{passed_over}"
    for row in loaded.quarantined[:_SHOWN_ROWS]:
        yield f"{row.source}, {row.row_id} is quarantined, {row.code}: {row.message}"
    if len(loaded.quarantined) > _SHOWN_ROWS:
        yield f"and {len(loaded.quarantined) - _SHOWN_ROWS} more are quarantined"


def check_judged(reward: "WeightedSum", prompts: Sequence[Prompt], progress: Progress) -> None:
    """Return if the reward can judge answers to the prompts, and tell where it must abstain.

    Raises:
        ValueError: it can judge none, or what a prompt says about a right answer is of no use.
    """
    unread = reward.check(prompts)
    if unread:
        progress.line(
            f"reward '{reward.name}' will abstain on {len(unread)} of {len(prompts)} prompts, "
            f"which a reward model's template does not render: {unread[0]}"
        )
    mute = sum(not reward.judges(prompt) for prompt in prompts)
    if mute and mute == len(prompts):
        raise ValueError(
            f"reward '{reward.name}' abstains on all {mute} prompts, as none of them holds what it "
            "compares answers with; expected `answer`, or `instructions`, in the prompts' rows"
        )
    if mute:
        progress.line(
            f"reward '{reward.name}' will abstain on {mute} of {len(prompts)} prompts, which hold "
            "nothing that it compares answers with"
        )
