"""A policy before it trains: its precision, what it can be saved with, what it is merged of."""

import json
from pathlib import Path
from shutil import copytree
from typing import Any, Literal

import peft
import pytest
import torch
from transformers import AutoModelForCausalLM

from dpo.policy import bf16_by_default, load_start, merge
from schemas.configs import LoraConfig, ModelConfig

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("dtype", "on_gpu"), [("auto", True), ("bfloat16", True), ("float32", False)]
)
def test_a_gpu_trains_under_bf16_autocast_unless_float32_is_asked_for(
    dtype: Literal["auto", "float32", "bfloat16"], on_gpu: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = ModelConfig(path="model", dtype=dtype)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    assert bf16_by_default(model, GPU) == on_gpu
    assert not bf16_by_default(model, CPU)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    assert not bf16_by_default(model, GPU)


def _model(folder: Path, out: Path, **settings: Any) -> Path:
    """A copy of the model whose generation settings are these."""
    copied = Path(copytree(folder, out))
    (copied / "generation_config.json").write_text(json.dumps(settings))
    return copied


def test_settings_that_transformers_would_not_save_are_mended_before_training(
    tiny_model_folder: Path, tmp_path: Path
) -> None:
    folder = _model(tiny_model_folder, tmp_path / "model", temperature=0.9, do_sample=False)
    policy, _ = load_start(ModelConfig(path=str(folder)), None)
    policy.save_pretrained(tmp_path / "saved")
    saved = json.loads((tmp_path / "saved" / "generation_config.json").read_text())
    assert (saved["temperature"], saved["do_sample"]) == (0.9, True)


def test_settings_that_cannot_be_mended_are_refused_before_training(
    tiny_model_folder: Path, tmp_path: Path
) -> None:
    folder = _model(tiny_model_folder, tmp_path / "model", early_stopping=True)
    with pytest.raises(ValueError, match=r"generation_config.json of model .* mend it first"):
        load_start(ModelConfig(path=str(folder)), None)


@pytest.mark.parametrize(
    ("targets", "whole"),
    [("embed_tokens", None), ("lm_head", None), ("q_proj", "embed_tokens"), ("q_proj", "lm_head")],
)
def test_a_merge_gives_tied_weights_no_change_that_only_one_of_them_has(
    targets: str, whole: str | None, tiny_model_folder: Path, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    adapted = peft.get_peft_model(
        AutoModelForCausalLM.from_pretrained(tiny_model_folder),
        peft.LoraConfig(r=2, target_modules=[targets], modules_to_save=[whole] if whole else None),
    )
    for weight in adapted.parameters():
        if weight.requires_grad:
            weight.data += 0.1 * torch.randn_like(weight)
    ids = torch.tensor([[70, 80, 90, 100]])
    with torch.no_grad():
        before = adapted.eval()(ids).logits
        merge(adapted).save_pretrained(tmp_path / "merged")
        merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()
        torch.testing.assert_close(merged(ids).logits, before, atol=1e-5, rtol=0)


def test_an_adapter_of_another_kind_than_lora_is_merged_or_refused(
    tiny_model_folder: Path, tmp_path: Path
) -> None:
    base = AutoModelForCausalLM.from_pretrained(tiny_model_folder)
    other = peft.IA3Config(target_modules=["k_proj"], feedforward_modules=[])
    peft.get_peft_model(base, other).save_pretrained(tmp_path / "ia3")
    model = ModelConfig(path=str(tiny_model_folder), adapter=str(tmp_path / "ia3"))
    assert load_start(model, None)[1] is None
    with pytest.raises(ValueError, match="of the kind IA3; expected LoRA"):
        load_start(model, LoraConfig())
