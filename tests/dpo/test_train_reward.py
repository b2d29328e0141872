"""Reward training on a tiny random model, from the dataset's folder to the model's."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from transformers import LlamaConfig, LlamaForSequenceClassification

from curation.chat import TemplateError
from curation.formats.trl import read_dataset, write_dataset
from curation.models import load_chat
from curation.rewards.model import RewardModel
from curation.rewards.weighted import build_reward
from curation.tiny import CHATML, build_tiny_model, build_tiny_reward_model
from dpo.reward_accuracy import LabelAgreement
from dpo.reward_args import trainer_args
from dpo.reward_rows import (
    Comparison,
    RewardRow,
    read_comparisons,
    tokenise_comparisons,
)
from dpo.reward_start import load_reward_start, save_reward_model
from dpo.step_log import StepLog
from dpo.train_reward import RewardResult, check_trainer, train_reward
from dpo.trl_adapters.rewards import RewardPairTrainer, RewardStep
from schemas.configs import LoraConfig, ModelConfig, RewardConfig, RewardModelConfig
from schemas.records import Candidate, Completion, Message, Origin, PreferencePair, Prompt

MakeDataset = Callable[..., Path]
ROOT = Path(__file__).parents[2]
LORA = LoraConfig(r=4, alpha=8)

ENDS_WITH_EOS = CHATML.replace("{{ '<|im_end|>\\n' }}", "{{ '<|im_end|>' }}")
"""ChatML whose conversations end with the very token that may be the pad token."""

DATED = (
    "{%- if messages[0].role == 'system' -%}{{ raise_exception('no system role') }}{%- endif -%}"
    "{{ '[' + strftime_now('%d %b %Y') + ']' }}" + CHATML
)


def preference(
    number: int, *, split: str = "train", system: str | None = None, prompt: int | None = None
) -> PreferencePair:
    """Pair `number` of a series in which the answer that says `warm` is better."""
    turns = [Message(role="user", content=f"Question {number if prompt is None else prompt}?")]
    if system is not None:
        turns.insert(0, Message(role="system", content=system))
    asked = Prompt(messages=tuple(turns))

    def candidate(text: str) -> Candidate:
        return Candidate(
            prompt_id=asked.id,
            completion=Completion.from_text(text),
            origin=Origin(generator="import:test"),
        )

    filler = " ".join(["cat", "red", "house", "sky"][: 1 + number % 4])
    return PreferencePair(
        prompt=asked,
        chosen=candidate(f"{filler} warm"),
        rejected=candidate(f"{filler} small {number}"),
        p_chosen=0.9,
        margin=0.5 + number % 3,
        strategy="test",
        split="test" if split == "test" else "train",
    )


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    pairs = [preference(number, split="test" if number >= 16 else "train") for number in range(24)]
    write_dataset(pairs, tmp_path / "preferences")
    return tmp_path / "preferences"


@pytest.fixture
def train(tiny_model_folder: Path, tmp_path: Path) -> Callable[..., RewardResult]:
    """`train_reward` on the tiny model with a learning rate that moves it; keywords go to TRL."""

    def run(
        dataset: Path,
        *,
        out: str = "out",
        model: ModelConfig | None = None,
        base: str | None = None,
        lora: LoraConfig | None = LORA,
        confidence: bool = True,
        margin: float = 0.0,
        max_length: int = 128,
        agreement: LabelAgreement | None = None,
        progress: Any = None,
        **trainer: Any,
    ) -> RewardResult:
        keys = {"learning_rate": 3e-3, "per_device_train_batch_size": 4, "num_train_epochs": 1}
        return train_reward(
            dataset,
            model or ModelConfig(path=str(tiny_model_folder)),
            RewardModelConfig(
                base=base,
                lora=lora,
                confidence=confidence,
                margin=margin,
                trainer={**keys, **trainer},
            ),
            out=tmp_path / out,
            seed=1,
            max_length=max_length,
            agreement=agreement,
            progress=progress,
        )

    return run


def padded_with_eos(folder: Path, template: str) -> Path:
    """A tiny model whose pad token is the token that ends turns."""
    build_tiny_model(folder, template=template)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"pad_token": "<|im_end|>"}))
    return folder


def rows_of(pairs: Sequence[Comparison], model: ModelConfig) -> list[RewardRow]:
    return tokenise_comparisons(pairs, load_chat(model), 128).kept


def scores_of(reward: RewardModel, pairs: Sequence[Comparison]) -> list[float | None]:
    prompts = [pair.prompt for pair in pairs]
    return reward(prompts * 2, [p.chosen for p in pairs] + [p.rejected for p in pairs])


def own_scores(network: Any, rows: Sequence[RewardRow]) -> list[float]:
    """The network's own scores of chosen, then rejected, one unpadded row at a time."""
    network.eval()
    network.config.get_text_config().pad_token_id = None
    with torch.no_grad():
        return [
            network(input_ids=torch.tensor([ids])).logits[0, 0].item()
            for ids in [row.chosen_ids for row in rows] + [row.rejected_ids for row in rows]
        ]


