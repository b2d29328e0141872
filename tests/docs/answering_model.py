"""A tiny model that answers in short sentences which end, as a random one does not."""

from pathlib import Path
from random import Random

from curation.tiny import build_tiny_model

_STEPS = 100
_BATCH = 24
_SUBJECTS = ("The house", "A cat", "The sky", "My name", "It", "This week", "The capital of France")
_VERBS = ("is", "was", "is not", "has")
_THINGS = ("small", "red", "old", "Alex", "12", "a cat, a house and a sky", "very old and very red")
_ASKED = ("What is it?", "Who are you?", "Describe the house in one sentence.", "How many?")


def build_answering_model(folder: Path) -> Path:
    """The folder, with a tiny Llama in it that has seen a few thousand made-up answers."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    build_tiny_model(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    rng = Random(0)
    model.train()
    for _ in range(_STEPS):
        rows = [_row(tokenizer, rng) for _ in range(_BATCH)]
        width = max(len(ids) for ids, _ in rows)
        ids = torch.tensor([row + [tokenizer.pad_token_id] * (width - len(row)) for row, _ in rows])
        labels = torch.tensor(
            [[-100] * start + row[start:] + [-100] * (width - len(row)) for row, start in rows]
        )
        mask = (torch.arange(width) < torch.tensor([[len(row)] for row, _ in rows])).long()
        optimiser.zero_grad()
        model(input_ids=ids, attention_mask=mask, labels=labels).loss.backward()
        optimiser.step()
    model.save_pretrained(folder)
    return folder


def _row(tokenizer: object, rng: Random) -> tuple[list[int], int]:
    """A conversation's tokens up to the end token, and where its answer begins."""
    asked = [{"role": "user", "content": rng.choice(_ASKED)}]
    answer = " ".join(
        f"{rng.choice(_SUBJECTS)} {rng.choice(_VERBS)} {rng.choice(_THINGS)}."
        for _ in range(rng.choice((1, 2, 3, 4)))
    )
    render = tokenizer.apply_chat_template  # type: ignore[attr-defined]
    prompt = render(asked, add_generation_prompt=True, tokenize=False)
    encode = tokenizer.encode  # type: ignore[attr-defined]
    start = encode(prompt, add_special_tokens=False)
    return start + encode(f"{answer}<|im_end|>", add_special_tokens=False), len(start)
