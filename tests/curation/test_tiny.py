from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from curation.models import Policy, load_policy, weights_hash
from curation.tiny import build_tiny_model, build_tiny_reward_model
from schemas.configs import ModelConfig


def hash_of(folder: Path) -> str:
    return weights_hash(ModelConfig(path=str(folder)))


def test_one_seed_gives_one_model_and_another_seed_another(
    tiny_model_folder: Path, tmp_path: Path
) -> None:
    again = build_tiny_model(tmp_path / "again", seed=0)
    other = build_tiny_model(tmp_path / "other", seed=1)
    assert hash_of(again) == hash_of(tiny_model_folder)
    assert hash_of(other) != hash_of(tiny_model_folder)


def test_building_leaves_the_callers_random_numbers_alone(tmp_path: Path) -> None:
    import torch

    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    build_tiny_model(tmp_path / "model")
    assert torch.equal(torch.rand(1), expected)


def test_it_is_a_small_model_whose_pad_token_does_not_end_an_answer(tiny_policy: Policy) -> None:
    weights = sum(weight.numel() for weight in tiny_policy.model.parameters())
    assert 50_000 < weights < 200_000
    assert tiny_policy.tokenizer.pad_token_id not in tiny_policy.chat.eos_ids
    assert tiny_policy.chat.report().warnings == ()


@settings(deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"])))
def test_every_text_survives_its_tokenizer(tiny_policy: Policy, text: str) -> None:
    tokenizer = tiny_policy.tokenizer
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids, skip_special_tokens=False) == text


def test_a_template_of_ones_own_is_saved_with_it(tmp_path: Path) -> None:
    template = "{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}"
    folder = build_tiny_model(tmp_path / "model", template=template)
    policy = load_policy(ModelConfig(path=str(folder), device="cpu"))
    assert policy.tokenizer.chat_template == template


@pytest.mark.filterwarnings("ignore")
def test_the_reward_model_has_one_label_and_a_vocabulary_of_its_own(
    tiny_policy: Policy, tmp_path: Path
) -> None:
    folder = build_tiny_reward_model(tmp_path / "reward")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    assert model.config.num_labels == 1
    assert tokenizer.get_vocab() != tiny_policy.tokenizer.get_vocab()
    text = tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False)
    assert text == "[user] hi[end]"
