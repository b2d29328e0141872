"""The way from two policies to records: same settings, samples joined to their prompts."""

import copy
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pytest
import torch

from curation.models import Policy
from curation.rewards.weighted import WeightedSum
from dpo.evaluate import compare, evaluate, sample
from schemas.configs import EvaluateConfig
from schemas.records import Candidate, Completion, Message, Origin, Prompt

CONFIG = EvaluateConfig(n=3, batch_size=4, max_new_tokens=6, resamples=200)


def brief(prompts: Sequence[Prompt], completions: Sequence[Completion]) -> list[float | None]:
    return [1 / (1 + len(completion.text)) for completion in completions]


def says_yes(prompts: Sequence[Prompt], completions: Sequence[Completion]) -> list[float | None]:
    """Abstains on answers that do not say yes."""
    return [1.0 if "yes" in completion.text else None for completion in completions]


BREVITY = WeightedSum([(brief, 1.0, "brief"), (says_yes, 1.0, "yes")])


class Scripted:
    """A generator that gives written answers, prompts in reverse order."""

    def __init__(self, answers: dict[str, dict[str, int]]) -> None:
        self._answers = answers

    def generate(
        self, prompts: Iterable[Prompt], *, n: int
    ) -> Iterator[tuple[Prompt, list[Candidate]]]:
        for prompt in reversed(list(prompts)):
            texts = self._answers.get(prompt.messages[0].content or "", {})
            yield (
                prompt,
                [
                    Candidate(
                        prompt_id=prompt.id,
                        completion=Completion.from_text(text, token_ids=tuple(map(ord, text))),
                        origin=Origin(generator="scripted", index=index),
                        count=count,
                    )
                    for index, (text, count) in enumerate(texts.items())
                ],
            )


def prompt(text: str) -> Prompt:
    return Prompt(messages=(Message(role="user", content=text),))


FIRST, SECOND = prompt("first"), prompt("second")


def test_answers_are_joined_to_their_prompts_with_scores_and_lengths() -> None:
    base = sample(
        Scripted({"first": {"no": 2}, "second": {"nope": 1, "yes": 1}}), [FIRST, SECOND], n=2
    )
    policy = sample(Scripted({"first": {"yes": 2}, "second": {"y": 2}}), [FIRST, SECOND], n=2)
    kl = {policy[FIRST.id][0].id: 0.5}
    first, second = compare([FIRST, SECOND], base, policy, BREVITY, kl)
    assert (first.prompt, second.prompt) == (FIRST, SECOND)
    assert [item.candidate.completion.text for item in second.base] == ["nope", "yes"]
    assert [item.reward for item in second.base] == [0.4, 1.25]
    assert second.base[1].components == {"brief": 0.25, "yes": 1.0}
    assert second.base[0].components == {"brief": 0.2, "yes": None}
    assert [item.tokens for item in second.base] == [4, 3]
    assert (first.policy[0].kl, first.base[0].kl, second.policy[0].kl) == (0.5, None, None)
    assert first.policy[0].candidate.count == 2
    assert first.gain == pytest.approx(1.25 - 2 / 3)


def test_a_prompt_without_an_answer_is_an_error() -> None:
    with pytest.raises(ValueError, match="1 of 2 held-out prompts got no answer"):
        sample(Scripted({"first": {"yes": 2}}), [FIRST, SECOND], n=2)


def test_an_answer_without_token_ids_is_an_error() -> None:
    bare = Candidate(
        prompt_id=FIRST.id,
        completion=Completion.from_text("yes"),
        origin=Origin(generator="import:x"),
    )
    with pytest.raises(ValueError, match="no token ids"):
        compare([FIRST], {FIRST.id: [bare]}, {FIRST.id: [bare]}, BREVITY, {})


def test_no_prompt_is_an_error(tiny_policy: Policy) -> None:
    with pytest.raises(ValueError, match="no held-out prompt"):
        evaluate([], tiny_policy, tiny_policy, BREVITY, CONFIG, seed=0)


@pytest.fixture(scope="module")
def copied(tiny_policy: Policy) -> Policy:
    return tiny_policy._replace(model=copy.deepcopy(tiny_policy.model))


