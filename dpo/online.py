"""What online training, GRPO or PPO, leaves behind: its steps, its rollouts, its policy."""

from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import Field

from schemas.records import JsonText, Record

Means = Annotated[dict[str, float | None], JsonText()]
"""Values by the name of a reward; stored as JSON text."""


class OnlineStep(Record):
    """One step: rollouts sampled, scored and learned from, over all processes."""

    step: int
    """From 1."""
    tokens: int
    """Completion tokens sampled up to and with this step."""
    prompt_ids: tuple[str, ...]
    """One a rollout."""
    reward: float | None = None
    """Mean of the training reward over the rollouts that were judged, before any KL."""
    reward_std: float | None = None
    components: Means = Field(default_factory=dict)
    """Each reward's own mean, unweighted, over the rollouts that it judged."""
    held_out_rewards: Means = Field(default_factory=dict)
    """Means of the watched rewards, which train nothing, on the same rollouts."""
    held_out_reward: float | None = None
    """Mean of the training reward on held-out prompts, at the steps that answer them."""
    abstained: int = 0
    """Rollouts that no reward judged; they teach nothing."""
    equal_groups: float | None = None
    """GRPO: of the groups in which at least two answers were judged, the share whose rewards are
    all equal, which teach nothing either."""
    kl: float
    """Mean over completion tokens of log(policy / SFT model), nats a token: how far the policy that
    sampled has moved."""
    entropy: float
    """Mean over completion tokens of the policy's entropy, nats a token."""
    length: float
    """Mean completion tokens."""
    unfinished: float
    """Share of rollouts that were cut off at the limit."""
    loss: float
    learning_rate: float
    grad_norm: float
    """Before clipping; the mean over the step's updates."""
    policy_loss: float | None = None
    value_loss: float | None = None
    clip_fraction: float | None = None
    """Share of tokens whose probability ratio was clipped."""
    explained_variance: float | None = None
    """PPO: 1 - Var(return - value) / Var(return), before the step's updates."""
    kl_coef: float | None = None
    """PPO: the weight of the KL in this step's rewards."""


class Rollout(Record):
    """One sampled answer and what it was worth."""

    step: int
    prompt_id: str
    text: str
    tokens: int
    finished: bool
    reward: float | None = None
    components: Means = Field(default_factory=dict)
    held_out_rewards: Means = Field(default_factory=dict)
    advantage: float | None = None
    """GRPO: of the answer in its group; PPO: the mean over its tokens, before whitening."""
    kl: float
    """Sum over its tokens of log(policy / SFT model), nats."""


class OnlineResult(NamedTuple):
    """A policy trained online, and how."""

    policy: Path
    """An adapter's folder after LoRA, else a whole model's; the tokenizer lies in it."""
    steps: list[OnlineStep]
    facts: dict[str, Any]
