"""DPO training on a tiny random model, from the dataset's folder to the policy's."""

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoTokenizer,
    LlamaForCausalLM,
)

from curation.formats.trl import read_dataset
from curation.models import Policy, load_policy
from curation.tiny import CHATML, build_tiny_model
from dpo.logps import completion_logps
from dpo.losses import confident_dpo_loss, log_ratio_margin
from dpo.policy import bf16_ties, trainable_parameters
from dpo.tokens import PairTokens, tokenise_pairs
from dpo.train_dpo import DpoResult
from schemas.configs import LoraConfig, ModelConfig

MakeDataset = Callable[..., Path]


def _logps_alone(model: Any, pair: PairTokens) -> tuple[float, float]:
    """Log-probs of chosen and rejected from transformers' own logits, one row at a time."""
    sides = []
    for side in (pair.chosen_ids, pair.rejected_ids):
        ids = torch.tensor([pair.prompt_ids + side])
        mask = torch.tensor([[0] * len(pair.prompt_ids) + [1] * len(side)])
        with torch.no_grad():
            sides.append(completion_logps(model(ids).logits, ids, mask).item())
    return sides[0], sides[1]


def _reference_file(result: DpoResult) -> Path:
    key = result.facts["reference"]["key"]
    return result.policy.parent / "reference" / f"{key}.parquet"


@pytest.fixture
def sft_adapter(train: Any, make_dataset: MakeDataset) -> Path:
    """A trained adapter that stands for an SFT model's own."""
    result = train(make_dataset(8, name="sft"), out="sft", num_train_epochs=3)
    return Path(result.policy)


def test_losses_combine_by_their_weights(train: Any, make_dataset: MakeDataset) -> None:
    dataset = make_dataset(4)
    one_step = {"max_steps": 1, "per_device_train_batch_size": 4}
    sft = train(dataset, out="sft", loss_type="sft", **one_step).steps[0].loss
    both = train(
        dataset, out="both", loss_type=["sigmoid", "sft"], loss_weights=[1.0, 0.5], **one_step
    )
    assert both.facts["loss_type"] == ["sigmoid", "sft"]
    assert both.steps[0].loss == pytest.approx(math.log(2) + 0.5 * sft, abs=1e-5)


def test_the_first_loss_is_the_confident_loss_worked_out_from_plain_logits(
    train: Any, make_dataset: MakeDataset, tiny_policy: Policy, other_model_folder: Path
) -> None:
    dataset = make_dataset(6, confidence=True)
    result = train(
        dataset,
        reference=str(other_model_folder),
        per_device_train_batch_size=6,
        beta=0.3,
        max_steps=1,
    )

    pairs = tokenise_pairs(read_dataset(dataset)["train"], tiny_policy.chat, 128)
    other = load_policy(ModelConfig(path=str(other_model_folder))).model
    ours = torch.tensor([_logps_alone(tiny_policy.model, pair) for pair in pairs]).T
    theirs = torch.tensor([_logps_alone(other, pair) for pair in pairs]).T
    margins = log_ratio_margin(ours[0], ours[1], theirs[0], theirs[1])
    losses = confident_dpo_loss(
        margins,
        0.3,
        torch.tensor([pair.p_chosen for pair in pairs]),
        torch.tensor([pair.weight for pair in pairs]),
    )
    step = result.steps[0]
    assert step.loss == pytest.approx(losses.mean().item(), abs=1e-5)
    assert step.rewards_margin == pytest.approx(0.3 * margins.mean().item(), abs=1e-5)
    assert abs(margins.mean().item()) > 0.1
    assert result.facts["confidence"] == {
        "used": True,
        "requested": True,
        "pairs_below_one": 6,
        "weights_other_than_one": 4,
    }


def test_weights_are_not_renormalised(train: Any, make_dataset: MakeDataset) -> None:
    # At the start every pair's loss is w * ln 2, so the step's is the mean weight times that.
    dataset = make_dataset(3, confidence=True)
    result = train(dataset, per_device_train_batch_size=3, max_steps=1)
    assert result.steps[0].loss == pytest.approx((0.5 + 0.75 + 1.0) / 3 * math.log(2), abs=1e-6)


