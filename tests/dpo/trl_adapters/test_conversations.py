"""Our SFT trainer against stock TRL, and packed conversations against the same ones alone."""

from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch

from curation.models import load_chat
from curation.tiny import CHATML, build_tiny_model
from curation.turns import EncodedTurns, encode_turns
from dpo.conversations import ConversationTokens
from dpo.packing import best_fit
from dpo.sft_args import trainer_args
from dpo.sft_step import SftStep
from dpo.trl_adapters.conversations import ConversationCollator, ConversationTrainer
from schemas.configs import ModelConfig
from schemas.records import Message

WORDS = ("the", "cat", "house", "red", "small", "sky", "blue", "week", "days", "warm", "chair")
# The tiny model's template, with the end token inside markers, for TRL's own mask.
MARKED = CHATML.replace(
    "(message.content or '') }}",
    "('' if message.role == 'assistant' else (message.content or '')) }}"
    "{%- if message.role == 'assistant' -%}{% generation %}"
    "{{ message.content + '<|im_end|>' }}{% endgeneration %}{%- endif -%}",
).replace(
    "{{ '<|im_end|>\\n' }}\n{%- endfor -%}",
    "{{ ('' if message.role == 'assistant' else '<|im_end|>') + '\\n' }}\n{%- endfor -%}",
)


def conversation(number: int) -> list[dict[str, str]]:
    """One of a fixed series, of one to three exchanges."""
    rng = Random(number)
    return [
        {"role": role, "content": " ".join(rng.choices(WORDS, k=rng.randint(1, 9)))}
        for _ in range(rng.randint(1, 3))
        for role in ("user", "assistant")
    ]


@pytest.fixture(scope="module")
def marked_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("marked") / "model", template=MARKED)


def tokens(folder: Path, count: int) -> list[ConversationTokens]:
    chat = load_chat(ModelConfig(path=str(folder)))
    conversations = [
        ([Message.model_validate(turn) for turn in conversation(number)], None)
        for number in range(count)
    ]
    rows = []
    for number, encoded in enumerate(encode_turns(chat, conversations)):
        assert isinstance(encoded, EncodedTurns)
        rows.append(ConversationTokens(f"s-{number}", "g", encoded.ids, encoded.mask))
    return rows


def our_trainer(
    folder: Path,
    out: Path,
    rows: list[ConversationTokens],
    *,
    packs: Any = None,
    model: Any = None,
    on_step: Any = lambda record, total: None,
    **keys: Any,
) -> ConversationTrainer:
    from transformers import AutoModelForCausalLM

    return ConversationTrainer(
        model or AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32),
        trainer_args(keys, folder=out, seed=1, cpu=True, bf16=False),
        rows,
        load_chat(ModelConfig(path=str(folder))).tokenizer,
        packs=packs,
        on_step=on_step,
    )


def loss_and_gradients(trainer: ConversationTrainer) -> tuple[float, dict[str, torch.Tensor]]:
    """Of one step over the trainer's whole data."""
    trainer.model.train()
    trainer.model.zero_grad()
    batches, count = trainer.get_batch_samples(
        iter(trainer.get_train_dataloader()), 1, torch.device("cpu")
    )
    loss = trainer.compute_loss(trainer.model, batches[0], num_items_in_batch=count)
    loss.backward()
    return loss.item(), {
        name: weight.grad.clone() for name, weight in trainer.model.named_parameters()
    }


def test_padding_that_is_the_end_token_masks_only_itself() -> None:
    rows = [ConversationTokens("s", "g", [5, 6, 7, 2], [1, 1, 1, 1])]
    batch = ConversationCollator(rows, 2, 6, packed=False)([{"rows": [0], "real": True}])
    assert batch["labels"].tolist() == [[5, 6, 7, 2, -100, -100]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1, 0, 0]]
    assert batch["input_ids"].tolist() == [[5, 6, 7, 2, 2, 2]]


def test_what_the_assistant_does_not_say_is_not_trained() -> None:
    rows = [ConversationTokens("s", "g", [5, 6, 7, 2], [0, 1, 0, 1])]
    batch = ConversationCollator(rows, 2, None, packed=False)([{"rows": [0], "real": True}])
    assert batch["labels"].tolist() == [[-100, 6, -100, 2]]
    filler = ConversationCollator(rows, 2, None, packed=False)([{"rows": [0], "real": False}])
    assert filler["labels"].tolist() == [[-100] * 4]
    assert filler["row_ids"] == []


