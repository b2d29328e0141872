"""Fine-tuning of a tiny random model, from files to the folder of a whole model."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from curation.models import Policy, load_chat, load_policy
from dpo.conversations import read_conversations, tokenise_conversations
from dpo.logps import completion_logps
from dpo.sft_step import SftStep
from dpo.step_log import StepLog
from dpo.train_sft import SftResult, check_trainer, train_sft
from schemas.configs import ConversationSource, LoraConfig, ModelConfig, SftConfig
from schemas.records import Message, Prompt

ROOT = Path(__file__).parents[2]
SMALL_LORA = LoraConfig(r=4, alpha=8)
WORDS = ("the", "cat", "house", "red", "small", "sky", "blue", "week", "days", "warm", "chair")

Train = Callable[..., SftResult]
Rows = Callable[..., ConversationSource]


def conversation(number: int) -> dict[str, Any]:
    """One of a fixed series, of one or two exchanges."""
    rng = Random(number)
    return {
        "messages": [
            {"role": role, "content": " ".join(rng.choices(WORDS, k=rng.randint(1, 9)))}
            for _ in range(1 + number % 2)
            for role in ("user", "assistant")
        ]
    }


@pytest.fixture
def rows(tmp_path: Path) -> Rows:
    """A function from a number of conversations, and rows beside them, to a source of them."""

    def write(count: int, *more: dict[str, Any]) -> ConversationSource:
        path = tmp_path / f"rows-{count}-{len(more)}.jsonl"
        all_rows = [*map(conversation, range(count)), *more]
        path.write_text("".join(json.dumps(row) + "\n" for row in all_rows))
        return ConversationSource(path=str(path))

    return write


@pytest.fixture
def train(tiny_model_folder: Path, tmp_path: Path) -> Train:
    """`train_sft` on the tiny model with a learning rate that moves it; keywords go to TRL."""

    def run(
        source: ConversationSource,
        *,
        out: str = "out",
        model: ModelConfig | None = None,
        seed: int = 1,
        max_length: int = 128,
        lora: LoraConfig | None = SMALL_LORA,
        test_share: float = 0.0,
        progress: Any = None,
        **trainer: Any,
    ) -> SftResult:
        keys = {"learning_rate": 1e-3, "per_device_train_batch_size": 4, "num_train_epochs": 1}
        config = SftConfig(
            data=(source,),
            lora=lora,
            max_length=max_length,
            test_share=test_share,
            trainer={**keys, **trainer},
        )
        return train_sft(
            [source],
            model or ModelConfig(path=str(tiny_model_folder)),
            config,
            out=tmp_path / out,
            seed=seed,
            progress=progress,
        )

    return run


@pytest.fixture(scope="session")
def base_model_folder(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model without a template, its PAD being its EOS."""
    folder = tmp_path_factory.mktemp("base") / "model"
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_folder)
    tokenizer.chat_template = None
    tokenizer.pad_token = tokenizer.eos_token
    tokenizer.save_pretrained(folder)
    AutoModelForCausalLM.from_pretrained(tiny_model_folder).save_pretrained(folder)
    return folder


def mean_loss(model: Any, source: ConversationSource, policy: Policy) -> tuple[float, int]:
    """The mean over the trained tokens, from transformers' own logits, one row at a time."""
    read = read_conversations([source])
    total, count = 0.0, 0
    for row in tokenise_conversations(read.rows, policy.chat, 128).rows:
        ids, mask = torch.tensor([row.ids]), torch.tensor([row.mask])
        with torch.no_grad():
            total -= completion_logps(model(ids).logits, ids, mask).item()
        count += sum(row.mask)
    return total / count, count


def assert_same_steps(ours: list[SftStep], theirs: list[SftStep]) -> None:
    assert [step.row_ids for step in ours] == [step.row_ids for step in theirs]
    for one, other in zip(ours, theirs, strict=True):
        assert one.tokens == other.tokens
        assert one.learning_rate == other.learning_rate
        assert one.loss == pytest.approx(other.loss, abs=1e-5)
        assert one.grad_norm == pytest.approx(other.grad_norm, abs=1e-4)