@pytest.mark.parametrize("lora", [LORA, None], ids=["lora", "full"])
@pytest.mark.parametrize("template", [CHATML, ENDS_WITH_EOS], ids=["newline", "eos"])
def test_the_saved_model_scores_as_the_trainers_own_forward(
    lora: LoraConfig | None, template: str, dataset: Path, tmp_path: Path
) -> None:
    model = ModelConfig(path=str(padded_with_eos(tmp_path / "base", template)))
    pairs = read_comparisons(read_dataset(dataset)["train"])
    rows = rows_of(pairs, model)
    tokenizer = load_chat(model).tokenizer
    tokenizer.pad_token = "<|pad|>"
    network, adapter = load_reward_start(model, lora, seed=1)
    keys = {"learning_rate": 1e-2, "save_strategy": "no", "per_device_train_batch_size": 4}
    args = trainer_args(keys, folder=tmp_path / "t", seed=1, max_length=128, cpu=True, bf16=False)
    trainer = RewardPairTrainer(network, args, rows, tokenizer, peft_config=adapter)
    before = own_scores(trainer.model, rows)
    trainer.model.config.get_text_config().pad_token_id = tokenizer.pad_token_id
    trainer.train()
    expected = own_scores(trainer.model, rows)
    assert expected != pytest.approx(before, abs=1e-2)

    trainer.model.config.get_text_config().pad_token_id = tokenizer.pad_token_id
    save_reward_model(trainer.model, tokenizer, tmp_path / "model")

    assert not list((tmp_path / "model").glob("adapter*"))
    for side in ("left", "right"):
        folder = tmp_path / side
        shutil.copytree(tmp_path / "model", folder)
        saved = json.loads((folder / "tokenizer_config.json").read_text())
        (folder / "tokenizer_config.json").write_text(json.dumps(saved | {"padding_side": side}))
        for size in (1, 3, 32):
            reward = RewardModel(str(folder), batch_size=size, device="cpu")
            assert scores_of(reward, pairs) == pytest.approx(expected, abs=1e-5)


def test_what_is_scored_are_the_very_tokens_that_are_trained_on(
    tiny_model_folder: Path, train: Any, dataset: Path
) -> None:
    pairs = read_comparisons(read_dataset(dataset)["train"])
    rows = rows_of(pairs, ModelConfig(path=str(tiny_model_folder)))
    reward = RewardModel(str(train(dataset, max_steps=1).model), batch_size=1, device="cpu")
    seen: list[list[int]] = []
    reward._model.register_forward_pre_hook(
        lambda module, args, inputs: seen.append(inputs["input_ids"][0].tolist()),
        with_kwargs=True,
    )
    scores_of(reward, pairs)
    assert sorted(seen) == sorted(ids for row in rows for ids in (row.chosen_ids, row.rejected_ids))
    eos = load_chat(ModelConfig(path=str(tiny_model_folder))).tokenizer.eos_token_id
    assert all(eos in ids[-2:] for ids in seen)