def test_confidence_that_is_switched_off_or_absent_is_reported_as_unused(
    train: Any, make_dataset: MakeDataset
) -> None:
    off = train(make_dataset(4, confidence=True), out="off", confidence=False, max_steps=1)
    absent = train(make_dataset(4, name="plain"), out="absent", max_steps=1)
    assert off.steps[0].loss == absent.steps[0].loss == pytest.approx(math.log(2), abs=1e-6)
    assert off.facts["confidence"]["used"] is absent.facts["confidence"]["used"] is False
    assert off.facts["confidence"]["pairs_below_one"] == 4
    assert absent.facts["confidence"]["pairs_below_one"] == 0


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        ({"loss_type": "aot"}, "loss_type is aot"),
        ({"loss_type": "aot_unpaired"}, "loss_type is aot_unpaired"),
        ({"loss_type": "sft"}, "loss_type is sft"),
        ({"loss_type": ["sigmoid", "sft"]}, "loss_type is sigmoid, sft"),
        ({"use_weighting": True}, "use_weighting is True"),
        ({"f_divergence_type": "js_divergence"}, "f_divergence_type is js_divergence"),
        ({"ld_alpha": 0.5}, "ld_alpha is 0.5"),
    ],
)
def test_a_loss_that_cannot_take_confidence_is_refused_with_the_remedy(
    keys: dict[str, Any], named: str, train: Any, make_dataset: MakeDataset
) -> None:
    dataset = make_dataset(4, confidence=True)
    with pytest.raises(ValueError, match=rf"{named}, but 4 of 4 .*dpo\.confidence: false"):
        train(dataset, **keys)
    assert train(dataset, confidence=False, max_steps=1, **keys).steps


def test_a_combination_of_losses_takes_confidence_in(train: Any, make_dataset: MakeDataset) -> None:
    # At the start margins are 0: a pair's hinge loss is 1 and its robust loss ln 2, whichever side
    # is better. Weights are 0.5, 0.75 and 1.
    result = train(
        make_dataset(3, confidence=True),
        loss_type=["hinge", "robust"],
        loss_weights=[1.0, 0.5],
        label_smoothing=0.1,
        per_device_train_batch_size=3,
        max_steps=1,
    )
    assert result.facts["confidence"]["used"]
    assert result.steps[0].loss == pytest.approx(0.75 * (1 + 0.5 * math.log(2)), abs=1e-6)


def test_accumulated_micro_batches_are_one_batch(train: Any, make_dataset: MakeDataset) -> None:
    # 11 pairs, so that the last step of the epoch is short in both.
    dataset = make_dataset(11, confidence=True)
    whole, parts, plain_whole, plain_parts = (
        train(
            dataset,
            out=f"{confidence}-{batch}",
            confidence=confidence,
            per_device_train_batch_size=batch,
            gradient_accumulation_steps=8 // batch,
            num_train_epochs=2,
        )
        for confidence in (True, False)
        for batch in (8, 2)
    )
    assert plain_whole.steps[0].loss == pytest.approx(math.log(2), abs=1e-6)
    for ones, twos in ((whole, parts), (plain_whole, plain_parts)):
        assert [len(record.pair_ids) for record in ones.steps] == [8, 3, 8, 3]
        for one, two in zip(ones.steps, twos.steps, strict=True):
            assert one.pair_ids == two.pair_ids
            assert one.loss == pytest.approx(two.loss, abs=1e-6)
            assert one.grad_norm == pytest.approx(two.grad_norm, abs=1e-4)
            assert one.rewards_margin == pytest.approx(two.rewards_margin, abs=1e-5)


def test_each_epoch_trains_on_every_pair_once_in_a_new_order(
    train: Any, make_dataset: MakeDataset
) -> None:
    dataset = make_dataset(7)
    steps = train(dataset, num_train_epochs=2).steps
    ids = sorted(row["pair_id"] for row in read_dataset(dataset)["train"])
    first, second = (
        [pair for record in steps[start : start + 2] for pair in record.pair_ids]
        for start in (0, 2)
    )
    assert sorted(first) == sorted(second) == ids
    assert first != second
    assert [record.step for record in steps] == [1, 2, 3, 4]


def test_the_seed_reaches_the_trainer_and_its_data(train: Any, make_dataset: MakeDataset) -> None:
    dataset = make_dataset(8)
    runs = [
        train(dataset, out=f"seed{seed}-{again}", seed=seed, max_steps=1)
        for seed, again in ((1, 0), (2, 0), (1, 1))
    ]
    assert [run.facts["seed"] for run in runs] == [1, 2, 1]
    assert [run.facts["data_seed"] for run in runs] == [1, 2, 1]
    assert runs[0].steps[0].pair_ids != runs[1].steps[0].pair_ids
    assert runs[0].steps == runs[2].steps