def test_packed_positions_begin_anew_and_no_conversation_predicts_the_next() -> None:
    rows = [
        ConversationTokens("a", "g", [5, 6, 2], [1, 1, 1]),
        ConversationTokens("b", "g", [7, 2], [1, 1]),
        ConversationTokens("c", "g", [8, 2], [0, 1]),
    ]
    batch = ConversationCollator(rows, 0, None, packed=True)(
        [{"rows": [0, 1], "real": True}, {"rows": [2], "real": True}]
    )
    assert "attention_mask" not in batch
    assert batch["input_ids"].tolist() == [[5, 6, 2, 7, 2], [8, 2, 0, 0, 0]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0, 1], [0, 1, 0, 0, 0]]
    assert batch["labels"].tolist() == [[-100, 6, 2, -100, 2], [-100, 2, -100, -100, -100]]
    assert batch["row_ids"] == ["a", "b", "c"]


def test_a_run_has_the_losses_of_stock_trl_with_markers(
    marked_folder: Path, tmp_path: Path
) -> None:
    from datasets import Dataset
    from transformers import AutoModelForCausalLM
    from trl import SFTConfig, SFTTrainer

    keys = {
        "learning_rate": 1e-3,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2,
        "num_train_epochs": 2,
    }
    stock = SFTTrainer(
        AutoModelForCausalLM.from_pretrained(marked_folder, dtype=torch.float32),
        SFTConfig(
            output_dir=str(tmp_path / "stock"),
            assistant_only_loss=True,
            seed=1,
            data_seed=1,
            use_cpu=True,
            bf16=False,
            activation_checkpointing=False,
            logging_steps=1,
            save_strategy="no",
            disable_tqdm=True,
            report_to="none",
            **keys,
        ),
        train_dataset=Dataset.from_list([{"messages": conversation(at)} for at in range(11)]),
        processing_class=load_chat(ModelConfig(path=str(marked_folder))).tokenizer,
    )
    stock.train()
    theirs = [entry for entry in stock.state.log_history if "loss" in entry]

    ours: list[SftStep] = []
    our_trainer(
        marked_folder,
        tmp_path / "ours",
        tokens(marked_folder, 11),
        on_step=lambda record, total: ours.append(record),
        save_strategy="no",
        **keys,
    ).train()

    assert [len(step.row_ids) for step in ours] == [4, 4, 3, 4, 4, 3]
    for step, entry in zip(ours, theirs, strict=True):
        assert step.loss == pytest.approx(entry["loss"], abs=1e-6)
        assert step.grad_norm == pytest.approx(entry["grad_norm"], abs=1e-4)
        assert step.learning_rate == pytest.approx(entry["learning_rate"])


@pytest.mark.parametrize("room", [130, 1000])
def test_packed_loss_and_gradients_are_those_of_the_same_conversations_alone(
    room: int, tiny_model_folder: Path, tmp_path: Path
) -> None:
    rows = tokens(tiny_model_folder, 9)
    packs = best_fit([len(row.ids) for row in rows], room)
    assert any(len(pack) > 1 for pack in packs)
    alone_loss, alone = loss_and_gradients(
        our_trainer(tiny_model_folder, tmp_path / "a", rows, per_device_train_batch_size=9)
    )
    packed_loss, packed = loss_and_gradients(
        our_trainer(
            tiny_model_folder, tmp_path / "p", rows, packs=packs, per_device_train_batch_size=9
        )
    )
    assert packed_loss == pytest.approx(alone_loss, abs=1e-6)
    for name, gradient in alone.items():
        torch.testing.assert_close(packed[name], gradient, rtol=0, atol=1e-6)


def test_a_model_whose_state_runs_on_through_a_pack_is_refused(
    tiny_model_folder: Path, tmp_path: Path
) -> None:
    from transformers import MambaConfig, MambaForCausalLM

    torch.manual_seed(0)
    model = MambaForCausalLM(
        MambaConfig(vocab_size=512, hidden_size=32, num_hidden_layers=1, state_size=4)
    )
    rows = tokens(tiny_model_folder, 3)
    with pytest.raises(ValueError, match=r"PACKING_LEAKS: .* mamba lets packed"):
        our_trainer(tiny_model_folder, tmp_path, rows, packs=[(0, 1, 2)], model=model)
    our_trainer(tiny_model_folder, tmp_path, rows, packs=[(0,), (1,), (2,)], model=model)


def test_the_held_out_loss_is_the_mean_over_tokens_at_any_batch_size(
    tiny_model_folder: Path, tmp_path: Path
) -> None:
    rows = tokens(tiny_model_folder, 7)
    found = [
        our_trainer(
            tiny_model_folder, tmp_path, rows[:1], per_device_eval_batch_size=size
        ).held_out(rows)
        for size in (1, 3)
    ]
    trainer = our_trainer(tiny_model_folder, tmp_path, rows, per_device_train_batch_size=7)
    assert found[0].tokens == found[1].tokens == sum(row.trained for row in rows)
    assert found[0].loss == pytest.approx(found[1].loss, abs=1e-6)
    assert found[0].loss == pytest.approx(loss_and_gradients(trainer)[0], abs=1e-6)