@pytest.mark.parametrize("template", [CHATML, ENDS_WITH_EOS], ids=["newline", "eos"])
def test_the_folder_scores_in_transformers_alone_too(
    template: str, train: Any, dataset: Path, tmp_path: Path
) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    base = padded_with_eos(tmp_path / "base", template)
    result = train(dataset, model=ModelConfig(path=str(base)))
    folder = result.model
    # Where rows end with the pad token, another one has taken its place.
    assert (result.facts["pad_token"] == "<|im_end|>") == (template == CHATML)
    network = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    pairs = read_comparisons(read_dataset(dataset)["test"])
    texts = [
        tokenizer.apply_chat_template(
            pair.prompt.message_dicts() + side.message_dicts(), tokenize=False
        )
        for side_name in ("chosen", "rejected")
        for pair in pairs
        for side in [getattr(pair, side_name)]
    ]
    batch = tokenizer(texts, add_special_tokens=False, padding=True, return_tensors="pt")
    with torch.no_grad():
        scores = network(**batch).logits[:, 0].tolist()
    assert scores == pytest.approx(scores_of(RewardModel(str(folder)), pairs), abs=1e-5)


def test_what_is_learned_shows_in_the_held_out_accuracy(train: Any, dataset: Path) -> None:
    result = train(dataset, num_train_epochs=6, agreement=LabelAgreement(0.82, votes=3))
    held_out = result.facts["held_out"]
    assert held_out["accuracy"]["share"] == 1
    assert held_out["accuracy"]["pairs"] == held_out["accuracy"]["prompts"] == 8
    assert held_out["accuracy"]["low"] < 0.7
    assert held_out["floor"]["share"] == 0
    # 0.9^3 + 3 * 0.9^2 * 0.1
    assert held_out["ceiling"]["accuracy"] == pytest.approx(0.972)
    assert sum(item["n"] for item in held_out["calibration"]) == 8
    assert result.facts["health"] == []
    reward = build_reward(
        [RewardConfig(use="curation.rewards.model:RewardModel", args={"path": str(result.model)})]
    )
    pairs = read_comparisons(read_dataset(dataset)["test"])
    prompts = [pair.prompt for pair in pairs]
    chosen = reward(prompts, [pair.chosen for pair in pairs])
    rejected = reward(prompts, [pair.rejected for pair in pairs])
    assert all((c or 0) > (r or 0) for c, r in zip(chosen, rejected, strict=True))


def test_facts_say_what_was_trained_and_by_whose_weights(train: Any, dataset: Path) -> None:
    lora, full = train(dataset, out="lora"), train(dataset, out="full", lora=None)
    facts = lora.facts
    assert (facts["method"], full.facts["method"]) == ("lora", "full")
    # The head has 64 weights; the rest are the adapter's.
    assert 64 < facts["trainable_parameters"] < full.facts["trainable_parameters"]
    assert full.facts["trainable_parameters"] == full.facts["parameters"]
    reward = RewardModel(str(lora.model))
    assert facts["weights"] == reward.weights != full.facts["weights"]
    assert facts["template"] == reward.template
    assert facts["precision"] == "float32, head float32"
    assert (facts["pairs"], facts["steps"], facts["pairs_a_step"]) == (16, 4, 4)
    assert facts["held_out"]["ceiling"]["kind"] == "posterior"
    assert facts["confidence"]["pairs_below_one"] == 16
    assert [record.step for record in lora.steps] == [1, 2, 3, 4]


def test_the_head_learns_under_lora(train: Any, dataset: Path) -> None:
    from safetensors.torch import load_file

    trained, still = (
        load_file(train(dataset, out=f"{rate}", learning_rate=rate).model / "model.safetensors")
        for rate in (3e-3, 1e-12)
    )
    assert not torch.allclose(trained["score.weight"], still["score.weight"])
    torch.testing.assert_close(trained["model.norm.weight"], still["model.norm.weight"])


def test_bfloat16_weights_are_merged_and_saved_in_float32(
    train: Any, dataset: Path, tiny_model_folder: Path
) -> None:
    from safetensors.torch import load_file

    model = ModelConfig(path=str(tiny_model_folder), dtype="bfloat16")
    result = train(dataset, model=model, bf16=True)
    assert result.facts["precision"] == "bfloat16 autocast bf16, head float32"
    trained = load_file(result.model / "model.safetensors")
    assert {weight.dtype for weight in trained.values()} == {torch.float32}
    merged = trained["model.layers.0.mlp.up_proj.weight"]
    assert not torch.equal(merged, merged.bfloat16().float())
    exact = train(dataset, out="exact")
    assert result.steps[-1].loss == pytest.approx(exact.steps[-1].loss, abs=2e-2)


