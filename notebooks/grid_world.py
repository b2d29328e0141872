"""A grid-world, where reinforcement learning can be seen whole: for the first notebook.

An agent stands in a cell and moves up, right, down or left until it reaches the goal; each move
costs 1, so the value of a cell is minus the number of moves that it is away. Losses and advantages
are those that train language models, from `dpo.losses`.

Axes: B episodes, T moves, S cells.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from torch import Tensor, nn

from dpo.losses import clipped_policy_loss, clipped_value_loss, entropy, gae, masked_mean, whiten

MOVES = torch.tensor([[-1, 0], [0, 1], [1, 0], [0, -1]])
"""Up, right, down, left: rows count downwards."""


@dataclass(frozen=True)
class Grid:
    rows: int
    cols: int
    goal: tuple[int, int]
    walls: frozenset[tuple[int, int]] = frozenset()

    @cached_property
    def index(self) -> Tensor:
        """The place of each cell in `cells`, (rows + 2, cols + 2); -1 at walls and all around."""
        index = torch.full((self.rows + 2, self.cols + 2), -1)
        for place, (row, col) in enumerate(self.cells.tolist()):
            index[row + 1, col + 1] = place
        return index

    @cached_property
    def cells(self) -> Tensor:
        """The cells that can be stood in, (S, 2)."""
        every = [(row, col) for row in range(self.rows) for col in range(self.cols)]
        return torch.tensor([cell for cell in every if cell not in self.walls])

    def places(self, cells: Tensor) -> Tensor:
        """Where the cells, (B, 2), stand in `cells`; -1 for a wall or the outside, (B,)."""
        return self.index[cells[:, 0] + 1, cells[:, 1] + 1]

    def move(self, cells: Tensor, actions: Tensor) -> Tensor:
        """Where the moves lead, (B, 2); against a wall or the edge, nowhere."""
        wanted = cells + MOVES[actions]
        return wanted.where((self.places(wanted) >= 0)[:, None], cells)

    def at_goal(self, cells: Tensor) -> Tensor:
        """Which of the cells is the goal, (B,)."""
        return (cells == torch.tensor(self.goal)).all(-1)

    def features(self, cells: Tensor) -> Tensor:
        """What a network sees of a cell, (..., 2): its row and column, from -1 to 1."""
        return 2 * cells / torch.tensor([self.rows - 1, self.cols - 1]) - 1


def neighbours(grid: Grid, values: Tensor) -> Tensor:
    """The value of the cell that each move leads to, (S, 4).

    values: (S,), in the order of `grid.cells`.
    """
    reached = [
        grid.move(grid.cells, torch.full((len(values),), action)) for action in range(len(MOVES))
    ]
    return torch.stack([values[grid.places(cells)] for cells in reached], dim=1)


def sweep(grid: Grid, values: Tensor) -> Tensor:
    """Every cell's value by the rule "best neighbour minus one", (S,); the goal's is 0.

    Bellman's equation where each move costs 1.
    """
    better = neighbours(grid, values).amax(1) - 1
    return better.where(~grid.at_goal(grid.cells), 0.0)


def exact_values(grid: Grid) -> Tensor:
    """The value of every cell, (S,): sweeps until none changes."""
    values = torch.zeros(len(grid.cells))
    while not torch.equal(values, better := sweep(grid, values)):
        values = better
    return values


def network(outputs: int) -> nn.Sequential:
    """A small network from a cell's features to values (1) or to logits of the moves (4)."""
    return nn.Sequential(
        nn.Linear(2, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, outputs)
    )


class Episodes(NamedTuple):
    """Rollouts: what the policy did from each start until the goal or the last move."""

    cells: Tensor
    """Where it stood before each move, (B, T, 2)."""
    actions: Tensor
    """(B, T)."""
    logps: Tensor
    """Log-probability of each move under the policy that played, (B, T)."""
    rewards: Tensor
    """-1 a move, (B, T)."""
    mask: Tensor
    """1 until the goal is reached, (B, T)."""


@torch.no_grad()
def play(policy: nn.Module, grid: Grid, starts: Tensor, moves: int) -> Episodes:
    """Episodes from the starts, (B, 2), of at most so many moves."""
    here, seen = starts, []
    logps = policy(grid.features(grid.cells)).log_softmax(-1)
    for _ in range(moves):
        at = grid.places(here)
        action = logps[at].exp().multinomial(1).squeeze(1)
        seen.append((here, action, logps[at, action], (~grid.at_goal(here)).float()))
        here = grid.move(here, action).where(~grid.at_goal(here)[:, None], here)
    cells, actions, logps, mask = (torch.stack(steps, dim=1) for steps in zip(*seen, strict=True))
    return Episodes(cells, actions, logps, -mask, mask)


class Learned(NamedTuple):
    """Policy and value network after a number of updates."""

    update: int
    policy: nn.Module
    value: nn.Module
    moves: float
    """Mean moves of the update's episodes."""


