"""Two columns that must come from two policies, also where both are one model."""

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from curation.generators import TransformersGenerator
from curation.models import Policy, load_policy
from pairwright.terminal_chat import Answers, converse, side_by_side
from schemas.configs import EvaluateConfig, ModelConfig
from schemas.records import Message, Prompt

GREEDY = EvaluateConfig(temperature=0, max_new_tokens=12)


@pytest.fixture
def adapted(tiny_model_folder: Path) -> Policy:
    """The tiny model under an adapter that changes what it says."""
    import torch
    from peft import LoraConfig, get_peft_model

    plain = load_policy(ModelConfig(path=str(tiny_model_folder), device="cpu"))
    torch.manual_seed(0)
    lora = LoraConfig(r=4, lora_alpha=64, target_modules="all-linear", init_lora_weights=False)
    return plain._replace(model=get_peft_model(plain.model, lora))


def alone(policy: Policy, *turns: tuple[str, str]) -> str:
    prompt = Prompt(messages=tuple(Message(role=role, content=text) for role, text in turns))
    generator = TransformersGenerator(policy, GREEDY, batch_size=1, seed=0)
    ((_, (candidate,)),) = generator.generate([prompt], n=1)
    return candidate.completion.text


def test_the_sft_model_answers_without_the_adapter_that_it_shares(
    adapted: Policy, tiny_policy: Policy
) -> None:
    base = adapted._replace(name="base")
    (said,) = converse(["Name a bird."], base, adapted, GREEDY, seed=0)
    assert said.answers["SFT model"] == alone(tiny_policy, ("user", "Name a bird."))
    assert said.answers["policy"] == alone(adapted, ("user", "Name a bird."))
    assert said.answers["policy"] != said.answers["SFT model"]


def test_each_side_remembers_its_own_answers_until_the_conversation_starts_afresh(
    adapted: Policy, tiny_policy: Policy
) -> None:
    base = adapted._replace(name="base")
    lines = ["one", " ", "two", "/new", "one"]
    first, second, afresh = converse(lines, base, adapted, GREEDY, seed=0)
    heard = [("user", "one"), ("assistant", first.answers["SFT model"]), ("user", "two")]
    assert second.answers["SFT model"] == alone(tiny_policy, *heard)
    assert afresh.answers == first.answers


def test_what_would_command_the_terminal_is_shown_as_text() -> None:
    said = Answers("name \x1b[2J", {"SFT model": "a\x1b]0;x\x07", "policy": "b\nc"})
    console = Console(width=60, file=StringIO(), record=True)
    console.print(side_by_side(said))
    shown = console.export_text(styles=False)
    assert "␛[2J" in shown
    assert "a␛]0;x␇" in shown
    assert not {"\x1b", "\x07"} & set(shown)