def test_confidence_and_margin_enter_the_loss_only_where_they_are_asked_for(
    train: Any, dataset: Path
) -> None:
    one_step = {"max_steps": 1, "per_device_train_batch_size": 16}
    plain = train(dataset, out="plain", confidence=False, **one_step)
    soft = train(dataset, out="soft", **one_step)
    wide = train(dataset, out="wide", confidence=False, margin=2.0, **one_step)
    assert plain.facts["confidence"] == {
        "used": False,
        "requested": False,
        "pairs_below_one": 16,
        "weights_other_than_one": 0,
    }
    margin = plain.steps[0].rewards_margin
    assert plain.steps[0].loss != soft.steps[0].loss
    # The mean of 2 * margin_i is 2 * 1.5 less one pair's share; with scores near 0 the loss is
    # near the mean of log(1 + exp(2 m_i)).
    assert wide.steps[0].loss > plain.steps[0].loss + 1
    assert wide.facts["margin"] == {"scale": 2.0, "pairs_with_one": 16}
    assert wide.steps[0].rewards_margin == pytest.approx(margin, abs=1e-6)


def test_a_pair_over_the_length_is_left_out_and_named(
    train: Any, tmp_path: Path, tiny_model_folder: Path
) -> None:
    pairs = [preference(number) for number in range(8)]
    write_dataset(pairs, tmp_path / "data")
    rows = rows_of(
        read_comparisons(read_dataset(tmp_path / "data")["train"]),
        ModelConfig(path=str(tiny_model_folder)),
    )
    lengths = [max(len(row.chosen_ids), len(row.rejected_ids)) for row in rows]
    limit = sorted(lengths)[3]
    kept = sum(length <= limit for length in lengths)
    result = train(tmp_path / "data", max_length=limit)
    assert result.facts["too_long_pairs"] == 8 - kept > 0
    assert result.facts["pairs"] == kept
    over = [row.pair_id for row, length in zip(rows, lengths, strict=True) if length > limit]
    assert [row.row_id for row in result.quarantined] == over
    assert {row.code for row in result.quarantined} == {"TOO_LONG"}
    assert f"beyond the limit of {limit}" in result.quarantined[0].message
    assert any(
        note.startswith(f"TOO_LONG: {8 - kept} of 8 pairs") for note in result.facts["health"]
    )
    with pytest.raises(ValueError, match="no pair of at most 5 tokens to train on"):
        train(tmp_path / "data", out="none", max_length=5)


def test_without_held_out_pairs_the_accuracy_is_said_to_be_unknown(
    train: Any, make_dataset: MakeDataset
) -> None:
    facts = train(make_dataset(6), max_steps=1).facts
    assert facts["held_out"] is None
    assert facts["health"][0].startswith("NOT_MEASURED: ")


def test_a_held_out_prompt_that_is_trained_on_is_named(train: Any, tmp_path: Path) -> None:
    pairs = [preference(number) for number in range(6)]
    pairs += [preference(6, split="test", prompt=0), preference(7, split="test")]
    write_dataset(pairs, tmp_path / "data")
    notes = train(tmp_path / "data", max_steps=1).facts["health"]
    assert any(note.startswith("SHARED_PROMPTS: 1 of 2 held-out pairs") for note in notes)


@pytest.mark.parametrize("lora", [LORA, None], ids=["lora", "full"])
def test_a_killed_run_goes_on_from_its_checkpoint_to_equal_numbers(
    lora: LoraConfig | None, train: Any, dataset: Path, tmp_path: Path
) -> None:
    keys = {"lora": lora, "save_steps": 2, "num_train_epochs": 2}
    whole = train(dataset, out="whole", **keys)

    class Killed(BaseException):
        pass

    def die(what: str, done: int, total: int) -> None:
        if done == 5:
            raise Killed

    with pytest.raises(Killed):
        train(dataset, out="cut", progress=die, **keys)
    assert len(StepLog(tmp_path / "cut" / "steps.jsonl", RewardStep).read()) == 5
    resumed = train(dataset, out="cut", **keys)
    assert resumed.facts["resumed_from_step"] == 4
    assert resumed.steps == whole.steps
    assert resumed.facts["weights"] == whole.facts["weights"]
    assert resumed.facts["held_out"] == whole.facts["held_out"]
    other = train(dataset, out="cut", **{**keys, "margin": 1.0})
    assert other.facts["resumed_from_step"] == 0


