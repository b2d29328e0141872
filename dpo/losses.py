"""Losses and advantages of DPO, reward models, GRPO and PPO: tensors in, tensors out.

Losses come back per pair (B,) or per token (B, T), for a caller that averages over all processes'
pairs or tokens. Axes: B batch, T tokens, P prompts, G answers to a prompt, V vocabulary.

A mask (B, T) is 1 at the completion tokens that count, 0 at prompt, padding and answers that nobody
judged. Where it is 0, inputs may hold anything, NaN included, and results are 0.
"""

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch.nn.functional import logsigmoid

if TYPE_CHECKING:
    from torch import Tensor

_WHITEN_EPS = 1e-8


# Pairs


def log_ratio_margin(
    chosen_logps: "Tensor",
    rejected_logps: "Tensor",
    ref_chosen_logps: "Tensor",
    ref_rejected_logps: "Tensor",
) -> "Tensor":
    """How much more the policy prefers chosen over rejected than its reference does, (B,).

    log(pi(y_w|x) / ref(y_w|x)) - log(pi(y_l|x) / ref(y_l|x)): times beta, the difference of the
    implicit rewards of Rafailov et al. (2023), eq. 5. All arguments are (B,) summed log-probs.
    """
    return (chosen_logps - ref_chosen_logps) - (rejected_logps - ref_rejected_logps)


def expected_loss(
    as_labelled: "Tensor", if_flipped: "Tensor", p_chosen: "Tensor", weight: "Tensor"
) -> "Tensor":
    """The loss of each pair, (B,): w * [p * loss(+) + (1 - p) * loss(-)].

    The expected loss where chosen is truly better with probability p, times the pair's weight.
    `if_flipped` is the loss of the same pairs with their sides swapped. All are (B,).
    """
    return weight * (p_chosen * as_labelled + (1 - p_chosen) * if_flipped)


def dpo_loss(margins: "Tensor", beta: float) -> "Tensor":
    """The loss of each pair, (B,): -log sigmoid(beta * margin), Rafailov et al. (2023), eq. 7.

    log 2 where the policy is its reference.
    """
    return -logsigmoid(beta * margins)


def confident_dpo_loss(
    margins: "Tensor", beta: float, p_chosen: "Tensor", weight: "Tensor"
) -> "Tensor":
    """The `expected_loss` of each pair, (B,), under `dpo_loss`.

    With one p for all pairs it is the conservative DPO of Mitchell (2023), eq. 3. Equal to
    `dpo_loss` where p and w are 1. For p below 1 the loss is least at a finite margin,
    log(p / (1 - p)) / beta.

    margins, p_chosen, weight: (B,).
    """
    return expected_loss(dpo_loss(margins, beta), dpo_loss(-margins, beta), p_chosen, weight)


def reward_model_loss(
    chosen_b: "Tensor",
    rejected_b: "Tensor",
    margin_b: "Tensor",
    p_chosen_b: "Tensor",
    weight_b: "Tensor",
) -> "Tensor":
    """The `expected_loss` of each pair, (B,), under -log sigmoid(better - worse - margin).

    Ouyang et al. (2022), eq. 1; the margin, which the better side's reward must gain on the other,
    is that of Touvron et al. (2023), eq. 2, and 0 where a pair has none. It goes with whichever
    side is better: at p = 1/2 the loss is least where the rewards are equal.

    chosen_b, rejected_b: rewards, (B,); the others: (B,).
    """
    as_labelled = -logsigmoid(chosen_b - rejected_b - margin_b)
    if_flipped = -logsigmoid(rejected_b - chosen_b - margin_b)
    return expected_loss(as_labelled, if_flipped, p_chosen_b, weight_b)


# Rewards and advantages


def group_advantages(
    rewards_PG: "Tensor",  # noqa: N803 (axes are capitals)
    *,
    scale: bool = True,
    eps: float = 1e-4,
) -> "Tensor":
    """How much better each answer is than its group, (P, G): (r - mean) / (std + eps).

    Shao et al. (2024), sect. 4.1.2; std has n - 1. Without `scale` the mean alone is taken off, as
    Liu et al. (2025) advise. NaN is an answer that nobody judged: it is left out of mean and std,
    and its advantage is 0. Exactly 0 in a group of equal rewards or of fewer than two judged.
    """
    judged = ~rewards_PG.isnan()
    count = judged.sum(dim=1, keepdim=True)
    rewards = rewards_PG.where(judged, 0.0)
    mean = rewards.sum(dim=1, keepdim=True) / count.clamp(min=1)
    highest = rewards_PG.where(judged, -torch.inf).amax(dim=1, keepdim=True)
    lowest = rewards_PG.where(judged, torch.inf).amin(dim=1, keepdim=True)
    # Not left to the subtraction: the mean of equal floats is not always that float.
    teaches = judged & (highest > lowest)
    deviations = (rewards - mean).where(teaches, 0.0)
    if not scale:
        return deviations
    variance = deviations.square().sum(dim=1, keepdim=True) / (count - 1).clamp(min=1)
    return (deviations / (variance.sqrt() + eps)).where(teaches, 0.0)


def token_rewards(
    scores_b: "Tensor", logps: "Tensor", ref_logps: "Tensor", mask: "Tensor", kl_coef: float
) -> "Tensor":
    """What each completion token earns, (B, T): -kl_coef * log(policy / reference).

    The last completion token, which is EOS where the answer is finished, earns the answer's score
    too: their sum is the reward of Ziegler et al. (2019), eq. 2, also Stiennon et al. (2020).

    scores_b: (B,), finite wherever the mask has a token; logps, ref_logps, mask: (B, T).
    """
    counts = mask.bool()
    log_ratios = (logps - ref_logps).where(counts, 0.0)
    tokens_left = counts.flip(-1).cumsum(-1).flip(-1)
    last = counts & (tokens_left == 1)
    return scores_b.unsqueeze(-1).where(last, 0.0) - kl_coef * log_ratios


