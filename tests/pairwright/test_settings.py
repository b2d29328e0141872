"""What of a config a stage's files depend on, and which rewards it asks."""

from pathlib import Path
from typing import Any

from pairwright.settings import (
    evaluation_abstain,
    evaluation_rewards,
    online_reward,
    stage_settings,
    trained_here,
)
from schemas.configs import Config, RewardConfig

RULE = {"use": "curation.rewards.rules:LengthReward", "args": {"at_most": 9}}
OTHER = {"use": "curation.rewards.rules:RegexReward", "args": {"pattern": "x"}}
ENDPOINT = {"base_url": "http://localhost/v1", "model": "m"}
JUDGE = {"use": "curation.judges:PairwiseJudge", "args": {"endpoint": ENDPOINT}}


def config(**sections: Any) -> Config:
    start = {"run": "runs/one", "model": {"path": "tiny"}, "prompts": {"path": "prompts.jsonl"}}
    return Config.model_validate({**start, **sections})


def test_a_policy_is_trained_online_for_its_own_rewards_or_else_for_those_that_rank() -> None:
    own = config(rank={"rewards": [OTHER], "abstain": "abstain"}, ppo={"rewards": [RULE]})
    ranked = config(rank={"rewards": [OTHER], "abstain": "abstain"}, ppo={})
    judged = config(rank={"judge": JUDGE}, grpo={})

    (reward,) = online_reward(own).rewards  # type: ignore[union-attr]
    assert reward == RewardConfig.model_validate(RULE)
    assert online_reward(ranked).rewards == ranked.rank.rewards  # type: ignore[union-attr]
    assert evaluation_rewards(own) == (reward,)
    assert evaluation_abstain(own) == "abstain"
    assert online_reward(judged).judge == judged.rank.judge  # type: ignore[union-attr]
    assert evaluation_rewards(judged) == ()
    assert online_reward(config(rank={"rewards": [RULE]})) is None


def test_how_an_endpoint_is_asked_enters_no_fingerprint() -> None:
    def settings(**pace: Any) -> list[dict[str, Any]]:
        endpoint = {**ENDPOINT, **pace}
        judge = {**JUDGE, "args": {"endpoint": endpoint}}
        made = config(generate={"endpoint": endpoint}, rank={"judge": judge}, grpo={})
        return [stage_settings(made, stage) for stage in ("generate", "rank", "grpo")]

    slow = {"concurrency": 1, "retries": 9, "timeout": 3, "max_tokens": 10, "key_variable": "K"}
    assert settings() == settings(**slow)
    assert all(one != two for one, two in zip(settings(), settings(model="n"), strict=True))


def test_what_changes_no_number_of_ppo_enters_no_fingerprint() -> None:
    one, two = (
        stage_settings(
            config(ppo={"rewards": [RULE], "microbatch": size, "save_steps": size}), "ppo"
        )
        for size in (2, 4)
    )
    assert one == two


def test_the_runs_own_reward_model_is_known_by_its_folder() -> None:
    reward = RewardConfig(
        use="curation.rewards.model:RewardModel", args={"path": "runs/one/reward/model"}
    )
    absolute = reward.model_copy(
        update={"args": {"path": str(Path("runs/one/reward/model").resolve())}}
    )
    elsewhere = reward.model_copy(update={"args": {"path": "runs/two/reward/model"}})
    made = config(reward={})

    assert trained_here(made, reward)
    assert trained_here(made, absolute)
    assert not trained_here(made, elsewhere)
    assert not trained_here(config(), reward)