def assert_same_weights(ours: Path, theirs: Path) -> None:
    expected = load_file(theirs / "model.safetensors")
    found = load_file(ours / "model.safetensors")
    assert found.keys() == expected.keys()
    for name, weight in found.items():
        torch.testing.assert_close(weight, expected[name], rtol=0, atol=1e-5)


def test_the_first_loss_is_the_mean_over_tokens_worked_out_from_plain_logits(
    train: Train, rows: Rows, tiny_policy: Policy
) -> None:
    source = rows(6)
    step = train(source, per_device_train_batch_size=6).steps[0]
    loss, count = mean_loss(tiny_policy.model, source, tiny_policy)
    assert step.loss == pytest.approx(loss, abs=1e-5)
    assert step.tokens == count


def test_accumulated_micro_batches_are_one_batch(train: Train, rows: Rows) -> None:
    # 11 rows of unequal lengths, so that the last step of the epoch is short in both.
    whole, parts = (
        train(
            rows(11),
            out=f"{batch}",
            per_device_train_batch_size=batch,
            gradient_accumulation_steps=8 // batch,
            num_train_epochs=2,
        )
        for batch in (8, 2)
    )
    assert [len(step.row_ids) for step in whole.steps] == [8, 3, 8, 3]
    assert_same_steps(parts.steps, whole.steps)
    assert_same_weights(parts.policy, whole.policy)


def test_packed_conversations_train_as_the_same_ones_alone(train: Train, rows: Rows) -> None:
    alone, packed = (
        train(
            rows(9),
            out=f"{packing}",
            lora=None,
            packing=packing,
            per_device_train_batch_size=9,
            num_train_epochs=2,
            # Adam steps by the sign of a gradient that is 0 but for rounding.
            adam_epsilon=1e-5,
        )
        for packing in (False, True)
    )
    facts = packed.facts["packing"]
    assert alone.facts["packing"] is None
    assert facts["packs"] < 9
    assert 0.5 < facts["filled"] <= 1
    for one, other in zip(packed.steps, alone.steps, strict=True):
        assert sorted(one.row_ids) == sorted(other.row_ids)
        assert one.loss == pytest.approx(other.loss, abs=1e-5)
        assert one.grad_norm == pytest.approx(other.grad_norm, abs=1e-4)
    assert_same_weights(packed.policy, alone.policy)


def test_each_epoch_trains_on_every_row_once_in_a_new_order(train: Train, rows: Rows) -> None:
    source = rows(7)
    steps = train(source, num_train_epochs=2).steps
    ids = sorted(row.conversation.id for row in read_conversations([source]).rows)
    first, second = (
        [row for step in steps[start : start + 2] for row in step.row_ids] for start in (0, 2)
    )
    assert sorted(first) == sorted(second) == ids
    assert first != second


@pytest.mark.parametrize("lora", [SMALL_LORA, None])
def test_a_whole_model_is_saved_with_tokenizer_and_template(
    lora: LoraConfig | None, train: Train, rows: Rows, tiny_policy: Policy
) -> None:
    result = train(rows(8), lora=lora, num_train_epochs=3)
    loaded = load_policy(ModelConfig(path=str(result.policy)))
    assert not (result.policy / "adapter_config.json").exists()
    assert not list(result.policy.rglob("*.bin"))
    assert loaded.chat.hash == tiny_policy.chat.hash == result.facts["template"]
    assert loaded.weights == result.facts["weights"] != tiny_policy.weights
    assert loaded.model.num_parameters() == tiny_policy.model.num_parameters()
    ids = torch.tensor([[5, 6, 7, 8]])
    assert not torch.allclose(loaded.model(ids).logits, tiny_policy.model(ids).logits, atol=1e-4)
    assert result.facts["method"] == ("full" if lora is None else "lora")
    assert not result.facts["template_set"]