class Advantages(NamedTuple):
    """How much better than expected each token was, and what it led to."""

    advantages: "Tensor"
    """(B, T)."""
    returns: "Tensor"
    """Advantage + value, (B, T): what the value model is to learn."""


def gae(
    rewards: "Tensor", values: "Tensor", mask: "Tensor", gamma: float, lam: float
) -> Advantages:
    """Generalised advantage estimates, Schulman et al. (2016), eq. 11-16.

    delta_t = r_t + gamma * V_{t+1} - V_t and A_t = delta_t + gamma * lam * A_{t+1}, where t + 1 is
    the next token that the mask counts; after the last one, value and advantage are 0. lam = 1
    gives returns that are the discounted rewards to come, whatever the values.

    rewards, values, mask: (B, T); `values[b, t]` is expected before token t is chosen.
    """
    counts = mask.bool()
    rewards, values = rewards.where(counts, 0.0), values.where(counts, 0.0)
    next_value = next_advantage = torch.zeros_like(values[:, 0])
    backwards = []
    for t in reversed(range(values.shape[1])):
        delta = rewards[:, t] + gamma * next_value - values[:, t]
        advantage = delta + gamma * lam * next_advantage
        next_value = values[:, t].where(counts[:, t], next_value)
        next_advantage = advantage.where(counts[:, t], next_advantage)
        backwards.append(advantage)
    advantages = torch.stack(backwards[::-1], dim=1).where(counts, 0.0)
    return Advantages(advantages, advantages + values)


def whiten(values: "Tensor", mask: "Tensor") -> "Tensor":
    """The values with mean 0 and variance 1 (n - 1) over the mask, (B, T).

    All 0 where the mask has fewer than two tokens or all values are equal. Values that differ by
    less than about 1e-4 keep a variance below 1.
    """
    counts = mask.bool()
    counted = values[counts]
    if len(counted) < 2:
        return torch.zeros_like(values)
    scale = (counted.var() + _WHITEN_EPS).rsqrt()
    return ((values - counted.mean()) * scale).where(counts, 0.0)


def adapted_kl_coef(coef: float, kl: float, target: float, horizon: float, rollouts: int) -> float:
    """The weight of the KL after a step that found `kl`, Ziegler et al. (2019), sect. 2.2.

    It grows where kl is above target and shrinks where it is below, by at most a factor of
    1 ± 0.2 * rollouts / horizon.

    kl, target: in one unit, nats an answer; rollouts: how many the step had.
    """
    error = min(max((kl - target) / target, -0.2), 0.2)
    return coef * (1 + error * rollouts / horizon)


# Policy and value


class PolicyLoss(NamedTuple):
    """The clipped loss of each token."""

    loss: "Tensor"
    """(B, T)."""
    clipped: "Tensor"
    """Tokens that the clip keeps from gaining any more, so that they have no gradient; bool."""


def clipped_policy_loss(
    logps: "Tensor", old_logps: "Tensor", advantages: "Tensor", mask: "Tensor", clip: float
) -> PolicyLoss:
    """The loss of each token: -min(ratio * A, clamp(ratio, 1 - clip, 1 + clip) * A).

    Schulman et al. (2017), eq. 7; ratio = policy / the policy that sampled. -A on the policy that
    sampled, and there its gradient is the policy gradient's.

    All tensors are (B, T); gradients flow through `logps`.
    """
    counts = mask.bool()
    # Masked before exp: garbage would overflow, and inf * 0 is NaN in the gradient.
    ratios = (logps - old_logps).where(counts, 0.0).exp()
    advantages = advantages.where(counts, 0.0)
    unclipped = -advantages * ratios
    clipped = -advantages * ratios.clamp(1 - clip, 1 + clip)
    return PolicyLoss(torch.maximum(unclipped, clipped), clipped > unclipped)


def clipped_value_loss(
    values: "Tensor",
    old_values: "Tensor",
    returns: "Tensor",
    mask: "Tensor",
    clip: float | None,
) -> "Tensor":
    """The loss of each token's value, (B, T): half its squared error.

    With `clip` it is the larger of that and the error of the value held within clip of the old
    one, as in the code of Schulman et al. (2017); their paper clips the policy alone.

    All tensors are (B, T); gradients flow through `values`.
    """
    counts = mask.bool()
    values, old_values = values.where(counts, 0.0), old_values.where(counts, 0.0)
    returns = returns.where(counts, 0.0)
    errors = (values - returns).square()
    if clip is None:
        return 0.5 * errors
    held = old_values + (values - old_values).clamp(-clip, clip)
    return 0.5 * torch.maximum(errors, (held - returns).square())


def masked_mean(x: "Tensor", mask: "Tensor") -> "Tensor":
    """The mean of the entries that the mask counts, a scalar; 0 where it counts none."""
    counts = mask.bool()
    return x.where(counts, 0.0).sum() / counts.sum().clamp(min=1)


def entropy(logits: "Tensor") -> "Tensor":
    """The entropy of each position's next token, nats, (B, T), in float32 or better.

    logits: (B, T, V); -inf is a token that cannot come.
    """
    precise = logits.to(torch.promote_types(logits.dtype, torch.float32))
    logps = precise.log_softmax(dim=-1)
    # 0 * -inf is NaN, where the limit of p * log p is 0.
    return -(logps.exp() * logps.where(logps > -torch.inf, 0.0)).sum(dim=-1)
