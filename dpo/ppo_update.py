"""What PPO makes of a step's rollouts: advantages, then clipped updates of policy and value.

Every process holds the whole step's log-probs and values, small beside a model, so that advantages
are whitened over all tokens without a word between processes. Of each minibatch a process runs its
share forward and backward, and gradients are added up: losses are means over the minibatch's
tokens, however the rollouts were shared out or cut into micro-batches.
"""

from collections.abc import Callable, Iterator, Sequence
from random import Random
from statistics import fmean
from typing import NamedTuple

import torch
from accelerate import PartialState
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from dpo.losses import clipped_policy_loss, clipped_value_loss, gae, token_rewards, whiten
from dpo.ppo_rollouts import TokenScores
from dpo.value_model import PolicyWithValue, TokenRow, padded
from schemas.configs import PpoConfig


class Experience(NamedTuple):
    """A step's rollouts as PPO learns from them; R rollouts, T tokens of the longest answer."""

    rows: list[TokenRow]
    mask: Tensor
    """(R, T), the tokens to learn from: none of a rollout that no reward judged."""
    logps: Tensor
    """(R, T), under the policy that sampled."""
    values: Tensor
    """(R, T), before the updates."""
    advantages: Tensor
    """(R, T), before whitening."""
    targets: Tensor
    """(R, T), the advantages that the policy loss takes."""
    returns: Tensor
    """(R, T)."""

    @property
    def explained_variance(self) -> float | None:
        """1 - Var(return - value) / Var(return); None where the returns do not vary."""
        returns, values = self.returns[self.mask], self.values[self.mask]
        if len(returns) < 2 or (spread := returns.var().item()) == 0:
            return None
        return 1 - (returns - values).var().item() / spread

    def of(self, rollouts: Sequence[int], columns: int, device: torch.device) -> "Experience":
        """Some of the rollouts, up to so many tokens."""
        tensors = (tensor[rollouts, :columns].to(device) for tensor in self[1:])
        return Experience([self.rows[rollout] for rollout in rollouts], *tensors)


def experience(
    rows: Sequence[TokenRow],
    rewards: Sequence[float | None],
    said: Sequence[TokenScores],
    *,
    kl_coef: float,
    config: PpoConfig,
) -> Experience:
    """The rollouts with their advantages; a reward of None is a rollout to leave out."""

    def table(column: Callable[[TokenScores], list[float]]) -> Tensor:
        columns = [torch.tensor(column(row), dtype=torch.float32) for row in said]
        return pad_sequence(columns, batch_first=True)

    logps, values = table(lambda row: row.logps), table(lambda row: row.values)
    ref_logps = table(lambda row: row.ref_logps)
    lengths = torch.tensor([len(row.completion_ids) for row in rows])
    sampled = torch.arange(logps.shape[1]) < lengths[:, None]
    judged = torch.tensor([reward is not None for reward in rewards])
    mask = sampled & judged[:, None]
    scores = torch.tensor([reward or 0.0 for reward in rewards])
    earned = token_rewards(scores, logps, ref_logps, mask, kl_coef)
    advantages, returns = gae(earned, values, mask, config.gamma, config.lam)
    targets = whiten(advantages, mask) if config.whiten else advantages
    return Experience(list(rows), mask, logps, values, advantages, targets, returns)


class Learned(NamedTuple):
    """What a step's updates found: means over the updates."""

    updates: int
    loss: float
    policy_loss: float
    value_loss: float
    clip_fraction: float
    grad_norm: float
    """Before clipping."""
    ended_early: bool
    """Whether max_update_kl ended the step's epochs."""


