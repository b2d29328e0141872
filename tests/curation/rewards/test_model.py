import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.chat import TemplateError
from curation.models import Policy
from curation.rewards.model import RewardModel
from curation.rewards.weighted import WeightedSum, build_reward, checked_scores
from curation.tiny import build_tiny_reward_model
from schemas.configs import RewardConfig
from schemas.interfaces import RewardFunction
from schemas.records import Completion, Message, Prompt

TEXTS = ["a", "bb bb bb bb", "ccc ccc", "THE SKY IS BLUE. " * 20, "[end]", "été 天 🙂"]


def prompt(text: str = "Why is the sky blue?") -> Prompt:
    return Prompt(messages=(Message(role="user", content=text),))


def rows(texts: list[str]) -> tuple[list[Prompt], list[Completion]]:
    return [prompt()] * len(texts), [Completion.from_text(text) for text in texts]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return build_tiny_reward_model(tmp_path_factory.mktemp("reward") / "rm")


@pytest.fixture(scope="module")
def model(folder: Path) -> RewardModel:
    return RewardModel(str(folder), device="cpu")


@pytest.fixture
def variant(folder: Path, tmp_path: Path) -> Callable[[str, Callable[[Any], None]], str]:
    """A copy of the reward model in which one JSON file was changed."""

    def change(name: str, edit: Callable[[Any], None]) -> str:
        for file in folder.iterdir():
            (tmp_path / file.name).write_bytes(file.read_bytes())
        content = json.loads((tmp_path / name).read_text(encoding="utf-8"))
        edit(content)
        (tmp_path / name).write_text(json.dumps(content), encoding="utf-8")
        return str(tmp_path)

    return change