def test_a_policy_against_its_copy_gives_the_same_answers_and_no_gain(
    tiny_policy: Policy, copied: Policy
) -> None:
    ticks: list[tuple[int, int]] = []
    found = evaluate(
        [FIRST, SECOND, FIRST],
        tiny_policy,
        copied,
        BREVITY,
        CONFIG,
        seed=3,
        train_prompts=[prompt(" FIRST")],
        progress=lambda done, total: ticks.append((done, total)),
    )
    assert [record.prompt for record in found.records] == [FIRST, SECOND]
    for record in found.records:
        assert [item.candidate.id for item in record.base] == [
            item.candidate.id for item in record.policy
        ]
        assert sum(item.candidate.count for item in record.base) == 3
    assert ticks == [(1, 4), (2, 4), (3, 4), (4, 4)]
    summary = found.summary
    assert summary.reward_gain.mean == 0
    assert summary.win_rate.mean is not None
    assert summary.kl_per_token.mean == pytest.approx(0.0, abs=1e-6)
    assert summary.length.change.mean == 0
    assert summary.leaks is not None
    assert summary.leaks.prompt_ids == (FIRST.id,)
    assert (summary.seed, summary.n) == (3, 3)
    assert summary.sampling["max_new_tokens"] == 6


def test_an_evaluation_repeats_itself_and_follows_its_seed(
    tiny_policy: Policy, copied: Policy
) -> None:
    def texts(seed: int) -> list[str]:
        records = evaluate([FIRST], tiny_policy, copied, BREVITY, CONFIG, seed=seed).records
        return [item.candidate.id for record in records for item in record.policy]

    assert texts(1) == texts(1)
    assert texts(1) != texts(2)


def test_base_may_be_the_policys_own_model_with_its_adapter_off(
    tiny_policy: Policy, copied: Policy
) -> None:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    adapted: Any = get_peft_model(
        copy.deepcopy(tiny_policy.model),
        LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False),
    ).eval()
    policy = tiny_policy._replace(model=adapted, weights="adapted")
    base = tiny_policy._replace(model=adapted)
    found = evaluate([FIRST, SECOND], base, policy, BREVITY, CONFIG, seed=0)
    apart = evaluate([FIRST, SECOND], copied, policy, BREVITY, CONFIG, seed=0)
    for one, other in zip(found.records, apart.records, strict=True):
        assert [item.candidate for item in one.base] == [item.candidate for item in other.base]
    assert found.summary.kl_per_token.mean == pytest.approx(
        apart.summary.kl_per_token.mean, rel=1e-4
    )
    assert (found.summary.kl_per_token.mean or 0) > 0


def test_kl_to_an_origin_is_measured_beside_that_to_the_base(
    tiny_policy: Policy, copied: Policy
) -> None:
    moved = tiny_policy._replace(model=copy.deepcopy(tiny_policy.model), weights="moved")
    moved.model.get_output_embeddings().weight.data *= 1.5
    origin = moved._replace(weights="origin")
    found = evaluate([FIRST], copied, tiny_policy, BREVITY, CONFIG, seed=0, origin=origin)
    from_origin = evaluate([FIRST], origin, tiny_policy, BREVITY, CONFIG, seed=0)
    assert found.summary.kl_per_token.mean == pytest.approx(0.0, abs=1e-6)
    assert found.summary.kl_to_origin is not None
    assert found.summary.kl_to_origin.mean == from_origin.summary.kl_per_token.mean
    assert found.summary.kl_to_origin.mean
    assert "KL(policy || origin)" in found.summary.kl_to_origin.estimator
    assert from_origin.summary.kl_to_origin is None
    (record,) = found.records
    assert all(item.kl_to_origin is None for item in record.base)


def test_answers_that_the_base_is_known_to_give_are_not_sampled_again(
    tiny_policy: Policy, copied: Policy
) -> None:
    ticks: list[tuple[int, int]] = []
    whole = evaluate([FIRST, SECOND], copied, tiny_policy, BREVITY, CONFIG, seed=0)
    known = {record.prompt.id: [item.candidate for item in record.base] for record in whole.records}
    again = evaluate(
        [FIRST, SECOND],
        copied,
        tiny_policy,
        BREVITY,
        CONFIG,
        seed=0,
        base_answers=known,
        progress=lambda done, total: ticks.append((done, total)),
    )
    assert again.records == whole.records
    assert ticks == [(1, 2), (2, 2)]
