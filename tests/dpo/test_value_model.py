"""Logits and values of answers from padded rows, on tiny random models of several kinds."""

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
)

from dpo.value_model import PolicyWithValue, TokenRow, padded

CPU = torch.device("cpu")
ROWS = [TokenRow([23, 8, 9], [5, 7, 2]), TokenRow([4, 11, 6, 13, 9, 3], [2]), TokenRow([8], [5, 6])]
EOS = 2


def _gpt2() -> Any:
    return GPT2LMHeadModel(
        GPT2Config(vocab_size=31, n_embd=16, n_layer=2, n_head=2, n_positions=32)
    )


def _llama() -> Any:
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=31, num_attention_heads=2, **sizes))


def _gemma2() -> Any:
    """Caps its logits after the language-model head."""
    config = Gemma2Config(
        vocab_size=31, hidden_size=16, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2, head_dim=8, final_logit_softcapping=0.05,
        pad_token_id=0, eos_token_id=EOS, bos_token_id=1,
    )  # fmt: skip
    return Gemma2ForCausalLM(config)


def _trained(policy: Any, trunk: Any = None, **settings: Any) -> PolicyWithValue:
    """With a head that has been trained: a new one gives 0 everywhere."""
    model = PolicyWithValue(policy, trunk, **settings)
    with torch.no_grad():
        model.head.weight.copy_(torch.linspace(-1, 1, model.head.in_features))
        model.head.bias.fill_(0.3)
    return model


@pytest.fixture(params=[_gpt2, _llama, _gemma2])
def policy(request: pytest.FixtureRequest) -> Any:
    torch.manual_seed(0)
    model: Any = request.param()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(4.0)
    return model.eval()


def test_a_padded_row_says_what_the_row_alone_says(policy: Any) -> None:
    model = _trained(policy)
    together = model(padded(ROWS, CPU))
    for at, row in enumerate(ROWS):
        # The plain model, without padding, positions or a choice of logits.
        ids = torch.tensor([[*row.prompt_ids, *row.completion_ids]])
        plain = policy(ids, output_hidden_states=True)
        start, length = len(row.prompt_ids), len(row.completion_ids)
        for t in range(length):
            logps = plain.logits[0, start + t - 1].log_softmax(-1)
            value = model.head(plain.hidden_states[-1][0, start + t - 1])
            assert together.logps[at, t].item() == pytest.approx(
                logps[ids[0, start + t]].item(), abs=1e-5
            )
            assert together.values[at, t].item() == pytest.approx(value.item(), abs=1e-5)


def test_log_probs_are_of_the_softmax_at_the_sampling_temperature(policy: Any) -> None:
    (row,) = rows = ROWS[:1]
    said = _trained(policy, temperature=0.5)(padded(rows, CPU))
    logits = policy(torch.tensor([[*row.prompt_ids, *row.completion_ids]])).logits[0, 2:5]
    expected = (logits / 0.5).log_softmax(-1)[torch.arange(3), list(row.completion_ids)]
    torch.testing.assert_close(said.logps[0], expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(said.logits[0], logits / 0.5, atol=1e-5, rtol=0)


def test_masks_come_from_lengths_so_that_the_real_end_counts_where_padding_has_its_id() -> None:
    batch = padded([TokenRow([EOS, 5], [6, EOS]), TokenRow([5], [6, EOS, EOS])], CPU)
    assert batch.attention.tolist() == [[1, 1, 1, 1, 0], [0, 1, 1, 1, 1]]
    assert batch.positions.tolist() == [[0, 1, 2, 3, 3], [0, 0, 1, 2, 3]]
    assert batch.mask.tolist() == [[True, True, False], [True, True, True]]


def test_a_value_is_expected_before_its_token_is_chosen() -> None:
    torch.manual_seed(0)
    model = _trained(_llama())
    one, other = (
        model(padded([TokenRow([3, 4], [5, token, 6])], CPU)).values[0].tolist() for token in (7, 8)
    )
    assert one[:2] == other[:2]
    assert one[2] != other[2]


def test_values_begin_at_zero_and_the_head_is_one_float32_layer() -> None:
    model = PolicyWithValue(_llama().to(torch.bfloat16))
    values = model(padded(ROWS, CPU)).values
    assert values.dtype == torch.float32
    assert values.count_nonzero() == 0
    assert sum(weight.numel() for weight in model.value_parameters()) == 16 + 1


def test_a_shared_trunk_learns_from_the_value_and_a_separate_one_leaves_the_policy_alone() -> None:
    for trunk in (None, _llama()):
        policy = _llama()
        model = _trained(policy, trunk)
        model(padded(ROWS, CPU)).values.sum().backward()
        body = (policy if trunk is None else trunk).model.layers[0].self_attn.q_proj.weight
        assert body.grad is not None
        assert (policy.model.embed_tokens.weight.grad is None) == (trunk is not None)


def _with_lora(model: Any) -> Any:
    adapted = get_peft_model(model, LoraConfig(target_modules="all-linear"))
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.normal_()
    return adapted


@pytest.mark.parametrize("adapted", [False, True])
def test_a_separate_trunks_values_are_of_its_last_hidden_state_and_its_head_does_not_run(
    adapted: bool, policy: Any
) -> None:
    torch.manual_seed(1)
    trunk: Any = type(policy)(policy.config).eval()
    trunk = _with_lora(trunk).eval() if adapted else trunk
    model = _trained(policy, trunk)
    expected = []
    for row in ROWS:
        ids = torch.tensor([[*row.prompt_ids, *row.completion_ids]])
        states = trunk(ids, output_hidden_states=True).hidden_states[-1][0]
        expected.append(model.head(states[len(row.prompt_ids) - 1 : -1]).squeeze(-1))
    heads: list[Any] = []
    trunk.get_output_embeddings().register_forward_hook(lambda *call: heads.append(call))
    found = model(padded(ROWS, CPU)).values
    for at, values in enumerate(expected):
        torch.testing.assert_close(found[at, : len(values)], values, atol=1e-5, rtol=0)
    assert heads == []


def test_dropout_stays_off() -> None:
    policy = GPT2LMHeadModel(GPT2Config(vocab_size=31, n_embd=16, n_layer=2, n_head=2)).train()
    model = _trained(policy)
    batch = padded(ROWS, CPU)
    assert torch.equal(model(batch).logps, model(batch).logps)
