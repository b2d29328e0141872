"""Which two models an evaluation compares."""

from pathlib import Path

import peft
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PhiConfig, PhiForCausalLM

from curation.models import load_policy
from dpo.kl import base_weights
from pairwright.plan import Plan
from pairwright.stages.training import load_policies
from schemas.configs import Config, ModelConfig
from schemas.run_folder import RunFolder


@pytest.mark.parametrize("bias", ["none", "all"])
def test_the_base_of_an_adapter_with_biases_is_the_model_without_them(
    bias: str, tiny_model_folder: Path, tmp_path: Path
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_folder)
    config = PhiConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    torch.manual_seed(0)
    PhiForCausalLM(config).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    adapted = peft.get_peft_model(
        AutoModelForCausalLM.from_pretrained(tmp_path / "model"),
        peft.LoraConfig(r=2, target_modules="all-linear", bias=bias, init_lora_weights=False),
    )
    for name, weight in adapted.named_parameters():
        if name.endswith("bias") and weight.requires_grad:
            weight.data += 0.5
    adapted.save_pretrained(tmp_path / "adapter")
    run = Config.model_validate(
        {
            "run": str(tmp_path / "run"),
            "model": {"path": str(tmp_path / "model"), "device": "cpu"},
            "prompts": [{"path": "prompts.jsonl"}],
            "evaluate": {"policy": str(tmp_path / "adapter")},
        }
    )
    base, policy = load_policies(Plan(run, RunFolder(run.run)))
    alone = load_policy(ModelConfig(path=str(tmp_path / "model"), device="cpu"))
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad(), base_weights(policy, base):
        torch.testing.assert_close(base.model(ids).logits, alone.model(ids).logits)
    assert (base.model is policy.model) == (bias == "none")
