"""What precision the model's config asks training for."""

from typing import Literal

import pytest
import torch

from dpo.policy import bf16_by_default
from schemas.configs import ModelConfig

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