def ppo(
    grid: Grid,
    *,
    seed: int,
    updates: int = 150,
    episodes: int = 64,
    moves: int = 40,
    epochs: int = 8,
    clip: float = 0.2,
    entropy_coef: float = 0.02,
    learning_rate: float = 3e-3,
) -> Iterator[Learned]:
    """Policy and value network as they learn together by PPO: the state after each update.

    A large `clip` is no clip. entropy_coef: weight of the bonus on entropy, which fades out.
    The networks answer once for each of the few cells, not for each of the many moves.
    """
    torch.manual_seed(seed)
    policy, value = network(4), network(1)
    optimiser = torch.optim.Adam([*policy.parameters(), *value.parameters()], lr=learning_rate)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.05, total_iters=updates)
    cells, seen = grid.cells, grid.features(grid.cells)
    for update in range(updates):
        starts = cells[torch.randint(len(cells), (episodes,))]
        run = play(policy, grid, starts, moves)
        at = grid.places(run.cells.flatten(0, 1)).view_as(run.actions)
        old_values = values_of(value, grid)[at]
        advantages, returns = gae(run.rewards, old_values, run.mask, gamma=1.0, lam=0.95)
        advantages = whiten(advantages, run.mask)
        for _ in range(epochs):
            logits, values = policy(seen), value(seen).squeeze(-1)[at]
            logps = logits.log_softmax(-1)[at, run.actions]
            policy_loss = clipped_policy_loss(logps, run.logps, advantages, run.mask, clip).loss
            value_loss = clipped_value_loss(values, old_values, returns, run.mask, None)
            bonus = entropy_coef * (1 - update / updates) * entropy(logits)[at]
            optimiser.zero_grad()
            loss = masked_mean(policy_loss + 0.5 * value_loss - bonus, run.mask)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        schedule.step()
        yield Learned(update + 1, policy, value, run.mask.sum(1).mean().item())


def fit_values(grid: Grid, returns: Tensor, *, seed: int, updates: int) -> Iterator[nn.Module]:
    """A value network as it learns the return of every cell, (S,), by squared error."""
    torch.manual_seed(seed)
    value, seen = network(1), grid.features(grid.cells)
    optimiser = torch.optim.Adam(value.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, updates)
    everywhere = torch.ones_like(returns)
    for _ in range(updates):
        values = value(seen).squeeze(-1)
        optimiser.zero_grad()
        squares = clipped_value_loss(values, values, returns, everywhere, None)
        masked_mean(squares, everywhere).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        yield value


@torch.no_grad()
def values_of(value: nn.Module, grid: Grid) -> Tensor:
    """The network's value of every cell, (S,)."""
    values: Tensor = value(grid.features(grid.cells)).squeeze(-1)
    return values


@torch.no_grad()
def best_moves(policy: nn.Module, grid: Grid) -> Tensor:
    """The policy's likeliest move in every cell, (S,)."""
    moves: Tensor = policy(grid.features(grid.cells)).argmax(-1)
    return moves


def moves_to_goal(grid: Grid, actions: Tensor) -> Tensor:
    """How many moves the goal is away from every cell when these are made, (S,); inf: for ever."""
    here, taken = grid.cells, torch.zeros(len(grid.cells))
    for _ in range(len(here)):
        on_the_way = ~grid.at_goal(here)
        taken += on_the_way
        here = grid.move(here, actions[grid.places(here)]).where(on_the_way[:, None], here)
    return taken.where(grid.at_goal(here), torch.inf)


def draw(
    grid: Grid, values: Tensor, actions: Tensor | None = None, *, ax: Axes, title: str = ""
) -> None:
    """The grid with its values as colours and numbers, and the moves as arrows."""
    picture = torch.full((grid.rows, grid.cols), torch.nan)
    for (row, col), cell_value in zip(grid.cells.tolist(), values.tolist(), strict=True):
        picture[row, col] = cell_value
    colours = plt.get_cmap("viridis").with_extremes(bad="#444444")
    low = min(values.min().item(), -1)
    ax.imshow(picture, cmap=colours, vmin=low, vmax=0)
    for index, (row, col) in enumerate(grid.cells.tolist()):
        dark = picture[row, col] < low / 2
        ink = "white" if dark else "black"
        if (row, col) == grid.goal:
            ax.text(col, row, "goal", ha="center", va="center", color=ink, fontsize=9)
            continue
        number = f"{values[index].item():.1f}".removesuffix(".0")
        at = row if actions is None else row + 0.3
        ax.text(col, at, number, ha="center", va="center", color=ink, fontsize=8)
        if actions is not None:
            down, right = MOVES[actions[index]].tolist()
            ax.annotate(
                "",
                xy=(col + 0.28 * right, row - 0.1 + 0.28 * down),
                xytext=(col - 0.28 * right, row - 0.1 - 0.28 * down),
                arrowprops={"arrowstyle": "->", "color": ink, "lw": 1.8},
            )
    ax.set_xticks([])
    ax.set_yticks([])
    ax.set_title(title, fontsize=10)