def learn(
    model: PolicyWithValue,
    optimizer: torch.optim.Optimizer,
    step: Experience,
    config: PpoConfig,
    *,
    seed: int,
) -> Learned:
    """Several epochs of updates on the step's rollouts, Schulman et al. (2017), algorithm 1.

    Every process calls this with the same rollouts; the seed orders the minibatches.
    """
    found: list[list[float]] = []
    ended_early = False
    for rollouts in _minibatches(step, config, seed):
        sums, tokens = _accumulate(model, step, rollouts, config)
        policy_loss, value_loss, clipped, moved = (sums / tokens).tolist()
        if config.max_update_kl is not None and moved > config.max_update_kl:
            optimizer.zero_grad()
            ended_early = True
            break
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), config.max_grad_norm).item()
        optimizer.step()
        optimizer.zero_grad()
        loss = policy_loss + config.value_coef * value_loss
        found.append([loss, policy_loss, value_loss, clipped, norm])
    if not found:
        return Learned(0, 0.0, 0.0, 0.0, 0.0, 0.0, ended_early)
    loss, policy_loss, value_loss, clipped, norm = map(fmean, zip(*found, strict=True))
    return Learned(len(found), loss, policy_loss, value_loss, clipped, norm, ended_early)


def _minibatches(step: Experience, config: PpoConfig, seed: int) -> Iterator[list[int]]:
    """The judged rollouts in a new order each epoch; an epoch's last minibatch may be smaller."""
    shuffle = Random(seed).shuffle
    for _ in range(config.epochs):
        rollouts = step.mask.any(dim=1).nonzero().flatten().tolist()
        shuffle(rollouts)
        yield from _chunks(rollouts, config.minibatch)


def _accumulate(
    model: PolicyWithValue, step: Experience, rollouts: Sequence[int], config: PpoConfig
) -> tuple[Tensor, int]:
    """Put the gradient of the minibatch's loss in the model's weights.

    Comes back with the sums over the minibatch's tokens of policy loss, value loss, clipped, and
    KL(policy that sampled || policy now), and the number of its tokens.
    """
    state = PartialState()
    tokens = int(step.mask[list(rollouts)].sum())
    sums = torch.zeros(4, device=state.device)
    # Answers of like length together, to pad less; the shares are then of like size, too.
    by_length = sorted(rollouts, key=lambda rollout: sum(map(len, step.rows[rollout])))
    mine = by_length[state.process_index :: state.num_processes]
    for chunk in _chunks(mine, config.microbatch):
        rows = padded([step.rows[rollout] for rollout in chunk], state.device)
        at = step.of(chunk, rows.mask.shape[1], state.device)
        now = model(rows)
        policy = clipped_policy_loss(now.logps, at.logps, at.targets, at.mask, config.clip)
        value = clipped_value_loss(now.values, at.values, at.returns, at.mask, config.value_clip)
        loss = policy.loss.sum() + config.value_coef * value.sum()
        (loss / tokens).backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            log_ratios = (now.logps - at.logps).where(at.mask, 0.0)
            # Schulman's estimate of the KL, (r - 1) - log r: no token's is negative.
            moved = log_ratios.expm1() - log_ratios
            parts = (policy.loss, value, policy.clipped, moved)
            sums += torch.stack([part.sum().to(sums.dtype) for part in parts])
    if state.num_processes > 1:
        weights = [*model.policy_parameters(), *model.value_parameters()]
        sums = _added_up(weights, sums)
    return sums, tokens


def _added_up(weights: Sequence[torch.nn.Parameter], sums: Tensor) -> Tensor:
    """Put the gradient of all processes in the weights; the sums of all processes."""
    # A process without a rollout has no gradient.
    parts = [torch.zeros_like(one) if one.grad is None else one.grad for one in weights]
    together = torch.cat([part.flatten() for part in (*parts, sums)])
    torch.distributed.all_reduce(together)
    *gradients, total = torch.split(together, [part.numel() for part in (*parts, sums)])
    for weight, gradient in zip(weights, gradients, strict=True):
        weight.grad = gradient.view_as(weight).to(weight.dtype)
    return total


def _chunks(items: Sequence[int], size: int) -> Iterator[list[int]]:
    for start in range(0, len(items), size):
        yield list(items[start : start + size])