def test_the_sft_models_own_adapter_is_under_the_head(
    tiny_model_folder: Path, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    causal = AutoModelForCausalLM.from_pretrained(tiny_model_folder)
    adapted = peft.get_peft_model(
        causal, peft.LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False)
    )
    adapted.save_pretrained(tmp_path / "adapter")
    model = ModelConfig(path=str(tiny_model_folder), adapter=str(tmp_path / "adapter"))
    network, _ = load_reward_start(model, LORA, seed=1)
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        expected = adapted(ids, output_hidden_states=True).hidden_states[-1]
        found = network(ids, output_hidden_states=True).hidden_states[-1]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_another_base_is_trained_under_its_own_template_and_head(
    train: Any, dataset: Path, tmp_path: Path
) -> None:
    base = build_tiny_reward_model(tmp_path / "base")
    result = train(dataset, base=str(base), learning_rate=1e-12)
    reward = RewardModel(str(base), device="cpu")
    pairs = read_comparisons(read_dataset(dataset)["test"])
    trained = RewardModel(str(result.model), device="cpu")
    assert result.facts["base"] == str(base)
    assert result.facts["template"] == reward.template
    assert scores_of(trained, pairs) == pytest.approx(scores_of(reward, pairs), abs=1e-5)


def test_a_base_without_a_template_is_refused(train: Any, dataset: Path, tmp_path: Path) -> None:
    base = build_tiny_reward_model(tmp_path / "base")
    (base / "chat_template.jinja").unlink()
    with pytest.raises(TemplateError) as caught:
        train(dataset, base=str(base))
    assert caught.value.code == "NO_TEMPLATE"


def test_the_date_and_the_merged_system_text_stay_in_the_saved_template(
    train: Any, tmp_path: Path
) -> None:
    base = build_tiny_model(tmp_path / "base", template=DATED)
    pairs = [preference(number, system="Be brief.") for number in range(6)]
    write_dataset(pairs, tmp_path / "data")
    model = ModelConfig(path=str(base), date="2001-02-03", system_role="merge")
    result = train(tmp_path / "data", model=model, max_steps=1)
    chat, saved = load_chat(model), load_chat(ModelConfig(path=str(result.model)))
    assert "[03 Feb 2001]" in chat.prompt_text(pairs[0].prompt)
    assert saved.prompt_text(pairs[0].prompt) == chat.prompt_text(pairs[0].prompt)
    comparisons = read_comparisons(read_dataset(tmp_path / "data")["train"])
    assert all(
        score is not None for score in scores_of(RewardModel(str(result.model)), comparisons)
    )


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("max_length", 10, "it is `validate.max_length`"),
        ("pad_token", "x", "padding is a token that ends no row"),
        ("eos_token", "x", "the template ends an answer"),
        ("center_rewards_coefficient", -1, "is -1; expected 0 or more"),
        ("centre_rewards_coefficient", 1, "center_rewards_coefficient"),
    ],
)
def test_a_key_that_is_not_the_users_is_refused_with_the_reason(
    key: str, value: object, reason: str, tiny_model_folder: Path
) -> None:
    with pytest.raises(ValueError, match=reason):
        check_trainer({key: value}, ModelConfig(path=str(tiny_model_folder), device="cpu"))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"p_chosen": 0.5}, "p_chosen is 0.5"),
        ({"weight": 0.0}, "weight 0.0"),
        ({"margin": -1.0}, r"margin -1\.0"),
        ({"pair_id": None}, "has no pair_id"),
        ({"chosen": []}, "chosen|messages"),
    ],
)
def test_a_row_that_no_gate_lets_through_is_refused(
    change: dict[str, Any], reason: str, dataset: Path
) -> None:
    row = read_dataset(dataset)["train"][0]
    with pytest.raises(ValueError, match=reason):
        read_comparisons([{**row, **change}])
    with pytest.raises(ValueError, match="is in the dataset's split twice"):
        read_comparisons([row, row])


