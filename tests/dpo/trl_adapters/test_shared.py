"""What the trainers share: that TRL's own head says what the model says."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import RecurrentGemmaConfig, RecurrentGemmaForCausalLM
from trl.trainer.utils import add_fused_lm_head

from dpo.trl_adapters.shared import check_head

IDS = range(3, 20)


@pytest.fixture(scope="module")
def model() -> Any:
    """A model that caps its logits at 1: TRL's log-probs of it are 0.08 off."""
    config = RecurrentGemmaConfig(
        num_hidden_layers=1,
        hidden_size=32,
        intermediate_size=96,
        num_attention_heads=2,
        lru_width=32,
        logits_soft_cap=1.0,
        vocab_size=64,
    )
    torch.manual_seed(0)
    made = RecurrentGemmaForCausalLM(config)
    add_fused_lm_head(made)
    return made


def arguments(**given: bool) -> Any:
    return SimpleNamespace(**{"tf32": None, "torch_compile": False, **given})


def test_a_head_that_is_a_little_off_is_refused_where_float32_is_exact(model: Any) -> None:
    with pytest.raises(ValueError, match=r"HEAD_DIFFERS: a log-prob as TRL computes it is 0\.08"):
        check_head(model, IDS, arguments())


@pytest.mark.parametrize("key", ["tf32", "torch_compile"])
def test_tf32_is_given_the_room_that_its_ten_bits_need(model: Any, key: str) -> None:
    check_head(model, IDS, arguments(**{key: True}))