def reference_score(folder: Path, text: str) -> float:
    """The score of one unpadded row by transformers alone, the pad token out of the way."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    net = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    net.config.pad_token_id = None
    conversation = f"[user] Why is the sky blue?[end][assistant] {text}[end]"
    ids = tokenizer(conversation, add_special_tokens=False, return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        return float(net(input_ids=ids).logits[0, 0])


def test_a_score_is_that_of_transformers_on_one_unpadded_row(
    folder: Path, model: RewardModel
) -> None:
    scores = model(*rows(TEXTS))
    assert scores == pytest.approx([reference_score(folder, text) for text in TEXTS], abs=1e-5)
    assert len(set(scores)) == len(TEXTS)


def test_scores_do_not_depend_on_batch_size_or_padding_side(
    folder: Path, variant: Callable[[str, Callable[[Any], None]], str]
) -> None:
    found = []
    for side in ("left", "right"):

        def pad_there(config: Any, side: str = side) -> None:
            config["padding_side"] = side

        path = variant("tokenizer_config.json", pad_there)
        for size in (1, 2, 3, 16):
            found.append(RewardModel(path, batch_size=size, device="cpu")(*rows(TEXTS)))
    for scores in found:
        assert scores == pytest.approx(found[0], abs=1e-5)


@given(st.permutations(range(len(TEXTS))), st.integers(1, len(TEXTS)))
@settings(max_examples=25, deadline=None)
def test_scores_do_not_depend_on_order_or_company(
    model: RewardModel, order: list[int], kept: int
) -> None:
    alone = [model(*rows([text]))[0] for text in TEXTS]
    chosen = order[:kept]
    together = model(*rows([TEXTS[index] for index in chosen]))
    assert together == pytest.approx([alone[index] for index in chosen], abs=1e-5)


@pytest.mark.parametrize("pad", ["[end]", None])
def test_a_pad_token_that_also_ends_turns_does_not_move_the_score(
    folder: Path,
    model: RewardModel,
    variant: Callable[[str, Callable[[Any], None]], str],
    pad: str | None,
) -> None:
    def set_pad(config: Any) -> None:
        config["pad_token"] = pad

    same = RewardModel(variant("tokenizer_config.json", set_pad), batch_size=3, device="cpu")
    assert same(*rows(TEXTS)) == pytest.approx(model(*rows(TEXTS)), abs=1e-5)


def test_the_reward_models_own_vocabulary_and_template_are_used(
    model: RewardModel, tiny_policy: Policy
) -> None:
    asked, sampled = prompt(), tiny_policy.tokenizer("The sky.")["input_ids"]
    answer = Completion.from_text("The sky.", token_ids=tuple(sampled), finish_reason="length")
    plain = Completion.from_text("The sky.")
    assert model([asked], [answer]) == model([asked], [plain])
    assert tiny_policy.chat.hash != model.template


def test_another_template_gives_another_score(
    folder: Path, model: RewardModel, tmp_path: Path
) -> None:
    template = tmp_path / "rm.jinja"
    template.write_text(
        "{% for m in messages %}{{ m.role }}: {{ m.content }}[end]{% endfor %}", encoding="utf-8"
    )
    other = RewardModel(str(folder), chat_template=str(template), device="cpu")
    assert other.template != model.template
    assert other(*rows(["a"])) != model(*rows(["a"]))


def test_a_conversation_over_the_limit_abstains_and_is_counted(folder: Path) -> None:
    short, long = "a", "bb bb bb bb " * 10
    whole = RewardModel(str(folder), device="cpu")(*rows([short, long]))
    limited = RewardModel(str(folder), device="cpu", max_length=60)
    assert limited(*rows([long, short, long])) == [None, pytest.approx(whole[0], abs=1e-5), None]
    assert limited.abstained == {"TOO_LONG": 2}


def test_the_limit_is_at_most_what_the_model_reads(folder: Path) -> None:
    model = RewardModel(str(folder), device="cpu")
    assert model(*rows(["word " * 3000])) == [None]
    assert model.abstained == {"TOO_LONG": 1}
    with pytest.raises(ValueError, match="max_length is 4096 but it reads at most 2048"):
        RewardModel(str(folder), max_length=4096)


def test_a_row_that_the_template_does_not_render_abstains_and_is_counted(folder: Path) -> None:
    model = RewardModel(str(folder), device="cpu")
    scores = model(*rows(["fine", "broken \ud800"]))
    assert scores[0] is not None
    assert scores[1] is None
    assert model.abstained == {"NOT_UNICODE": 1}


def test_a_batch_of_such_rows_alone_abstains_as_in_any_other_batch(folder: Path) -> None:
    model = RewardModel(str(folder), device="cpu")
    assert model(*rows(["\ud800", "\ud801"])) == [None, None]
    assert model.abstained == {"NOT_UNICODE": 2}


def test_an_answer_that_the_template_rewrites_abstains_though_it_is_a_batch_of_its_own(
    folder: Path, tmp_path: Path
) -> None:
    template = tmp_path / "drops_thoughts.jinja"
    template.write_text(
        "{% for m in messages %}[{{ m.role }}]{{ m.content.split('</think>') | last }}[end]"
        "{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
    )
    model = RewardModel(str(folder), device="cpu", chat_template=str(template))
    (alone,) = model(*rows(["so </think> it is"]))
    beside, plain = model(*rows(["so </think> it is", "it is"]))
    assert alone is beside is None
    assert plain is not None
    assert sum(model.abstained.values()) == 2


def test_a_template_that_renders_no_row_is_refused(folder: Path, tmp_path: Path) -> None:
    template = tmp_path / "no_answers.jinja"
    template.write_text(
        "{% for m in messages if m.role == 'user' %}{{ m.content }}[end]{% endfor %}"
    )
    model = RewardModel(str(folder), device="cpu", chat_template=str(template))
    with pytest.raises(ValueError, match="can read none of 2 rows; the first: an answer to"):
        model(*rows(["a", "b"]))


def test_a_model_without_a_template_is_refused_when_it_is_named(
    variant: Callable[[str, Callable[[Any], None]], str], tmp_path: Path
) -> None:
    path = variant("tokenizer_config.json", lambda config: config.pop("chat_template", None))
    (tmp_path / "chat_template.jinja").unlink(missing_ok=True)
    with pytest.raises(TemplateError) as caught:
        RewardModel(path)
    assert caught.value.code == "NO_TEMPLATE"


def test_a_template_given_for_a_model_without_one_is_used(
    folder: Path,
    model: RewardModel,
    variant: Callable[[str, Callable[[Any], None]], str],
    tmp_path: Path,
) -> None:
    path = variant("tokenizer_config.json", lambda config: config.pop("chat_template", None))
    own = (folder / "chat_template.jinja").read_bytes()
    (tmp_path / "chat_template.jinja").unlink()
    (tmp_path / "given.jinja").write_bytes(own)
    given = RewardModel(path, chat_template=tmp_path / "given.jinja", device="cpu")
    assert given.template == model.template
    assert given(*rows(TEXTS)) == pytest.approx(model(*rows(TEXTS)), abs=1e-5)


def test_a_score_on_bfloat16_weights_is_no_bfloat16_number(folder: Path) -> None:
    model = RewardModel(str(folder), device="cpu", dtype="bfloat16")
    scores = torch.tensor([score or 0.0 for score in model(*rows(TEXTS[:3]))])
    assert not torch.equal(scores, scores.bfloat16().float())


def test_a_score_that_is_not_finite_is_refused_by_reward_and_row(folder: Path) -> None:
    model = RewardModel(str(folder), name="broken", device="cpu")
    with torch.inference_mode():
        model._model.score.weight[0, 0] = math.inf
    with pytest.raises(ValueError, match=r"reward 'broken', row 0 .*the score is -?inf"):
        checked_scores(model, *rows(["a", "b"]))


def test_a_language_model_is_no_reward_model(tiny_model_folder: Path) -> None:
    model = RewardModel(str(tiny_model_folder), device="cpu")
    with pytest.raises(ValueError, match=r"no trained score\.weight"):
        model(*rows(["a"]))


def test_a_model_with_two_labels_is_refused(tmp_path: Path, folder: Path) -> None:
    from transformers import AutoTokenizer, LlamaConfig, LlamaForSequenceClassification

    config = LlamaConfig.from_pretrained(folder, num_labels=2)
    LlamaForSequenceClassification(config).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="has 2 labels; expected 1"):
        RewardModel(str(tmp_path), device="cpu")(*rows(["a"]))


def test_weights_load_at_the_first_call_and_are_known_by_their_hash(
    folder: Path, tmp_path: Path
) -> None:
    model = RewardModel(str(folder), device="cpu")
    assert "_model" not in vars(model)
    model(*rows(["a"]))
    assert "_model" in vars(model)
    same = build_tiny_reward_model(tmp_path / "same")
    other = build_tiny_reward_model(tmp_path / "other", seed=1)
    assert RewardModel(str(same)).weights == model.weights
    assert RewardModel(str(other)).weights != model.weights


def test_a_reward_model_is_a_reward_function_alone_and_in_a_sum(
    folder: Path, model: RewardModel
) -> None:
    assert isinstance(model, RewardFunction)
    assert model.name == "rm"
    built = build_reward(
        [RewardConfig(use="curation.rewards.model:RewardModel", args={"path": str(folder)})]
    )
    assert built.kind == "reward_model"
    scores = checked_scores(model, *rows(TEXTS))
    assert WeightedSum([(model, 1.0, "rm")])(*rows(TEXTS)) == scores
    assert built(*rows(TEXTS)) == pytest.approx(scores, abs=1e-5)


def test_an_empty_list_has_no_scores(model: RewardModel) -> None:
    assert model([], []) == []