_SCRIPT = """
import json, sys
from pathlib import Path
import torch
from dpo.train_reward import train_reward
from schemas.configs import ModelConfig, RewardModelConfig

torch.set_num_threads(1)
for job in json.loads(sys.argv[1]):
    result = train_reward(
        Path(job["dataset"]), ModelConfig(path=job["model"]),
        RewardModelConfig.model_validate(job["config"]), out=Path(job["out"]), seed=1,
        max_length=128,
    )
    assert result.facts["world_size"] == 2
torch.distributed.destroy_process_group()
"""


def test_two_processes_train_as_one(
    train: Any, make_dataset: MakeDataset, tiny_model_folder: Path, tmp_path: Path
) -> None:
    # 11 pairs in global batches of 8: the second step of an epoch has 3, so the processes hold
    # 2 and 1 of them, and in its second micro-batch none at all.
    dataset = make_dataset(11, confidence=True)
    # A gradient that is 0 but for rounding makes Adam step by its sign; a larger epsilon does not.
    shared = {"learning_rate": 1e-3, "num_train_epochs": 2, "adam_epsilon": 1e-5}
    shared["center_rewards_coefficient"] = 0.1
    parts = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}
    cases = {"lora": LORA, "full": None}
    jobs = [
        {
            "out": str(tmp_path / f"two-{name}"),
            "dataset": str(dataset),
            "model": str(tiny_model_folder),
            "config": RewardModelConfig(
                lora=lora, margin=0.3, trainer={**shared, **parts}
            ).model_dump(mode="json"),
        }
        for name, lora in cases.items()
    ]
    script = tmp_path / "job.py"
    script.write_text(_SCRIPT)

    done = subprocess.run(
        [
            sys.executable, "-m", "torch.distributed.run", "--standalone",
            "--nproc_per_node", "2", str(script), json.dumps(jobs),
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr[-4000:]
    for name, lora in cases.items():
        keys = {**shared, "per_device_train_batch_size": 8}
        one = train(dataset, out=f"one-{name}", lora=lora, margin=0.3, **keys)
        two = StepLog(tmp_path / f"two-{name}" / "steps.jsonl", RewardStep).read()
        assert [len(record.pair_ids) for record in two] == [8, 3, 8, 3]
        for ours, theirs in zip(two, one.steps, strict=True):
            assert ours.pair_ids == theirs.pair_ids
            assert ours.loss == pytest.approx(theirs.loss, abs=1e-5)
            assert ours.grad_norm == pytest.approx(theirs.grad_norm, abs=1e-4)
            assert ours.rewards_margin == pytest.approx(theirs.rewards_margin, abs=1e-5)
            assert ours.rewards_mean == pytest.approx(theirs.rewards_mean, abs=1e-5)
        pairs = read_comparisons(read_dataset(dataset)["train"])
        assert scores_of(
            RewardModel(str(tmp_path / f"two-{name}" / "model")), pairs
        ) == pytest.approx(scores_of(RewardModel(str(one.model)), pairs), abs=1e-5)


@pytest.mark.parametrize(
    ("labels", "missing", "complaint"),
    [
        (5, "nothing", r"score.weight of shape \(5, 64\); expected \(1, 64\)"),
        (1, "layers.1", "has no weights for model.layers.1"),
    ],
)
def test_a_base_that_would_be_completed_at_random_is_refused(
    labels: int, missing: str, complaint: str, tiny_model_folder: Path, tmp_path: Path
) -> None:
    config = LlamaConfig.from_pretrained(tiny_model_folder, num_labels=labels)
    network = LlamaForSequenceClassification(config)
    weights = {key: value for key, value in network.state_dict().items() if missing not in key}
    network.save_pretrained(tmp_path / "base", state_dict=weights)
    with pytest.raises(ValueError, match=complaint):
        load_reward_start(ModelConfig(path=str(tmp_path / "base")), None, 0)


def test_the_adapters_dropout_is_on(train: Any, dataset: Path) -> None:
    drops = LORA.model_copy(update={"dropout": 0.5})
    plain, dropped = train(dataset).steps[0], train(dataset, out="drops", lora=drops).steps[0]
    assert dropped.grad_norm != pytest.approx(plain.grad_norm, rel=1e-3)
