"""Two policies on the same held-out prompts, with the same decoding settings and seeds.

`evaluate` samples, scores and measures. What comes back is one record a prompt, and the summary
that `dpo.summary` draws from the records alone.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from dpo.kl import base_weights, kl_per_token, not_comparable
from dpo.summary import EvaluationRecord, EvaluationSummary, Sample, summarise
from schemas.configs import EvaluateConfig
from schemas.interfaces import Generator
from schemas.records import Candidate, Prompt

if TYPE_CHECKING:
    from curation.models import Policy
    from curation.rewards.weighted import WeightedSum

Progress = Callable[[int, int], None]
"""Told how many prompts have been answered, of how many; each counts once a side."""


class Evaluation(NamedTuple):
    records: list[EvaluationRecord]
    summary: EvaluationSummary


def evaluate(
    prompts: Iterable[Prompt],
    base: "Policy",
    policy: "Policy",
    reward: "WeightedSum",
    config: EvaluateConfig,
    *,
    seed: int,
    train_prompts: Iterable[Prompt] | None = None,
    origin: "Policy | None" = None,
    base_answers: "Answers | None" = None,
    progress: Progress | None = None,
) -> Evaluation:
    """What base and policy answer to the prompts, and how the answers compare.

    `base` and `origin` may hold the policy's own model object if that carries an adapter: they are
    then the model with its adapter off. `train_prompts` are looked for among the held-out ones. To
    `origin` the policy's KL is measured too. `base_answers` are what the base is known to answer
    to these prompts with these settings and this seed; by default it is asked.

    Raises:
        ValueError: there is no prompt, or a model cannot answer one.
    """
    from curation.generators import TransformersGenerator

    before, after = (
        TransformersGenerator(side, config, batch_size=config.batch_size, seed=seed)
        for side in (base, policy)
    )
    distinct = list({prompt.id: prompt for prompt in prompts}.values())
    if not distinct:
        raise ValueError("there is no held-out prompt to evaluate on; give evaluate.prompts")
    answered = _counter(progress, (2 if base_answers is None else 1) * len(distinct))
    if base_answers is None:
        with base_weights(policy, base):
            base_answers = sample(before, distinct, n=config.n, answered=answered)
    policy_answers = sample(after, distinct, n=config.n, answered=answered)
    no_kl = not_comparable(policy, base)
    kl = {} if no_kl else _kl(policy, base, distinct, policy_answers)
    no_kl_to_origin, kl_to_origin = None, {}
    if origin is not None:
        no_kl_to_origin = not_comparable(policy, origin)
        kl_to_origin = {} if no_kl_to_origin else _kl(policy, origin, distinct, policy_answers)
    records = compare(distinct, base_answers, policy_answers, reward, kl, kl_to_origin)
    summary = summarise(
        records,
        config,
        seed=seed,
        train_prompts=train_prompts,
        no_kl=no_kl,
        has_origin=origin is not None,
        no_kl_to_origin=no_kl_to_origin,
    )
    return Evaluation(records, summary)


Answers = dict[str, list[Candidate]]
"""Candidates by the id of their prompt."""


def sample(
    generator: Generator,
    prompts: Sequence[Prompt],
    *,
    n: int,
    answered: Callable[[], None] = lambda: None,
) -> Answers:
    """n samples a prompt.

    Raises:
        ValueError: the generator leaves a prompt without an answer.
    """
    answers: Answers = {}
    for prompt, candidates in generator.generate(prompts, n=n):
        answers[prompt.id] = candidates
        answered()
    missing = [prompt.id for prompt in prompts if not answers.get(prompt.id)]
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(prompts)} held-out prompts got no answer, '{missing[0]}' "
            "first; expected at least one each"
        )
    return answers


def compare(
    prompts: Sequence[Prompt],
    base_answers: Answers,
    policy_answers: Answers,
    reward: "WeightedSum",
    kl: Mapping[str, float | None],
    kl_to_origin: Mapping[str, float | None] = {},
) -> list[EvaluationRecord]:
    """One record a prompt, in the order of the prompts; KL goes by candidate id."""
    base = _scored(prompts, base_answers, reward, {}, {})
    policy = _scored(prompts, policy_answers, reward, kl, kl_to_origin)
    return [
        EvaluationRecord(prompt=prompt, base=base[prompt.id], policy=policy[prompt.id])
        for prompt in prompts
    ]


def _scored(
    prompts: Sequence[Prompt],
    answers: Answers,
    reward: "WeightedSum",
    kl: Mapping[str, float | None],
    kl_to_origin: Mapping[str, float | None],
) -> dict[str, tuple[Sample, ...]]:
    flat = [(prompt, candidate) for prompt in prompts for candidate in answers[prompt.id]]
    components = reward.components(
        [prompt for prompt, _ in flat], [candidate.completion for _, candidate in flat]
    )
    totals = reward.combine(components)
    scored: dict[str, list[Sample]] = {prompt.id: [] for prompt in prompts}
    for row, (prompt, candidate) in enumerate(flat):
        scored[prompt.id].append(
            Sample(
                candidate=candidate,
                reward=totals[row],
                components={name: scores[row] for name, scores in components.items()},
                tokens=len(_token_ids(candidate)),
                kl=kl.get(candidate.id),
                kl_to_origin=kl_to_origin.get(candidate.id),
            )
        )
    return {prompt_id: tuple(samples) for prompt_id, samples in scored.items()}


def _kl(
    policy: "Policy", base: "Policy", prompts: Sequence[Prompt], answers: Answers
) -> dict[str, float | None]:
    flat = [(prompt, candidate) for prompt in prompts for candidate in answers[prompt.id]]
    values = kl_per_token(
        policy, base, [(prompt, _token_ids(candidate)) for prompt, candidate in flat]
    )
    return {candidate.id: value for (_, candidate), value in zip(flat, values, strict=True)}


def _token_ids(candidate: Candidate) -> tuple[int, ...]:
    if candidate.completion.token_ids is None:
        raise ValueError(
            f"candidate '{candidate.id}' has no token ids; an evaluation measures lengths and KL "
            "on the tokens that were sampled"
        )
    return candidate.completion.token_ids


def _counter(progress: Progress | None, total: int) -> Callable[[], None]:
    done = 0

    def answered() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total)

    return answered