def test_progress_hears_of_the_reference_and_of_each_step(
    train: Any, make_dataset: MakeDataset
) -> None:
    heard: list[tuple[str, int, int]] = []
    train(make_dataset(6), progress=lambda *news: heard.append(news))
    assert heard[:2] == [("reference log-probs", 4, 6), ("reference log-probs", 6, 6)]
    assert [news[1:] for news in heard[2:]] == [(1, 2), (2, 2)]
    assert heard[2][0] == "loss 0.6931, margin 0.000"


def test_an_adapter_loads_with_peft_alone_and_a_full_model_with_transformers(
    train: Any, make_dataset: MakeDataset, tiny_policy: Policy
) -> None:
    import peft
    from transformers import AutoModelForCausalLM, AutoTokenizer

    dataset = make_dataset(8)
    adapter = train(dataset, out="lora")
    whole = train(dataset, out="full", lora=None)

    ids = torch.tensor([[5, 6, 7, 8]])
    before = tiny_policy.model(ids).logits
    for result, loader in (
        (adapter, peft.AutoPeftModelForCausalLM),
        (whole, AutoModelForCausalLM),
    ):
        logits = loader.from_pretrained(result.policy)(ids).logits
        assert not torch.allclose(logits, before, atol=1e-4)
        tokenizer = AutoTokenizer.from_pretrained(result.policy)
        assert tokenizer.get_vocab() == tiny_policy.tokenizer.get_vocab()
        assert tokenizer.chat_template == CHATML
        assert not list(result.policy.rglob("*.bin"))
    assert adapter.facts["trainable_parameters"] < whole.facts["trainable_parameters"]
    assert whole.facts["trainable_parameters"] == whole.facts["parameters"]
    assert len({adapter.facts["weights"], whole.facts["weights"], tiny_policy.weights}) == 3
    assert load_policy(ModelConfig(path=str(whole.policy))).weights == whole.facts["weights"]


def test_a_template_from_a_file_is_saved_with_the_policy(
    train: Any, make_dataset: MakeDataset, tiny_model_folder: Path, tmp_path: Path
) -> None:
    from transformers import AutoTokenizer

    template = tmp_path / "template.jinja"
    template.write_text("Be brief." + CHATML)
    model = ModelConfig(path=str(tiny_model_folder), chat_template=template)
    policy = train(make_dataset(4), model=model, max_steps=1).policy
    assert AutoTokenizer.from_pretrained(policy).chat_template == template.read_text()


def test_another_shape_than_the_adapters_own_is_told(
    train: Any, make_dataset: MakeDataset, sft_adapter: Path, tiny_model_folder: Path
) -> None:
    model = ModelConfig(path=str(tiny_model_folder), adapter=str(sft_adapter))
    result = train(make_dataset(4), model=model, lora=LoraConfig(r=2, alpha=8), max_steps=1)
    (note,) = result.facts["health"]
    assert note.startswith("ADAPTER_SHAPE: the SFT model's own adapter is trained on, with its r 4")


def test_a_policy_without_a_trainable_weight_is_refused(
    sft_adapter: Path, tiny_model_folder: Path
) -> None:
    model = ModelConfig(path=str(tiny_model_folder), adapter=str(sft_adapter))
    with pytest.raises(ValueError, match="NOTHING_TRAINABLE"):
        trainable_parameters(load_policy(model).model)


def test_three_steps_that_move_no_weight_end_the_run(train: Any, make_dataset: MakeDataset) -> None:
    with pytest.raises(ValueError, match="NOTHING_TRAINABLE: after step 3"):
        train(make_dataset(12), optim="sgd", learning_rate=1e-30)


def test_a_loss_that_is_not_finite_ends_the_run(train: Any, make_dataset: MakeDataset) -> None:
    with pytest.raises(
        ValueError, match=r"(loss|gradient's norm) of step \d is (nan|inf); lower dpo.trainer"
    ):
        train(make_dataset(12), optim="sgd", lora=None, learning_rate=1e30, max_grad_norm=0)


def test_a_run_that_was_killed_inside_an_epoch_with_all_its_steps_made_makes_no_more(
    train: Any, make_dataset: MakeDataset
) -> None:
    dataset = make_dataset(12)
    done, again = (train(dataset, max_steps=2, save_steps=1) for _ in range(2))
    assert again.facts["resumed_from_step"] == 2
    assert again.steps == done.steps
    assert again.facts["weights"] == done.facts["weights"]


