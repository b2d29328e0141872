"""The first two stages: prompts, and the candidates that the SFT model answers with."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import pyarrow.compute as pc

from pairwright.pipeline import Road
from pairwright.progress import Progress
from pairwright.stored import columns
from schemas.arrow import to_table
from schemas.records import Candidate, Prompt, Record, content_hash
from schemas.run_folder import Manifest

if TYPE_CHECKING:
    from curation.models import Policy
    from curation.prompts import LoadedPrompts
    from curation.rewards.weighted import WeightedSum

PROMPTS_A_PART = 5_000
_SHOWN_ROWS = 3


class RefusedPrompt(Record):
    """A prompt that the model cannot be asked, or a row of held-out prompts that is none."""

    prompt_id: str
    """Of a row that is no prompt: its source and number."""
    code: str
    message: str


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
    from curation.generators import TransformersGenerator
    from curation.models import load_policy
    from curation.rewards.weighted import build_reward

    config, stage = road.plan.config, road.run.stage("generate")
    stored = list(road.run.stage("prompts").read(Prompt))
    if config.rank is not None:
        check_judged(build_reward(config.rank.rewards), stored, road.progress)
    policy = load_policy(config.model)
    prompts, refused = askable(stored, policy, config.generate.max_new_tokens)
    generator = TransformersGenerator(
        policy, config.generate, batch_size=config.generate.batch_size, seed=config.seed
    )
    n, size = config.generate.n, config.generate.batches_a_part
    batches = generator.plan(prompts, n=n)
    parts = [batches[start : start + size] for start in range(0, len(batches), size)]
    facts = {
        "template": policy.chat.report().model_dump(mode="json"),
        "weights": policy.weights,
        "model": policy.name,
        "sampling": config.generate.model_dump(mode="json"),
    }
    with road.alone():
        writer = road.begin("generate", parts=len(parts), facts=facts)
        begun = stage.manifest()
    missing = writer.missing(road.shard)
    total = sum(len(batch) for index in missing for batch in parts[index])
    with road.progress.task("generate", "prompts", total) as task:
        for index in missing:
            candidates: list[Candidate] = []
            for batch in parts[index]:
                for _, answers in generator.generate(batch, n=n):
                    candidates.extend(answers)
                task.advance(len(batch))
            now = stage.manifest()
            if begun is None or now is None or now.fingerprint != begun.fingerprint:
                raise ValueError(
                    f"another process began 'generate' of run '{road.run.path}' again with another "
                    "config; all shards of a run need the same"
                )
            writer.commit(
                index,
                to_table(candidates, Candidate),
                quarantine=to_table(refused if index == 0 else [], RefusedPrompt),
            )
    with road.alone():
        if writer.missing():
            return None
        table = columns(stage, ["count", "completion.finish_reason"])
        finish = pc.struct_field(table["completion"], "finish_reason").to_pylist()
        counts = {
            "prompts": len(prompts),
            "quarantined": len(refused),
            "samples": sum(table["count"].to_pylist()),
            "candidates": table.num_rows,
            "truncated": finish.count("length"),
        }
        return writer.finish(counts=counts, reasons=Counter(item.code for item in refused))


def askable(
    prompts: Iterable[Prompt], policy: "Policy", max_new_tokens: int
) -> tuple[list[Prompt], list[RefusedPrompt]]:
    """The prompts that the template renders and that leave the model room to answer, and the rest.

    Raises:
        ValueError: none is left.
    """
    from curation.chat import TemplateError

    positions = getattr(policy.model.config, "max_position_embeddings", None)
    kept: list[Prompt] = []
    refused: list[RefusedPrompt] = []
    for prompt in prompts:
        try:
            tokens = len(policy.chat.prompt_ids(prompt))
        except TemplateError as error:
            refused.append(RefusedPrompt(prompt_id=prompt.id, code=error.code, message=str(error)))
            continue
        if positions is not None and tokens + max_new_tokens > positions:
            message = (
                f"the prompt has {tokens} tokens; with {max_new_tokens} of the answer it goes "
                f"beyond the model's {positions} positions"
            )
            refused.append(
                RefusedPrompt(prompt_id=prompt.id, code="PROMPT_TOO_LONG", message=message)
            )
        else:
            kept.append(prompt)
    if refused and not kept:
        raise ValueError(
            f"the model can be asked none of {len(refused)} prompts; the first: "
            f"{refused[0].message}"
        )
    return kept, refused


def _told_about(loaded: "LoadedPrompts") -> Iterator[str]:
    """What each source gave, and the first rows that gave no prompt."""
    sources = [key.removesuffix(": read") for key in loaded.counts if key.endswith(": read")]
    for source in sources:
        read, kept = (loaded.counts[f"{source}: {what}"] for what in ("read", "kept"))
        yield f"{source}: read {read}, kept {kept}"
    for row in loaded.quarantined[:_SHOWN_ROWS]:
        yield f"{row.source}, {row.row_id} is quarantined, {row.code}: {row.message}"
    if len(loaded.quarantined) > _SHOWN_ROWS:
        yield f"and {len(loaded.quarantined) - _SHOWN_ROWS} more are quarantined"


def check_judged(reward: "WeightedSum", prompts: Sequence[Prompt], progress: Progress) -> None:
    """Return if the reward can judge answers to the prompts, and tell where it must abstain.

    Raises:
        ValueError: it can judge none, or what a prompt says about a right answer is of no use.
    """
    from curation.chat import TemplateError

    unread: list[TemplateError] = []
    for prompt in prompts:
        try:
            reward.check([prompt])
        except TemplateError as error:
            unread.append(error)
    if unread and len(unread) == len(prompts):
        raise unread[0]
    if unread:
        progress.line(
            f"reward '{reward.name}' will abstain on {len(unread)} of {len(prompts)} prompts, "
            f"which a reward model's template does not render: {unread[0]}"
        )