def test_the_held_out_loss_is_measured_before_and_after(
    train: Train, rows: Rows, tiny_policy: Policy, tmp_path: Path
) -> None:
    # Ten rows that ask the same: all are on one side.
    asks = {"prompt": "Why is the sky blue?"}
    same = [{**asks, "completion": " ".join(WORDS[:count])} for count in range(1, 11)]
    path = tmp_path / "all.jsonl"
    path.write_text("".join(json.dumps({**row}) + "\n" for row in same))
    with pytest.raises(ValueError, match=r"test_share 0\.99 holds out all 10"):
        train(ConversationSource(path=str(path)), test_share=0.99)

    source = rows(24)
    result = train(source, test_share=0.3, num_train_epochs=2)
    counts, held_out = result.facts["rows"], result.facts["held_out"]
    assert counts["read"] == 24 == counts["trained"] + counts["held_out"]
    trained = {row for step in result.steps for row in step.row_ids}
    lines = (Path(source.path)).read_text().splitlines()
    unseen = tmp_path / "unseen.jsonl"
    read = read_conversations([source]).rows
    unseen.write_text(
        "\n".join(
            line
            for line, row in zip(lines, read, strict=True)
            if row.conversation.id not in trained
        )
    )
    for when, model in (
        ("before", tiny_policy.model),
        ("after", AutoModelForCausalLM.from_pretrained(result.policy)),
    ):
        loss, count = mean_loss(model, ConversationSource(path=str(unseen)), tiny_policy)
        assert held_out[f"loss_{when}"] == pytest.approx(loss, abs=1e-5)
        assert held_out[f"perplexity_{when}"] == pytest.approx(math.exp(loss), rel=1e-4)
        assert held_out["tokens"] == count
    assert held_out["loss_after"] < held_out["loss_before"]


@pytest.mark.parametrize(
    ("row", "answer"),
    [
        (
            {
                "messages": [
                    {"role": "user", "content": "the sky?"},
                    {"role": "assistant", "content": "blue"},
                ]
            },
            "blue",
        ),
        ({"prompt": "the sky?", "completion": " blue"}, " blue"),
    ],
)
def test_a_base_model_gets_a_template_that_later_stages_find_and_learns_to_stop(
    row: dict[str, Any], answer: str, train: Train, rows: Rows, base_model_folder: Path
) -> None:
    result = train(
        rows(0, *([row] * 8)),
        model=ModelConfig(path=str(base_model_folder)),
        lora=None,
        learning_rate=5e-3,
        num_train_epochs=15,
        save_strategy="no",
    )
    assert result.facts["template_set"]
    assert result.facts["ends_trained"] == 1
    assert result.facts["rows"]["repeated"] == 7
    policy = load_policy(ModelConfig(path=str(result.policy)))
    assert policy.chat.hash == result.facts["template"]
    assert policy.tokenizer.pad_token_id == policy.tokenizer.eos_token_id
    asked = Prompt(messages=(Message(role="user", content="the sky?"),))
    prompt = torch.tensor([policy.chat.prompt_ids(asked)])
    made = policy.model.generate(
        prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=12, do_sample=False
    )
    assert policy.tokenizer.decode(made[0, prompt.size(1) :]) == f"{answer}<|im_end|>"


def test_an_adapter_of_the_model_is_part_of_what_is_saved(
    train: Train, rows: Rows, tiny_model_folder: Path, tmp_path: Path
) -> None:
    import peft

    torch.manual_seed(0)
    adapted = peft.get_peft_model(
        AutoModelForCausalLM.from_pretrained(tiny_model_folder),
        peft.LoraConfig(r=4, init_lora_weights=False, target_modules="all-linear"),
    )
    adapted.save_pretrained(tmp_path / "adapter")
    model = ModelConfig(path=str(tiny_model_folder), adapter=str(tmp_path / "adapter"))
    ids = torch.tensor([[5, 6, 7, 8]])
    for lora in (LoraConfig(r=2, alpha=8), None):
        result = train(rows(4), out=f"{lora}", model=model, lora=lora, learning_rate=0.0)
        told = any(
            "ADAPTER_SHAPE" in note and "sft.lora" in note for note in result.facts["health"]
        )
        assert told is (lora is not None)
        saved = load_policy(ModelConfig(path=str(result.policy))).model
        torch.testing.assert_close(saved(ids).logits, adapted(ids).logits, rtol=1e-4, atol=1e-4)