def test_pairs_that_lose_tokens_to_the_limit_are_counted(
    train: Any, make_dataset: MakeDataset, tiny_policy: Policy
) -> None:
    dataset = make_dataset(6, longest=40)
    pairs = tokenise_pairs(read_dataset(dataset)["train"], tiny_policy.chat, 10_000)
    limit = max(len(pair.prompt_ids) for pair in pairs) + 12
    over = sum(
        len(pair.prompt_ids) + max(len(pair.chosen_ids), len(pair.rejected_ids)) > limit
        for pair in pairs
    )
    assert 0 < over < 6

    result = train(dataset, max_length=limit, max_steps=1)

    assert result.facts["truncated_pairs"] == over
    assert result.facts["health"][0].startswith(f"TRUNCATED: {over} of 6 pairs")


def test_a_dataset_without_training_pairs_is_refused(train: Any, make_dataset: MakeDataset) -> None:
    with pytest.raises(ValueError, match="has no pair to train on"):
        train(make_dataset(0))


def test_weights_that_were_quantised_are_not_trained_in_bf16_unseen(
    train: Any, make_dataset: MakeDataset, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    folder = build_tiny_model(tmp_path / "quantised")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    assert bf16_ties(model, full=True) < 1e-3
    with torch.no_grad():
        for weight in model.parameters():
            ties = (weight.view(torch.int32) & ~0xFFFF) | 0x8000
            some = torch.rand(weight.shape) < 0.08
            weight.copy_(torch.where(some, ties.view(torch.float32), weight))
    assert bf16_ties(model, full=True) == pytest.approx(0.08, abs=0.01)
    assert bf16_ties(model, full=False) == 0
    model.save_pretrained(folder)

    result = train(
        make_dataset(4), model=ModelConfig(path=str(folder)), lora=None, bf16=True, max_steps=1
    )

    (note,) = result.facts["health"]
    assert re.match(r"BF16_TIES: [78]\.\d% of the weights", note)
    assert "leave bf16 out of dpo.trainer" in note


def test_saturation_is_told_and_does_not_fail_the_run(
    train: Any, make_dataset: MakeDataset
) -> None:
    result = train(
        make_dataset(4),
        lora=None,
        learning_rate=0.03,
        beta=2.0,
        num_train_epochs=14,
        lr_scheduler_type="constant",
    )
    assert any(note.startswith("SATURATED: from step") for note in result.facts["health"])
    assert result.policy.is_dir()


def test_the_adapters_dropout_is_on_and_the_models_own_is_off(
    train: Any, make_dataset: MakeDataset, tiny_model_folder: Path, tmp_path: Path
) -> None:
    data = make_dataset(8)
    own = LlamaForCausalLM.from_pretrained(tiny_model_folder, attention_dropout=0.5)
    own.save_pretrained(tmp_path / "own")
    AutoTokenizer.from_pretrained(tiny_model_folder).save_pretrained(tmp_path / "own")
    plain = train(data, out="plain").steps
    drops = train(data, out="drops", lora=LoraConfig(r=4, alpha=8, dropout=0.5)).steps
    same = train(data, out="same", model=ModelConfig(path=str(tmp_path / "own"))).steps
    assert drops[0].grad_norm != pytest.approx(plain[0].grad_norm, rel=1e-3)
    assert same[0].grad_norm == pytest.approx(plain[0].grad_norm, rel=1e-6)


def test_a_pair_longer_than_the_model_reads_is_refused(
    train: Any, make_dataset: MakeDataset, tiny_model_folder: Path, tmp_path: Path
) -> None:
    LlamaForCausalLM.from_pretrained(tiny_model_folder, max_position_embeddings=16).save_pretrained(
        tmp_path / "short"
    )
    AutoTokenizer.from_pretrained(tiny_model_folder).save_pretrained(tmp_path / "short")
    model = ModelConfig(path=str(tmp_path / "short"))
    with pytest.raises(ValueError, match=r"TOO_LONG: .* reads at most 16; set validate.max_length"):
        train(make_dataset(4), model=model)


def test_a_model_whose_logits_trl_does_not_know_is_refused(
    train: Any, make_dataset: MakeDataset, capped_model: ModelConfig
) -> None:
    with pytest.raises(ValueError, match=r"HEAD_DIFFERS: .* recurrent_gemma does more"):
        train(make_dataset(4), model=capped_model)
