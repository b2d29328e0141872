"""KL against a loop over rows and positions, and where it must be zero."""

import copy
import math
from typing import Any

import pytest
import torch

from curation.models import Policy
from dpo.kl import kl_per_token, not_comparable
from schemas.records import Message, Prompt


def prompt(text: str) -> Prompt:
    return Prompt(messages=(Message(role="user", content=text),))


@pytest.fixture(scope="module")
def moved(tiny_policy: Policy) -> Policy:
    """The tiny policy with other weights."""
    model: Any = copy.deepcopy(tiny_policy.model)
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return tiny_policy._replace(model=model, name="moved")


def answers_of(policy: Policy) -> list[tuple[Prompt, list[int]]]:
    """Answers of several lengths, one without a token."""
    texts = ["Hi", "What is the capital of France?", "Name a colour, please.", "a b c"]
    words = ["yes", "a much longer answer than the others have", "", "well then"]
    eos = min(policy.chat.eos_ids)
    return [
        (prompt(text), [*policy.tokenizer.encode(word), eos] if word else [])
        for text, word in zip(texts, words, strict=True)
    ]


def test_kl_equals_a_loop_over_positions_and_vocabulary(tiny_policy: Policy, moved: Policy) -> None:
    answers = answers_of(tiny_policy)
    expected: list[float | None] = []
    for asked, answer in answers:
        total = 0.0
        context = tiny_policy.chat.prompt_ids(asked)
        for token in answer:
            ids = torch.tensor([context])
            with torch.no_grad():
                p = moved.model(input_ids=ids).logits[0, -1].double().softmax(-1).tolist()
                q = tiny_policy.model(input_ids=ids).logits[0, -1].double().softmax(-1).tolist()
            total += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
            context = [*context, token]
        expected.append(total / len(answer) if answer else None)
    found = kl_per_token(moved, tiny_policy, answers)
    assert found == [
        None if value is None else pytest.approx(value, rel=1e-3, abs=1e-6) for value in expected
    ]
    assert max(value or 0.0 for value in found) > 1e-3


def test_kl_does_not_depend_on_the_batch(
    tiny_policy: Policy, moved: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = answers_of(tiny_policy)
    together = kl_per_token(moved, tiny_policy, answers)
    alone = [kl_per_token(moved, tiny_policy, [answer])[0] for answer in answers]
    monkeypatch.setattr("dpo.kl._LOGITS_A_BATCH", 1)
    split = kl_per_token(moved, tiny_policy, answers)
    for values in (alone, split):
        assert values == [
            None if value is None else pytest.approx(value, rel=1e-4) for value in together
        ]


def test_a_policy_has_no_kl_to_its_own_copy(tiny_policy: Policy) -> None:
    same = tiny_policy._replace(model=copy.deepcopy(tiny_policy.model))
    found = kl_per_token(same, tiny_policy, answers_of(tiny_policy))
    assert found == [
        pytest.approx(0.0, abs=1e-6),
        pytest.approx(0.0, abs=1e-6),
        None,
        pytest.approx(0.0, abs=1e-6),
    ]


def test_the_base_of_an_adapter_is_the_model_with_the_adapter_off(tiny_policy: Policy) -> None:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    adapted: Any = get_peft_model(
        copy.deepcopy(tiny_policy.model),
        LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False),
    ).eval()
    policy = tiny_policy._replace(model=adapted)
    answers = answers_of(tiny_policy)
    found = kl_per_token(policy, policy, answers)
    expected = kl_per_token(policy, tiny_policy, answers)
    assert found == [None if v is None else pytest.approx(v, rel=1e-4) for v in expected]
    assert (found[0] or 0.0) > 1e-4


def test_one_model_without_an_adapter_has_no_base(tiny_policy: Policy) -> None:
    with pytest.raises(ValueError, match="load the base apart"):
        kl_per_token(tiny_policy, tiny_policy, answers_of(tiny_policy))


def test_logits_that_are_not_finite_are_an_error(tiny_policy: Policy) -> None:
    broken: Any = copy.deepcopy(tiny_policy.model)
    with torch.no_grad():
        next(broken.parameters()).fill_(math.nan)
    with pytest.raises(ValueError, match="not finite"):
        kl_per_token(tiny_policy._replace(model=broken), tiny_policy, answers_of(tiny_policy))


def test_policies_of_one_vocabulary_are_comparable(tiny_policy: Policy, moved: Policy) -> None:
    assert not_comparable(moved, tiny_policy) is None


def test_policies_of_two_vocabularies_are_not_comparable(tiny_policy: Policy) -> None:
    other = copy.deepcopy(tiny_policy.tokenizer)
    other.add_tokens(["<another>"])
    assert "vocabularies" in (
        not_comparable(tiny_policy._replace(tokenizer=other), tiny_policy) or ""
    )