def test_frozen_bf16_weights_are_merged_without_rounding_the_adapter_off(
    train: Train, rows: Rows, tiny_model_folder: Path
) -> None:
    model = ModelConfig(path=str(tiny_model_folder), dtype="bfloat16", device="cpu")
    result = train(rows(4), model=model, learning_rate=1e-5)
    weights = load_file(result.policy / "model.safetensors")
    start = load_file(tiny_model_folder / "model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"
    assert weights[name].dtype == torch.float32
    moved = weights[name] - start[name].bfloat16().float()
    assert 0 < moved.abs().max() < 1e-4


def test_a_killed_run_ends_as_one_that_was_not(train: Train, rows: Rows) -> None:
    class KilledError(Exception):
        pass

    def kill(what: str, done: int, total: int) -> None:
        if done == 4:
            raise KilledError

    keys: dict[str, Any] = {"test_share": 0.3, "num_train_epochs": 2, "save_steps": 1}
    whole = train(rows(12), out="whole", **keys)
    with pytest.raises(KilledError):
        train(rows(12), out="killed", progress=kill, **keys)
    resumed = train(rows(12), out="killed", **keys)
    assert resumed.facts["resumed_from_step"] == 3
    assert resumed.steps == whole.steps
    assert resumed.facts["weights"] == whole.facts["weights"]
    assert resumed.facts["held_out"] == whole.facts["held_out"] is not None
    again = train(rows(12), out="killed", seed=2, **keys)
    assert again.facts["resumed_from_step"] == 0


def test_bad_rows_are_counted_by_reason_and_listed(train: Train, rows: Rows) -> None:
    long = {"prompt": "the " * 200, "completion": "cat"}
    result = train(rows(5, {"text": "hi"}, {"messages": []}, {"messages": []}))
    assert result.facts["reasons"] == {"EMPTY_PROMPT": 2, "MISSING_COLUMN": 1}
    assert [row.row_id for row in result.quarantined] == ["line 6", "line 7", "line 8"]
    assert result.facts["rows"]["read"] == 8
    assert result.facts["health"] == [
        "QUARANTINED: 3 rows are not trained on (EMPTY_PROMPT 2, MISSING_COLUMN 1)"
    ]
    with pytest.raises(ValueError, match="TOO_LONG"):
        train(rows(0, long))


def test_a_template_that_never_ends_an_answer_is_told(
    train: Train, rows: Rows, base_model_folder: Path, tmp_path: Path
) -> None:
    template = tmp_path / "endless.jinja"
    template.write_text(
        "{% for m in messages %}{{ '[' + m.role + ']' + m.content }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '[assistant]' }}{% endif %}"
    )
    model = ModelConfig(path=str(base_model_folder), chat_template=template)
    result = train(rows(4), model=model)
    assert result.facts["ends_trained"] == 0
    assert result.facts["health"][0].startswith("NO_EOS: in 100.0% of the conversations")
    assert load_chat(ModelConfig(path=str(result.policy))).hash == result.facts["template"]


@pytest.mark.parametrize(
    ("trainer", "message"),
    [
        ({"assistant_only_loss": True}, "every assistant's turn"),
        ({"completion_only_loss": True}, "every assistant's turn"),
        ({"chat_template_path": "x"}, r"it is `model\.chat_template`"),
        ({"eos_token": "x"}, "chat template says what ends an answer"),
        ({"max_length": 8}, r"it is `sft\.max_length`"),
        ({"dataset_text_field": "x"}, "rows come tokenised"),
        ({"packing_strategy": "wrapped"}, "whole conversations are packed"),
        ({"padding_free": True}, "whole conversations are packed"),
        ({"seed": 3}, "it is the run's `seed`"),
        ({"packing": "yes"}, "packing is 'yes'; expected true or false"),
        ({"loss_type": "chunked_nll"}, "loss_type is 'chunked_nll'; expected one of nll, dft"),
        ({"learning_rat": 1}, "did you mean 'learning_rate'"),
        ({"beta": 0.1}, "has no SFTConfig key 'beta'"),
        ({"learning_rate": "fast"}, "expected a number"),
    ],
)
def test_keys_that_are_ours_unknown_or_useless_are_refused_before_weights_load(
    trainer: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        check_trainer(trainer, ModelConfig(path="no-such-model", device="cpu"))
    check_trainer({"packing": True, "learning_rate": "1e-4"}, ModelConfig(path="x", device="cpu"))


# Trains once for each job; every process leaves beside `out` what it saw.
_SCRIPT = """
import json, os, sys
from pathlib import Path
import torch
from dpo.train_sft import train_sft
from schemas.configs import ModelConfig, SftConfig

torch.set_num_threads(1)
for job in json.loads(sys.argv[1]):
    config = SftConfig.model_validate(job["config"])
    result = train_sft(
        config.data, ModelConfig(path=job["model"]), config, out=Path(job["out"]), seed=1
    )
    seen = {"steps": [step.model_dump() for step in result.steps], "facts": result.facts}
    Path(job["out"] + f".rank{os.environ['RANK']}.json").write_text(json.dumps(seen))
torch.distributed.destroy_process_group()
"""


def test_two_processes_train_as_one_does(
    train: Train, rows: Rows, tiny_model_folder: Path, tmp_path: Path
) -> None:
    # One row is held out, so that a process has none to measure. 11 are trained on, in global
    # batches of 8: in the last micro-batch of an epoch a process has a filler alone.
    source = rows(12)
    shared = {"learning_rate": 1e-3, "num_train_epochs": 2, "adam_epsilon": 1e-5}
    parts = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}
    cases: dict[str, dict[str, Any]] = {
        "lora": {"lora": SMALL_LORA},
        "packed": {"lora": None, "packing": True},
    }
    jobs = [
        {
            "out": str(tmp_path / f"two-{name}"),
            "model": str(tiny_model_folder),
            "config": SftConfig(
                data=(source,),
                lora=case["lora"],
                max_length=128,
                test_share=0.2,
                trainer={**shared, **parts, "packing": case.get("packing", False)},
            ).model_dump(mode="json"),
        }
        for name, case in cases.items()
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
    for name, case in cases.items():
        one = train(
            source,
            out=f"one-{name}",
            test_share=0.2,
            per_device_train_batch_size=8,
            **shared,
            **case,
        )
        first, second = (
            json.loads((tmp_path / f"two-{name}.rank{rank}.json").read_text()) for rank in (0, 1)
        )
        assert first["steps"] == second["steps"]
        assert first["facts"]["world_size"] == 2
        assert first["facts"]["rows"] == one.facts["rows"]
        assert one.facts["rows"]["held_out"] == 1
        assert_same_steps([SftStep.model_validate(step) for step in first["steps"]], one.steps)
        assert_same_weights(tmp_path / f"two-{name}" / "policy", one.policy)
        for when in ("loss_before", "loss_after"):
            ours = first["facts"]["held_out"][when]
            assert ours == pytest.approx(one.facts["held_out"][when], abs=1e-5)
        assert StepLog(tmp_path / f"two-{name}" / "steps.jsonl", SftStep).read()


def test_an_adapter_on_tied_embeddings_is_saved_as_it_was_measured(
    train: Train, rows: Rows, tiny_policy: Policy
) -> None:
    source = rows(12)
    lora = SMALL_LORA.model_copy(update={"target_modules": ("embed_tokens",)})
    result = train(source, lora=lora, learning_rate=1e-2, num_train_epochs=8)
    before, _ = mean_loss(tiny_policy.model, source, tiny_policy)
    saved = AutoModelForCausalLM.from_pretrained(result.policy)
    after, _ = mean_loss(saved, source, tiny_policy)
    assert after < result.steps[-1].loss + 0.1 < before


def test_a_conversation_longer_than_the_model_reads_is_refused(
    train: Train, rows: Rows, tiny_model_folder: Path, tmp_path: Path
) -> None:
    short = AutoModelForCausalLM.from_pretrained(tiny_model_folder, max_position_embeddings=16)
    short.save_pretrained(tmp_path / "short")
    AutoTokenizer.from_pretrained(tiny_model_folder).save_pretrained(tmp_path / "short")
    with pytest.raises(
        ValueError, match=r"TOO_LONG: .* reads at most 16; set sft.max_length to 16"
    ):
        train(rows(4), model=ModelConfig(path=str(tmp_path / "short")))
    train(rows(4), model=ModelConfig(path=str(tmp_path / "short")), max_length=16)
