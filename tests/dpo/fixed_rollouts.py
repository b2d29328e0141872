"""Fixed rollouts of a tiny GPT-2 with a value head, for tests of PPO's updates."""

from random import Random
from typing import Any

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from dpo.ppo_rollouts import TokenScores
from dpo.ppo_update import Experience, Learned, experience, learn
from dpo.value_model import PolicyWithValue, TokenRow
from schemas.configs import PpoConfig

VOCABULARY, ROLLOUTS = 23, 6
ONE_UPDATE = {"rollouts": ROLLOUTS, "minibatch": ROLLOUTS, "epochs": 1, "max_grad_norm": 1e9}


def make_model() -> PolicyWithValue:
    torch.manual_seed(3)
    sizes = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32}
    policy = GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, initializer_range=0.3, **sizes))
    model = PolicyWithValue(policy, temperature=0.8)
    torch.nn.init.normal_(model.head.weight, std=0.3)
    return model


def make_rollouts() -> tuple[list[TokenRow], list[TokenScores], list[float | None]]:
    """Six answers of 1 to 6 tokens; their log-probs and values are made up, some far from what
    the model says, so that ratios and values are clipped."""
    rng = Random(5)
    model = make_model()
    rows = [
        TokenRow(rng.choices(range(VOCABULARY), k=2 + at), rng.choices(range(VOCABULARY), k=6 - at))
        for at in range(ROLLOUTS)
    ]
    said = []
    for row in rows:
        now = [said_of(model, row, t) for t in range(len(row.completion_ids))]
        said.append(
            TokenScores(
                logps=[logp.item() + rng.gauss(0, 0.3) for logp, _ in now],
                ref_logps=[logp.item() + rng.gauss(0, 0.5) for logp, _ in now],
                values=[value.item() + rng.gauss(0, 0.3) for _, value in now],
                entropies=[1.0 for _ in now],
            )
        )
    return rows, said, [0.7, -0.3, None, 1.2, 0.1, 0.4]


def said_of(model: PolicyWithValue, row: TokenRow, t: int) -> tuple[Any, Any]:
    """Log-prob and value of one token, from the tokens before it alone."""
    ids = torch.tensor([[*row.prompt_ids, *row.completion_ids[:t]]])
    output = model.policy(ids, output_hidden_states=True)
    logps = (output.logits[0, -1] / 0.8).log_softmax(-1)
    return logps[row.completion_ids[t]], model.head(output.hidden_states[-1][0, -1])[0]


def make_experience(config: PpoConfig, kl_coef: float = 0.1) -> Experience:
    rows, said, rewards = make_rollouts()
    return experience(rows, rewards, said, kl_coef=kl_coef, config=config)


def updated(config: PpoConfig, *, rate: float = 1.0) -> tuple[PolicyWithValue, Learned]:
    """A model after plain gradient steps, and what they found."""
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    return model, learn(model, optimizer, make_experience(config), config, seed=4)
